// Compiled programs on disk: only the first process pays for the compiler.
#ifndef GENFN_VGPU_CACHE_H
#define GENFN_VGPU_CACHE_H

#include "opencl.h"

// cache_build compiles source for the device, or takes it from the cache in layer.cache. On an error it returns what
// clBuildProgram said, and the program with its log is in *out all the same, or NULL. The caller releases it.
cl_int cache_build(cl_context context, cl_device_id device, const char *source, const char *options, cl_program *out);

#endif
