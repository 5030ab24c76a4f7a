"""Makes nano-sd: the smallest networks that have the shape of a Stable Diffusion's, with fixed random weights.

    python3 functions/instance/testdata/make_nano.py       (needs openvino and numpy)

They compute nothing sensible, but compile within seconds where a real model takes minutes: on the virtual GPU. The
tokenizer and the scheduler are those of functions/pipeline/testdata/tiny-sd. 16x16 latents give 32x32 pixels.
"""

import json
import os
import shutil

import numpy as np
import openvino as ov
from openvino import opset13 as op

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "nano-sd")
TINY = os.path.join(HERE, "..", "..", "pipeline", "testdata", "tiny-sd")
VOCABULARY, TOKENS, HIDDEN, LATENTS = 600, 77, 32, 4
random = np.random.default_rng(20260131)


def weights(*shape, scale):
    return op.constant(random.normal(0, scale, shape).astype(np.float32))


def save(name, outputs, inputs, config):
    folder = os.path.join(OUT, name)
    os.makedirs(folder)
    ov.save_model(ov.Model(outputs, inputs, name), os.path.join(folder, "openvino_model.xml"), compress_to_fp16=False)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")


def parameter(shape, kind, name):
    p = op.parameter(ov.PartialShape(shape), kind, name)
    p.output(0).set_names({name})
    return p


def named(node, name):
    node.output(0).set_names({name})
    return op.result(node)


def text_encoder():
    ids = parameter([-1, TOKENS], ov.Type.i64, "input_ids")
    table = weights(VOCABULARY, HIDDEN, scale=1.0)
    x = op.gather(table, ids, op.constant(np.int64(0)))
    x = op.add(x, weights(TOKENS, HIDDEN, scale=0.5))
    x = op.gelu(op.matmul(x, weights(HIDDEN, HIDDEN, scale=0.2), False, False), "erf")
    config = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": 1, "max_position_embeddings": TOKENS,
              "pad_token_id": 0, "bos_token_id": 598, "eos_token_id": 599, "model_type": "clip_text_model"}
    save("text_encoder", [named(x, "last_hidden_state")], [ids], config)


def unet():
    sample = parameter([-1, LATENTS, -1, -1], ov.Type.f32, "sample")
    timestep = parameter([1], ov.Type.i64, "timestep")
    states = parameter([-1, TOKENS, HIDDEN], ov.Type.f32, "encoder_hidden_states")
    mean = op.reduce_mean(states, op.constant(np.array([1], np.int64)), False)
    context = op.unsqueeze(op.matmul(mean, weights(HIDDEN, LATENTS, scale=0.5), False, False), op.constant(np.array([2, 3], np.int64)))
    time = op.multiply(op.convert(timestep, "f32"), op.constant(np.float32(0.001)))
    same = np.array([1, 1], np.int64)
    x = op.convolution(sample, weights(LATENTS, LATENTS, 3, 3, scale=0.3), same, same, same, same)
    x = op.tanh(op.add(op.add(x, context), time))
    config = {"sample_size": 16, "in_channels": LATENTS, "out_channels": LATENTS, "block_out_channels": [LATENTS],
              "cross_attention_dim": HIDDEN, "time_cond_proj_dim": None}
    save("unet", [named(x, "out_sample")], [sample, timestep, states], config)


def vae_decoder():
    latents = parameter([-1, LATENTS, -1, -1], ov.Type.f32, "latent_sample")
    none, one = np.array([0, 0], np.int64), np.array([1, 1], np.int64)
    x = op.convolution(latents, weights(12, LATENTS, 3, 3, scale=0.05), one, one, one, one)
    x = op.depth_to_space(x, "blocks_first", 2)
    x = op.tanh(op.convolution(x, weights(3, 3, 1, 1, scale=0.6), one, none, none, one))
    config = {"in_channels": 3, "out_channels": 3, "latent_channels": LATENTS, "block_out_channels": [4, 4], "sample_size": 32,
              "scaling_factor": 0.18215, "shift_factor": None}
    save("vae_decoder", [named(x, "sample")], [latents], config)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    text_encoder()
    unet()
    vae_decoder()
    for name in ("model_index.json", "scheduler"):
        source = os.path.join(TINY, name)
        copy = shutil.copytree if os.path.isdir(source) else shutil.copy
        copy(source, os.path.join(OUT, name))
    os.symlink("../../../pipeline/testdata/tiny-sd/tokenizer", os.path.join(OUT, "tokenizer"))


if __name__ == "__main__":
    main()
