"""What the workers of the harness that make pictures have in common: each stays loaded, and every line on standard input
is one generation, answered with the seconds of wall and CPU time it took.
"""

import argparse
import json
import resource
import sys
import time


def answer(file=None, **fields):
    print(json.dumps(fields), file=file, flush=True)


def arguments(**precision):
    """A parser of MODEL --width 64 --height 64 --steps 25 --guidance 4 --threads 2 [--precision f32]."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    for name in ("width", "height", "steps", "threads"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--guidance", type=float, required=True)
    parser.add_argument("--precision", **precision)
    return parser


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def serve(generate, expected, versions, file=None):
    """Says that it is ready, then answers. generate makes a picture of a prompt and a seed, and returns its shape."""
    answer(file, texts=versions)
    for line in sys.stdin:
        request = json.loads(line)
        wall, used = time.perf_counter(), cpu()
        shape = generate(request["prompt"], request["seed"])
        figures = {"wall": time.perf_counter() - wall, "cpu": cpu() - used}
        if list(shape) != expected:
            answer(file, error=f"the picture has the shape {list(shape)}")
            continue
        answer(file, figures=figures)
