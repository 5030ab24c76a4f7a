"""Renders the training pictures: 64x64 emoji on white, and recoloured copies of the single-hued ones.

Sources are files of three Debian packages (see README.md): the bitmap font of fonts-noto-color-emoji, names from
unicode-data and keywords from unicode-cldr-core. Writes to the work folder:

    images.npy     uint8 [N,64,64,3], the originals first
    captions.json  one record per image, see describe()
    data.png       a contact sheet to look at
"""

import argparse
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import vocabulary

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
EMOJI_TEST = "/usr/share/unicode/emoji/emoji-test.txt"
ANNOTATIONS = [
    "/usr/share/unicode/cldr/common/annotations/en.xml",
    "/usr/share/unicode/cldr/common/annotationsDerived/en.xml",
]
FONT_SIZE = 109  # the only size of the font's bitmaps
CANVAS = 136
IMAGE_SIZE = 64
HELD_OUT_SHARE = 0.1  # of the recoloured copies; never trained on

EMOJI_LINE = re.compile(r"([0-9A-F ]+?)\s*; fully-qualified\s*# (\S+) E[\d.]+ (.+)")


def normalise_name(name):
    """Lower case, ASCII letters, digits and single spaces only."""
    name = name.lower().replace("’", "").replace("“", "").replace("”", "")
    return re.sub(r"\s+", " ", re.sub(r"[^a-z0-9 ]", " ", name)).strip()


def read_keywords():
    """Returns the CLDR search keywords of each character."""
    keywords = {}
    for path in ANNOTATIONS:
        for annotation in ElementTree.parse(path).iter("annotation"):
            if annotation.get("type") != "tts":
                words = [normalise_name(word) for word in annotation.text.split("|")]
                keywords.setdefault(annotation.get("cp"), []).extend(words)
    return keywords


def read_chosen_emoji():
    """Returns (character, normalised name, subgroup) of each chosen emoji, in the order of emoji-test.txt."""
    chosen = vocabulary.names(vocabulary.CHOSEN_NAMES)
    found, subgroup = [], None
    for line in Path(EMOJI_TEST).read_text(encoding="utf8").splitlines():
        if line.startswith("# subgroup:"):
            subgroup = line.split(":")[1].strip()
        match = EMOJI_LINE.match(line)
        if match and normalise_name(match[3]) in chosen:
            name = normalise_name(match[3])
            chosen.remove(name)
            found.append((match[2], name, subgroup))
    if chosen:
        raise SystemExit(f"{EMOJI_TEST} has no emoji named: {sorted(chosen)}")
    return found


def render(font, character):
    """Returns the character's bitmap as an RGBA image of CANVAS x CANVAS, or None if the font lacks it."""
    if font.getlength(character) > 150:
        return None  # a sequence the font would draw as two pictures
    image = Image.new("RGBA", (CANVAS, CANVAS), (255, 255, 255, 0))
    ImageDraw.Draw(image).text((0, 4), character, font=font, embedded_color=True)
    return image if np.asarray(image)[..., 3].any() else None


def to_pixels(image):
    """Returns the RGBA image on white as uint8 [64,64,3]."""
    background = Image.new("RGBA", image.size, (255, 255, 255, 255))
    background.alpha_composite(image)
    return np.asarray(background.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.LANCZOS))


def split_hsv(image):
    """Returns hue in degrees, saturation and value in 0..1, each float [H,W]."""
    hsv = np.asarray(image.convert("RGB").convert("HSV")).astype(float) / 255
    return hsv[..., 0] * 360, hsv[..., 1], hsv[..., 2]


def hue_distance(hue, centre):
    """Returns the signed angle from centre to hue, in -180..180 degrees."""
    return (hue - centre + 180) % 360 - 180


def dominant_hue(image):
    """Returns (hue, median value, median saturation) if one hue covers most of the coloured area, else None."""
    opaque = np.asarray(image)[..., 3] > 128
    if opaque.sum() < 200:
        return None
    hue, saturation, value = split_hsv(image)
    coloured = opaque & (saturation > 0.35) & (value > 0.25)
    if coloured.sum() / opaque.sum() < 0.4:
        return None
    weight = saturation * value * coloured
    histogram = np.histogram(hue[coloured], bins=36, range=(0, 360), weights=weight[coloured])[0]
    smoothed = histogram + np.roll(histogram, 1) + np.roll(histogram, -1)
    peak = smoothed.argmax() * 10 + 5
    distance = hue_distance(hue, peak)
    near = coloured & (abs(distance) < 40)
    if weight[near].sum() / weight.sum() < 0.72:
        return None
    peak = (peak + np.average(distance[near], weights=weight[near])) % 360
    return peak, float(np.median(value[near])), float(np.median(saturation[near]))


