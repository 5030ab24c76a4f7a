// The device: Intel's runtime for CPUs under the name of a GPU of the generation 12 (Tiger Lake), one without a matrix
// engine, for which OpenVINO's plugin uses kernels of its own in place of oneDNN's.

#include "layer.h"

#include <string.h>

// Queries of cl_intel_device_attribute_query, which the CPU runtime does not answer.
enum {
	IP_VERSION = 0x4250,
	DEVICE_ID = 0x4251,
	SLICES = 0x4252,
	SUB_SLICES = 0x4253,
	EXECUTION_UNITS = 0x4254,
	THREADS = 0x4255,
	FEATURES = 0x4256,
};

static cl_int CL_API_CALL get_ids(cl_platform_id platform, cl_device_type type, cl_uint room, cl_device_id *ids, cl_uint *found) {
	struct fault f = fault_at("clGetDeviceIDs", NULL);
	if (f.kind == FAULT_ERROR) return f.code;
	if (settings.broken) {
		if (found != NULL) *found = 0;
		return CL_DEVICE_NOT_FOUND;
	}
	return next->clGetDeviceIDs(platform, (type & CL_DEVICE_TYPE_GPU) != 0 ? CL_DEVICE_TYPE_ALL : type, room, ids, found);
}

static cl_int CL_API_CALL get_info(cl_device_id device, cl_device_info what, size_t room, void *to, size_t *needed) {
	cl_uint n;
	switch (what) {
	case CL_DEVICE_TYPE: {
		cl_device_type type = CL_DEVICE_TYPE_GPU;
		return answer(&type, sizeof type, room, to, needed);
	}
	case CL_DEVICE_MAX_WORK_GROUP_SIZE: {
		size_t size = 512;
		return answer(&size, sizeof size, room, to, needed);
	}
	case CL_DEVICE_MAX_WORK_ITEM_SIZES: {
		size_t sizes[3] = {512, 512, 512};
		return answer(sizes, sizeof sizes, room, to, needed);
	}
	case CL_DEVICE_GLOBAL_MEM_SIZE: {
		cl_ulong size = memory_total();
		if (size == 0) break;
		return answer(&size, sizeof size, room, to, needed);
	}
	case CL_DEVICE_MAX_MEM_ALLOC_SIZE: {
		cl_ulong size = settings.max_alloc != 0 ? settings.max_alloc : memory_total() / 2;
		if (size == 0) break;
		return answer(&size, sizeof size, room, to, needed);
	}
	case IP_VERSION: n = 12u << 22; return answer(&n, sizeof n, room, to, needed);
	case DEVICE_ID: n = 0x9a49; return answer(&n, sizeof n, room, to, needed);
	case SLICES: n = 1; return answer(&n, sizeof n, room, to, needed);
	case SUB_SLICES: n = 6; return answer(&n, sizeof n, room, to, needed);
	case EXECUTION_UNITS: n = 16; return answer(&n, sizeof n, room, to, needed);
	case THREADS: n = 7; return answer(&n, sizeof n, room, to, needed);
	case FEATURES: n = 0; return answer(&n, sizeof n, room, to, needed);
	}
	return next->clGetDeviceInfo(device, what, room, to, needed);
}

static cl_context CL_API_CALL create_context(const cl_context_properties *properties, cl_uint n, const cl_device_id *devices,
	void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *data, cl_int *error) {
	struct fault f = fault_at("clCreateContext", NULL);
	if (f.kind == FAULT_ERROR) {
		if (error != NULL) *error = f.code;
		return NULL;
	}
	return next->clCreateContext(properties, n, devices, notify, data, error);
}

static cl_int CL_API_CALL flush(cl_command_queue queue) {
	struct fault f = fault_at("clFlush", NULL);
	return f.kind == FAULT_ERROR ? f.code : next->clFlush(queue);
}

static cl_int CL_API_CALL finish(cl_command_queue queue) {
	struct fault f = fault_at("clFinish", NULL);
	return f.kind == FAULT_ERROR ? f.code : next->clFinish(queue);
}

static cl_int CL_API_CALL wait_for_events(cl_uint n, const cl_event *events) {
	struct fault f = fault_at("clWaitForEvents", NULL);
	return f.kind == FAULT_ERROR ? f.code : next->clWaitForEvents(n, events);
}

void device_hook(cl_icd_dispatch *table) {
	table->clGetDeviceIDs = get_ids;
	table->clGetDeviceInfo = get_info;
	table->clCreateContext = create_context;
	table->clFlush = flush;
	table->clFinish = finish;
	table->clWaitForEvents = wait_for_events;
}
