/* GENFN_CLONES compiles a function for several instruction sets; the loader picks one (GNU ifunc).
 * Sanitizers instrument the resolvers too, which then run before their own set-up: they build without clones. */
#ifndef GENFN_DISPATCH_H
#define GENFN_DISPATCH_H

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(GENFN_NO_CLONES)
#define GENFN_HAS_CLONES 1
#define GENFN_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define GENFN_HAS_CLONES 0
#define GENFN_CLONES
#endif

#endif
