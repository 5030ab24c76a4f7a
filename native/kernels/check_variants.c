/* Every kernel as the processor runs it, for the baseline and for CUDA: the results are the same, bit for bit, on buffers
 * of the exact size. */
#include "check.h"
#include "dispatch.h"
#include "float16.h"

#if GENFN_HAS_AVX2
#define BASELINE(name) genfn_##name##_baseline
#define DECLARE(name, args) void genfn_##name##_baseline(const struct genfn_##args##_args *);
GENFN_DEVICE_KERNELS(DECLARE)
#else
#define BASELINE(name) genfn_##name
#endif

/* A kernel by its three builds. */
typedef void kernel(const void *args);
struct builds { const char *name; kernel *build[3]; };
#define BUILDS(name) {#name, {(kernel *)genfn_##name, (kernel *)BASELINE(name), (kernel *)cuda_genfn_##name}}

enum { F32, F16, U8, BITS }; /* how values are made and compared */
static const size_t size_of[] = {4, 2, 1, 8};

static void *values(int64_t n, int type)
{
	char *v = allocate((size_t)n * size_of[type]);
	for (int64_t i = 0; i < n; i++) {
		float x = random_value();
		uint16_t half = random_word() % 8 ? to_half(x) : (uint16_t)random_word();
		uint64_t word = random_word();
		memcpy(v + (size_t)i * size_of[type], type == F32 ? (void *)&x : type == F16 ? (void *)&half : (void *)&word, size_of[type]);
	}
	return v;
}

static float value_at(const void *v, int64_t i, int type)
{
	return type == F32 ? ((const float *)v)[i] : from_half(((const uint16_t *)v)[i]);
}

/* Runs every build, which writes n values to *dst, a field of args. */
static void compare(const struct builds *k, const void *args, void **dst, int64_t n, int type)
{
	void *out[3];
	for (int b = 0; b < 3; b++) {
		out[b] = allocate((size_t)n * size_of[type]);
		memset(out[b], 0, (size_t)n * size_of[type]);
		*dst = out[b];
		k->build[b](args);
	}
	for (int b = 1; b < 3; b++)
		for (int64_t i = 0; i < n; i++)
			CHECK(type == U8 ? ((uint8_t *)out[0])[i] == ((uint8_t *)out[b])[i]
			      : type == BITS ? ((uint64_t *)out[0])[i] == ((uint64_t *)out[b])[i]
					     : same(value_at(out[0], i, type), value_at(out[b], i, type)),
			      "%s: value %lld of %lld of build %d", k->name, (long long)i, (long long)n, b);
	for (int b = 0; b < 3; b++)
		free(out[b]);
}

static const struct builds steps[] = {BUILDS(step), BUILDS(step_f16)}, scales[] = {BUILDS(scale), BUILDS(scale_f16)},
	mixes[] = {BUILDS(mix), BUILDS(mix_f16)}, composites[] = {BUILDS(composite), BUILDS(composite_f16), BUILDS(composite_u8)},
	widening = BUILDS(f16_to_f32), narrowing = BUILDS(f32_to_f16), to_bytes[] = {BUILDS(image_to_u8), BUILDS(image_to_u8_f16)},
	from_bytes[] = {BUILDS(u8_to_image), BUILDS(u8_to_image_f16)}, resamples[] = {BUILDS(resample), BUILDS(resample_u8)},
	counts[] = {BUILDS(count_non_finite), BUILDS(count_non_finite_f16)}, checksums[] = {BUILDS(checksum), BUILDS(checksum_f16)},
	differences[] = {BUILDS(difference), BUILDS(difference_f16)}, noise[] = {BUILDS(philox_normal), BUILDS(philox_normal_f16)};

static void check_floats(int64_t n, int type)
{
	void *a = values(n, type), *b = values(n, type), *c = values(n, type);
	struct genfn_step_args step = {
		.sample = a, .cond = b, .uncond = c, .guidance = 7.5f, .conv_sample = 1, .conv_output = -0.5f, .clip = n % 2 ? 1 : 0,
		.sample_coef = 0.9f, .output_coef = 0.1f, .converted_coef = -0.3f, .history = {b, c}, .history_coef = {0.2f, -0.1f},
		.history_n = 2, .noise = c, .noise_coef = 0.5f, .n = n,
	};
	compare(&steps[type], &step, &step.prev, n, type);
	step.prev = NULL;
	compare(&steps[type], &step, &step.converted, n, type);
	struct genfn_scale_args scale = {.src = a, .mul = 1.7f, .add = -0.3f, .n = n};
	compare(&scales[type], &scale, &scale.dst, n, type);
	struct genfn_mix_args mix = {.a = a, .b = b, .weight = 0.3f, .n = n};
	compare(&mixes[type], &mix, &mix.dst, n, type);

	struct genfn_count_args counted = {.src = a, .n = n};
	compare(&counts[type], &counted, (void **)&counted.count, 1, BITS);
	compare(&checksums[type], &counted, (void **)&counted.count, 1, BITS);
	struct genfn_difference_args difference = {.a = a, .b = b, .n = n};
	compare(&differences[type], &difference, (void **)&difference.result, (int64_t)(sizeof *difference.result / 8), BITS);
	free(a), free(b), free(c);
}

