/* Which instruction sets the kernels are compiled for.
 *
 * The kernels of elementwise.h are compiled twice on x86-64, by elementwise.c and elementwise_avx2.c, and the function
 * that is called chooses. GENFN_CLONES compiles a function of its own for several instruction sets; the loader picks
 * one (GNU ifunc). Sanitizers instrument the resolvers too, which then run before their own set-up: they build with
 * GENFN_NO_CLONES. GENFN_BASELINE builds for the baseline alone. */
#ifndef GENFN_DISPATCH_H
#define GENFN_DISPATCH_H

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(GENFN_BASELINE)
#define GENFN_HAS_AVX2 1
#define GENFN_USES_AVX2() (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c"))
#else
#define GENFN_HAS_AVX2 0
#endif

#if GENFN_HAS_AVX2 && !defined(GENFN_NO_CLONES)
#define GENFN_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define GENFN_CLONES
#endif

/* VARIANT begins the definition of a kernel for one instruction set; that for the baseline comes with the function that
 * chooses. */
#if defined(GENFN_AVX2_VARIANT)
#define VARIANT(name, args)                         \
	void name##_avx2(const struct args *a);     \
	void name##_avx2(const struct args *a)
#elif GENFN_HAS_AVX2
#define VARIANT(name, args)                             \
	void name##_avx2(const struct args *a);         \
	void name##_baseline(const struct args *a);     \
	void name(const struct args *a)                 \
	{                                               \
		if (GENFN_USES_AVX2())                  \
			name##_avx2(a);                 \
		else                                    \
			name##_baseline(a);             \
	}                                               \
	void name##_baseline(const struct args *a)
#else
#define VARIANT(name, args) void name(const struct args *a)
#endif

#endif
