// A virtual Intel GPU: an OpenCL layer that shows Intel's OpenCL runtime for CPUs as an Intel GPU, so that OpenVINO's
// own GPU plugin compiles and runs models on a machine without one, and that injects faults at the OpenCL calls that
// fail in the field. See README.md.
//
// The layer sits between the ICD loader and the runtime: `next` is the runtime's table of functions, and every
// function here that the loader calls in place of one of them ends in a call of `next`.

#ifndef GENFN_VGPU_LAYER_H
#define GENFN_VGPU_LAYER_H

#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#define CL_USE_DEPRECATED_OPENCL_2_2_APIS
#include <CL/cl.h>
#include <CL/cl_ext.h>
#include <CL/cl_icd.h>
#include <CL/cl_layer.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const cl_icd_dispatch *next;

// ---- table.c: what the layer knows of an object, by its handle. The caller holds `lock` around lookups and uses.

struct table {
	void **keys, **values;
	size_t size, used; // size is a power of two; used counts removed entries too
};

void *table_get(const struct table *, const void *key);
void table_put(struct table *, void *key, void *value);
void *table_remove(struct table *, const void *key); // returns the value, NULL if there is none

extern pthread_mutex_t lock; // of all tables

// ---- settings.c: the environment, read once.

struct settings {
	const char *options;    // GENFN_VGPU_OPTIONS: appended to the build options of every program
	const char *cache;      // GENFN_VGPU_CACHE: folder of compiled programs; NULL: none
	const char *counter;    // GENFN_VGPU_COUNTER: file with the memory count; NULL: none
	const char *faults;     // GENFN_VGPU_FAULTS: specification of faults; NULL: none
	const char *fault_file; // GENFN_VGPU_FAULT_FILE: file with one, read again when it changes; NULL: none
	uint64_t memory;        // GENFN_VGPU_MEMORY: bytes of device memory; 0: that of the machine
	uint64_t max_alloc;     // GENFN_VGPU_MAX_ALLOC: bytes of the largest allocation; 0: that of the runtime
	bool broken;            // something above is wrong: there is no device
};

extern struct settings settings;
void settings_read(void);

// ---- fault.c: injected faults.

enum fault_kind { FAULT_NONE, FAULT_ERROR, FAULT_FLIP };

struct fault {
	enum fault_kind kind;
	cl_int code; // of FAULT_ERROR
};

// fault_at reports what a call must do: fail with a code, or spoil the result. A delay, a hang or a crash happens
// inside. detail is the kernel's name, or NULL.
struct fault fault_at(const char *call, const char *detail);

// fault_parse reads a specification and makes it the one in force. It returns NULL, or what is wrong with it in a
// static buffer; then nothing changes.
const char *fault_parse(const char *text);

// ---- memory.c: device memory.

bool memory_take(size_t bytes);              // false: the device has no room
void memory_give(size_t bytes);
uint64_t memory_total(void);                 // bytes; 0: not limited
void memory_open(void);                      // begins to count
void memory_hook(cl_icd_dispatch *table);    // replaces the functions that allocate
void *memory_extension(const char *name, void *function); // the layer's stand-in for an extension function, or NULL
size_t memory_size(const void *pointer);     // of a USM allocation that begins there; 0: none does

// ---- program.c: programs with their sources.

struct program {
	cl_program handle;  // as the application knows it
	cl_program built;   // what kernels are made from: the handle, or a program from the cache
	cl_context context;
	char *source;       // patched; NULL if it was made of something else
	char *options;
	cl_program variant[3]; // with dimension 0 and the index swapped; NULL: not needed yet
	bool failed[3];        // a variant that does not build
	int references;     // the handle's kernels and the application's own
};

void program_hook(cl_icd_dispatch *table);
struct program *program_of(cl_program);
void program_retain(struct program *);
void program_release(struct program *);
cl_program program_variant(struct program *, int dimension);

// ---- kernel.c: kernels with their arguments.

void kernel_hook(cl_icd_dispatch *table);
void *kernel_extension(const char *name, void *function);

// ---- device.c: what the device says of itself.

void device_hook(cl_icd_dispatch *table);

// ---- cache.c: compiled programs on disk.

char *cache_key(const char *source, const char *options);           // to be freed
bool cache_load(const char *key, unsigned char **data, size_t *size); // data to be freed
void cache_store(const char *key, const unsigned char *data, size_t size);

// answer copies a value to where an application's query wants it.
cl_int answer(const void *value, size_t size, size_t room, void *to, size_t *needed);

// say writes a line to standard error.
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
