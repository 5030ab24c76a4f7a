"""Writes the golden files beside this script: noise as PyTorch and libstdc++ draw it, bytes as diffusers makes them.

Needs torch (x86-64 with AVX2), diffusers, numpy and g++. Run: python make_goldens.py
All .bin files are raw little-endian values.
"""

import hashlib
import json
import pathlib
import subprocess
import tempfile

import diffusers
import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor

HERE = pathlib.Path(__file__).parent
SIZES = [1, 2, 7, 15, 16, 17, 31, 1000, 4096]
IN_A_ROW = SIZES + [3, 16, 5, 48, 1, 1]
TORCH_SEEDS = [0, 1, 42, 2**32 + 5, 2**53 - 1]
STD_SEEDS = [0, 1, 42, 5489, 2**32 - 1]
LONG = 1 << 20

STD_PROGRAM = """
#include <cstdio>
#include <cstdlib>
#include <random>
int main(int, char **argv) {
    std::mt19937 engine(std::strtoul(argv[1], nullptr, 10));
    std::normal_distribution<float> normal(0.0f, 1.0f);
    for (long n = std::atol(argv[2]); n > 0; n--) {
        float x = normal(engine);
        std::fwrite(&x, sizeof x, 1, stdout);
    }
}
"""


def torch_normal(seed, sizes):
    generator = torch.Generator("cpu").manual_seed(seed)
    return np.concatenate([torch.randn(n, generator=generator, dtype=torch.float32).numpy() for n in sizes])


def write_noise():
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"), "the goldens are those of the AVX2 code"
    hashes = {"torch": {}, "std": {}, "length": LONG}
    for seed in TORCH_SEEDS:
        torch_normal(seed, IN_A_ROW).tofile(HERE / f"torch_row_{seed}.bin")
        hashes["torch"][seed] = hashlib.sha256(torch_normal(seed, [LONG]).tobytes()).hexdigest()
    np.concatenate([torch_normal(42, [n]) for n in SIZES]).tofile(HERE / "torch_fresh_42.bin")

    with tempfile.TemporaryDirectory() as folder:
        source, program = pathlib.Path(folder, "std.cpp"), pathlib.Path(folder, "std")
        source.write_text(STD_PROGRAM)
        subprocess.run(["g++", "-O2", "-ffp-contract=off", source, "-o", program], check=True)
        for seed in STD_SEEDS:
            values = subprocess.run([program, str(seed), str(LONG)], check=True, capture_output=True).stdout
            (HERE / f"std_{seed}.bin").write_bytes(values[: 4 * 1001])
            hashes["std"][seed] = hashlib.sha256(values).hexdigest()
    (HERE / "hashes.json").write_text(json.dumps(hashes, indent=1) + "\n")


def write_image():
    height, width = 17, 19
    image = np.random.default_rng(7).uniform(-1.3, 1.3, (3, height, width)).astype(np.float32)
    ties = (np.arange(256, dtype=np.float32) + np.float32(0.5)) / np.float32(255) * 2 - 1  # close to or on x.5
    image[0].flat[: ties.size] = ties
    image[1].flat[:8] = [-1, 1, 0, -0.0, 1e-40, np.inf, -np.inf, 3e38]
    pictures = VaeImageProcessor().postprocess(torch.from_numpy(image)[None], output_type="pil")
    image.tofile(HERE / "image_3x17x19.f32.bin")
    np.asarray(pictures[0]).tofile(HERE / "image_17x19x3.u8.bin")


write_noise()
write_image()
print("made with torch", torch.__version__, "diffusers", diffusers.__version__, "numpy", np.__version__)
