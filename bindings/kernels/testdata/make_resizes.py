"""Writes resizes.bin beside this script: random pictures and what Pillow's Image.resize makes of them, raw and
little-endian: for each size the bytes (height x width x channels) and one plane of float32, then for each filter the
resized bytes and the resized plane. Needs Pillow and numpy. The sizes are those of resample_test.go.
"""

import pathlib

import numpy as np
import PIL
from PIL import Image

SIZES = [(3, 19, 23, 7, 11), (3, 7, 11, 19, 23), (1, 16, 16, 16, 40), (3, 33, 17, 8, 17), (3, 5, 9, 5, 9), (1, 40, 3, 2, 1)]
FILTERS = [Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]

random = np.random.default_rng(11)
with open(pathlib.Path(__file__).with_name("resizes.bin"), "wb") as out:
    for channels, height, width, to_height, to_width in SIZES:
        pixels = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
        pixels[::3] = np.where(pixels[::3] < 128, 0, 255)  # edges overshoot and are clamped
        plane = random.uniform(-1, 1, (height, width)).astype(np.float32)
        out.write(pixels.tobytes() + plane.tobytes())
        for f in FILTERS:
            picture = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)
            out.write(np.asarray(picture.resize((to_width, to_height), f)).tobytes())
            out.write(np.asarray(Image.fromarray(plane).resize((to_width, to_height), f)).tobytes())
print("made with Pillow", PIL.__version__)
