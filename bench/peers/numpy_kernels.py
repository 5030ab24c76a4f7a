"""numpy beside genfn's kernels, as a worker of the harness: every line on standard input asks for n calls in a row on
arrays of so many float32 values, answered with gigabytes a second, of as many bytes as genfn's kernel reads and writes.
Nothing is allocated in a call. The time is the median of the parts of the calls, as on genfn's side.
"""

import functools
import json
import statistics
import sys
import time

import numpy as np

GUIDANCE, STEP = np.float32(7.5), np.float32(-0.1)
TIMINGS = 50  # of the calls of a request, see bench/measure/calls.go


def answer(**fields):
    print(json.dumps(fields), flush=True)


def ramp(n):
    return np.linspace(-1, 1, n, dtype=np.float32)


@functools.cache
def kernels(n):
    """Functions by name, each with the bytes of one value, as in bench/worker_calls.go."""
    a, b, cond, uncond, history = ramp(n), ramp(n), ramp(n), ramp(n), ramp(n)
    out, converted, mask = np.empty_like(a), np.empty_like(a), np.empty(n, dtype=bool)
    plane = n // 3
    image, scratch = a[: 3 * plane], np.empty(3 * plane, dtype=np.float32)
    pixels, image_out = np.zeros((plane, 3), dtype=np.uint8), np.empty(3 * plane, dtype=np.float32)
    quarter, scratch_all = n // 4, np.empty_like(a)
    mask_values, inverse = uncond[:quarter], np.empty(quarter, dtype=np.float32)
    channels_b, channels_cond = b[: 4 * quarter].reshape(4, quarter), cond[: 4 * quarter].reshape(4, quarter)
    channels_out, channels_scratch = np.empty_like(channels_b), np.empty_like(channels_b)

    def scale():
        np.multiply(b, np.float32(2), out=out)
        np.add(out, np.float32(1), out=out)

    def guide():
        np.subtract(cond, uncond, out=out)
        np.multiply(out, GUIDANCE, out=out)
        np.add(out, uncond, out=out)

    def euler():
        guide()
        np.multiply(out, STEP, out=out)
        np.add(b, out, out=b)

    def multistep():
        guide()
        np.subtract(a, out, out=converted)
        np.multiply(converted, np.float32(0.1), out=out)
        np.multiply(a, np.float32(0.9), out=a)
        np.add(a, out, out=a)
        np.multiply(history, np.float32(-0.01), out=out)
        np.add(a, out, out=a)

    def count_non_finite():
        np.isfinite(a, out=mask)
        if n - np.count_nonzero(mask):
            raise ValueError("values are not finite")

    halves = [v.astype(np.float16) for v in (a, b, cond)]
    half_out, share = np.empty_like(halves[0]), np.float32(0.3)

    def scale_f16():
        np.multiply(halves[1], np.float16(2), out=half_out)
        np.add(half_out, np.float16(1), out=half_out)

    def mix():
        np.multiply(b, 1 - share, out=out)
        np.multiply(cond, share, out=scratch_all)
        np.add(out, scratch_all, out=out)

    def composite():
        np.subtract(1, mask_values, out=inverse)
        np.multiply(channels_b, mask_values, out=channels_out)
        np.multiply(channels_cond, inverse, out=channels_scratch)
        np.add(channels_out, channels_scratch, out=channels_out)

    def count_non_finite_f16():
        np.isfinite(halves[1], out=mask)
        if n - np.count_nonzero(mask):
            raise ValueError("values are not finite")

    def difference():
        np.subtract(b, cond, out=out)
        np.abs(out, out=out)
        out.min(), out.max(), out.mean(dtype=np.float64)

    def u8_to_image():
        np.divide(pixels.T, np.float32(255), out=scratch.reshape(3, plane), casting="unsafe")
        np.multiply(scratch, np.float32(2), out=scratch)
        np.subtract(scratch, np.float32(1), out=image_out)

    def image_to_u8():
        np.multiply(image, np.float32(0.5), out=scratch)
        np.add(scratch, np.float32(0.5), out=scratch)
        np.clip(scratch, 0, 1, out=scratch)
        np.multiply(scratch, np.float32(255), out=scratch)
        np.rint(scratch, out=scratch)
        np.copyto(pixels, scratch.reshape(3, plane).T, casting="unsafe")

    return {
        "bandwidth_scale": (8, scale),
        "bandwidth_step_euler": (16, euler),
        "bandwidth_step_multistep": (24, multistep),
        "bandwidth_count_non_finite": (4, count_non_finite),
        "bandwidth_image_to_u8": (5, image_to_u8),
        "bandwidth_u8_to_image": (5, u8_to_image),
        "bandwidth_scale_f16": (4, scale_f16),
        "bandwidth_mix": (12, mix),
        "bandwidth_composite": (13, composite),
        "bandwidth_f16_to_f32": (6, lambda: np.copyto(out, halves[1])),
        "bandwidth_f32_to_f16": (6, lambda: np.copyto(half_out, b, casting="same_kind")),
        "bandwidth_count_non_finite_f16": (2, count_non_finite_f16),
        "bandwidth_difference": (8, difference),
    }


def seconds(call, n):
    size, times = max(1, n // TIMINGS), []
    for _ in range(0, n, size):
        began = time.perf_counter()
        for _ in range(size):
            call()
        times.append((time.perf_counter() - began) / size)
    return statistics.median(times)


def main():
    answer(texts={"numpy": np.__version__, "calls": " ".join(kernels(12))})
    for line in sys.stdin:
        request = json.loads(line)
        bytes_of_value, call = kernels(request["values"])[request["call"]]
        answer(figures={"gb_per_s": bytes_of_value * request["values"] / seconds(call, request["n"]) / 1e9})


main()
