"""stable-diffusion.cpp by its Python package as a worker of the harness: it stays loaded, and every line on standard input
is one generation, answered with the seconds of wall and CPU time it took.

    sdcpp_worker.py MODEL --width 64 --height 64 --steps 25 --guidance 4 --threads 2 [--precision f32]

MODEL is a diffusers folder. A model that the library does not know is told in its own words before the worker ends.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time

# The library writes what happens to both standard streams, also in C++. They go to a file.
answers = os.fdopen(os.dup(1), "w")
log = tempfile.TemporaryFile()
for stream in (1, 2):
    os.dup2(log.fileno(), stream)


def answer(**fields):
    print(json.dumps(fields), file=answers, flush=True)


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def last_words():
    sys.stdout.flush()
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else "it says nothing"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    for name in ("width", "height", "steps", "threads"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--guidance", type=float, required=True)
    parser.add_argument("--precision", choices=("f32", "bf16", "f16"), default="f32")
    args = parser.parse_args()

    from stable_diffusion_cpp import StableDiffusion, __version__

    pipe = StableDiffusion(model_path=args.model, n_threads=args.threads, wtype=args.precision, verbose=True)

    def generate(prompt, seed, steps):
        return pipe.generate_image(
            prompt=prompt, width=args.width, height=args.height, sample_steps=steps, cfg_scale=args.guidance, seed=seed,
        )[0]

    loading = last_words()
    try:
        generate("", 1, 1)  # a model that could not be loaded fails only here
    except Exception as error:
        answer(error=f"{error}; its log of loading ends with: {loading}")
        os._exit(0)  # freeing such a model crashes
    answer(texts={"stable_diffusion_cpp": __version__})
    for line in sys.stdin:
        request = json.loads(line)
        wall, used = time.perf_counter(), cpu()
        image = generate(request["prompt"], request["seed"], args.steps)
        figures = {"wall": time.perf_counter() - wall, "cpu": cpu() - used}
        if image.size != (args.width, args.height):
            answer(error=f"the picture has {image.size} pixels")
            continue
        answer(figures=figures)


main()
