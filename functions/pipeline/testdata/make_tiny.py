"""Build tiny-sd, a Stable Diffusion folder of random weights, and the goldens diffusers makes from it; and
tiny-lcm, which holds what is different in a latent consistency model: the index, the scheduler, the UNet; and
no-memory, networks to put into tiny-sd that find no memory when they run.

    python make_tiny.py [folder]        # default: the folder of this script

Needs torch, diffusers, transformers, openvino, openvino-tokenizers, pillow. The seeds are fixed: the same
package versions give the same files (versions.json names those that were used).

The weights are random and rounded to fp16, so torch (which runs the goldens) and OpenVINO (which reads the
exported folder) start from the same numbers. Only constants that fp16 holds exactly are stored as fp16; the
frequency table of the time embedding is not one of them and stays f32.

The model follows SD 2.x where that is a choice: v-prediction (latents of random weights then stay within a few
units), DDIM, and a pad token ("!") that is not the end token. The vocabulary is a byte-level BPE of the few
sentences below.
"""
import collections
import json
import os
import platform
import re
import shutil
import sys
import warnings

import diffusers
import numpy as np
import openvino as ov
import openvino.opset13 as ops
import openvino_tokenizers
import torch
import transformers
from diffusers import (AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, LatentConsistencyModelPipeline, LCMScheduler,
                       PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel, UniPCMultistepScheduler)
from PIL import Image
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

warnings.filterwarnings("ignore")
torch.set_num_threads(2)

HERE = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
MODEL, LCM, NO_MEMORY, GOLDENS = (os.path.join(HERE, d) for d in ("tiny-sd", "tiny-lcm", "no-memory", "golden"))
LIMIT, WIDTH = 77, 32
CORPUS = ["a photo of a red fox in the snow, studio light", "a red apple on a wooden table", "the blue heart and the green tree",
          "a rocket over the city at night", "an oil painting of a dog", "blurry, low quality", "a cat with a hat"]
PROMPT = "a photo of a red fox in the snow"
LONG_PROMPT = ", ".join(CORPUS) + ", " + ", ".join(reversed(CORPUS))

NAMES = {
    "ddim": (DDIMScheduler, {}),
    "pndm": (PNDMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "lcm": (LCMScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "dpmpp_2m_sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2m_sde_karras": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}),
    "unipc": (UniPCMultistepScheduler, {}),
    "flow_match_euler": (FlowMatchEulerDiscreteScheduler, {}),
}


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1, ensure_ascii=False)
        f.write("\n")


def round_weights(module):
    module.eval()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(p.half().float())
    return module


def learn_merges(count):
    """Byte-pair merges of the corpus; ties go to the first pair in the alphabet, so every run finds the same."""
    words = [[*w[:-1], w[-1] + "</w>"] for line in CORPUS for w in re.findall(r"\w+|[^\w\s]", line)]
    merges = []
    while len(merges) < count:
        pairs = collections.Counter(p for w in words for p in zip(w, w[1:]))
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        for w in words:
            i = 0
            while i < len(w) - 1:
                if (w[i], w[i + 1]) == best:
                    w[i:i + 2] = ["".join(best)]
                i += 1
    return merges


