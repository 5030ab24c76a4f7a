/* Checks of the kernels for `make check`, built with the address and undefined-behaviour sanitizers: every buffer is
 * allocated in its exact size, so that a read or write one value too far ends the program. Expected values come from
 * straightforward loops here; equality with the Go reference is tested in bindings/kernels. */
#include "check.h"
#include "functions.h"

void fused_functions(float u, float result[3]); /* check_functions.c */

/* What is under check: the kernels as the CPU runs them, then the CUDA side of the same source (check_cuda.c). */
struct kernels {
	void (*step)(const struct genfn_step_args *);
	void (*scale)(const struct genfn_scale_args *);
	void (*image_to_u8)(const struct genfn_image_args *);
	void (*count_non_finite)(const struct genfn_count_args *);
};

long checks;
static uint32_t random_state = 1;

uint32_t random_word(void)
{
	random_state = random_state * 1664525 + 1013904223;
	return random_state >> 8;
}

static const float specials[] = {0, -0.0f, 1, -1, 1e-45f, -1e-45f, 1e-40f, 3.4e38f, -3.4e38f, INFINITY, -INFINITY, NAN};
enum { special_count = sizeof specials / sizeof *specials };

float random_value(void)
{
	if (random_word() % 8 == 0)
		return specials[random_word() % special_count];
	return ((float)random_word() / (1 << 23) - 1) * 3;
}

void *allocate(size_t bytes)
{
	void *p = malloc(bytes ? bytes : 1);
	CHECK(p, "out of memory");
	return p;
}

/* A buffer that starts offset values into its memory and ends with it. */
struct buffer {
	float *memory, *v;
};

static struct buffer new_buffer(int64_t n, int64_t offset)
{
	struct buffer b = {.memory = allocate((size_t)(n + offset) * sizeof(float))};
	b.v = b.memory + offset;
	for (int64_t i = 0; i < n; i++)
		b.v[i] = random_value();
	return b;
}

