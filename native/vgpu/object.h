// Programs and kernels are objects of the layer: what the application holds is a struct program or struct kernel, with
// the runtime's own objects inside. The CPU runtime invalidates a program once the application has released it although
// kernels of it live, and OpenVINO's plugin relies on the opposite, which OpenCL promises.
#ifndef GENFN_VGPU_OBJECT_H
#define GENFN_VGPU_OBJECT_H

#include <pthread.h>

#include "opencl.h"
#include "source.h"

enum { PROGRAM_MAGIC = 0x50475056, KERNEL_MAGIC = 0x4B475056 };

struct program {
    const void *dispatch; // first in every OpenCL object (cl_khr_icd)
    uint32_t magic;
    unsigned refs;    // of the application and of kernels
    unsigned kernels; // that there are: it cannot be built again while there are any
    cl_context context; // retained
    cl_device_id device;
    char *text;       // as the application gave it
    char *options;    // of the build, as the application gave them, or of the binary
    bool from_binary; // its options are those of the binary
    cl_int status;    // CL_BUILD_*
    char *log;        // the layer's own complaint, or NULL
    struct source source; // once built
    cl_program built;     // the runtime's, or NULL
    pthread_mutex_t lock; // of variants
    struct variant *variants;
};

// variant is one kernel of a program, rewritten for a local size that was not known when the program was built.
struct variant {
    const struct unit *unit;
    size_t local[3];
    cl_program built;
    struct variant *next;
};

struct program *program_of(cl_program handle); // NULL: not one of ours
void program_retain(struct program *p);
void program_release(struct program *p);

// program_variant returns the runtime's program for a variant, compiled on first use.
cl_int program_variant(struct program *p, const struct unit *u, const size_t local[3], cl_program *out);

// program_described compiles one unit once more, for information on the arguments of its kernel, which programs from
// the cache lack. The caller releases it; NULL: it cannot be had.
cl_program program_described(struct program *p, const struct unit *u);

#endif
