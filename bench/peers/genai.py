"""OpenVINO GenAI's Text2ImagePipeline as a worker of the harness, see pictures.py.

    genai.py MODEL --width 64 --height 64 --steps 25 --guidance 4 --threads 2 [--reshape] [--precision f32]
"""

import importlib.metadata

import pictures


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
    parser = pictures.arguments(default="")
    parser.add_argument("--reshape", action="store_true")
    args = parser.parse_args()
    pipe = load(args)

    def generate(prompt, seed):
        return pipe.generate(
            prompt, width=args.width, height=args.height, num_inference_steps=args.steps, guidance_scale=args.guidance, rng_seed=seed,
        ).shape

    versions = {"openvino_genai": importlib.metadata.version("openvino-genai")}
    pictures.serve(generate, [1, args.height, args.width, 3], versions)


main()
