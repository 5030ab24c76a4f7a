"""What a Python user runs for one picture with OpenVINO GenAI: import, load, generate, save.

    startup.py MODEL OUT.png --width 64 --height 64 --steps 25 --guidance 4 --prompt "a red apple" [--cache-dir DIR]

Prints the name of the picture once it is written.
"""

import argparse

import openvino_genai
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("out")
for name in ("width", "height", "steps"):
    parser.add_argument("--" + name, type=int, required=True)
parser.add_argument("--guidance", type=float, required=True)
parser.add_argument("--prompt", required=True)
parser.add_argument("--cache-dir")
args = parser.parse_args()

properties = {"INFERENCE_PRECISION_HINT": "f32"}
if args.cache_dir:
    properties["CACHE_DIR"] = args.cache_dir
pipe = openvino_genai.Text2ImagePipeline(args.model, "CPU", **properties)
image = pipe.generate(
    args.prompt, width=args.width, height=args.height, num_inference_steps=args.steps,
    guidance_scale=args.guidance, rng_seed=1,
)
Image.fromarray(image.data[0]).save(args.out)
print(args.out, flush=True)