def build_tokenizer(folder):
    """A CLIP tokenizer: all bytes, all bytes ending a word, the merges, the two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn_merges(100)
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
    os.makedirs(folder, exist_ok=True)
    write_json(folder + "/vocab.json", vocab)
    with open(folder + "/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    tok = CLIPTokenizer(vocab=folder + "/vocab.json", merges=folder + "/merges.txt", pad_token="!", model_max_length=LIMIT)
    tok.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):  # tokenizer.json and the IR hold all of it
        os.remove(f"{folder}/{name}")
    ir = openvino_tokenizers.convert_tokenizer(tok, with_detokenizer=False)
    ov.save_model(ir[0] if isinstance(ir, tuple) else ir, folder + "/openvino_tokenizer.xml")
    return tok


class TextEncoder(torch.nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, input_ids):
        o = self.m(input_ids=input_ids)
        return o.last_hidden_state, o.pooler_output


class UNet(torch.nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.m(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class GuidedUNet(UNet):
    def forward(self, sample, timestep, encoder_hidden_states, timestep_cond):
        return self.m(sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond, return_dict=False)[0]


class Decoder(torch.nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, latent_sample):
        return self.m.decode(latent_sample, return_dict=False)[0]


def store_fp16(model):
    """Replace each larger f32 constant that fp16 holds exactly by fp16 and a Convert."""
    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != ov.Type.f32 or np.prod(list(node.shape)) < 32:
            continue
        half = node.data.astype(np.float16)
        if np.array_equal(half.astype(np.float32), node.data):
            name = node.get_friendly_name()
            convert = ops.convert(ops.constant(half), "f32")
            convert.set_friendly_name(name)
            targets = node.output(0).get_target_inputs()
            for t in targets:
                t.replace_source_output(convert.output(0))


def export(module, example, inputs, outputs, folder, config):
    with torch.no_grad():
        m = ov.convert_model(module, example_input=example, input=[(n, ov.PartialShape(s), t) for n, s, t in inputs])
    for port, (name, _, _) in zip(m.inputs, inputs):
        port.get_tensor().set_names({name})
    for port, name in zip(m.outputs, outputs):
        port.get_tensor().set_names({name})
    store_fp16(m)
    m.validate_nodes_and_infer_types()
    os.makedirs(folder, exist_ok=True)
    ov.save_model(m, folder + "/openvino_model.xml", compress_to_fp16=False)
    write_json(folder + "/config.json", config)


def config_of(module):
    c = module.config.to_dict() if hasattr(module.config, "to_dict") else dict(module.config)
    return {k: v for k, v in json.loads(json.dumps(c, default=str)).items() if k == "_class_name" or not k.startswith("_")}


def build():
    shutil.rmtree(MODEL, ignore_errors=True)
    torch.manual_seed(20)
    tok = build_tokenizer(MODEL + "/tokenizer")
    te = CLIPTextModel(CLIPTextConfig(vocab_size=len(tok), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2,
                                      num_attention_heads=4, max_position_embeddings=LIMIT, hidden_act="gelu", initializer_factor=1.0,
                                      bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id,
                                      attn_implementation="eager"))
    with torch.no_grad():  # CLIP's 0.02 would leave all prompts nearly the same
        te.get_input_embeddings().weight.normal_(0, 0.5)
    un = UNet2DConditionModel(sample_size=32, in_channels=4, out_channels=4, block_out_channels=(32, 48, 64), layers_per_block=1,
                              cross_attention_dim=WIDTH, attention_head_dim=8, norm_num_groups=16,
                              down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                              up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"))
    va = AutoencoderKL(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(16, 16, 32, 32), layers_per_block=1,
                       norm_num_groups=8, sample_size=256, scaling_factor=0.18215,
                       down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    with torch.no_grad():
        un.conv_out.weight.mul_(3)
        va.decoder.conv_out.weight.mul_(1.5)
        for name, p in un.named_parameters():  # let the prompt matter
            if "attn2" in name and name.endswith("to_out.0.weight"):
                p.mul_(4)
    for m in (te, un, va):
        round_weights(m)
    sched = DDIMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                          set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading", prediction_type="v_prediction")
    sched.save_pretrained(MODEL + "/scheduler")
    sched = DDIMScheduler.from_pretrained(MODEL, subfolder="scheduler")
    i64, f32 = ov.Type.i64, ov.Type.f32
    export(TextEncoder(te), {"input_ids": torch.ones(2, LIMIT, dtype=torch.long)}, [("input_ids", [-1, LIMIT], i64)],
           ["last_hidden_state", "pooler_output"], MODEL + "/text_encoder", config_of(te))
    export(UNet(un), {"sample": torch.randn(2, 4, 16, 16), "timestep": torch.tensor([1]), "encoder_hidden_states": torch.randn(2, LIMIT, WIDTH)},
           [("sample", [-1, 4, -1, -1], f32), ("timestep", [1], i64), ("encoder_hidden_states", [-1, LIMIT, WIDTH], f32)],
           ["out_sample"], MODEL + "/unet", config_of(un))
    export(Decoder(va), {"latent_sample": torch.randn(1, 4, 16, 16)}, [("latent_sample", [-1, 4, -1, -1], f32)], ["sample"],
           MODEL + "/vae_decoder", config_of(va))
    write_json(MODEL + "/model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": diffusers.__version__, "feature_extractor": [None, None],
        "requires_safety_checker": False, "safety_checker": [None, None], "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})
    return StableDiffusionPipeline(vae=va, text_encoder=te, tokenizer=tok, unet=un, scheduler=sched, safety_checker=None,
                                   feature_extractor=None, requires_safety_checker=False)


def flow_match(pipe, latents, steps, guidance, prompt, negative):
    """The loop of a flow model around this UNet, whose exported timestep is an integer."""
    cond, uncond = pipe.encode_prompt(prompt, "cpu", 1, True, negative_prompt=negative)
    embeds = torch.cat([uncond, cond])
    pipe.scheduler.set_timesteps(steps)
    with torch.no_grad():
        for t in pipe.scheduler.timesteps:
            out = pipe.unet(torch.cat([latents] * 2), torch.round(t).long(), encoder_hidden_states=embeds).sample
            u, c = out.chunk(2)
            latents = pipe.scheduler.step(u + guidance * (c - u), t, latents).prev_sample
    return latents


def decode(pipe, latents):
    with torch.no_grad():
        x = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return pipe.image_processor.postprocess(x, output_type="pil")


def goldens(pipe):
    shutil.rmtree(GOLDENS, ignore_errors=True)
    os.makedirs(GOLDENS)
    base, cases = pipe.scheduler.config, []

    def add(name, prompt=PROMPT, negative="", scheduler="", width=64, height=64, steps=20, guidance=7.5, seed=1234, count=1, given=True,
            prediction=""):
        cls, over = NAMES[scheduler] if scheduler else (DDIMScheduler, {})
        config = dict(base, **({"prediction_type": prediction} if prediction else {}))
        pipe.scheduler = cls.from_config(config, **over)
        generator = torch.Generator("cpu").manual_seed(seed)
        latents = None
        if given:  # initial latents from another seed: the generator then serves the steps' noise only
            latents = torch.randn((count, 4, height // 8, width // 8), generator=torch.Generator("cpu").manual_seed(seed + 1))
            np.save(f"{GOLDENS}/{name}.initial.npy", latents.numpy())
        if scheduler == "flow_match_euler":
            final = flow_match(pipe, latents, steps, guidance, prompt, negative)
        else:
            final = pipe(prompt=prompt, negative_prompt=negative or None, width=width, height=height, num_inference_steps=steps, guidance_scale=guidance,
                         num_images_per_prompt=count, generator=generator, latents=latents, output_type="latent").images
        assert torch.isfinite(final).all()
        np.save(f"{GOLDENS}/{name}.final.npy", final.numpy())
        images = decode(pipe, final)
        for i, im in enumerate(images):
            im.save(f"{GOLDENS}/{name}.{i}.png", optimize=True)
        pix = np.stack([np.asarray(im) for im in images])
        print(f"{name:22s} latents max {final.abs().max():7.3f} std {final.std():6.3f}  pixels mean {pix.mean():5.1f} std {pix.std():5.1f}"
              f" saturated {np.mean((pix == 0) | (pix == 255)):.3f}", flush=True)
        cases.append(dict(name=name, prompt=prompt, negative_prompt=negative, scheduler=scheduler, width=width, height=height, steps=steps,
                          guidance_scale=guidance, seed=seed, count=count, latents_given=given, prediction_type=prediction))

    for s in NAMES:
        add(s, scheduler=s)
    add("seed_only", given=False, seed=7)
    add("seed_only_small", given=False, seed=8, width=32, height=32, steps=4)
    add("seed_only_ancestral", given=False, seed=9, scheduler="euler_ancestral")
    add("no_guidance", guidance=1.0)
    add("count_two", count=2, given=False, seed=10)
    add("count_two_ancestral", count=2, scheduler="euler_ancestral", given=False, seed=11)
    add("wide", width=96, height=64)
    add("native_size", width=256, height=256, steps=4)
    add("negative_prompt", negative="blurry, low quality")
    add("long_prompt", prompt=LONG_PROMPT)
    add("epsilon", prediction="epsilon")
    tok = pipe.tokenizer
    write_json(GOLDENS + "/cases.json", cases)
    write_json(GOLDENS + "/tokens.json", [
        {"prompt": p, "input_ids": tok(p, padding="max_length", max_length=LIMIT, truncation=True).input_ids,
         "cut": len(tok(p).input_ids) > LIMIT} for p in ("", PROMPT, LONG_PROMPT, "naïve café 猫 🍎", "UPPER   case\n\tspaces")])


def tiled(pipe):
    """Decoding in overlapping tiles: float pixels of latents of odd sizes, and a picture of a whole generation."""
    vae, cases = pipe.vae, []
    vae.enable_tiling()

    def decode_tiled(latents, side):
        vae.tile_sample_min_size, vae.tile_latent_min_size = side, side // 8
        with torch.no_grad():
            return vae.decode(latents).sample

    for name, shape, side in (("tiled_odd", (2, 4, 9, 13), 32), ("tiled_wide", (1, 4, 8, 12), 64)):
        latents = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(22)) * 3
        np.save(f"{GOLDENS}/{name}.latents.npy", latents.numpy())
        np.save(f"{GOLDENS}/{name}.sample.npy", decode_tiled(latents, side).numpy())
        cases.append({"name": name, "tile": side})
    final = torch.from_numpy(np.load(GOLDENS + "/native_size.final.npy"))
    image = pipe.image_processor.postprocess(decode_tiled(final / vae.config.scaling_factor, 96), output_type="pil")[0]
    image.save(GOLDENS + "/tiled_native_size.0.png", optimize=True)
    vae.disable_tiling()
    write_json(GOLDENS + "/tiled.json", cases)


def no_memory():
    """Networks with the inputs and outputs of tiny-sd's that compile and then ask for 4 TiB: how much is known only when they run."""
    def greedy(x, shape):
        side = ops.convert(ops.clamp(ops.reduce_max(ops.convert(x, "f32"), np.arange(len(x.partial_shape)), False), 2.0**20, 2.0**20), "i64")
        huge = ops.tile(ops.constant(np.ones((1, 1), np.float32)), ops.concat([ops.unsqueeze(side, 0)] * 2, 0))
        return ops.broadcast(ops.reduce_mean(huge, [0, 1], False), shape)

    def extents(x, pick, factors):
        return ops.multiply(ops.gather(ops.shape_of(x), np.array(pick), 0), np.array(factors))

    f32, i64 = ov.Type.f32, ov.Type.i64
    ids = ops.parameter([-1, LIMIT], i64, name="input_ids")
    sample, step, states = ops.parameter([-1, 4, -1, -1], f32, name="sample"), ops.parameter([1], i64, name="timestep"), ops.parameter([-1, LIMIT, WIDTH], f32, name="encoder_hidden_states")
    latents = ops.parameter([-1, 4, -1, -1], f32, name="latent_sample")
    hidden = ops.concat([ops.shape_of(ids), ops.constant(np.array([WIDTH]))], 0)
    zero = ops.multiply(ops.add(ops.convert(ops.reduce_sum(step, [0], False), "f32"), ops.reduce_sum(states, [0, 1, 2], False)), np.float32(0))
    pixels = ops.concat([extents(latents, [0], [1]), ops.constant(np.array([3])), extents(latents, [2, 3], [8, 8])], 0)
    for name, inputs, outputs in (("text_encoder", [ids], {"last_hidden_state": greedy(ids, hidden)}),
                                  ("unet", [sample, step, states], {"out_sample": ops.add(greedy(sample, ops.shape_of(sample)), zero)}),
                                  ("vae_decoder", [latents], {"sample": greedy(latents, pixels)})):
        m = ov.Model(list(outputs.values()), inputs, name)
        for port, output in zip(m.outputs, outputs):
            port.get_tensor().set_names({output})
        for node in inputs:
            node.output(0).get_tensor().set_names({node.get_friendly_name()})
        os.makedirs(f"{NO_MEMORY}/{name}", exist_ok=True)
        ov.save_model(m, f"{NO_MEMORY}/{name}/openvino_model.xml", compress_to_fp16=False)


