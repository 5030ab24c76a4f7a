"""Measures a checkpoint: PSNR of the autoencoder and loss of the UNet, on originals and on held-out recoloured copies.

The held-out copies (10 % of them) were never trained on, neither by vae.py nor by train.py. The loss is the mean
squared error of the predicted velocity, over uniformly spread timesteps and fixed noise; as JSON on standard output.
"""

import argparse
import json
from pathlib import Path

import torch

import export
import train
import vae as autoencoder

BATCH = 42


@torch.no_grad()
def autoencoder_psnr(vae, pixels):
    """Returns the mean PSNR in dB of pixels uint8 [N,3,64,64], through the latents' means."""
    values = []
    for batch in autoencoder.to_signed(pixels).split(BATCH):
        decoded = vae.decode(vae.encode(batch).latent_dist.mean).sample
        values += [autoencoder.psnr(decoded, batch)] * len(batch)
    return sum(values) / len(values)


@torch.no_grad()
def unet_loss(pipeline, pixels, captions):
    """Returns the velocity loss over all pictures, each at one of evenly spread timesteps."""
    generator = torch.Generator().manual_seed(0)
    scheduler = pipeline.scheduler
    timesteps = torch.linspace(0, scheduler.config.num_train_timesteps - 1, len(pixels)).long()
    timesteps = timesteps[torch.randperm(len(pixels), generator=generator)]
    total = 0.0
    for start in range(0, len(pixels), BATCH):
        part = slice(start, start + BATCH)
        clean = pipeline.vae.encode(autoencoder.to_signed(pixels[part])).latent_dist.mean
        noise = torch.randn(clean.shape, generator=generator)
        noisy = scheduler.add_noise(clean, noise, timesteps[part])
        velocity = scheduler.get_velocity(clean, noise, timesteps[part])
        tokens = train.tokenize(pipeline.tokenizer, captions[part])
        total += train.velocity_loss(pipeline.text_encoder, pipeline.unet, tokens, noisy, timesteps[part],
                                     velocity).sum().item()
    return total / len(pixels)


def plain_caption(record):
    return f"{record['colour']} {record['name']}" if record["recoloured"] else record["name"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"), help="folder with images.npy and captions.json")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint"))
    arguments = parser.parse_args()
    pipeline = export.load_pipeline(arguments.checkpoint)
    images, records = autoencoder.load_images(arguments.work)
    results = {}
    for label, wanted in (("originals", lambda record: not record["recoloured"]),
                          ("held-out recoloured", lambda record: record["held_out"])):
        indices = [i for i, record in enumerate(records) if wanted(record)]
        captions = [plain_caption(records[i]) for i in indices]
        results[label] = {"pictures": len(indices), "PSNR dB": round(autoencoder_psnr(pipeline.vae, images[indices]), 2),
                          "velocity loss": round(unet_loss(pipeline, images[indices], captions), 4)}
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
