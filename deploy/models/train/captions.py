"""Captions for training: several ways to say what a picture shows."""

import random

import vocabulary


def caption(record, generator=random):
    """Returns a random caption of the record (see data.describe)."""
    name = record["name"]
    synonyms = vocabulary.SYNONYMS.get(name)
    if synonyms and generator.random() < 0.35:
        name = generator.choice(synonyms)
    elif name.endswith(" face") and record["subgroup"].startswith("animal") and generator.random() < 0.3:
        name = name.removesuffix(" face") + " head"
    elif record["keywords"] and generator.random() < 0.06:
        name = f"{name} {generator.choice(record['keywords'])}"
    words = name.split()
    if len(words) > 3 and generator.random() < 0.25:
        words.pop(generator.randrange(1, len(words) - 1))
        name = " ".join(words)
    if record["colour"] and (record["recoloured"] or generator.random() < 0.35):
        name = f"{record['colour']} {name}"
    text = generator.choice(vocabulary.CAPTION_TEMPLATES).format(name)
    if generator.random() < 0.1:
        text = text.replace(" of a ", " of ")
    return with_correct_articles(text)


def with_correct_articles(text):
    """Turns "a" into "an" before a vowel."""
    words = text.split()
    for i in range(len(words) - 1):
        if words[i] == "a" and words[i + 1][0] in "aeiou":
            words[i] = "an"
    return " ".join(words)
