// The key is a hash of the source, the options, and the device and driver below. A file that is damaged or that the
// runtime does not take is compiled anew.
#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layer.h"

__extension__ typedef unsigned __int128 hash128;

// hash_add is 128-bit FNV-1a (RFC 9923).
static hash128 hash_add(hash128 h, const void *data, size_t size) {
    const hash128 prime = ((hash128)1 << 88) + 0x13B;
    for (const unsigned char *p = data; size--; p++) h = (h ^ *p) * prime;
    return h;
}

static const hash128 hash_start = ((hash128)0x6C62272E07BB0142u << 64) + 0x62B821756295C58Du;

struct header {
    char magic[8]; // "VGPBINU1"
    uint64_t size; // of the binary, which follows
    hash128 key, sum;
};

static hash128 key_of(cl_device_id device, const char *source, const char *options) {
    hash128 h = hash_start;
    const cl_uint names[] = {CL_DEVICE_NAME, CL_DRIVER_VERSION};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char value[256] = "";
        NEXT(clGetDeviceInfo)(device, names[i], sizeof value - 1, value, NULL);
        h = hash_add(h, value, strlen(value) + 1);
    }
    h = hash_add(h, options, strlen(options) + 1);
    return hash_add(h, source, strlen(source));
}

static bool path_of(hash128 key, char path[PATH_MAX]) {
    int n = snprintf(path, PATH_MAX, "%s/%016llx%016llx.bin", layer.cache, (unsigned long long)(key >> 64), (unsigned long long)key);
    return n > 0 && n < PATH_MAX;
}

static bool read_all(int fd, void *to, size_t size) {
    for (char *at = to; size;) {
        ssize_t got = read(fd, at, size);
        if (got <= 0) return false;
        at += got;
        size -= (size_t)got;
    }
    return true;
}

// load returns the binary stored under key; the caller frees it. NULL: there is none that is whole.
static unsigned char *load(hash128 key, size_t *size) {
    char path[PATH_MAX];
    struct header h;
    struct stat st;
    unsigned char *binary = NULL;
    int fd = path_of(key, path) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return NULL;
    if (!fstat(fd, &st) && read_all(fd, &h, sizeof h) && !memcmp(h.magic, "VGPBINU1", 8) && h.key == key &&
        (uint64_t)st.st_size == sizeof h + h.size && (binary = malloc(h.size))) {
        if (!read_all(fd, binary, h.size) || hash_add(hash_start, binary, h.size) != h.sum) {
            free(binary);
            binary = NULL;
        }
        *size = h.size;
    }
    close(fd);
    return binary;
}

static bool write_all(int fd, const void *from, size_t size) {
    for (const char *at = from; size;) {
        ssize_t put = write(fd, at, size);
        if (put <= 0) return false;
        at += put;
        size -= (size_t)put;
    }
    return true;
}

// store puts the program's binary into the cache. It is no failure of the build if it cannot: the reason is told.
static void store(hash128 key, cl_program program) {
    char path[PATH_MAX], temporary[PATH_MAX + 8];
    size_t size = 0;
    if (!path_of(key, path) || NEXT(clGetProgramInfo)(program, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) || !size) return;
    unsigned char *binary = malloc(size);
    if (!binary) return;
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    int fd = -1;
    if (!NEXT(clGetProgramInfo)(program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) && (fd = mkostemp(temporary, O_CLOEXEC)) >= 0) {
        struct header h = {.magic = "VGPBINU1", .size = size, .key = key, .sum = hash_add(hash_start, binary, size)};
        if (!write_all(fd, &h, sizeof h) || !write_all(fd, binary, size) || rename(temporary, path)) {
            COMPLAIN("cannot keep a compiled program in %s: %s", layer.cache, strerror(errno));
            unlink(temporary);
        }
        close(fd);
    } else {
        COMPLAIN("cannot keep a compiled program in %s: %s", layer.cache, strerror(errno));
    }
    free(binary);
}

// restore makes a program of a stored binary; NULL: the runtime does not take it.
static cl_program restore(cl_context context, cl_device_id device, const unsigned char *binary, size_t size, const char *options) {
    cl_int status = 0, error = 0;
    cl_program p = NEXT(clCreateProgramWithBinary)(context, 1, &device, &size, &binary, &status, &error);
    if (p && !error && !status && !NEXT(clBuildProgram)(p, 1, &device, options, NULL, NULL)) return p;
    if (p) NEXT(clReleaseProgram)(p);
    return NULL;
}

cl_int cache_build(cl_context context, cl_device_id device, const char *source, const char *options, cl_program *out) {
    hash128 key = 0;
    cl_int error = 0;
    *out = NULL;
    if (layer.cache) {
        key = key_of(device, source, options);
        size_t size;
        unsigned char *binary = load(key, &size);
        if (binary) {
            *out = restore(context, device, binary, size, options);
            free(binary);
            if (*out) return CL_SUCCESS;
            COMPLAIN("a compiled program of %s is not accepted: compiling it again", layer.cache);
        }
    }
    *out = NEXT(clCreateProgramWithSource)(context, 1, &source, NULL, &error);
    if (!*out) return error;
    error = NEXT(clBuildProgram)(*out, 1, &device, options, NULL, NULL);
    if (!error && layer.cache) store(key, *out);
    return error;
}
