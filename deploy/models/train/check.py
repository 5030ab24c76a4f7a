"""Checks the exported model against the checkpoint in torch, network by network, on the CPU.

OpenVINO runs with dynamic shapes and with every shape fixed before compiling (batch 1 and 2 at 64 pixels, batch 2 at 128), each
in a process of its own because a compiler crash takes its process along. ONNX Runtime runs the same inputs. Exits with
an error when a case crashes or differs by more than TOLERANCE of the largest value; what computes in float16, TOLERANCE_FLOAT16.
"""

import argparse
import concurrent.futures
import multiprocessing
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch

import export

TOLERANCE = 1e-4
TOLERANCE_FLOAT16 = 5e-3  # of what computes in float16


def example_inputs(component, batch, factor):
    """Returns the component's example cut to the batch, its free height and width times factor."""
    inputs = {}
    for name, (shape, example) in component.inputs.items():
        if shape[0] == -1:
            example = example[:batch]
        if shape[2:] == [-1, -1]:
            example = example.repeat(1, 1, factor, factor)
        inputs[name] = example.numpy()
    return inputs


def run_openvino(path, inputs, static):
    """Returns the outputs in order."""
    core = openvino.Core()
    model = core.read_model(path)
    if static:
        model.reshape({name: list(value.shape) for name, value in inputs.items()})
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(compiled(inputs).values())


def run_onnx(path, inputs):
    """Returns the outputs in order."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    types = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(int64)": np.int64}
    return session.run(None, {port.name: inputs[port.name].astype(types[port.type]) for port in session.get_inputs()})


def run_tokenizer(path, texts):
    """Returns the token ids of each text, without padding."""
    import openvino_tokenizers  # registers the operations of the tokenizer's graph  # noqa: F401
    compiled = openvino.Core().compile_model(path, "CPU")
    rows = []
    for text in texts:
        outputs = compiled([text])
        rows.append(outputs["input_ids"][0][outputs["attention_mask"][0] == 1].tolist())
    return rows


def run_isolated(function, *arguments):
    """Runs the function in a process of its own. Raises BrokenProcessPool if that process dies.

    Forked, so that it need not import torch again; the parent never runs OpenVINO or ONNX Runtime itself.
    """
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def check(component, folder):
    """Prints one line per case and returns the number of failures."""
    failures = 0
    sizes = [(1, 1), (2, 1)]
    if any(shape[2:] == [-1, -1] for shape, _ in component.inputs.values()):
        sizes.append((2, 2))
    for batch, factor in sizes:
        inputs = example_inputs(component, batch, factor)
        with torch.no_grad():
            expected = component.module(*(torch.from_numpy(value) for value in inputs.values()))
        expected = [output.numpy() for output in (expected if isinstance(expected, tuple) else [expected])]
        cases = {
            "OpenVINO dynamic": (run_openvino, folder / "openvino_model.xml", inputs, False),
            "OpenVINO static": (run_openvino, folder / "openvino_model.xml", inputs, True),
            "ONNX Runtime": (run_onnx, folder / "model.onnx", inputs),
        }
        if (folder / "model_fp16.onnx").exists():
            cases["ONNX Runtime f16"] = (run_onnx, folder / "model_fp16.onnx", inputs)
        for label, case in cases.items():
            try:
                outputs = run_isolated(*case)
                error = max(np.abs(output.astype(np.float32) - want).max() / np.abs(want).max()
                            for output, want in zip(outputs, expected, strict=True))
                allowed = TOLERANCE_FLOAT16 if label.endswith("f16") else TOLERANCE
                verdict = "ok" if error <= allowed else "DIFFERS"
                result = f"relative error {error:.1e}"
            except concurrent.futures.process.BrokenProcessPool:
                verdict, result = "CRASHED", "the process died"
            failures += verdict != "ok"
            print(f"{component.folder:13} batch {batch} size x{factor}  {label:17} {result}  {verdict}", flush=True)
    return failures


def check_tokenizer(clip_tokenizer, folder):
    """Compares the exported tokenizer with the checkpoint's, prints one line and returns the number of failures."""
    texts = ["a red apple", "Emoji of a BLUE heart on fire!", "zebra, quokka 7", "café 🙂 naïve", "dog's  bowl", "a"]
    expected = [clip_tokenizer(text).input_ids for text in texts]
    found = run_isolated(run_tokenizer, folder / "openvino_tokenizer.xml", texts)
    different = [text for text, want, have in zip(texts, expected, found, strict=True) if want != have]
    print(f"tokenizer     {len(texts)} texts  " + (f"DIFFERS at {different}" if different else "ok"), flush=True)
    return len(different)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint"))
    parser.add_argument("--model", type=Path, default=Path("../emoji"))
    arguments = parser.parse_args()
    pipeline = export.load_pipeline(arguments.checkpoint)
    failures = sum(check(component, arguments.model / component.folder) for component in export.components(pipeline))
    failures += check_tokenizer(pipeline.tokenizer, arguments.model / "tokenizer")
    sys.exit(f"{failures} cases failed" if failures else 0)


if __name__ == "__main__":
    main()
