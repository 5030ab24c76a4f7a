"""stable-diffusion.cpp by its Python package as a worker of the harness, see pictures.py.

    sdcpp_worker.py MODEL --width 64 --height 64 --steps 25 --guidance 4 --threads 2 [--precision f32]

MODEL is a diffusers folder. A model that the library does not know is told in its own words before the worker ends.
"""

import os
import sys
import tempfile

import pictures

# The library writes what happens to both standard streams, also in C++. They go to a file.
answers = os.fdopen(os.dup(1), "w")
log = tempfile.TemporaryFile()
for stream in (1, 2):
    os.dup2(log.fileno(), stream)


def last_words():
    sys.stdout.flush()
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else "it says nothing"


def main():
    args = pictures.arguments(choices=("f32", "bf16", "f16"), default="f32").parse_args()

    from stable_diffusion_cpp import StableDiffusion, __version__

    pipe = StableDiffusion(model_path=args.model, n_threads=args.threads, wtype=args.precision, verbose=True)

    def generate(prompt, seed, steps=args.steps):
        image = pipe.generate_image(
            prompt=prompt, width=args.width, height=args.height, sample_steps=steps, cfg_scale=args.guidance, seed=seed,
        )[0]
        return image.size

    loading = last_words()
    try:
        generate("", 1, 1)  # a model that could not be loaded fails only here
    except Exception as error:
        pictures.answer(answers, error=f"{error}; its log of loading ends with: {loading}")
        os._exit(0)  # freeing such a model crashes
    pictures.serve(generate, [args.width, args.height], {"stable_diffusion_cpp": __version__}, answers)


main()
