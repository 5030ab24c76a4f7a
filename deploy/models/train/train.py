"""Trains UNet and text encoder together on the cached latents of vae.py.

v-prediction with the schedule of model.build_scheduler. Two processes of one thread each average their gradients: on a
busy machine that is several times faster than one process of two threads, which waits inside every operation. Writes
an exponential moving average of the weights to ema/ in the work folder every few minutes and at the end.

The matrices and convolutions inside the networks are trained by Muon (https://kellerjordan.github.io/posts/muon/), all
else by AdamW.

A number written to the file "minutes" of the work folder replaces --minutes while the training runs.
"""

import argparse
import json
import math
import os
import random
import time
from pathlib import Path

import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

import tokenizer
import vocabulary
from captions import caption
from model import build_scheduler, build_text_encoder, build_unet

PROCESSES = 2
BATCH = 12  # of each process
LEARNING_RATE = 1e-3
MUON_LEARNING_RATE = 1.5e-3  # scaled so that it moves weights about as far as AdamW's
WARM_UP_STEPS = 100
CONSTANT_SHARE = 0.4  # of the time; then a cosine to zero, which is what makes the pictures crisp
EMA_DECAY = 0.998
EMPTY_CAPTION_SHARE = 0.1  # for classifier-free guidance
RECOLOURED_SHARE = 0.35
COMMON_WEIGHT = 3  # how often the names of vocabulary.COMMON_NAMES come round
SAVE_SECONDS = 120


class Batches:
    """Draws (caption token ids, noisy latents, timesteps, velocities)."""

    def __init__(self, work, clip_tokenizer, scheduler, seed):
        self.records = json.loads((work / "captions.json").read_text())
        self.latents = torch.load(work / "latents.pt")
        self.tokenizer = clip_tokenizer
        self.scheduler = scheduler
        self.random = random.Random(seed)
        common = vocabulary.names(vocabulary.COMMON_NAMES)
        self.originals = [i for i, record in enumerate(self.records) if not record["recoloured"]
                          for _ in range(COMMON_WEIGHT if record["name"] in common else 1)]
        self.copies = [i for i, record in enumerate(self.records) if record["recoloured"] and not record["held_out"]]
        self.pool = []
        # Timesteps with little noise teach little: they are drawn in proportion to min(1, 4 / (SNR + 1)) + 0.05.
        snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
        weight = (4 / (snr + 1)).clamp(max=1) + 0.05
        self.timestep_cdf = (weight / weight.sum()).cumsum(0)

    def draw_picture(self):
        """Returns an index: originals come round in turn, recoloured copies at random."""
        if self.random.random() < RECOLOURED_SHARE:
            return self.random.choice(self.copies)
        if not self.pool:
            self.pool = self.random.sample(self.originals, len(self.originals))
        return self.pool.pop()

    def draw(self):
        pictures = [self.draw_picture() for _ in range(BATCH)]
        texts = ["" if self.random.random() < EMPTY_CAPTION_SHARE else caption(self.records[i], self.random)
                 for i in pictures]
        tokens = tokenize(self.tokenizer, texts)
        deviation = self.latents["deviation"][pictures]
        clean = self.latents["mean"][pictures] + deviation * torch.randn_like(deviation)
        noise = torch.randn_like(clean)
        stratified = (torch.arange(BATCH) + torch.rand(BATCH)) / BATCH
        timesteps = torch.searchsorted(self.timestep_cdf, stratified).clamp(max=len(self.timestep_cdf) - 1)
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        return tokens, noisy, timesteps, self.scheduler.get_velocity(clean, noise, timesteps)


def tokenize(clip_tokenizer, texts):
    """Returns token ids int64 [len(texts), MAX_LENGTH]."""
    return clip_tokenizer(texts, padding="max_length", max_length=tokenizer.MAX_LENGTH, truncation=True,
                          return_tensors="pt").input_ids