def colour_word(hue, value):
    """Returns the word people use for the hue, or None between two words."""
    if value < 0.65 and 8 < hue < 50:
        return "brown"
    ranges = [(-20, 14, "red"), (14, 38, "orange"), (38, 66, "yellow"), (75, 165, "green"), (190, 245, "blue"),
              (255, 300, "purple"), (315, 345, "pink")]
    for low, high, word in ranges:
        if low <= hue < high or low <= hue - 360 < high:
            return word
    return None


def recolour(image, dominant, colour):
    """Returns a copy with the dominant hue turned into the colour word's."""
    peak, median_value, median_saturation = dominant
    target_hue, saturation_factor, value_factor = vocabulary.RECOLOURS[colour]
    hue, saturation, value = split_hsv(image)
    distance = hue_distance(hue, peak)
    mask = np.clip((55 - abs(distance)) / 15, 0, 1) * np.clip(saturation / 0.15, 0, 1) > 0.5
    saturation_factor *= max(1, 0.75 / median_saturation)  # pale or dark originals are brought to full colour
    value_factor *= max(1, 0.8 / median_value)
    hue = np.where(mask, (target_hue + distance * 0.35) % 360, hue)
    saturation = np.where(mask, np.clip(saturation * saturation_factor, 0, 1), saturation)
    value = np.where(mask, np.clip(value * value_factor, 0, 1), value)
    hsv = np.stack([hue / 360, saturation, value], -1) * 255
    rgb = Image.fromarray(hsv.round().clip(0, 255).astype(np.uint8), "HSV").convert("RGB")
    return Image.fromarray(np.dstack([np.asarray(rgb), np.asarray(image)[..., 3]]), "RGBA")


def describe(name, subgroup, colour, keywords, recoloured):
    """One caption record. colour is the word that may (original) or must (recoloured) be said, or None."""
    return {"name": name, "subgroup": subgroup, "colour": colour, "keywords": keywords, "recoloured": recoloured,
            "held_out": False}


def build():
    """Returns (images uint8 [N,64,64,3], records), originals first."""
    font = ImageFont.truetype(FONT, FONT_SIZE)
    keywords = read_keywords()
    emoji = read_chosen_emoji()
    names = {name for _, name, _ in emoji}
    originals, recoloured = [], []
    for character, name, subgroup in emoji:
        image = render(font, character)
        if image is None:
            raise SystemExit(f"{FONT} has no single picture for {name!r}")
        words = name.split()
        plain_name = " ".join(word for word in words if word not in vocabulary.COLOUR_WORDS)
        named_colours = [word for word in words if word in vocabulary.COLOUR_WORDS]
        dominant = dominant_hue(image) if plain_name else None
        own_colour = colour_word(*dominant[:2]) if dominant else None
        extra = keywords.get(character, keywords.get(character.replace("\ufe0f", ""), []))
        extra = [word for word in dict.fromkeys(extra) if word and word != name]
        originals.append((to_pixels(image), describe(name, subgroup, None if named_colours else own_colour, extra, False)))
        if dominant is None or len(named_colours) > 1 or plain_name in vocabulary.NEVER_RECOLOURED:
            continue
        for colour in vocabulary.RECOLOURS:
            if colour == own_colour or colour in named_colours or f"{colour} {plain_name}" in names:
                continue
            copy = to_pixels(recolour(image, dominant, colour))
            recoloured.append((copy, describe(plain_name, subgroup, colour, [], True)))
    generator = random.Random(1)
    for _, record in recoloured:
        record["held_out"] = generator.random() < HELD_OUT_SHARE
    images, records = zip(*originals, *recoloured)
    return np.stack(images), list(records)


def write_sheet(images, records, path):
    """Draws 60 originals and 60 recoloured copies."""
    generator = random.Random(1)
    originals = [i for i, record in enumerate(records) if not record["recoloured"]]
    copies = [i for i, record in enumerate(records) if record["recoloured"]]
    sheet = Image.new("RGB", (20 * 66, 6 * 66), "white")
    for position, i in enumerate(generator.sample(originals, 60) + generator.sample(copies, 60)):
        sheet.paste(Image.fromarray(images[i]), (position % 20 * 66, position // 20 * 66))
    sheet.save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"), help="folder for everything made on the way")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    images, records = build()
    np.save(work / "images.npy", images)
    (work / "captions.json").write_text(json.dumps(records))
    write_sheet(images, records, work / "data.png")
    copies = [record for record in records if record["recoloured"]]
    held_out = sum(record["held_out"] for record in copies)
    print(f"{len(images) - len(copies)} emoji, {len(copies)} recoloured, {held_out} of them held out")


if __name__ == "__main__":
    main()
