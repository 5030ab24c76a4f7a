"""OpenVINO GenAI's Text2ImagePipeline as a worker of the harness: it stays loaded, and every line on standard
input is one generation, answered with the seconds of wall and CPU time it took.

    genai.py MODEL --width 64 --height 64 --steps 25 --guidance 4 --threads 2 [--reshape] [--precision f32]
"""

import argparse
import importlib.metadata
import json
import resource
import sys
import time


def answer(**fields):
    print(json.dumps(fields), flush=True)


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def load(args):
    import openvino_genai

    properties = {"INFERENCE_NUM_THREADS": args.threads}
    if args.precision:
        properties["INFERENCE_PRECISION_HINT"] = args.precision
    if not args.reshape:
        return openvino_genai.Text2ImagePipeline(args.model, "CPU", **properties)
    pipe = openvino_genai.Text2ImagePipeline(args.model)
    pipe.reshape(1, args.height, args.width, args.guidance)
    pipe.compile("CPU", **properties)
    return pipe


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    for name in ("width", "height", "steps", "threads"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--guidance", type=float, required=True)
    parser.add_argument("--precision", default="")
    parser.add_argument("--reshape", action="store_true")
    args = parser.parse_args()
    pipe = load(args)
    answer(texts={"openvino_genai": importlib.metadata.version("openvino-genai")})
    for line in sys.stdin:
        request = json.loads(line)
        wall, used = time.perf_counter(), cpu()
        image = pipe.generate(
            request["prompt"], width=args.width, height=args.height, num_inference_steps=args.steps,
            guidance_scale=args.guidance, rng_seed=request["seed"],
        )
        figures = {"wall": time.perf_counter() - wall, "cpu": cpu() - used}
        if list(image.shape) != [1, args.height, args.width, 3]:
            answer(error=f"the picture has the shape {list(image.shape)}")
            continue
        answer(figures=figures)


main()