def velocity_loss(text_encoder, unet, tokens, noisy, timesteps, velocity):
    """Returns the squared error of each sample, [B]."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = text_encoder(input_ids=tokens).last_hidden_state
        predicted = unet(noisy, timesteps, encoder_hidden_states=hidden).sample
    return (predicted.float() - velocity).square().mean((1, 2, 3))


def initialise_embeddings(text_encoder, clip_tokenizer, records):
    """Tokens that captions use start random, the others at zero, where they stay: they then mean nothing."""
    generator = random.Random(2)
    texts = [caption(record, generator) for record in records for _ in range(20)] + [""]
    used = tokenize(clip_tokenizer, texts).unique()
    weight = text_encoder.get_input_embeddings().weight.data
    weight.zero_()
    weight[used] = torch.randn(len(used), weight.shape[1]) * 0.3


def learning_rate_factor(progress, step):
    """Returns what the learning rates are multiplied by when a share of the time, 0..1, has passed."""
    warm_up = min(1, (step + 1) / WARM_UP_STEPS)
    if progress < CONSTANT_SHARE:
        return warm_up
    return warm_up * 0.5 * (1 + math.cos(math.pi * (progress - CONSTANT_SHARE) / (1 - CONSTANT_SHARE)))


class Optimiser:
    """Muon for hidden weights of two or more dimensions, AdamW for the others (embeddings, first and last layers).

    Muon takes matrices only: it is given two-dimensional views of the convolutions, which share weights and gradients.
    """

    OUTER_LAYERS = ("embeddings", "conv_in", "conv_out", "time_embedding")

    def __init__(self, networks):
        matrices, others = [], []
        for network in networks:
            for name, parameter in network.named_parameters():
                parameter.grad = torch.zeros_like(parameter)
                if parameter.ndim < 2 or any(layer in name for layer in self.OUTER_LAYERS):
                    others.append(parameter)
                    continue
                matrix = torch.nn.Parameter(parameter.data.view(len(parameter), -1))
                matrix.grad = parameter.grad.view_as(matrix)
                matrices.append(matrix)
        self.parameters = [parameter for network in networks for parameter in network.parameters()]
        self.muon = torch.optim.Muon(matrices, lr=MUON_LEARNING_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    def zero_gradients(self):
        for parameter in self.parameters:
            parameter.grad.zero_()  # in place: the views must stay views

    def step(self, factor):
        self.muon.param_groups[0]["lr"] = MUON_LEARNING_RATE * factor
        self.adamw.param_groups[0]["lr"] = LEARNING_RATE * factor
        self.muon.step()
        self.adamw.step()


def average_gradients(parameters):
    """Replaces each process's gradients by their mean over all processes."""
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    distributed.all_reduce(flat)
    flat /= PROCESSES
    offset = 0
    for parameter in parameters:
        parameter.grad.copy_(flat[offset:offset + parameter.numel()].view_as(parameter))
        offset += parameter.numel()


def save_average(work, parameters, average, text_encoder, unet):
    """Writes the averaged weights to ema/; the running weights are put back afterwards."""
    running = [parameter.detach().clone() for parameter in parameters]
    for parameter, value in zip(parameters, average, strict=True):
        parameter.data.copy_(value)
    text_encoder.save_pretrained(work / "ema" / "text_encoder")
    unet.save_pretrained(work / "ema" / "unet")
    for parameter, value in zip(parameters, running, strict=True):
        parameter.data.copy_(value)


def train(rank, work, minutes, resume):
    """Runs one process of the training; the first one reports and saves."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=os.environ.get("MASTER_PORT", "29531"))
    distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    torch.manual_seed(0)  # the same weights in every process
    clip_tokenizer = tokenizer.load(work / "tokenizer")
    batches = Batches(work, clip_tokenizer, build_scheduler(), seed=rank)
    if resume:
        text_encoder = CLIPTextModel.from_pretrained(work / "ema" / "text_encoder")
        unet = UNet2DConditionModel.from_pretrained(work / "ema" / "unet")
    else:
        text_encoder, unet = build_text_encoder(clip_tokenizer), build_unet()
        initialise_embeddings(text_encoder, clip_tokenizer, batches.records)
    optimiser = Optimiser([text_encoder.train(), unet.train()])
    parameters = optimiser.parameters
    average = [parameter.detach().clone() for parameter in parameters]
    torch.manual_seed(1 + rank)  # different noise in each
    elapsed = torch.zeros(1)
    start, saved, step, mean_loss = time.time(), time.time(), 0, None
    while True:
        if rank == 0:
            if (work / "minutes").exists():
                minutes = float((work / "minutes").read_text())
            elapsed[0] = (time.time() - start) / (minutes * 60)
        distributed.broadcast(elapsed, 0)
        if elapsed.item() >= 1:
            break
        factor = learning_rate_factor(elapsed.item(), step)
        loss = velocity_loss(text_encoder, unet, *batches.draw()).mean()
        optimiser.zero_gradients()
        loss.backward()
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step(factor)
        step += 1
        if rank != 0:
            continue
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - decay)
        mean_loss = loss.item() if mean_loss is None else 0.99 * mean_loss + 0.01 * loss.item()
        if step % 100 == 0:
            print(f"step {step}, {time.time() - start:.0f} s, loss {mean_loss:.4f}, "
                  f"learning rate factor {factor:.3f}", flush=True)
        if time.time() - saved > SAVE_SECONDS:
            save_average(work, parameters, average, text_encoder, unet)
            saved = time.time()
    if rank == 0:
        save_average(work, parameters, average, text_encoder, unet)
        print(f"done: {step} steps in {time.time() - start:.0f} s, loss {mean_loss:.4f}", flush=True)
    distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--resume", action="store_true", help="start from ema/ of the work folder")
    arguments = parser.parse_args()
    multiprocessing.spawn(train, (arguments.work, arguments.minutes, arguments.resume), nprocs=PROCESSES)


if __name__ == "__main__":
    main()