def consistency(pipe):
    """A latent consistency model: its UNet takes an embedding of the guidance scale."""
    shutil.rmtree(LCM, ignore_errors=True)
    torch.manual_seed(21)
    un = UNet2DConditionModel(sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
                              cross_attention_dim=WIDTH, attention_head_dim=8, norm_num_groups=8, time_cond_proj_dim=9,
                              down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    with torch.no_grad():
        un.time_embedding.cond_proj.weight.mul_(20)  # let the guidance scale matter
    round_weights(un)
    sched = LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    sched.save_pretrained(LCM + "/scheduler")
    i64, f32 = ov.Type.i64, ov.Type.f32
    export(GuidedUNet(un), {"sample": torch.randn(1, 4, 8, 8), "timestep": torch.tensor([1]), "encoder_hidden_states": torch.randn(1, LIMIT, WIDTH),
                            "timestep_cond": torch.randn(1, 9)},
           [("sample", [-1, 4, -1, -1], f32), ("timestep", [1], i64), ("encoder_hidden_states", [-1, LIMIT, WIDTH], f32), ("timestep_cond", [-1, 9], f32)],
           ["out_sample"], LCM + "/unet", config_of(un))
    index = json.load(open(MODEL + "/model_index.json"))
    write_json(LCM + "/model_index.json", dict(index, _class_name="LatentConsistencyModelPipeline", scheduler=["diffusers", "LCMScheduler"]))
    lcm = LatentConsistencyModelPipeline(vae=pipe.vae, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer, unet=un, scheduler=sched,
                                         safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    lcm.set_progress_bar_config(disable=True)
    final = lcm(prompt=PROMPT, width=64, height=64, num_inference_steps=4, guidance_scale=8.5, output_type="latent",
                generator=torch.Generator("cpu").manual_seed(12)).images
    np.save(GOLDENS + "/consistency.final.npy", final.numpy())
    other = lcm(prompt=PROMPT, width=64, height=64, num_inference_steps=4, guidance_scale=2.0, output_type="latent",
                generator=torch.Generator("cpu").manual_seed(12)).images
    print(f"consistency            latents max {final.abs().max():7.3f}, with guidance 2 they differ by {(final - other).abs().max():.3f}")
    write_json(GOLDENS + "/guidance_embedding.json", [
        {"scale": scale, "embedding": lcm.get_guidance_scale_embedding(torch.tensor([scale - 1]), dim)[0].tolist()} for scale, dim in ((8.5, 8), (1.0, 9), (3.25, 256))])


if __name__ == "__main__":
    pipe = build()
    pipe.set_progress_bar_config(disable=True)
    goldens(pipe)
    tiled(pipe)
    no_memory()
    consistency(pipe)
    write_json(GOLDENS + "/versions.json", {
        "python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__,
        "openvino": ov.get_version(), "openvino_tokenizers": openvino_tokenizers.__version__, "numpy": np.__version__})
