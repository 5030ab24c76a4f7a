"""Makes the goldens of golden-emoji: what diffusers makes from the checkpoint of the demo model.

    python make_emoji.py

Needs torch, diffusers, transformers, pillow, as make_tiny.py does. The files of deploy/models/emoji, which are IR and
ONNX, were exported from this checkpoint.
"""
import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import torch

HERE = Path(__file__).parent
GOLDENS = HERE / "golden-emoji"
SDE = {"algorithm_type": "sde-dpmsolver++"}
KARRAS = {"use_karras_sigmas": True}
# Class, what is changed in its configuration, and how many pictures.
CASES = {
    "ddim": ("DDIMScheduler", {}, 1),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}, 2),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", KARRAS, 1),
    "pndm": ("PNDMScheduler", {}, 1),
    "euler": ("EulerDiscreteScheduler", {}, 1),
    "lcm": ("LCMScheduler", {}, 1),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}, 1),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", SDE, 1),
    "dpmpp_2m_sde_karras": ("DPMSolverMultistepScheduler", SDE | KARRAS, 1),
    "unipc": ("UniPCMultistepScheduler", {}, 1),
    "flow_match_euler": ("FlowMatchEulerDiscreteScheduler", {}, 1),
}


def flow_match(pipe, prompt, steps, guidance, generator):
    """The loop of a flow model around this UNet, which is none and takes whole timesteps."""
    latents = torch.randn((1, 4, 16, 16), generator=generator)
    cond, uncond = pipe.encode_prompt(prompt, "cpu", 1, True)
    pipe.scheduler.set_timesteps(steps)
    with torch.no_grad():
        for t in pipe.scheduler.timesteps:
            out = pipe.unet(torch.cat([latents] * 2), torch.round(t).long(), encoder_hidden_states=torch.cat([uncond, cond])).sample
            u, c = out.chunk(2)
            latents = pipe.scheduler.step(u + guidance * (c - u), t, latents).prev_sample
    return latents


def decode(pipe, latents):
    with torch.no_grad():
        return pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="pil")


def main():
    torch.set_num_threads(2)
    shutil.rmtree(GOLDENS, ignore_errors=True)
    GOLDENS.mkdir()
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(HERE / "../../../deploy/models/train/checkpoint", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    base, cases = pipe.scheduler.config, []
    for name, (scheduler, options, count) in CASES.items():
        pipe.scheduler = getattr(diffusers, scheduler).from_config(base, **options)
        case = dict(name=name, prompt="a red apple", negative_prompt="", scheduler=name, width=64, height=64, steps=8, guidance_scale=4.0, seed=11,
                    count=count, latents_given=False, prediction_type="")
        generator = torch.Generator("cpu").manual_seed(11)
        if name == "flow_match_euler":
            final = flow_match(pipe, case["prompt"], 8, 4.0, generator)
        else:
            final = pipe(prompt=case["prompt"], width=64, height=64, num_inference_steps=8, guidance_scale=4.0, num_images_per_prompt=count,
                         generator=generator, output_type="latent").images
        np.save(GOLDENS / f"{name}.final.npy", final.numpy())
        for i, image in enumerate(decode(pipe, final)):
            image.save(GOLDENS / f"{name}.{i}.png", optimize=True)
        cases.append(case)
    (GOLDENS / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
