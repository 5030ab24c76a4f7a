// The virtual devices.
#ifndef GENFN_VGPU_DEVICE_H
#define GENFN_VGPU_DEVICE_H

#include "opencl.h"

int device_index(cl_device_id device);             // 0 for one that is not ours
cl_device_id device_of_context(cl_context context); // its first; NULL: no such context
uint64_t device_memory(cl_device_id device);       // bytes
uint64_t device_max_alloc(cl_device_id device);    // bytes of one allocation
void device_forget(void);                          // for layer_stop

#endif
