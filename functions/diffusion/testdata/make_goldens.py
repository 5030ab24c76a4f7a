"""Writes goldens/*.json.gz, one file for each class: what the schedulers of diffusers compute for fixed model outputs.

Made with diffusers 0.42.1, torch 2.15.0 (CPU) and numpy; each file states the versions that made it. Run from any
folder:

    python functions/diffusion/testdata/make_goldens.py

Initial samples, model outputs and noise come from gaussian() below, which the Go test repeats, so the files hold only
results: timesteps, sigmas, init_noise_sigma, the factor of scale_model_input and the sample after each step. With
guidance above 1 the output is uncond + guidance*(cond - uncond), as in the pipelines.
"""

import base64
import gzip
import json
import pathlib
import sys

import diffusers
import numpy as np
import torch
from diffusers.schedulers import (
    scheduling_ddim,
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
    scheduling_flow_match_euler_discrete,
    scheduling_lcm,
    scheduling_pndm,
    scheduling_unipc_multistep,
)

SHAPE = (2, 3, 3, 5)  # odd sizes; thresholding works on each of the 2 samples
MASK = (1 << 64) - 1
SAMPLE, COND, UNCOND, NOISE = range(4)  # streams

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD15 = {**SD, "clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
        "timestep_spacing": "leading"}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
