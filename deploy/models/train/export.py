"""Exports the checkpoint (a diffusers pipeline folder, float16) as OpenVINO IR and ONNX, side by side.

The result is the folder layout of optimum-intel and OpenVINO GenAI, with model.onnx beside each IR, and model_fp16.onnx
beside that, as transformers.js and the models of onnx-community have it. IR and model.onnx hold the checkpoint's float16
weights and compute in float32; model_fp16.onnx computes in float16, as diffusers does with a float16 pipeline, and has its
weights in model.onnx (ONNX's external data), where they are the same bytes. Constants that float16 cannot hold exactly (the frequency
table of the timestep embedding above all) stay float32: rounding that table alone costs 8e-4 of the UNet's output.
"""

import argparse
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import torch
from diffusers import StableDiffusionPipeline
from onnx import helper, numpy_helper
from openvino import opset13 as opset
from openvino_tokenizers import convert_tokenizer

ONNX_OPSET = 17
# Read by runners that know the file: what to use where a request says nothing.
GENERATION_DEFAULTS = {"num_inference_steps": 25, "guidance_scale": 4.0, "width": 64, "height": 64}
MIN_COMPRESSED_ELEMENTS = 32  # a Cast node costs more than smaller constants save


class TextEncoder(torch.nn.Module):
    """input_ids int64 [B,16] to last_hidden_state [B,16,D] and pooler_output [B,D]."""

    def __init__(self, text_encoder):
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, input_ids):
        output = self.text_encoder(input_ids=input_ids)
        return output.last_hidden_state, output.pooler_output


class UNet(torch.nn.Module):
    """sample [B,C,H,W], timestep int64 [1], encoder_hidden_states [B,16,D] to the v-prediction [B,C,H,W]."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.unet(sample, timestep, encoder_hidden_states=encoder_hidden_states, return_dict=False)[0]


class VaeDecoder(torch.nn.Module):
    """Latents [B,C,H,W] to a picture in -1..1, [B,3,4H,4W]."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample):
        return self.vae.decode(latent_sample, return_dict=False)[0]


