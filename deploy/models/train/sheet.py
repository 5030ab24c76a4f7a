"""Draws a contact sheet: one picture per prompt of prompts.txt, by genfn, or by OpenVINO GenAI from an exported folder.

    sheet.sh                                         ../emoji/sheet.png, by genfn: the pictures it made, drawn by --pictures
    sheet.py --model ../emoji --out sheet.png
    sheet.py --model ../emoji --against other/model --out comparison.png     every second row is the other model's
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

COLUMNS = 6
PICTURE = 64
SHOWN = 128
CELL_WIDTH, CELL_HEIGHT = SHOWN + 8, SHOWN + 16


def generate(model, prompts, steps, guidance, seed):
    """Returns one image per prompt; the seeds count up from the given one."""
    import openvino_genai

    pipeline = openvino_genai.Text2ImagePipeline(model, "CPU")
    images = []
    for i, prompt in enumerate(prompts):
        pixels = pipeline.generate(prompt, width=PICTURE, height=PICTURE, num_inference_steps=steps,
                                   guidance_scale=guidance, rng_seed=seed + i).data[0]
        images.append(enlarge(Image.fromarray(pixels)))
    return images


def enlarge(image):
    return image.resize((SHOWN, SHOWN), Image.BICUBIC)


def draw(labelled_rows):
    """Returns the sheet of rows of (image, label)."""
    sheet = Image.new("RGB", (COLUMNS * CELL_WIDTH, len(labelled_rows) * CELL_HEIGHT), "white")
    pen = ImageDraw.Draw(sheet)
    for y, row in enumerate(labelled_rows):
        for x, (image, label) in enumerate(row):
            sheet.paste(image, (x * CELL_WIDTH + 4, y * CELL_HEIGHT))
            pen.text((x * CELL_WIDTH + 4, y * CELL_HEIGHT + SHOWN), label[:24], fill="black")
    return sheet


def rows_of(images, labels):
    cells = list(zip(images, labels, strict=True))
    return [cells[i:i + COLUMNS] for i in range(0, len(cells), COLUMNS)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("../emoji"))
    parser.add_argument("--against", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder with 1.png, 2.png, ... instead of --model")
    parser.add_argument("--out", type=Path, default=Path("../emoji/sheet.png"))
    parser.add_argument("--prompts", type=Path, default=Path(__file__).with_name("prompts.txt"))
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    prompts = arguments.prompts.read_text().strip().split("\n")

    def rows(model, labels):
        images = generate(model, prompts, arguments.steps, arguments.guidance, arguments.seed)
        return rows_of(images, labels)

    if arguments.pictures:
        made = [enlarge(Image.open(arguments.pictures / f"{i}.png")) for i in range(1, len(prompts) + 1)]
        labelled_rows = rows_of(made, prompts)
    else:
        labelled_rows = rows(arguments.model, prompts)
    if arguments.against:
        other_rows = rows(arguments.against, ["(other model)"] * len(prompts))
        labelled_rows = [row for pair in zip(labelled_rows, other_rows, strict=True) for row in pair]
    sheet = draw(labelled_rows)
    if arguments.against:
        sheet = sheet.quantize(256)  # half the file; what counts is the difference between the rows
    sheet.save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