int same(float a, float b)
{
	return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static float term(float sum, float c, const float *x, int64_t i)
{
	return c != 0 && x ? sum + c * x[i] : sum;
}

static void expected_step(const struct genfn_step_args *a, int64_t i, float *converted, float *prev)
{
	const float *sample = a->sample, *cond = a->cond, *uncond = a->uncond;
	float e = cond ? cond[i] : 0, m = a->conv_sample != 0 ? a->conv_sample * sample[i] : 0;
	if (cond && uncond)
		e = uncond[i] + a->guidance * (cond[i] - uncond[i]);
	if (cond)
		m = term(m, a->conv_output, &e, 0);
	if (a->clip > 0)
		m = m < -a->clip ? -a->clip : m > a->clip ? a->clip : m;
	float p = a->sample_coef != 0 ? a->sample_coef * sample[i] : 0;
	if (a->cond)
		p = term(p, a->output_coef, &e, 0);
	p = term(p, a->converted_coef, &m, 0);
	for (int64_t k = 0; k < a->history_n; k++)
		p = term(p, a->history_coef[k], a->history[k], i);
	*prev = term(p, a->noise_coef, a->noise, i);
	*converted = m;
}

static float random_coef(void) { return random_word() % 4 ? random_value() : 0; }

static const int64_t sizes[] = {0, 1, 3, 7, 15, 16, 17, 31, 33, 511, 512, 513, 1023, 1025, 4097};
enum { size_count = sizeof sizes / sizeof *sizes, inputs = 4 + GENFN_MAX_HISTORY };

/* One step with random terms. in_place: the outputs replace inputs. */
static void check_step(const struct kernels *kernels, int64_t n, int64_t offset, int in_place)
{
	struct buffer in[inputs], out[2] = {new_buffer(n, offset), new_buffer(n, (offset + 1) % 4)};
	for (int k = 0; k < inputs; k++)
		in[k] = new_buffer(n, (offset + k) % 4);
	struct genfn_step_args a = {
		.sample = in[0].v, .converted = out[0].v, .prev = out[1].v, .n = n,
		.guidance = random_value(), .conv_sample = random_coef(), .conv_output = random_coef(),
		.clip = random_word() % 2 ? 0 : 1.5f, .sample_coef = random_coef(), .output_coef = random_coef(),
		.converted_coef = random_coef(), .noise_coef = random_coef(), .history_n = random_word() % (GENFN_MAX_HISTORY + 1),
	};
	if (random_word() % 4)
		a.cond = in[1].v;
	if (a.cond && random_word() % 2)
		a.uncond = in[2].v;
	if (random_word() % 2)
		a.noise = in[3].v;
	for (int64_t k = 0; k < a.history_n; k++) {
		a.history[k] = in[4 + k].v;
		a.history_coef[k] = random_coef();
	}
	if (in_place) {
		a.prev = in[0].v;
		a.converted = in[random_word() % (inputs - 1) + 1].v;
	}
	float *converted = allocate((size_t)n * sizeof(float)), *prev = allocate((size_t)n * sizeof(float));
	for (int64_t i = 0; i < n; i++)
		expected_step(&a, i, converted + i, prev + i);
	if (random_word() % 8 == 0)
		a.converted = NULL;
	else if (random_word() % 8 == 0)
		a.prev = NULL;
	kernels->step(&a);
	for (int64_t i = 0; i < n; i++) {
		const float *p = a.prev, *m = a.converted;
		CHECK(!p || same(prev[i], p[i]), "prev %lld of %lld: %a, expected %a", (long long)i, (long long)n, p[i], prev[i]);
		CHECK(!m || same(converted[i], m[i]), "converted %lld of %lld: %a, expected %a", (long long)i, (long long)n, m[i], converted[i]);
	}
	for (int k = 0; k < inputs; k++)
		free(in[k].memory);
	free(out[0].memory), free(out[1].memory), free(converted), free(prev);
}

static void check_scale(const struct kernels *kernels, int64_t n, int64_t offset)
{
	struct buffer src = new_buffer(n, offset), dst = new_buffer(n, 3 - offset);
	struct genfn_scale_args a = {.dst = dst.v, .src = src.v, .mul = 0.18215f, .add = -0.5f, .n = n};
	kernels->scale(&a);
	for (int64_t i = 0; i < n; i++)
		CHECK(same(dst.v[i], src.v[i] * a.mul + a.add), "value %lld of %lld", (long long)i, (long long)n);
	a.dst = src.v;
	kernels->scale(&a);
	for (int64_t i = 0; i < n; i++)
		CHECK(same(dst.v[i], src.v[i]), "in place, value %lld of %lld", (long long)i, (long long)n);
	free(src.memory), free(dst.memory);
}

static uint8_t expected_u8(float x)
{
	x = x * 0.5f + 0.5f;
	x = isnan(x) || x < 0 ? 0 : x > 1 ? 1 : x;
	double scaled = x * 255.0f, down = (double)(long)scaled, part = scaled - down;
	return (uint8_t)(part > 0.5 || (part == 0.5 && (long)down % 2) ? down + 1 : down);
}

static void check_image(const struct kernels *kernels, int64_t channels, int64_t n, int64_t offset)
{
	struct buffer src = new_buffer(channels * n, offset);
	uint8_t *dst = allocate((size_t)(channels * n));
	kernels->image_to_u8(&(struct genfn_image_args){.dst = dst, .src = src.v, .channels = channels, .n = n});
	for (int64_t i = 0; i < n; i++)
		for (int64_t c = 0; c < channels; c++)
			CHECK(dst[i * channels + c] == expected_u8(src.v[c * n + i]), "pixel %lld of %lld, channel %lld: %d for %a",
			      (long long)i, (long long)n, (long long)c, dst[i * channels + c], src.v[c * n + i]);
	free(src.memory), free(dst);
}

static void check_count(const struct kernels *kernels, int64_t n, int64_t offset)
{
	struct buffer src = new_buffer(n, offset);
	uint64_t count = 100, expected = 100;
	for (int64_t i = 0; i < n; i++)
		expected += !isfinite(src.v[i]);
	kernels->count_non_finite(&(struct genfn_count_args){.src = src.v, .n = n, .count = &count});
	CHECK(count == expected, "%llu, expected %llu", (unsigned long long)count, (unsigned long long)expected);
	free(src.memory);
}

/* A region in the corner of two larger images, each with its own strides; what lies beside it stays as it is. */
static void check_blend(int64_t planes, int64_t rows, int64_t columns, int64_t offset, int down)
{
	int64_t dst_row = columns + offset, src_row = columns + 3 - offset;
	int64_t dst_plane = (rows + offset) * dst_row, src_plane = rows * src_row;
	struct buffer dst = new_buffer(planes * dst_plane, offset), src = new_buffer(planes * src_plane, 3 - offset);
	float *before = allocate((size_t)(planes * dst_plane) * sizeof(float));
	memcpy(before, dst.v, (size_t)(planes * dst_plane) * sizeof(float));
	genfn_blend(&(struct genfn_blend_args){.dst = dst.v, .src = src.v, .dst_plane = dst_plane, .dst_row = dst_row,
		.src_plane = src_plane, .src_row = src_row, .rows = rows, .columns = columns, .n = planes * rows, .down = down});
	for (int64_t i = 0; i < planes * dst_plane; i++) {
		int64_t plane = i / dst_plane, y = i % dst_plane / dst_row, x = i % dst_row;
		float expected = before[i];
		if (y < rows && x < columns) {
			double k = down ? (double)y / (double)rows : (double)x / (double)columns;
			float a = src.v[plane * src_plane + y * src_row + x] * (float)(1 - k), b = before[i] * (float)k;
			expected = a + b;
		}
		CHECK(same(dst.v[i], expected), "plane %lld row %lld column %lld: %a, expected %a", (long long)plane, (long long)y, (long long)x, dst.v[i], expected);
	}
	free(dst.memory), free(src.memory), free(before);
}

static void seed(struct genfn_mt19937 *g, uint32_t value)
{
	for (uint32_t i = 0; i < 624; i++) {
		g->state[i] = value;
		value = 1812433253u * (value ^ value >> 30) + i + 1;
	}
	g->next = 624;
}

/* The first values that PyTorch and libstdc++ give for seed 42. */
static void check_known_noise(void)
{
	static const float torch_scalar[] = {0.336690366f, 0.128809407f, 0.234462366f, 0.230333030f, -1.122856379f};
	static const float torch_block[] = {1.92691529f, 1.48728406f, 0.900717199f, -2.10552096f, 0.678418458f};
	static const float std[] = {1.22192132f, -0.516964138f, 0.86963594f, 0.721332669f, 1.58855629f};
	float v[16];
	struct genfn_torch_normal torch = {0};
	struct genfn_std_normal standard = {0};
	seed(&torch.engine, 42);
	genfn_torch_normal(&(struct genfn_fill_args){.state = &torch, .dst = v, .n = 5});
	CHECK(memcmp(v, torch_scalar, sizeof torch_scalar) == 0, "torch, scalar path: %.9g %.9g", v[0], v[1]);
	torch = (struct genfn_torch_normal){0};
	seed(&torch.engine, 42);
	genfn_torch_normal(&(struct genfn_fill_args){.state = &torch, .dst = v, .n = 16});
	CHECK(memcmp(v, torch_block, sizeof torch_block) == 0, "torch, block: %.9g %.9g %.9g %.9g %.9g", v[0], v[1], v[2], v[3], v[4]);
	seed(&standard.engine, 42);
	genfn_std_normal(&(struct genfn_fill_args){.state = &standard, .dst = v, .n = 5});
	CHECK(memcmp(v, std, sizeof std) == 0, "std: %.9g %.9g", v[0], v[1]);
}

/* Any size ends inside its buffer and gives finite values; pieces of std noise are the same as the whole. */
static void check_noise(int64_t n, int64_t offset)
{
	struct buffer whole = new_buffer(n, offset), pieces = new_buffer(n, offset);
	struct genfn_torch_normal torch = {0};
	struct genfn_std_normal a = {0}, b = {0};
	seed(&torch.engine, (uint32_t)n);
	seed(&a.engine, (uint32_t)n);
	seed(&b.engine, (uint32_t)n);
	for (int round = 0; round < 3; round++)
		genfn_torch_normal(&(struct genfn_fill_args){.state = &torch, .dst = whole.v, .n = n});
	for (int64_t i = 0; i < n; i++)
		CHECK(fabsf(whole.v[i]) < 10, "torch value %lld of %lld: %g", (long long)i, (long long)n, whole.v[i]);
	genfn_std_normal(&(struct genfn_fill_args){.state = &a, .dst = whole.v, .n = n});
	for (int64_t i = 0, k = 1; i < n; i += k, k = k % 5 + 1)
		genfn_std_normal(&(struct genfn_fill_args){.state = &b, .dst = pieces.v + i, .n = i + k < n ? k : n - i});
	for (int64_t i = 0; i < n; i++)
		CHECK(fabsf(whole.v[i]) < 10 && same(whole.v[i], pieces.v[i]), "std value %lld of %lld", (long long)i, (long long)n);
	free(whole.memory), free(pieces.memory);
}

/* Every uniform value PyTorch's generator can draw: two roundings give what a fused multiply-add gives. */
static void check_functions(void)
{
	for (int32_t k = 0; k < 1 << 24; k++) {
		float u = (float)k * 0x1p-24f, fused[3], ours[3] = {log32(1 - u)};
		sincos32(6.28318530717958647692f * u, ours + 1, ours + 2);
		fused_functions(u, fused);
		CHECK(memcmp(ours, fused, sizeof ours) == 0, "of %a", u);
	}
}

/* The rare values: a zero is positive, and a word that rounds to 1 is less than 1. */
static void check_rare_noise(void)
{
	struct genfn_torch_normal torch = {0}; /* all words are 0: every radius is 0 */
	struct genfn_std_normal standard = {0};
	float v[16], zeros[16] = {0};
	genfn_torch_normal(&(struct genfn_fill_args){.state = &torch, .dst = v, .n = 16});
	CHECK(memcmp(v, zeros, sizeof v) == 0, "block: %g", v[0]);
	genfn_torch_normal(&(struct genfn_fill_args){.state = &torch, .dst = v, .n = 4});
	CHECK(memcmp(v, zeros, 4 * sizeof *v) == 0, "scalar path: %g", v[0]);
	standard.engine.state[0] = 0x12dd9bb3; /* drawn as 0xffffffff */
	standard.engine.state[1] = 0x80102204; /* drawn as 0x80000000 */
	genfn_std_normal(&(struct genfn_fill_args){.state = &standard, .dst = v, .n = 2});
	CHECK(v[0] == 0 && v[1] > 0 && v[1] < 1e-3, "std: %g %g", v[0], v[1]);
}

static void check_elementwise(const struct kernels *kernels)
{
	for (int s = 0; s < size_count; s++)
		for (int64_t offset = 0; offset < 4; offset++) {
			for (int round = 0; round < 20; round++) {
				check_step(kernels, sizes[s], offset, 0);
				check_step(kernels, sizes[s], offset, 1);
			}
			check_scale(kernels, sizes[s], offset);
			for (int64_t channels = 1; channels <= 5; channels++)
				check_image(kernels, channels, sizes[s], offset);
			check_count(kernels, sizes[s], offset);
		}
}

static void check_blends(void)
{
	for (int s = 0; s < size_count; s++)
		for (int64_t offset = 0; offset < 4; offset++)
			for (int down = 0; down < 2; down++) {
				check_blend(3, 1 + sizes[s] % 19, sizes[s], offset, down);
				check_blend(1 + offset, sizes[s] % 600, 1 + sizes[s] % 23, offset, down);
			}
}

int main(void)
{
	CHECK(genfn_kernels_abi() == GENFN_KERNELS_ABI, "library and header differ");
	check_elementwise(&(struct kernels){genfn_step, genfn_scale, genfn_image_to_u8, genfn_count_non_finite});
	check_blends();
	check_elementwise(&(struct kernels){cuda_genfn_step, cuda_genfn_scale, cuda_genfn_image_to_u8, cuda_genfn_count_non_finite});
	check_variants();
	check_float16();
	for (int s = 0; s < size_count; s++)
		for (int64_t offset = 0; offset < 4; offset++)
			check_noise(sizes[s], offset);
	check_functions();
	check_known_noise();
	check_rare_noise();
	printf("native kernels: %ld checks passed\n", checks);
	return 0;
}
