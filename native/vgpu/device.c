// Shows the CPU device of Intel's OpenCL runtime as an integrated Intel GPU, several times if asked to.
#include "device.h"

#include <pthread.h>

#include "account.h"
#include "fault.h"
#include "layer.h"

// Gen12LP (Tiger Lake): the newest architecture without a matrix engine, so that OpenVINO's plugin uses its own OpenCL
// kernels and not oneDNN, whose kernels are machine code.
enum { IP_VERSION = 12 << 22, DEVICE_ID = 0x9A49, SLICES = 1, SUB_SLICES = 6, EUS = 16, THREADS = 7, FEATURES = 0 };

// GPUs of that generation have work-groups of up to 512; the CPU runtime would allow more.
static const size_t work_group_size = 512;

static struct {
    pthread_mutex_t lock;
    cl_device_id list[MAX_DEVICES];
    unsigned count;
} devices = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t query64(cl_device_id device, cl_uint name) {
    uint64_t value = 0;
    NEXT(clGetDeviceInfo)(device, name, sizeof value, &value, NULL);
    return value;
}

// another makes another handle of the whole device: a sub-device of all its compute units.
static cl_device_id another(cl_device_id device) {
    cl_uint units = 0;
    NEXT(clGetDeviceInfo)(device, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
    const intptr_t all[] = {CL_DEVICE_PARTITION_BY_COUNTS, (intptr_t)units, 0, 0};
    cl_device_id copy = NULL;
    cl_int error = NEXT(clCreateSubDevices)(device, all, 1, &copy, NULL);
    if (error) COMPLAIN("the OpenCL runtime cannot show its device several times: error %d", error);
    return error ? NULL : copy;
}

// find fills the list, once. The lock is held.
static cl_int find(cl_platform_id platform) {
    if (devices.count) return CL_SUCCESS;
    cl_int error = NEXT(clGetDeviceIDs)(platform, CL_DEVICE_TYPE_ALL, 1, devices.list, NULL);
    if (error) return error;
    for (unsigned i = 1; i < layer.devices; i++) {
        if (!(devices.list[i] = another(devices.list[0]))) return CL_DEVICE_NOT_FOUND;
    }
    devices.count = layer.devices;
    for (unsigned i = 0; i < devices.count; i++) account_limit(i, device_memory(devices.list[i]));
    return CL_SUCCESS;
}

void device_forget(void) {
    memset(devices.list, 0, sizeof devices.list);
    devices.count = 0;
}

int device_index(cl_device_id device) {
    for (unsigned i = 0; i < devices.count; i++) {
        if (devices.list[i] == device) return (int)i;
    }
    return 0;
}

cl_device_id device_of_context(cl_context context) {
    cl_device_id list[MAX_DEVICES] = {0};
    return NEXT(clGetContextInfo)(context, CL_CONTEXT_DEVICES, sizeof list, list, NULL) ? NULL : list[0];
}

uint64_t device_memory(cl_device_id device) {
    return layer.memory ? layer.memory : query64(device, CL_DEVICE_GLOBAL_MEM_SIZE);
}

uint64_t device_max_alloc(cl_device_id device) {
    uint64_t most = layer.max_alloc ? layer.max_alloc : query64(device, CL_DEVICE_MAX_MEM_ALLOC_SIZE), all = device_memory(device);
    return most < all ? most : all;
}

static cl_int vgpu_clGetDeviceIDs(cl_platform_id platform, cl_bitfield type, cl_uint room, cl_device_id *out, cl_uint *count) {
    int error = fault_before(CALL_clGetDeviceIDs, NULL);
    if (error) return error;
    if (!(type & CL_DEVICE_TYPE_GPU) && type != CL_DEVICE_TYPE_ALL && !(type & 1 /* default */)) return CL_DEVICE_NOT_FOUND;
    pthread_mutex_lock(&devices.lock);
    error = find(platform);
    pthread_mutex_unlock(&devices.lock);
    if (error) return error;
    if (count) *count = devices.count;
    for (unsigned i = 0; out && i < room && i < devices.count; i++) out[i] = devices.list[i];
    return CL_SUCCESS;
}

static cl_int answer_uint(cl_uint value, size_t room, void *out, size_t *size) {
    return answer(&value, sizeof value, room, out, size);
}

static cl_int answer_ulong(cl_ulong value, size_t room, void *out, size_t *size) {
    return answer(&value, sizeof value, room, out, size);
}

static cl_int vgpu_clGetDeviceInfo(cl_device_id device, cl_uint name, size_t room, void *out, size_t *size) {
    switch (name) {
    case CL_DEVICE_TYPE: return answer_ulong(CL_DEVICE_TYPE_GPU, room, out, size);
    case CL_DEVICE_MAX_WORK_GROUP_SIZE: return answer(&work_group_size, sizeof work_group_size, room, out, size);
    case CL_DEVICE_MAX_WORK_ITEM_SIZES: {
        const size_t sizes[3] = {work_group_size, work_group_size, work_group_size};
        return answer(sizes, sizeof sizes, room, out, size);
    }
    case CL_DEVICE_GLOBAL_MEM_SIZE: return answer_ulong(device_memory(device), room, out, size);
    case CL_DEVICE_MAX_MEM_ALLOC_SIZE: return answer_ulong(device_max_alloc(device), room, out, size);
    case CL_DEVICE_NAME: {
        static const char text[] = "genfn virtual GPU";
        return answer(text, sizeof text, room, out, size);
    }
    case CL_DEVICE_PARENT_DEVICE: return answer(&(cl_device_id){NULL}, sizeof(cl_device_id), room, out, size);
    case CL_DEVICE_PARTITION_PROPERTIES:
    case CL_DEVICE_PARTITION_TYPE: return answer(&(intptr_t){0}, sizeof(intptr_t), room, out, size);
    case CL_DEVICE_REFERENCE_COUNT: return answer_uint(1, room, out, size);
    case CL_DEVICE_UUID_KHR: {
        const unsigned char uuid[16] = {0x86, 0x80, DEVICE_ID & 0xFF, DEVICE_ID >> 8, 'g', 'e', 'n', 'f', 'n', 'v', 'g', 'p', 'u', 0, 0,
                                        (unsigned char)device_index(device)};
        return answer(uuid, sizeof uuid, room, out, size);
    }
    case CL_DEVICE_IP_VERSION_INTEL: return answer_uint(IP_VERSION, room, out, size);
    case CL_DEVICE_ID_INTEL: return answer_uint(DEVICE_ID, room, out, size);
    case CL_DEVICE_NUM_SLICES_INTEL: return answer_uint(SLICES, room, out, size);
    case CL_DEVICE_NUM_SUB_SLICES_PER_SLICE_INTEL: return answer_uint(SUB_SLICES, room, out, size);
    case CL_DEVICE_NUM_EUS_PER_SUB_SLICE_INTEL: return answer_uint(EUS, room, out, size);
    case CL_DEVICE_NUM_THREADS_PER_EU_INTEL: return answer_uint(THREADS, room, out, size);
    case CL_DEVICE_FEATURE_CAPABILITIES_INTEL: return answer_ulong(FEATURES, room, out, size);
    }
    return NEXT(clGetDeviceInfo)(device, name, room, out, size);
}

static cl_context vgpu_clCreateContext(const intptr_t *properties, cl_uint count, const cl_device_id *list,
                                       void (*notify)(const char *, const void *, size_t, void *), void *data, cl_int *err) {
    int error = fault_before(CALL_clCreateContext, NULL);
    if (error) return fail(err, error);
    return NEXT(clCreateContext)(properties, count, list, notify, data, err);
}

static cl_command_queue vgpu_clCreateCommandQueue(cl_context context, cl_device_id device, cl_bitfield properties, cl_int *err) {
    int error = fault_before(CALL_clCreateCommandQueue, NULL);
    if (error) return fail(err, error);
    return NEXT(clCreateCommandQueue)(context, device, properties, err);
}

static cl_command_queue vgpu_clCreateCommandQueueWithProperties(cl_context context, cl_device_id device, const cl_ulong *properties,
                                                                cl_int *err) {
    int error = fault_before(CALL_clCreateCommandQueueWithProperties, NULL);
    if (error) return fail(err, error);
    return NEXT(clCreateCommandQueueWithProperties)(context, device, properties, err);
}

void device_install(void) {
    REPLACE(clGetDeviceIDs);
    REPLACE(clGetDeviceInfo);
    REPLACE(clCreateContext);
    REPLACE(clCreateCommandQueue);
    REPLACE(clCreateCommandQueueWithProperties);
}
