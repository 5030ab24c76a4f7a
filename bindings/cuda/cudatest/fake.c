//go:build ignore

/* A fake of the CUDA runtime library and driver for tests: devices of 4 GiB in the host's memory, streams that do
 * their work at once. Its kernels are spin and poke, which kills the context, of PTX; and those of native/kernels, built
 * for the CPU, of whatever cubin. A thread that has not chosen a device gets an error nobody takes for a good one.
 * It is compiled twice, as libcudart.so.N and as libcuda.so.1. -DFREE=BYTES is what other processes leave of a device's
 * memory, -DSTICKY=CODE kills the context at the first of our kernels, -DWRONG flips a bit of what it writes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <pthread.h>
#include <sys/mman.h>

typedef int status;
struct dim3 { unsigned x, y, z; };
struct config { struct dim3 grid, block; size_t shared; void *stream, *attrs; unsigned n; };
struct block { void *address; size_t bytes; struct block *next; int pooled; };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const size_t total = 4ull << 30;
#ifdef FREE
static size_t used = (4ull << 30) - FREE;
#else
static size_t used;
#endif
static size_t pool_reserved, pool_used, pool_keep;
static struct block *blocks;
static int sticky, live;
static __thread int chosen;

#ifdef DRIVER
/* NVRTC asks for it, if it finds a driver along its path, and goes on without the driver if it is refused. */
status cuGetExportTable(const void **table, const void *id) { (void)id; *table = NULL; return 500; }
status cuInit(unsigned flags) { return flags ? 1 : 0; }
status cuDeviceGetCount(int *n) { *n = DEVICES; return 0; }
status cuDeviceGet(int *d, int ordinal) { if (ordinal < 0 || ordinal >= DEVICES) return 101; *d = 7; return 0; }
status cuDeviceGetName(char *name, int n, int d) { if (d != 7) return 101; snprintf(name, n, "Fake GPU"); return 0; }
status cuDeviceGetUuid_v2(unsigned char *uuid, int d) { if (d != 7) return 101; for (int i = 0; i < 16; i++) uuid[i] = i; return 0; }
status cuDriverGetVersion(int *v) { *v = DRIVER; return 0; }
status cuModuleLoadData(void **m, const void *image) { if (strncmp(image, ".version", 8)) return 200; *m = (void *)3; return 0; }
status cuModuleGetFunction(void **f, void *m, const char *name) { if (m != (void *)3 || strcmp(name, "spin")) return 500; *f = (void *)4; return 0; }
status cuModuleUnload(void *m) { return m == (void *)3 ? 0 : 400; }
status cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *s, void **params, void **extra)
{
	if (f != (void *)4 || gx * gy * gz * by * bz != 1 || shared || extra || !s || *(uint64_t *)params[0] > 1000)
		return 400;
	return bx > 1024 ? 1 : 0;
}
#else

#define ENTER                              \
	do {                               \
		if (!chosen) return 999;   \
		if (sticky) return sticky; \
	} while (0)

static status give(void **p, size_t n, int pooled)
{
	status s = 2;
	pthread_mutex_lock(&mutex);
	size_t whole = (n + 511) & ~(size_t)511;
	if (n <= total && used + whole <= total) {
		struct block *b = malloc(sizeof *b);
		b->address = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		b->bytes = whole, b->next = blocks, b->pooled = pooled;
		blocks = b, used += whole, live++, *p = b->address, s = 0;
		if (pooled) pool_used += whole, pool_reserved += whole;
	}
	pthread_mutex_unlock(&mutex);
	return s;
}

static status take(void *p)
{
	status s = p ? 1 : 0;
	pthread_mutex_lock(&mutex);
	for (struct block **b = &blocks; *b; b = &(*b)->next)
		if ((*b)->address == p) {
			struct block *gone = *b;
			*b = gone->next, live--, s = 0;
			munmap(p, gone->bytes);
			if (gone->pooled) {
				pool_used -= gone->bytes;
				if (!pool_keep) pool_reserved -= gone->bytes, used -= gone->bytes;
			} else
				used -= gone->bytes;
			free(gone);
			break;
		}
	pthread_mutex_unlock(&mutex);
	return s;
}

static status make(void **p) { *p = calloc(1, 16); __sync_add_and_fetch(&live, 1); return 0; }
static status drop(void *p) { if (!p) return 400; free(p); __sync_sub_and_fetch(&live, 1); return 0; }

int fake_live(void) { return live; }

static status known(int device) { return device >= 0 && device < DEVICES ? 0 : 101; }