class VaeEncoder(torch.nn.Module):
    """A picture in -1..1, [B,3,4H,4W], to mean and log variance of its latents, [B,2C,H,W]."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, sample):
        return self.vae.quant_conv(self.vae.encoder(sample))


@dataclass
class Component:
    """One exported network: -1 in a shape is a size that may vary."""

    folder: str
    module: torch.nn.Module
    config: dict
    inputs: dict  # name: (shape, example)
    outputs: list


def components(pipeline):
    """Returns the four networks of the pipeline with example inputs."""
    text_encoder, unet, vae = pipeline.text_encoder, pipeline.unet, pipeline.vae
    length = text_encoder.config.max_position_embeddings
    width = text_encoder.config.hidden_size
    channels, size = unet.config.in_channels, unet.config.sample_size
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, channels, size, size, generator=generator)
    hidden = torch.randn(2, length, width, generator=generator)
    picture = torch.rand(2, 3, vae.config.sample_size, vae.config.sample_size, generator=generator) * 2 - 1
    tokens = torch.randint(text_encoder.config.vocab_size, (2, length), generator=generator)
    tokens[:, 5:] = text_encoder.config.eos_token_id
    return [
        Component("text_encoder", TextEncoder(text_encoder), json.loads(text_encoder.config.to_json_string()),
                  {"input_ids": ([-1, length], tokens)}, ["last_hidden_state", "pooler_output"]),
        Component("unet", UNet(unet), json.loads(unet.to_json_string()),
                  {"sample": ([-1, channels, -1, -1], latents), "timestep": ([1], torch.tensor([901])),
                   "encoder_hidden_states": ([-1, length, width], hidden)}, ["out_sample"]),
        Component("vae_decoder", VaeDecoder(vae), json.loads(vae.to_json_string()),
                  {"latent_sample": ([-1, channels, -1, -1], latents)}, ["sample"]),
        Component("vae_encoder", VaeEncoder(vae), json.loads(vae.to_json_string()),
                  {"sample": ([-1, 3, -1, -1], picture)}, ["latent_parameters"]),
    ]


def load_pipeline(checkpoint):
    """Returns the checkpoint's pipeline in float32. Eager attention: the text encoder's mask is traced from it."""
    pipeline = StableDiffusionPipeline.from_pretrained(checkpoint, dtype=torch.float32)
    pipeline.text_encoder.set_attn_implementation("eager")
    for network in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
        network.to(torch.float32).eval().requires_grad_(False)
    return pipeline


def fits_float16(values):
    """Reports whether a float32 array survives float16 unchanged."""
    with np.errstate(over="ignore"):
        return np.array_equal(values.astype(np.float16).astype(np.float32), values)


def export_openvino(component, path):
    """Writes path and the .bin beside it."""
    inputs = [(name, openvino.PartialShape(shape), openvino.Type.i64 if example.dtype == torch.int64 else
               openvino.Type.f32) for name, (shape, example) in component.inputs.items()]
    examples = {name: example for name, (_, example) in component.inputs.items()}
    model = openvino.convert_model(component.module, example_input=examples, input=inputs)
    for port, name in zip(model.inputs, component.inputs, strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, component.outputs, strict=True):
        port.get_tensor().set_names({name})
    compress_constants(model)
    openvino.save_model(model, path, compress_to_fp16=False)  # its own compression would round the frequency table


def compress_constants(model):
    """Stores float32 constants that float16 holds exactly as float16, each followed by a Convert to float32."""
    for constant in model.get_ordered_ops():
        if constant.get_type_name() != "Constant" or constant.get_element_type() != openvino.Type.f32:
            continue
        values = np.array(constant.get_data())
        if values.size < MIN_COMPRESSED_ELEMENTS or not fits_float16(values):
            continue
        converted = opset.convert(opset.constant(values.astype(np.float16)), openvino.Type.f32)
        converted.set_friendly_name(constant.get_friendly_name() + ".float32")
        for target in constant.output(0).get_target_inputs():
            target.replace_source_output(converted.output(0))


def trace_onnx(component, path):
    """Writes path as torch traces it."""
    examples = tuple(example for _, example in component.inputs.values())
    axis_names = {0: "batch", 2: "height", 3: "width"}
    dynamic_axes = {name: {axis: axis_names[axis] for axis, size in enumerate(shape) if size == -1}
                    for name, (shape, _) in component.inputs.items()}
    dynamic_axes.update({name: {0: "batch"} for name in component.outputs})
    torch.onnx.export(component.module, examples, path, input_names=list(component.inputs),
                      output_names=component.outputs, dynamic_axes=dynamic_axes, opset_version=ONNX_OPSET, dynamo=False)


def export_onnx(component, path):
    """Writes path, weights inside."""
    trace_onnx(component, path)
    model = onnx.load(path)
    compress_initializers(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def compress_initializers(graph):
    """Stores float32 initializers that float16 holds exactly as float16, each followed by a Cast to float32."""
    casts = []
    for i, initializer in enumerate(graph.initializer):
        if initializer.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(initializer)
        if values.size < MIN_COMPRESSED_ELEMENTS or not fits_float16(values):
            continue
        stored = initializer.name + ".float16"
        casts.append(helper.make_node("Cast", [stored], [initializer.name], name=stored + ".cast",
                                      to=onnx.TensorProto.FLOAT))
        graph.initializer[i].CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)


def export_onnx_float16(component, path, weights):
    """Writes path, computing in float16, with inputs and outputs in float16. The module is left in float16.

    Of the constants, those that float32 is asked for by the module stay float32: the frequency table of the timestep
    embedding. weights is the float32 network's file, which holds the same weights.
    """
    component.module.half()
    examples = {name: (shape, example.half() if example.is_floating_point() else example)
                for name, (shape, example) in component.inputs.items()}
    trace_onnx(replace(component, inputs=examples), path)
    model = onnx.load(path)
    share_initializers(model.graph, weights)
    onnx.save(model, path)
    onnx.checker.check_model(path)


def share_initializers(graph, weights):
    """Has float16 initializers lie in another file of the folder, whose bytes contain theirs."""
    contents = weights.read_bytes()
    for initializer in graph.initializer:
        values = numpy_helper.to_array(initializer)
        if initializer.data_type != onnx.TensorProto.FLOAT16 or values.size < MIN_COMPRESSED_ELEMENTS:
            continue
        offset = contents.find(values.tobytes())
        if offset < 0:
            raise ValueError(f"{weights}: no bytes of {initializer.name}")
        place = {"location": weights.name, "offset": offset, "length": values.nbytes}
        initializer.ClearField("raw_data")
        initializer.data_location = onnx.TensorProto.EXTERNAL
        for key, value in place.items():
            initializer.external_data.add(key=key, value=str(value))


def export_tokenizer(pipeline, checkpoint, folder):
    """Copies the tokenizer's files and adds the OpenVINO tokenizer (no detokenizer: nothing is decoded)."""
    shutil.copytree(checkpoint / "tokenizer", folder)
    openvino.save_model(convert_tokenizer(pipeline.tokenizer, with_detokenizer=False),
                        folder / "openvino_tokenizer.xml")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint"))
    parser.add_argument("--out", type=Path, default=Path("../emoji"))
    arguments = parser.parse_args()
    checkpoint, out = arguments.checkpoint, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(checkpoint)
    for component in components(pipeline):
        folder = out / component.folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with torch.no_grad():
            export_openvino(component, folder / "openvino_model.xml")
            export_onnx(component, folder / "model.onnx")
            if component.folder != "vae_encoder":  # which nothing runs yet
                export_onnx_float16(component, folder / "model_fp16.onnx", folder / "model.onnx")
        config = {key: value for key, value in component.config.items() if key != "_name_or_path"}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        print({file.name: file.stat().st_size for file in sorted(folder.iterdir())})
    for name in ("tokenizer", "scheduler"):
        shutil.rmtree(out / name, ignore_errors=True)
    export_tokenizer(pipeline, checkpoint, out / "tokenizer")
    shutil.copytree(checkpoint / "scheduler", out / "scheduler")
    shutil.copy(checkpoint / "model_index.json", out / "model_index.json")
    (out / "generation_config.json").write_text(json.dumps(GENERATION_DEFAULTS, indent=2) + "\n")


if __name__ == "__main__":
    main()
