// Compiled programs on disk, by what they were compiled from. Compiling is nearly all that a short run costs. A file
// begins with its key and its size, so one that was cut off or is another program's is compiled anew.

#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// fnv is the 64-bit Fowler-Noll-Vo hash 1a, from a start of one's own.
static uint64_t fnv(uint64_t h, const char *s) {
	for (; *s != 0; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3ULL;
	return h;
}

char *cache_key(const char *source, const char *options) {
	static char driver[256]; // its version: binaries of another do not load
	if (driver[0] == 0) {
		cl_platform_id platform;
		cl_device_id device;
		if (next->clGetPlatformIDs(1, &platform, NULL) == CL_SUCCESS && next->clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL) == CL_SUCCESS)
			next->clGetDeviceInfo(device, CL_DRIVER_VERSION, sizeof driver - 1, driver, NULL);
		if (driver[0] == 0) driver[0] = '?';
	}
	char *key = malloc(64);
	if (key == NULL) return NULL;
	uint64_t a = fnv(fnv(fnv(0xcbf29ce484222325ULL, driver), options), source);
	uint64_t b = fnv(fnv(fnv(0x9ae16a3b2f90404fULL, source), options), driver);
	snprintf(key, 64, "%016llx%016llx-%zu", (unsigned long long)a, (unsigned long long)b, strlen(source));
	return key;
}

static char *path_of(const char *key, const char *ending) {
	size_t n = strlen(settings.cache) + strlen(key) + strlen(ending) + 2;
	char *path = malloc(n);
	if (path != NULL) snprintf(path, n, "%s/%s%s", settings.cache, key, ending);
	return path;
}

bool cache_load(const char *key, unsigned char **data, size_t *size) {
	if (settings.cache == NULL || key == NULL) return false;
	char *path = path_of(key, ".bin"), head[96], found[64];
	FILE *f = path != NULL ? fopen(path, "rb") : NULL;
	free(path);
	if (f == NULL) return false;
	bool ok = fgets(head, sizeof head, f) != NULL && sscanf(head, "%63s %zu\n", found, size) == 2 && strcmp(found, key) == 0 && *size > 0 && *size < (1u << 30);
	*data = ok ? malloc(*size) : NULL;
	ok = *data != NULL && fread(*data, 1, *size, f) == *size;
	fclose(f);
	if (!ok) {
		free(*data);
		*data = NULL;
	}
	return ok;
}

void cache_store(const char *key, const unsigned char *data, size_t size) {
	if (settings.cache == NULL || key == NULL) return;
	char ending[32];
	snprintf(ending, sizeof ending, ".%d", (int)getpid());
	char *path = path_of(key, ".bin"), *part = path_of(key, ending);
	FILE *f = path != NULL && part != NULL ? fopen(part, "wb") : NULL;
	if (f != NULL) {
		bool ok = fprintf(f, "%s %zu\n", key, size) > 0 && fwrite(data, 1, size, f) == size;
		ok = fclose(f) == 0 && ok;
		if (!ok || rename(part, path) != 0) unlink(part);
	}
	free(path);
	free(part);
}
