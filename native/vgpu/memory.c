// Device memory: a count that others can read, and a limit with honest answers. On an integrated GPU, as this one is,
// host allocations that the GPU uses come out of the same memory, so all of them count.

#include "layer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// The file that others read: little-endian 64-bit numbers.
struct count {
	uint64_t magic;       // 0x316e74637570676e, "ngpuctn1"
	uint64_t now, peak;   // bytes
	uint64_t limit;       // bytes; 0: none
	uint64_t allocations; // now
};

static struct count private_count, *count = &private_count;
static struct table buffers, usm; // handle or pointer -> size
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

void memory_open(void) {
	if (settings.counter != NULL) {
		char path[4096];
		const char *at = strstr(settings.counter, "%p"); // the process id
		int n = at == NULL ? snprintf(path, sizeof path, "%s", settings.counter)
				   : snprintf(path, sizeof path, "%.*s%d%s", (int)(at - settings.counter), settings.counter, (int)getpid(), at + 2);
		int fd = n < (int)sizeof path ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
		void *shared = MAP_FAILED;
		if (fd >= 0 && ftruncate(fd, sizeof *count) == 0) shared = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (fd >= 0) close(fd);
		if (shared == MAP_FAILED) say("GENFN_VGPU_COUNTER=%s cannot be made: memory is not counted for others", settings.counter);
		else count = shared;
	}
	count->limit = settings.memory;
	count->magic = 0x316e74637570676eULL;
}

uint64_t memory_total(void) { return settings.memory; }

bool memory_take(size_t bytes) {
	pthread_mutex_lock(&guard);
	bool room = settings.memory == 0 || count->now + bytes <= settings.memory;
	if (settings.max_alloc != 0 && bytes > settings.max_alloc) room = false;
	if (room) {
		count->now += bytes;
		count->allocations++;
		if (count->now > count->peak) count->peak = count->now;
	}
	pthread_mutex_unlock(&guard);
	return room;
}

void memory_give(size_t bytes) {
	pthread_mutex_lock(&guard);
	count->now -= bytes;
	count->allocations--;
	pthread_mutex_unlock(&guard);
}

static void remember(struct table *t, void *key, size_t bytes) {
	pthread_mutex_lock(&lock);
	table_put(t, key, (void *)(uintptr_t)bytes);
	pthread_mutex_unlock(&lock);
}

static size_t forget(struct table *t, const void *key) {
	pthread_mutex_lock(&lock);
	size_t bytes = (size_t)(uintptr_t)table_remove(t, key);
	pthread_mutex_unlock(&lock);
	return bytes;
}

size_t memory_size(const void *pointer) {
	pthread_mutex_lock(&lock);
	size_t bytes = (size_t)(uintptr_t)table_get(&usm, pointer);
	pthread_mutex_unlock(&lock);
	return bytes;
}

// refused reports whether an allocation must fail, with the code for it.
static bool refused(const char *call, size_t bytes, cl_int *error) {
	struct fault f = fault_at(call, NULL);
	cl_int code = f.kind == FAULT_ERROR ? f.code : CL_SUCCESS;
	if (code == CL_SUCCESS && !memory_take(bytes)) code = CL_MEM_OBJECT_ALLOCATION_FAILURE;
	if (code != CL_SUCCESS && error != NULL) *error = code;
	return code != CL_SUCCESS;
}

static void CL_CALLBACK buffer_gone(cl_mem buffer, void *unused) {
	(void)unused;
	size_t bytes = forget(&buffers, buffer);
	if (bytes != 0) memory_give(bytes);
}

static cl_mem CL_API_CALL create_buffer(cl_context context, cl_mem_flags flags, size_t bytes, void *host, cl_int *error) {
	if (refused("clCreateBuffer", bytes, error)) return NULL;
	cl_mem buffer = next->clCreateBuffer(context, flags, bytes, host, error);
	if (buffer == NULL) {
		memory_give(bytes);
		return NULL;
	}
	remember(&buffers, buffer, bytes);
	if (next->clSetMemObjectDestructorCallback(buffer, buffer_gone, NULL) != CL_SUCCESS) buffer_gone(buffer, NULL);
	return buffer;
}

typedef void *(CL_API_CALL *alloc_for_host)(cl_context, const cl_ulong *, size_t, cl_uint, cl_int *);
typedef void *(CL_API_CALL *alloc_for_device)(cl_context, cl_device_id, const cl_ulong *, size_t, cl_uint, cl_int *);
typedef cl_int(CL_API_CALL *release)(cl_context, void *);
typedef cl_int(CL_API_CALL *copy)(cl_command_queue, cl_bool, void *, const void *, size_t, cl_uint, const cl_event *, cl_event *);

