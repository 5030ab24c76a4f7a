"""Trains the byte-level BPE of the captions and writes it as a CLIP tokenizer (tokenizer/ in the work folder).

Every byte has a token, bare and at the end of a word, so no prompt is out of vocabulary.
"""

import argparse
import json
import random
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from captions import caption

MAX_LENGTH = 16  # tokens, start and end included
VOCABULARY_SIZE = 1600
WORD_END = "</w>"
CAPTIONS_PER_IMAGE = 6


def train_bpe(texts):
    """Returns (vocabulary: token to id, merges: list of pairs)."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY_SIZE, special_tokens=[], end_of_word_suffix=WORD_END,
                                  min_frequency=2, show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    model = json.loads(bpe.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        tokens.extend(token for token in (symbol, symbol + WORD_END) if token not in model["vocab"])
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, [tuple(pair) for pair in model["merges"]]


def load(folder):
    return CLIPTokenizer.from_pretrained(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"))
    work = parser.parse_args().work
    records = json.loads((work / "captions.json").read_text())
    generator = random.Random(0)
    texts = [caption(record, generator) for record in records for _ in range(CAPTIONS_PER_IMAGE)]
    texts += [record["name"] for record in records for _ in range(CAPTIONS_PER_IMAGE)]
    vocabulary, merges = train_bpe(texts)
    target = work / "tokenizer"
    target.mkdir(exist_ok=True)
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH).save_pretrained(target)
    # transformers 5 writes tokenizer.json only; older loaders read these two.
    (target / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (target / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    print(f"{len(vocabulary)} tokens, {len(merges)} merges")
    for text in ("a red apple", "Emoji of a blue heart on fire", "zebra Quokka 7! café 🙂"):
        print(load(target).tokenize(text))


if __name__ == "__main__":
    main()
