"""Builds the models of the tests: the operations of a CLIP text encoder, a Stable Diffusion UNet and a VAE decoder,
one of each, with random weights.

    python make_models.py        # writes clip.xml, unet.xml, vae.xml and their .bin beside this script

Needs openvino 2026.4.1 and numpy. The seed is fixed. No feature map is 8 wide: OpenVINO's blocked GPU convolution
miscounts its line cache there (its last two columns are wrong), a defect of the plugin itself.
"""
import os

import numpy as np
import openvino as ov
import openvino.opset13 as ops

HERE = os.path.dirname(os.path.abspath(__file__))
random = np.random.default_rng(20261127)


def constant(*shape, scale=1.0):
    # Rounded to f16, so that the file may hold f16 and every device starts from the same numbers.
    return ops.constant((random.standard_normal(shape) * scale).astype(np.float16).astype(np.float32))


def integers(*values):
    return ops.constant(np.array(values, np.int64))


def linear(x, inputs, outputs):
    return ops.add(ops.matmul(x, constant(inputs, outputs, scale=inputs**-0.5), False, False), constant(outputs, scale=0.1))


def layer_norm(x, width):
    y = ops.mvn(x, integers(-1), True, 1e-5, "inside_sqrt")
    return ops.add(ops.multiply(y, constant(width, scale=0.2)), constant(width, scale=0.1))


def attention(x, context, width, context_width, heads, length, context_length):
    def split(y, n):
        return ops.transpose(ops.reshape(y, integers(1, n, heads, width // heads), False), integers(0, 2, 1, 3))

    q = split(linear(x, width, width), length)
    k = split(linear(context, context_width, width), context_length)
    v = split(linear(context, context_width, width), context_length)
    scores = ops.multiply(ops.matmul(q, k, False, True), ops.constant(np.float32((width // heads) ** -0.5)))
    y = ops.matmul(ops.softmax(scores, -1), v, False, False)
    return linear(ops.reshape(ops.transpose(y, integers(0, 2, 1, 3)), integers(1, length, width), False), width, width)


def conv(x, inputs, outputs, stride=1, size=3):
    pad = [size // 2] * 2
    y = ops.convolution(x, constant(outputs, inputs, size, size, scale=(inputs * size * size) ** -0.5), [stride] * 2, pad, pad, [1, 1])
    return ops.add(y, constant(1, outputs, 1, 1, scale=0.1))


def group_norm(x, channels, groups):
    return ops.group_normalization(x, constant(channels, scale=0.5), constant(channels, scale=0.1), groups, 1e-5)


def upsample(x, size):
    return ops.interpolate(x, integers(size, size), "nearest", "sizes", nearest_mode="floor", coordinate_transformation_mode="asymmetric", axes=integers(2, 3))


def save(name, result, *parameters):
    model = ov.Model([ops.result(result)], list(parameters), name)
    ov.save_model(model, os.path.join(HERE, name + ".xml"), compress_to_fp16=True)


def clip():
    length, width = 16, 32
    ids = ops.parameter([1, length], np.int64, name="input_ids")
    x = ops.add(ops.gather(constant(64, width), ids, integers(0)), constant(1, length, width, scale=0.5))
    y = layer_norm(x, width)
    x = ops.add(x, attention(y, y, width, width, 4, length, length))
    x = ops.add(x, linear(ops.gelu(linear(layer_norm(x, width), width, 64), "erf"), 64, width))
    save("clip", layer_norm(x, width), ids)


def unet():
    size, channels, length, width = 32, 32, 16, 32
    sample = ops.parameter([1, 4, size, size], np.float32, name="sample")
    timestep = ops.parameter([1], np.float32, name="timestep")
    text = ops.parameter([1, length, width], np.float32, name="encoder_hidden_states")
    angles = ops.multiply(ops.reshape(timestep, integers(1, 1), False), constant(1, 16, scale=0.05))
    time = linear(ops.swish(linear(ops.concat([ops.sin(angles), ops.cos(angles)], 1), 32, 32)), 32, channels)
    x = skip = conv(sample, 4, channels)
    x = conv(ops.swish(group_norm(x, channels, 8)), channels, channels, stride=2)
    x = ops.add(x, ops.reshape(time, integers(1, channels, 1, 1), False))
    pixels = (size // 2) ** 2
    y = ops.transpose(ops.reshape(group_norm(x, channels, 8), integers(1, channels, pixels), False), integers(0, 2, 1))
    y = ops.add(y, attention(layer_norm(y, channels), text, channels, width, 2, pixels, length))
    x = ops.reshape(ops.transpose(y, integers(0, 2, 1)), integers(1, channels, size // 2, size // 2), False)
    x = conv(ops.concat([upsample(x, size), skip], 1), 2 * channels, channels)
    save("unet", conv(ops.swish(group_norm(x, channels, 8)), channels, 4), sample, timestep, text)


def vae():
    latent = ops.parameter([1, 4, 16, 16], np.float32, name="latent_sample")
    x = conv(conv(latent, 4, 4, size=1), 4, 32)
    x = ops.add(x, conv(ops.swish(group_norm(x, 32, 8)), 32, 32))
    x = conv(upsample(x, 32), 32, 16)
    save("vae", conv(ops.swish(group_norm(x, 16, 8)), 16, 3), latent)


clip()
unet()
vae()
