"""diffusers' StableDiffusionPipeline, PyTorch on the CPU, as a worker of the harness, see pictures.py.

    diffusers_worker.py MODEL --width 64 --height 64 --steps 25 --guidance 4 --threads 2 [--precision f32]

MODEL is a diffusers folder. Networks of which it has no weights for PyTorch are made from their configurations with
random weights, which take the same time.
"""

import json
from pathlib import Path

import diffusers
import numpy as np
import pictures
import torch
import transformers

PRECISIONS = {"": torch.float32, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


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
    args = pictures.arguments(choices=PRECISIONS, default="").parse_args()
    torch.set_num_threads(args.threads)
    pipe = load(Path(args.model), PRECISIONS[args.precision])

    def generate(prompt, seed):
        image = pipe(
            prompt, width=args.width, height=args.height, num_inference_steps=args.steps, guidance_scale=args.guidance,
            generator=torch.Generator("cpu").manual_seed(seed), output_type="np",
        ).images[0]
        return (255 * image + 0.5).astype(np.uint8).shape

    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__}
    pictures.serve(generate, [args.height, args.width, 3], versions)


main()