static void check_pixels(int64_t n, int64_t channels)
{
	void *bytes = values(n * channels, U8), *other = values(n * channels, U8), *mask = values(n, U8);
	struct genfn_composite_args composite = {.a = bytes, .b = other, .mask = mask, .channels = channels, .n = n};
	compare(&composites[U8], &composite, &composite.dst, n * channels, U8);
	for (int type = F32; type <= F16; type++) {
		void *a = values(n * channels, type), *b = values(n * channels, type), *m = values(n, type);
		composite = (struct genfn_composite_args){.a = a, .b = b, .mask = m, .channels = channels, .n = n};
		compare(&composites[type], &composite, &composite.dst, n * channels, type);
		struct genfn_image_args image = {.src = a, .channels = channels, .n = n};
		compare(&to_bytes[type], &image, &image.dst, n * channels, U8);
		image.src = bytes;
		compare(&from_bytes[type], &image, &image.dst, n * channels, type);
		free(a), free(b), free(m);
	}
	free(bytes), free(other), free(mask);
}

/* Three neighbours each, in steps of half a value. */
static void check_resample(int64_t outer, int64_t inner)
{
	enum { in = 9, out = 14, taps = 3 };
	int32_t first[out], count[out], fixed[out * taps];
	double weights[out * taps];
	for (int o = 0; o < out; o++) {
		first[o] = o / 2, count[o] = 1 + o % taps;
		for (int k = 0; k < taps; k++)
			fixed[o * taps + k] = (int32_t)(random_word() % (1 << 22)) - (1 << 20), weights[o * taps + k] = random_word() / 1e6 - 8;
	}
	void *floats = values(outer * in * inner, F32), *bytes = values(outer * in * inner, U8);
	struct genfn_resample_args a = {
		.src = floats, .first = first, .count = count, .weights = weights, .in = in, .out = out, .inner = inner, .taps = taps, .n = outer * out * inner,
	};
	compare(&resamples[F32], &a, &a.dst, a.n, F32);
	a.src = bytes, a.weights = fixed;
	compare(&resamples[1], &a, &a.dst, a.n, U8);
	free(floats), free(bytes);
}

void check_variants(void)
{
	static const int64_t sizes[] = {0, 1, 7, 8, 9, 33, 511, 513, 1030};
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		const int64_t n = sizes[s];
		check_floats(n, F32);
		check_floats(n, F16);
		for (int64_t channels = 1; channels <= 4; channels++)
			check_pixels(n, channels);
		void *halves = values(n, F16), *floats = values(n, F32);
		struct genfn_convert_args convert = {.src = halves, .n = n};
		compare(&widening, &convert, &convert.dst, n, F32);
		convert.src = floats;
		compare(&narrowing, &convert, &convert.dst, n, F16);
		free(halves), free(floats);
		for (int type = F32; type <= F16 && n; type++) {
			const int64_t threads = 32, rounds = (n - 1) / (4 * threads) + 1;
			struct genfn_philox_args philox = {.seed = 0x123456789abcdef0, .offset = 1ull << 34, .threads = threads, .values = n, .n = threads * rounds};
			compare(&noise[type], &philox, &philox.dst, n, type);
		}
	}
	check_resample(3, 1), check_resample(2, 3), check_resample(1, 600), check_resample(3, 8);
}

/* The conversions against the compiler's own: every float16, and float32 around every place where rounding changes. */
void check_float16(void)
{
#ifdef __FLT16_MANT_DIG__
	for (uint32_t h = 0; h < 1 << 16; h++) {
		_Float16 x;
		memcpy(&x, &(uint16_t){(uint16_t)h}, 2);
		CHECK(same((float)x, from_half((uint16_t)h)), "of %#x", h);
		for (int32_t step = -1; step <= 1; step++) /* a half up, and its neighbours */
			for (uint32_t part = 0; part <= 0x1000; part += 0x1000) {
				const float f = float32(bits32((float)x) + part + (uint32_t)step);
				const _Float16 rounded = (_Float16)f;
				uint16_t expected;
				memcpy(&expected, &rounded, 2);
				CHECK(isnan(f) ? isnan(from_half(to_half(f))) : expected == to_half(f), "of %a", f);
			}
	}
#endif
}