const char *cudaGetErrorName(status e)
{
	switch (e) {
	case 1: return "cudaErrorInvalidValue";
	case 2: return "cudaErrorMemoryAllocation";
	case 101: return "cudaErrorInvalidDevice";
	case 700: return "cudaErrorIllegalAddress";
	}
	return "cudaErrorOther";
}
const char *cudaGetErrorString(status e) { return e == 2 ? "out of memory" : e == 700 ? "an illegal memory access was encountered" : "another failure"; }
status cudaRuntimeGetVersion(int *v) { *v = RUNTIME; return 0; }
status cudaDriverGetVersion(int *v) { *v = RUNTIME; return 0; }
status cudaGetDeviceCount(int *n) { *n = DEVICES; return DEVICES ? 0 : 100; }
status cudaSetDevice(int d) { if (sticky) return sticky; if (d < 0 || d >= DEVICES) return 101; chosen = 1; return 0; }
status cudaDeviceGetAttribute(int *v, int a, int d) { ENTER; *v = a == 75 ? 9 : a == 76 ? 0 : a; return known(d); }
status cudaDeviceGetPCIBusId(char *s, int n, int d) { ENTER; snprintf(s, n, "0000:1B:%02x.0", d); return known(d); }
status cudaDeviceSynchronize(void) { ENTER; return 0; }
status cudaMemGetInfo(size_t *f, size_t *t) { ENTER; *t = total, *f = total - used; return 0; }
status cudaMalloc(void **p, size_t n) { ENTER; return give(p, n, 0); }
status cudaFree(void *p) { ENTER; return take(p); }
status cudaHostAlloc(void **p, size_t n, unsigned flags) { ENTER; if (flags != 1) return 1; *p = aligned_alloc(4096, (n + 4095) & ~(size_t)4095); __sync_add_and_fetch(&live, 1); return 0; }
status cudaFreeHost(void *p) { ENTER; return drop(p); }
status cudaMemcpyAsync(void *d, const void *s, size_t n, int kind, void *stream) { ENTER; if (kind != 4 || !stream) return 1; memmove(d, s, n); return 0; }
status cudaMemsetAsync(void *d, int v, size_t n, void *stream) { ENTER; if (!stream) return 1; memset(d, v, n); return 0; }
status cudaDeviceGetDefaultMemPool(void **p, int d) { ENTER; *p = &pool_used; return known(d); }
status cudaMallocAsync(void **p, size_t n, void *stream) { ENTER; if (!stream) return 1; return give(p, n, 1); }
status cudaFreeAsync(void *p, void *stream) { ENTER; if (!stream) return 1; return take(p); }
status cudaMemPoolTrimTo(void *p, size_t keep)
{
	ENTER;
	if (p != &pool_used) return 400;
	size_t target = keep > pool_used ? keep : pool_used;
	if (pool_reserved > target) used -= pool_reserved - target, pool_reserved = target;
	return 0;
}
status cudaMemPoolGetAttribute(void *p, int a, uint64_t *v) { ENTER; if (p != &pool_used) return 400; *v = a == 5 ? pool_reserved : a == 7 ? pool_used : 99; return 0; }
status cudaMemPoolSetAttribute(void *p, int a, uint64_t *v) { ENTER; if (p != &pool_used || a != 4) return 400; pool_keep = *v; return 0; }
status cudaStreamCreateWithFlags(void **s, unsigned flags) { ENTER; return flags == 1 ? make(s) : 1; }
status cudaStreamDestroy(void *s) { ENTER; return drop(s); }
status cudaStreamSynchronize(void *s) { ENTER; return s ? 0 : 400; }
status cudaStreamQuery(void *s) { ENTER; return s ? 0 : 400; }
status cudaStreamWaitEvent(void *s, void *e, unsigned flags) { ENTER; return s && e && !flags ? 0 : 400; }
status cudaEventCreateWithFlags(void **e, unsigned flags) { ENTER; return flags & 1 ? make(e) : 1; }
status cudaEventDestroy(void *e) { ENTER; return drop(e); }
status cudaEventRecord(void *e, void *s) { ENTER; return e && s ? 0 : 400; }
status cudaEventSynchronize(void *e) { ENTER; return e ? 0 : 400; }
status cudaEventQuery(void *e) { ENTER; return e ? 0 : 400; }
status cudaEventElapsedTime(float *ms, void *a, void *b) { ENTER; *ms = 1.5f; return a && b ? 0 : 400; }
#define GENFN_BASELINE
#include "elementwise.h" /* of native/kernels */

struct kernel { const char *name; void (*run)(const void *); };

static void poke(const void *address) { if (*(const uint64_t *)address == 16) sticky = 700; /* the launch itself succeeds */ }
static void spin(const void *ns) { (void)ns; }
static void after_step(const struct genfn_step_args *a)
{
	(void)a;
#ifdef WRONG
	if (a->prev) ((uint32_t *)a->prev)[a->n - 1] ^= 1;
#endif
#ifdef STICKY
	sticky = STICKY;
#endif
}
#define RUN(name, args) static void run_##name(const void *a) { genfn_##name(a); }
GENFN_DEVICE_KERNELS(RUN)
static void spoiled_step(const void *a) { run_step(a), after_step(a); }

#define ROW(name, args) {"genfn_" #name, run_##name},
static const struct kernel kernels[] = {{"poke", poke}, {"spin", spin}, {"genfn_step", spoiled_step}, GENFN_DEVICE_KERNELS(ROW) {0, 0}};

#if RUNTIME >= 12080
status cudaLibraryLoadData(void **l, const char *code, void *jo, void *jv, unsigned nj, void *lo, void *lv, unsigned nl)
{
	ENTER;
	if (jo || jv || nj || lo || lv || nl) return 1;
	int elf = strncmp(code, "\177ELF", 4) == 0;
	if (!elf && strncmp(code, ".version", 8)) return 200;
	if (!elf && (strstr(code, "sm_999") || strstr(code, "return;"))) return 218;
	make(l);
	strcpy(*l, elf ? "genfn" : strstr(code, "entry poke") ? "poke" : "spin");
	return 0;
}
status cudaLibraryGetKernel(const struct kernel **k, char *l, const char *name)
{
	ENTER;
	for (*k = kernels; (*k)->name; ++*k)
		if (strcmp((*k)->name, name) == 0 && strncmp(l, name, strlen(l)) == 0) return 0;
	return 500;
}
status cudaLibraryUnload(void *l) { ENTER; return drop(l); }
#endif
status cudaLaunchKernelExC(const struct config *c, const struct kernel *kernel, void **args)
{
	ENTER;
	if (c->grid.y * c->grid.z != 1 || c->shared || !c->stream || c->attrs || c->n) return 9;
	if (c->block.x * c->block.y * c->block.z > 1024) return 9;
	kernel->run(args[0]); /* once, for all threads */
	return 0;
}
#endif
