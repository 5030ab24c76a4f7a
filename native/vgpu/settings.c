// What the environment says. A setting that cannot be understood leaves no device, so that nobody takes a test for
// one with faults that has none.

#include "layer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct settings settings;

void say(const char *format, ...) {
	char line[1024];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	fprintf(stderr, "genfn virtual GPU: %s\n", line);
}

static const char *text(const char *name) {
	const char *value = getenv(name);
	return value != NULL && *value != 0 ? value : NULL;
}

static uint64_t bytes(const char *name) {
	const char *value = text(name);
	if (value == NULL) return 0;
	char *end;
	errno = 0;
	uint64_t n = strtoull(value, &end, 10);
	if (errno != 0 || *end != 0 || *value == '-') {
		say("%s=%s: expected a number of bytes; there will be no device", name, value);
		settings.broken = true;
	}
	return n;
}

void settings_read(void) {
	settings = (struct settings){
		.options = text("GENFN_VGPU_OPTIONS"),
		.cache = text("GENFN_VGPU_CACHE"),
		.counter = text("GENFN_VGPU_COUNTER"),
		.faults = text("GENFN_VGPU_FAULTS"),
		.fault_file = text("GENFN_VGPU_FAULT_FILE"),
	};
	settings.memory = bytes("GENFN_VGPU_MEMORY");
	settings.max_alloc = bytes("GENFN_VGPU_MAX_ALLOC");
	const char *wrong = settings.faults != NULL ? fault_parse(settings.faults) : NULL;
	if (wrong != NULL) {
		say("GENFN_VGPU_FAULTS: %s; there will be no device", wrong);
		settings.broken = true;
	}
}

cl_int answer(const void *value, size_t size, size_t room, void *to, size_t *needed) {
	if (needed != NULL) *needed = size;
	if (to == NULL) return CL_SUCCESS;
	if (room < size) return CL_INVALID_VALUE;
	memcpy(to, value, size);
	return CL_SUCCESS;
}
