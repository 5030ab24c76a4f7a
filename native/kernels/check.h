/* What the checks share. */
#ifndef GENFN_CHECK_H
#define GENFN_CHECK_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "genfn_kernels.h"

#define CHECK(condition, ...)                                                           \
	do {                                                                            \
		checks++;                                                               \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
			fprintf(stderr, __VA_ARGS__);                                   \
			fputc('\n', stderr);                                            \
			exit(1);                                                        \
		}                                                                       \
	} while (0)

extern long checks;

uint32_t random_word(void); /* 24 bits */
float random_value(void);   /* now and then a special one */
void *allocate(size_t bytes);
int same(float a, float b); /* bit for bit, with all NaNs equal */

/* The kernels of one instruction set, and the CUDA side of the same source (check_cuda.c). */
#define GENFN_DECLARE_CUDA(name, args) void cuda_genfn_##name(const struct genfn_##args##_args *);
GENFN_DEVICE_KERNELS(GENFN_DECLARE_CUDA)

void check_variants(void); /* check_variants.c */
void check_float16(void);

#endif
