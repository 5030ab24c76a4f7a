"""Trains the autoencoder, a stock diffusers AutoencoderKL, 64x64x3 to 16x16x4, and caches the latents of all images.

Writes vae/ (diffusers folder), latents.pt and vae.png (originals above reconstructions) to the work folder.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

BATCH = 16
LEARNING_RATE = 2e-3
WARM_UP_STEPS = 60
KL_WEIGHT = 2e-4
EDGE_WEIGHT = 0.5
SQUARE_WEIGHT = 0.5
FLIP_SHARE = 0.1
LATENT_CHANNELS = 4


def build_vae():
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=LATENT_CHANNELS, sample_size=64,
        block_out_channels=(16, 48, 96), layers_per_block=1, norm_num_groups=8, mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        scaling_factor=1.0, force_upcast=False)


def load_images(work):
    """Returns images uint8 [N,3,64,64] and their caption records."""
    images = torch.from_numpy(np.load(work / "images.npy")).permute(0, 3, 1, 2).contiguous()
    return images, json.loads((work / "captions.json").read_text())


def to_signed(pixels):
    """uint8 0..255 to float -1..1."""
    return pixels.float() / 127.5 - 1


def reconstruction_loss(decoded, target):
    """L1, plus L1 of the first differences in both directions (keeps outlines sharp), plus squared error."""
    error = decoded - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + EDGE_WEIGHT * edges + SQUARE_WEIGHT * error.square().mean()


def psnr(decoded, target):
    """Mean over the batch of the peak signal-to-noise ratio in dB, for values in -1..1."""
    mean_square = ((decoded.clamp(-1, 1) - target) / 2).square().mean((1, 2, 3))
    return (-10 * mean_square.log10()).mean().item()


def training_indices(records):
    """Originals count twice; held-out copies are left out."""
    originals = [i for i, record in enumerate(records) if not record["recoloured"]]
    copies = [i for i, record in enumerate(records) if record["recoloured"] and not record["held_out"]]
    return torch.tensor(originals * 2 + copies)


def optimise(parameters, minutes, loss_of_step, save):
    """Runs AdamW for the given time; the rate warms up, then falls on a cosine to 2 %."""
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    start, step, average = time.time(), 0, None
    while (progress := (time.time() - start) / (minutes * 60)) < 1:
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / WARM_UP_STEPS) * cosine
        loss = loss_of_step()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"step {step}, {time.time() - start:.0f} s, loss {average:.4f}", flush=True)
        if step % 500 == 0:
            save()


@torch.no_grad()
def encode_all(vae, images):
    """Returns mean and standard deviation of the latents of all images, each float [N,C,16,16]."""
    means, deviations = [], []
    for batch in images.split(64):
        distribution = vae.encode(to_signed(batch)).latent_dist
        means.append(distribution.mean)
        deviations.append(distribution.std)
    return torch.cat(means), torch.cat(deviations)


@torch.no_grad()
def normalise_latents(vae, means):
    """Folds zero mean and unit variance of each latent channel into quant_conv and post_quant_conv.

    Exact: the decoded picture does not change, and scaling_factor stays 1.
    """
    shift, scale = means.mean((0, 2, 3)), means.std((0, 2, 3))
    channels = len(shift)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= scale.view(-1, 1, 1, 1)
    quant.bias[:channels] = (quant.bias[:channels] - shift) / scale
    quant.bias[channels:] -= 2 * scale.log()  # the second half is the logarithm of the variance
    post.bias += post.weight[:, :, 0, 0] @ shift
    post.weight *= scale.view(1, -1, 1, 1)


@torch.no_grad()
def report(vae, images, records, means, work):
    """Prints PSNR on originals and on held-out copies and draws vae.png."""
    originals = [i for i, record in enumerate(records) if not record["recoloured"]]
    held_out = [i for i, record in enumerate(records) if record["held_out"]]
    for label, indices in (("originals", originals), ("held-out recoloured", held_out)):
        decoded = torch.cat([vae.decode(batch).sample for batch in means[indices].split(64)])
        print(f"PSNR of {len(indices)} {label}: {psnr(decoded, to_signed(images[indices])):.2f} dB", flush=True)
    shown = originals[::15]
    decoded = vae.decode(means[shown]).sample.clamp(-1, 1)
    rows = torch.stack([to_signed(images[shown]), decoded])  # [2,n,3,64,64]
    pixels = ((rows + 1) * 127.5).round().byte().permute(0, 3, 1, 4, 2).reshape(128, -1, 3)
    Image.fromarray(pixels.numpy()).save(work / "vae.png")


def train(work, minutes):
    images, records = load_images(work)
    indices = training_indices(records)
    vae = build_vae()
    print(f"{sum(p.numel() for p in vae.parameters()):,} parameters, {len(images)} images", flush=True)

    def loss_of_step():
        batch = to_signed(images[indices[torch.randint(len(indices), (BATCH,))]])
        if torch.rand(()) < FLIP_SHARE:
            batch = batch.flip(3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            distribution = vae.encode(batch).latent_dist
            decoded = vae.decode(distribution.sample()).sample.float()
        mean, variance = distribution.mean.float(), distribution.var.float()
        divergence = 0.5 * (mean.square() + variance - 1 - distribution.logvar.float()).mean()
        return reconstruction_loss(decoded, batch) + KL_WEIGHT * divergence

    optimise(list(vae.parameters()), minutes, loss_of_step, lambda: vae.save_pretrained(work / "vae"))
    vae.eval()
    means, _ = encode_all(vae, images[indices])
    normalise_latents(vae, means)
    means, deviations = encode_all(vae, images)
    print(f"latents: mean {means.mean():.4f}, deviation {means.std():.4f}, sampling noise {deviations.mean():.4f}")
    torch.save({"mean": means, "deviation": deviations}, work / "latents.pt")
    vae.save_pretrained(work / "vae")
    report(vae, images, records, means, work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--minutes", type=float, default=20)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    train(arguments.work, arguments.minutes)


if __name__ == "__main__":
    main()
