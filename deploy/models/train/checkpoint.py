"""Gathers the trained parts of a work folder into one diffusers pipeline folder with float16 weights."""

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

import tokenizer
from model import build_scheduler


def write(text_encoder, unet, vae, tokenizer_folder, target):
    """Writes the pipeline to target. The networks are converted to float16 in place."""
    clip_tokenizer = tokenizer.load(tokenizer_folder)
    pipeline = StableDiffusionPipeline(
        vae=vae.half(), text_encoder=text_encoder.half(), tokenizer=clip_tokenizer, unet=unet.half(),
        scheduler=build_scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.save_pretrained(target)
    for name in ("vocab.json", "merges.txt"):
        (target / "tokenizer" / name).write_bytes((tokenizer_folder / name).read_bytes())
    for config in target.glob("*/config.json"):  # these name folders of the machine that trained
        content = json.loads(config.read_text())
        content.pop("_name_or_path", None)
        config.write_text(json.dumps(content, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--out", type=Path, default=Path("checkpoint"))
    arguments = parser.parse_args()
    work = arguments.work
    torch.set_grad_enabled(False)
    write(CLIPTextModel.from_pretrained(work / "ema" / "text_encoder"),
          UNet2DConditionModel.from_pretrained(work / "ema" / "unet"),
          AutoencoderKL.from_pretrained(work / "vae"), work / "tokenizer", arguments.out)
    size = sum(file.stat().st_size for file in arguments.out.rglob("*") if file.is_file())
    print(f"{arguments.out}: {size:,} bytes")


if __name__ == "__main__":
    main()
