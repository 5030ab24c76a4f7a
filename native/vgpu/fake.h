// A small OpenCL to test the layer over: it keeps and counts objects, compiles nothing, and records what is enqueued.
#ifndef GENFN_VGPU_FAKE_H
#define GENFN_VGPU_FAKE_H

#include "opencl.h"

struct fake {
    unsigned contexts, mems, usm, programs, kernels; // alive
    unsigned builds;        // from source, ever
    unsigned binary_loads;  // ever
    unsigned flushes;       // ever
    char source[1 << 16];   // of the last build from source
    char options[1024];
    // The last kernel enqueued.
    size_t global[3], local[3];
    cl_kernel kernel;
    char kernel_name[64];
    uint32_t arg_value[4];
    const void *arg_pointer[4];
    int refuse_binaries; // clBuildProgram of a binary fails
};
extern struct fake fake;

// fake_table is a dispatch table; slots that the fake has not are NULL.
void *const *fake_table(void);

// fake_context returns a new context.
cl_context fake_context(void);

#endif
