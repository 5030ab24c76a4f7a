// Allocations of the virtual devices.
#ifndef GENFN_VGPU_ALLOC_H
#define GENFN_VGPU_ALLOC_H

#include <stdbool.h>

#include "opencl.h"

// alloc_extent returns the bytes from p to the end of the USM allocation that begins at p or contains it; 0: none.
size_t alloc_extent(const void *p);
size_t alloc_buffer_size(cl_mem buffer); // 0: not a buffer of ours
void *alloc_extension(const char *name, void *below); // NULL: not one of ours
void alloc_stop(void);

#endif
