"""diffusers' StableDiffusionPipeline, PyTorch on the CPU, as a worker of the harness: it stays loaded, and every line on
standard input is one generation, answered with the seconds of wall and CPU time it took.

    diffusers_worker.py MODEL --width 64 --height 64 --steps 25 --guidance 4 --threads 2 [--precision f32]

MODEL is a diffusers folder. Networks of which it has no weights for PyTorch are made from their configurations with
random weights, which take the same time.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers

PRECISIONS = {"": torch.float32, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def answer(**fields):
    print(json.dumps(fields), flush=True)


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def config(folder):
    return json.loads((folder / "config.json").read_text())


def from_configurations(folder):
    """A pipeline of random weights, so small that the latents stay finite."""
    torch.manual_seed(1)
    vae = folder / "vae" if (folder / "vae").is_dir() else folder / "vae_decoder"
    return diffusers.StableDiffusionPipeline(
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**config(folder / "text_encoder"))).eval(),
        unet=diffusers.UNet2DConditionModel.from_config(config(folder / "unet")).eval(),
        vae=diffusers.AutoencoderKL.from_config(config(vae)).eval(),
        tokenizer=transformers.CLIPTokenizerFast.from_pretrained(folder / "tokenizer"),
        scheduler=diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )


def load(folder, dtype):
    if any((folder / "unet").glob("*.safetensors")):
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, dtype=dtype)
    else:
        pipe = from_configurations(folder).to(dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    for name in ("width", "height", "steps", "threads"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--guidance", type=float, required=True)
    parser.add_argument("--precision", choices=PRECISIONS, default="")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pipe = load(args.model, PRECISIONS[args.precision])
    answer(texts={"diffusers": diffusers.__version__, "torch": torch.__version__})
    for line in sys.stdin:
        request = json.loads(line)
        wall, used = time.perf_counter(), cpu()
        image = pipe(
            request["prompt"], width=args.width, height=args.height, num_inference_steps=args.steps,
            guidance_scale=args.guidance, generator=torch.Generator("cpu").manual_seed(request["seed"]), output_type="np",
        ).images[0]
        pixels = (255 * image + 0.5).astype(np.uint8)
        figures = {"wall": time.perf_counter() - wall, "cpu": cpu() - used}
        if pixels.shape != (args.height, args.width, 3):
            answer(error=f"the picture has the shape {list(pixels.shape)}")
            continue
        answer(figures=figures)


main()
