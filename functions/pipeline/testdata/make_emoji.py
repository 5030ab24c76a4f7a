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
CASES = (("", {}, 1), ("EulerAncestralDiscreteScheduler", {}, 2), ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, 1))
NAMES = {"": "ddim", "EulerAncestralDiscreteScheduler": "euler_ancestral", "DPMSolverMultistepScheduler": "dpmpp_2m_karras"}


def main():
    torch.set_num_threads(2)
    shutil.rmtree(GOLDENS, ignore_errors=True)
    GOLDENS.mkdir()
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(HERE / "../../../deploy/models/train/checkpoint", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    base, cases = pipe.scheduler.config, []
    for scheduler, options, count in CASES:
        pipe.scheduler = getattr(diffusers, scheduler or base["_class_name"]).from_config(base, **options)
        case = dict(name=NAMES[scheduler], prompt="a red apple", negative_prompt="", scheduler=NAMES[scheduler], width=64, height=64, steps=8,
                    guidance_scale=4.0, seed=11, count=count, latents_given=False, prediction_type="")
        call = dict(prompt=case["prompt"], width=64, height=64, num_inference_steps=8, guidance_scale=4.0, num_images_per_prompt=count)
        final = pipe(**call, generator=torch.Generator("cpu").manual_seed(11), output_type="latent").images
        np.save(GOLDENS / f"{case['name']}.final.npy", final.numpy())
        for i, image in enumerate(pipe(**call, generator=torch.Generator("cpu").manual_seed(11)).images):
            image.save(GOLDENS / f"{case['name']}.{i}.png", optimize=True)
        cases.append(case)
    (GOLDENS / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