TRAINED = {"num_train_timesteps": 40, "trained_betas": [0.001 + 0.0005 * i for i in range(40)]}
ZERO_SNR = {**SD, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
THRESHOLD = {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5}


def case(steps, config, guidance=1.0, **options):
    """options: mu and sigmas of set_timesteps; smooth for outputs that change little from call to call (the float32
    coefficients of UniPC's order 3 lose digits with many steps, which outputs without any pattern make visible);
    few to keep the last sample only; begin to call set_begin_index(0); tolerance where float32 cannot give 1e-5."""
    return {"steps": steps, "config": config, "guidance": guidance, **options}


CASES = {
    scheduling_ddim.DDIMScheduler: [
        case(20, SD15, guidance=7.5),
        case(50, {**SD15, "prediction_type": "v_prediction"}),
        case(10, {"timestep_spacing": "trailing", "clip_sample_range": 1.5}),
        case(7, {**COSINE, "timestep_spacing": "linspace", "prediction_type": "sample"}, guidance=3.0),
        case(4, {**ZERO_SNR, "clip_sample": False}),
        case(1, SD15),
        case(2, {**SD, "clip_sample": True}),
        case(13, {**SD, **THRESHOLD}),
        case(9, {**TRAINED, "prediction_type": "sample", **THRESHOLD, "sample_max_value": 0.8}),
        case(30, {**SD, "num_train_timesteps": 500, "timestep_spacing": "linspace", "clip_sample": False}),
    ],
    scheduling_pndm.PNDMScheduler: [
        case(20, SD15, guidance=7.5),
        case(50, SD15),
        case(1, SD15),
        case(2, SD15),
        case(3, {**SD15, "prediction_type": "v_prediction"}),
        case(4, {**SD, "skip_prk_steps": False}),
        case(20, {**SD, "skip_prk_steps": False, "prediction_type": "v_prediction"}, guidance=5.0),
        case(10, {**COSINE, "skip_prk_steps": False, "timestep_spacing": "linspace", "set_alpha_to_one": True}),
        case(8, {**SD, "skip_prk_steps": True, "timestep_spacing": "trailing"}),
        case(11, {**SD, "skip_prk_steps": True, "timestep_spacing": "linspace", "set_alpha_to_one": True}),
        case(10, {**TRAINED, "skip_prk_steps": True}),
    ],
    scheduling_euler_discrete.EulerDiscreteScheduler: [
        case(20, SD15, guidance=7.5),
        case(50, SD),
        case(10, {**SD, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}),
        case(20, {**SD, "use_karras_sigmas": True}),
        case(12, {**SD15, "use_karras_sigmas": True, "prediction_type": "v_prediction"}),
        case(6, {**SD, "use_exponential_sigmas": True, "final_sigmas_type": "sigma_min"}),
        case(9, {**SD, "interpolation_type": "log_linear"}),
        case(4, ZERO_SNR),
        case(1, SD),
        case(2, {**COSINE, "prediction_type": "sample"}),
        case(15, {**SD, "timestep_type": "continuous", "prediction_type": "v_prediction", "use_karras_sigmas": True,
                  "sigma_min": 0.002, "sigma_max": 700.0}),
        case(8, {**SD, "use_karras_sigmas": True, "interpolation_type": "log_linear", "sigma_max": 12.0}),
        case(8, TRAINED),
        case(61, {**SD, "timestep_spacing": "trailing"}, few=True),  # numpy.arange gives 62 timesteps
    ],
    scheduling_euler_ancestral_discrete.EulerAncestralDiscreteScheduler: [
        case(20, SD15, guidance=7.5),
        case(50, SD),
        case(10, {**SD, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}),
        # sigma_down of the first step cancels to a few digits in float32; which ones depends on the machine's sqrt.
        case(4, ZERO_SNR, tolerance=1e-4),
        case(1, SD),
        case(2, COSINE),
        case(8, TRAINED),
    ],
    scheduling_lcm.LCMScheduler: [
        case(4, {}),
        case(1, {}),
        case(2, {**SD, "prediction_type": "v_prediction"}, guidance=2.0),
        case(8, {"clip_sample": True, "original_inference_steps": 100}),
        case(20, {**COSINE, "prediction_type": "sample", "timestep_scaling": 3.0}),
        case(50, SD),
        case(7, THRESHOLD),
        case(3, {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    ],
    scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler: [
        case(20, SD15, guidance=7.5),
        case(20, {**SD, "use_karras_sigmas": True}),
        case(50, SD),
        case(20, {**SD, "algorithm_type": "sde-dpmsolver++"}),
        case(10, {**SD, "algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True, "solver_type": "heun"}),
        case(1, SD),
        case(2, {**SD, "prediction_type": "v_prediction"}),
        case(4, {**SD, "solver_order": 3, "prediction_type": "sample"}),
        case(20, {**SD, "solver_order": 3, "algorithm_type": "sde-dpmsolver++"}),
        case(25, {**SD, "solver_order": 3, "timestep_spacing": "trailing"}),
        case(12, {**SD, "solver_order": 1, "timestep_spacing": "leading", "steps_offset": 1}),
        case(16, {**SD, "solver_type": "heun", "euler_at_final": True, "final_sigmas_type": "sigma_min"}),
        case(10, {**SD, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_order": 3}),
        case(10, {**SD, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_type": "heun",
                  "prediction_type": "v_prediction"}),
        case(10, {**SD, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", **THRESHOLD}),
        case(10, {**SD, "algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"}),
        case(10, {**SD, "algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min", "solver_type": "heun",
                  "prediction_type": "sample", "lower_order_final": False}),
        case(12, {**SD, **THRESHOLD}, guidance=4.0),
        case(15, {**COSINE, "lambda_min_clipped": -5.1}),
        # The first two timesteps round to the same; without set_begin_index diffusers would start at the second.
        case(14, {**COSINE, "use_karras_sigmas": True}, begin=True),
        case(10, {**SD, "use_lu_lambdas": True}),
        case(10, {**SD, "use_exponential_sigmas": True, "lower_order_final": False}),
        case(10, {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}),
        case(10, {"use_flow_sigmas": True, "use_dynamic_shifting": True, "prediction_type": "flow_prediction"}, mu=0.7),
        case(10, ZERO_SNR),
    ],
    scheduling_unipc_multistep.UniPCMultistepScheduler: [
        case(20, SD15, guidance=7.5),
        case(50, SD),
        case(20, {**SD, "solver_order": 3}),
        case(50, {**SD, "solver_order": 3, "timestep_spacing": "trailing"}, smooth=True),
        case(10, {**SD, "use_karras_sigmas": True}),
        case(10, {**SD, "use_karras_sigmas": True, "final_sigmas_type": "sigma_min", "solver_type": "bh1"}),
        case(8, {**SD, "use_exponential_sigmas": True, "solver_order": 3}),
        case(1, SD),
        case(2, {**SD, "prediction_type": "v_prediction"}),
        case(4, {**SD, "solver_order": 1, "prediction_type": "sample"}),
        case(12, {**SD, "disable_corrector": [0, 1, 2, 7]}),
        case(9, {**SD, "predict_x0": False, "final_sigmas_type": "sigma_min"}),
        case(9, {**SD, "predict_x0": False, "final_sigmas_type": "sigma_min", "solver_order": 3,
                 "prediction_type": "v_prediction"}),
        case(9, {**SD, "predict_x0": False, "final_sigmas_type": "sigma_min", "prediction_type": "sample", **THRESHOLD}),
        case(12, {**SD, **THRESHOLD}, guidance=4.0),
        case(16, {**SD, "lower_order_final": False, "final_sigmas_type": "sigma_min"}),
        case(10, {"use_flow_sigmas": True, "flow_shift": 5.0, "prediction_type": "flow_prediction"}),
        case(10, {"use_flow_sigmas": True, "use_dynamic_shifting": True, "prediction_type": "flow_prediction",
                  "shift_terminal": 0.1}, mu=0.9),
        case(6, {"use_flow_sigmas": True, "use_dynamic_shifting": True, "prediction_type": "flow_prediction",
                 "time_shift_type": "linear"}, mu=1.4, sigmas=[1.0, 0.9, 0.7, 0.5, 0.3, 0.1]),
        case(8, {"use_flow_sigmas": True, "use_karras_sigmas": True, "prediction_type": "flow_prediction"}),
        case(10, {**ZERO_SNR, "solver_type": "midpoint"}),
        case(10, COSINE),
    ],
    scheduling_flow_match_euler_discrete.FlowMatchEulerDiscreteScheduler: [
        case(20, {"shift": 3.0}, guidance=4.5),
        case(50, {}),
        case(1, {}),
        case(2, {"shift": 3.0}),
        case(4, {"use_dynamic_shifting": True}, mu=0.4675),
        case(12, {"use_dynamic_shifting": True, "time_shift_type": "linear"}, mu=1.15),
        case(10, {"use_dynamic_shifting": True, "shift": 3.0}, mu=1.15, sigmas=[1 - i / 10 for i in range(10)]),
        case(10, {"shift": 2.0, "shift_terminal": 0.1}, sigmas=[1 - i / 10 for i in range(10)]),
        case(10, {"use_dynamic_shifting": True, "shift_terminal": 0.1}, mu=2.05),
        case(9, {"shift": 3.0, "use_karras_sigmas": True}),
        case(9, {"shift": 3.0, "use_exponential_sigmas": True}),
        case(9, {"shift": 1.7, "invert_sigmas": True}),
        case(8, {"shift": 3.0, "stochastic_sampling": True}),
    ],
}

# Schedulers made from the configuration of another class with from_config: the short name in the Go package (empty for
# the class as such), the class, the values that the name implies, the class that the configuration was written for.
SDXL = {**SD, "clip_sample": False, "interpolation_type": "linear", "prediction_type": "epsilon", "sample_max_value": 1.0,
        "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "leading",
        "trained_betas": None, "use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 11.0}
DPM = scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler
UNIPC = scheduling_unipc_multistep.UniPCMultistepScheduler
PLAIN = {"solver_order": 2, "use_exponential_sigmas": False, "use_beta_sigmas": False, "use_lu_lambdas": False}
FROM_CONFIG = [
    ("ddim", scheduling_ddim.DDIMScheduler, {}, "PNDMScheduler", SD15),
    ("pndm", scheduling_pndm.PNDMScheduler, {}, "EulerDiscreteScheduler", SDXL),
    ("euler", scheduling_euler_discrete.EulerDiscreteScheduler, {}, "PNDMScheduler", SD15),
    ("euler_ancestral", scheduling_euler_ancestral_discrete.EulerAncestralDiscreteScheduler, {}, "PNDMScheduler", SD15),
    ("lcm", scheduling_lcm.LCMScheduler, {}, "PNDMScheduler", SD15),
    ("dpmpp_2m", DPM, {**PLAIN, "algorithm_type": "dpmsolver++", "use_karras_sigmas": False}, "PNDMScheduler", SD15),
    ("dpmpp_2m_karras", DPM, {**PLAIN, "algorithm_type": "dpmsolver++", "use_karras_sigmas": True}, "PNDMScheduler", SD15),
    ("dpmpp_2m_sde", DPM, {**PLAIN, "algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False},
     "EulerDiscreteScheduler", SDXL),
    ("dpmpp_2m_sde_karras", DPM, {**PLAIN, "algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
     "EulerDiscreteScheduler", SDXL),
    ("unipc", UNIPC, {}, "EulerDiscreteScheduler", SDXL),
    ("unipc", UNIPC, {}, "DPMSolverMultistepScheduler", {**SD, "solver_type": "midpoint", "solver_order": 3}),
    ("", DPM, {}, "UniPCMultistepScheduler", {**SD, "solver_type": "bh2", "final_sigmas_type": "sigma_min"}),
    ("", DPM, {}, "DPMSolverMultistepScheduler",
     {**SD, "solver_type": "logrho", "algorithm_type": "deis", "final_sigmas_type": "sigma_min"}),
    ("flow_match_euler", scheduling_flow_match_euler_discrete.FlowMatchEulerDiscreteScheduler, {}, "PNDMScheduler", SD15),
]


def splitmix(seed):
    """The SplitMix64 generator's output for a state."""
    z = (seed + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def gaussian(stream, call):
    """Nearly normal float32 values: the sum of the four 16-bit parts of a hash."""
    values = []
    for i in range(int(np.prod(SHAPE))):
        z = splitmix(stream << 48 | call << 24 | i)
        total = sum((z >> (16 * k)) & 0xFFFF for k in range(4))
        values.append((total - 131070) / 37837)
    return torch.tensor(values, dtype=torch.float64).to(torch.float32).reshape(SHAPE)


def output(stream, call, smooth):
    """The model's output: fresh values each call, or a slow walk between a few."""
    if not smooth:
        return gaussian(stream, call)
    base, at = divmod(call, 32)
    weight = torch.tensor(at / 32, dtype=torch.float32)
    return gaussian(stream, base) * (1 - weight) + gaussian(stream, base + 1) * weight


def encode(tensor):
    return base64.b64encode(tensor.contiguous().numpy().astype("<f4").tobytes()).decode()


def run_from(name, cls, override, original, config):
    """A case of FROM_CONFIG."""
    written = {"_class_name": original, **config}
    c = run(cls, case(12, config), cls.from_config(written, **override))
    return {**c, "name": name or cls.__name__, "original": original}


def run(cls, c, scheduler=None):
    scheduler = scheduler or cls.from_config({"_class_name": cls.__name__, **c["config"]})
    options = {k: c[k] for k in ("mu", "sigmas") if k in c}
    if cls is scheduling_unipc_multistep.UniPCMultistepScheduler and "sigmas" in options:
        options["sigmas"] = np.array(options["sigmas"])
    scheduler.set_timesteps(c["steps"], **options)
    if c.get("begin"):
        scheduler.set_begin_index(0)
    call = [0]
    module = sys.modules[cls.__module__]
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = lambda *a, **k: gaussian(NOISE, call[0])
    sigma = getattr(scheduler, "init_noise_sigma", 1.0)
    sample = gaussian(SAMPLE, 0) * sigma
    scales, samples = [], []
    for i, t in enumerate(scheduler.timesteps):
        call[0] = i
        if hasattr(scheduler, "scale_model_input"):
            scales.append(float(scheduler.scale_model_input(torch.ones(1), t)))
        model = output(COND, i, c.get("smooth"))
        if c["guidance"] > 1:
            uncond = output(UNCOND, i, c.get("smooth"))
            model = uncond + c["guidance"] * (model - uncond)
        sample = scheduler.step(model, t, sample, return_dict=False)[0]
        assert sample.dtype == torch.float32 and sample.isfinite().all(), (cls.__name__, c, i)
        samples.append(sample)
    sigmas = getattr(scheduler, "sigmas", None)
    keep = len(samples) if not c.get("few") else 1
    return {
        **{k: v for k, v in c.items() if k != "sigmas"},
        "given_sigmas": c.get("sigmas"),
        "class": cls.__name__,
        "timesteps": [float(t) for t in scheduler.timesteps],
        "sigmas": None if sigmas is None else [float(s) for s in sigmas],
        "init_noise_sigma": float(sigma),
        "scales": scales,
        "kept": keep,  # of the samples, the last ones
        "samples": encode(torch.stack(samples[-keep:])),
    }


def main():
    torch.set_num_threads(1)
    out = pathlib.Path(__file__).parent / "goldens"
    for cls, cases in CASES.items():
        write(out / (cls.__name__ + ".json.gz"), [run(cls, c) for c in cases])
    write(out / "from_config.json.gz", [run_from(*c) for c in FROM_CONFIG])


def write(path, cases):
    content = {
        "versions": {"diffusers": diffusers.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "shape": SHAPE,
        "cases": cases,
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    path.write_bytes(gzip.compress(text, 9, mtime=0))
    print(path.name, len(cases), "cases", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