static alloc_for_host host_alloc;
static alloc_for_device device_alloc, shared_alloc;
static release usm_free, usm_free_blocking;
static copy usm_copy;

// settle counts what was allocated. The memory is cleared: a fresh page of a GPU's driver is, the CPU runtime's pool
// is not, and the plugin relies on it for padding.
static void *settle(void *p, size_t bytes) {
	if (p == NULL) {
		memory_give(bytes);
		return NULL;
	}
	memset(p, 0, bytes);
	remember(&usm, p, bytes);
	return p;
}

static void *CL_API_CALL alloc_host(cl_context context, const cl_ulong *properties, size_t bytes, cl_uint alignment, cl_int *error) {
	if (refused("clHostMemAllocINTEL", bytes, error)) return NULL;
	return settle(host_alloc(context, properties, bytes, alignment, error), bytes);
}

static void *CL_API_CALL alloc_device(cl_context context, cl_device_id device, const cl_ulong *properties, size_t bytes, cl_uint alignment, cl_int *error) {
	if (refused("clDeviceMemAllocINTEL", bytes, error)) return NULL;
	return settle(device_alloc(context, device, properties, bytes, alignment, error), bytes);
}

static void *CL_API_CALL alloc_shared(cl_context context, cl_device_id device, const cl_ulong *properties, size_t bytes, cl_uint alignment, cl_int *error) {
	if (refused("clSharedMemAllocINTEL", bytes, error)) return NULL;
	return settle(shared_alloc(context, device, properties, bytes, alignment, error), bytes);
}

static void give_back(void *p) {
	size_t bytes = forget(&usm, p);
	if (bytes != 0) memory_give(bytes);
}

static cl_int CL_API_CALL free_usm(cl_context context, void *p) {
	give_back(p);
	return usm_free(context, p);
}

static cl_int CL_API_CALL free_usm_blocking(cl_context context, void *p) {
	give_back(p);
	return usm_free_blocking(context, p);
}

static cl_int CL_API_CALL copy_usm(cl_command_queue queue, cl_bool blocking, void *to, const void *from, size_t bytes, cl_uint n, const cl_event *events, cl_event *event) {
	struct fault f = fault_at("clEnqueueMemcpyINTEL", NULL);
	return f.kind == FAULT_ERROR ? f.code : usm_copy(queue, blocking, to, from, bytes, n, events, event);
}

static cl_int CL_API_CALL read_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t bytes, void *to, cl_uint n, const cl_event *events, cl_event *event) {
	struct fault f = fault_at("clEnqueueReadBuffer", NULL);
	return f.kind == FAULT_ERROR ? f.code : next->clEnqueueReadBuffer(queue, buffer, blocking, offset, bytes, to, n, events, event);
}

static cl_int CL_API_CALL write_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t bytes, const void *from, cl_uint n, const cl_event *events, cl_event *event) {
	struct fault f = fault_at("clEnqueueWriteBuffer", NULL);
	return f.kind == FAULT_ERROR ? f.code : next->clEnqueueWriteBuffer(queue, buffer, blocking, offset, bytes, from, n, events, event);
}

static cl_int CL_API_CALL copy_buffer(cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, size_t to_offset, size_t bytes, cl_uint n, const cl_event *events, cl_event *event) {
	struct fault f = fault_at("clEnqueueCopyBuffer", NULL);
	return f.kind == FAULT_ERROR ? f.code : next->clEnqueueCopyBuffer(queue, from, to, from_offset, to_offset, bytes, n, events, event);
}

void memory_hook(cl_icd_dispatch *table) {
	table->clCreateBuffer = create_buffer;
	table->clEnqueueReadBuffer = read_buffer;
	table->clEnqueueWriteBuffer = write_buffer;
	table->clEnqueueCopyBuffer = copy_buffer;
}

void *memory_extension(const char *name, void *function) {
	const struct { const char *name; void **real; void *ours; } known[] = {
		{"clHostMemAllocINTEL", (void **)&host_alloc, (void *)alloc_host},
		{"clDeviceMemAllocINTEL", (void **)&device_alloc, (void *)alloc_device},
		{"clSharedMemAllocINTEL", (void **)&shared_alloc, (void *)alloc_shared},
		{"clMemFreeINTEL", (void **)&usm_free, (void *)free_usm},
		{"clMemBlockingFreeINTEL", (void **)&usm_free_blocking, (void *)free_usm_blocking},
		{"clEnqueueMemcpyINTEL", (void **)&usm_copy, (void *)copy_usm},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(known[i].name, name) == 0) {
			*known[i].real = function;
			return known[i].ours;
		}
	return NULL;
}
