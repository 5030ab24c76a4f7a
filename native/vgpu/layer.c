// The entry points that the ICD loader looks for.

#include "layer.h"

#include <string.h>

const cl_icd_dispatch *next;
static cl_icd_dispatch table;

static void *CL_API_CALL extension_for_platform(cl_platform_id platform, const char *name) {
	void *function = next->clGetExtensionFunctionAddressForPlatform(platform, name);
	if (function == NULL) return NULL;
	void *ours = memory_extension(name, function);
	if (ours == NULL) ours = kernel_extension(name, function);
	return ours != NULL ? ours : function;
}

CL_API_ENTRY cl_int CL_API_CALL clGetLayerInfo(cl_layer_info what, size_t room, void *to, size_t *needed) {
	if (what == CL_LAYER_API_VERSION) {
		cl_layer_api_version version = CL_LAYER_API_VERSION_100;
		return answer(&version, sizeof version, room, to, needed);
	}
	static const char name[] = "genfn virtual Intel GPU";
	if (what == CL_LAYER_NAME) return answer(name, sizeof name, room, to, needed);
	return CL_INVALID_VALUE;
}

CL_API_ENTRY cl_int CL_API_CALL clInitLayer(cl_uint entries, const cl_icd_dispatch *target, cl_uint *ours_entries, const cl_icd_dispatch **ours) {
	if (entries < sizeof table / sizeof(void *)) {
		say("the OpenCL loader knows %u functions, expected %zu: take a newer one", entries, sizeof table / sizeof(void *));
		return CL_INVALID_VALUE;
	}
	next = target;
	memcpy(&table, target, sizeof table);
	settings_read();
	memory_open();
	device_hook(&table);
	memory_hook(&table);
	program_hook(&table);
	kernel_hook(&table);
	table.clGetExtensionFunctionAddressForPlatform = extension_for_platform;
	*ours = &table;
	*ours_entries = sizeof table / sizeof(void *);
	return CL_SUCCESS;
}

// The Khronos loader looks for this one from version 3.1 on. The properties are none that this layer knows.
cl_int CL_API_CALL clInitLayerWithProperties(cl_uint, const cl_icd_dispatch *, cl_uint *, const cl_icd_dispatch **, const void *);

CL_API_ENTRY cl_int CL_API_CALL clInitLayerWithProperties(cl_uint entries, const cl_icd_dispatch *target, cl_uint *ours_entries, const cl_icd_dispatch **ours, const void *properties) {
	(void)properties;
	return clInitLayer(entries, target, ours_entries, ours);
}
