// Injected faults. README.md has the grammar of a specification.

#include "layer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum action { ACT_ERROR, ACT_DELAY, ACT_HANG, ACT_CRASH, ACT_FLIP };

struct rule {
	char call[64], kernel[64];
	enum action action;
	cl_int code;         // of ACT_ERROR
	long delay;          // milliseconds, of ACT_DELAY
	int signal;          // of ACT_CRASH
	long after, every, times;
	double probability;
	uint64_t random;     // state of the rule's generator
	bool sticky;
	char once[256];      // a file that whoever makes it has acted; ""
	long calls, hits;
};

enum { MAX_RULES = 32 };

struct specification {
	struct rule rules[MAX_RULES];
	int count;
};

static struct specification current;
static bool unreadable; // the file holds what cannot be understood: every call fails
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static const struct { const char *name; cl_int code; } codes[] = {
	{"CL_DEVICE_NOT_FOUND", -1}, {"CL_DEVICE_NOT_AVAILABLE", -2}, {"CL_MEM_OBJECT_ALLOCATION_FAILURE", -4},
	{"CL_OUT_OF_RESOURCES", -5}, {"CL_OUT_OF_HOST_MEMORY", -6}, {"CL_PROFILING_INFO_NOT_AVAILABLE", -7},
	{"CL_IMAGE_FORMAT_MISMATCH", -9}, {"CL_BUILD_PROGRAM_FAILURE", -11},
	{"CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST", -14}, {"CL_INVALID_VALUE", -30}, {"CL_INVALID_CONTEXT", -34},
	{"CL_INVALID_COMMAND_QUEUE", -36}, {"CL_INVALID_MEM_OBJECT", -38}, {"CL_INVALID_KERNEL", -48},
	{"CL_INVALID_KERNEL_ARGS", -52}, {"CL_INVALID_WORK_GROUP_SIZE", -54}, {"CL_INVALID_OPERATION", -59},
	{"CL_INVALID_BUFFER_SIZE", -61},
};

// Groups of calls that a specification may name in place of one.
static const struct { const char *group, *call; } groups[] = {
	{"alloc", "clCreateBuffer"}, {"alloc", "clHostMemAllocINTEL"}, {"alloc", "clDeviceMemAllocINTEL"}, {"alloc", "clSharedMemAllocINTEL"},
	{"build", "clBuildProgram"}, {"build", "clCompileProgram"}, {"build", "clLinkProgram"},
	{"wait", "clFlush"}, {"wait", "clFinish"}, {"wait", "clWaitForEvents"},
	{"copy", "clEnqueueReadBuffer"}, {"copy", "clEnqueueWriteBuffer"}, {"copy", "clEnqueueCopyBuffer"}, {"copy", "clEnqueueMemcpyINTEL"},
};

static const char *const calls[] = {
	"clGetDeviceIDs", "clCreateContext", "clEnqueueNDRangeKernel", "clCreateBuffer", "clHostMemAllocINTEL", "clDeviceMemAllocINTEL",
	"clSharedMemAllocINTEL", "clBuildProgram", "clCompileProgram", "clLinkProgram", "clFlush", "clFinish", "clWaitForEvents",
	"clEnqueueReadBuffer", "clEnqueueWriteBuffer", "clEnqueueCopyBuffer", "clEnqueueMemcpyINTEL",
};

static bool known_call(const char *name) {
	if (strcmp(name, "any") == 0) return true;
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (strcmp(calls[i], name) == 0) return true;
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		if (strcmp(groups[i].group, name) == 0) return true;
	return false;
}

static bool names(const char *rule, const char *call) {
	if (strcmp(rule, "any") == 0 || strcmp(rule, call) == 0) return true;
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		if (strcmp(groups[i].group, rule) == 0 && strcmp(groups[i].call, call) == 0) return true;
	return false;
}

static bool number(const char *text, long *to) {
	char *end;
	*to = strtol(text, &end, 10);
	return end != text && *end == 0;
}

static bool code_of(const char *text, cl_int *to) {
	long n;
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (strcmp(codes[i].name, text) == 0) return *to = codes[i].code, true;
	if (!number(text, &n) || n >= 0 || n < -2000) return false;
	*to = (cl_int)n;
	return true;
}

static char wrong[256]; // what fault_parse returns

static const char *complain(const char *what, const char *found) {
	snprintf(wrong, sizeof wrong, "%.120s, found \"%.100s\"", what, found);
	return wrong;
}

// parse_option reads key or key=value.
static const char *parse_option(struct rule *r, char *option) {
	char *value = strchr(option, '=');
	if (value != NULL) *value++ = 0;
	const char *v = value != NULL ? value : "";
	if (strcmp(option, "code") == 0) {
		r->action = ACT_ERROR;
		return code_of(v, &r->code) ? NULL : complain("code: expected a negative number or a name such as CL_OUT_OF_RESOURCES", v);
	}
	if (strcmp(option, "delay") == 0) {
		r->action = ACT_DELAY;
		return number(v, &r->delay) && r->delay >= 0 ? NULL : complain("delay: expected milliseconds", v);
	}
	if (strcmp(option, "crash") == 0) {
		r->action = ACT_CRASH;
		r->signal = strcmp(v, "SEGV") == 0 ? SIGSEGV : strcmp(v, "ABRT") == 0 ? SIGABRT : 0;
		return r->signal != 0 ? NULL : complain("crash: expected SEGV or ABRT", v);
	}
	if (strcmp(option, "probability") == 0) {
		char *end;
		r->probability = strtod(v, &end);
		return end != v && *end == 0 && r->probability >= 0 && r->probability <= 1 ? NULL : complain("probability: expected a number from 0 to 1", v);
	}
	if (strcmp(option, "seed") == 0) {
		long n;
		if (!number(v, &n)) return complain("seed: expected a number", v);
		r->random = (uint64_t)n;
		return NULL;
	}
	if (strcmp(option, "kernel") == 0) {
		snprintf(r->kernel, sizeof r->kernel, "%s", v);
		return *v != 0 ? NULL : complain("kernel: expected a part of a kernel's name", v);
	}
	if (strcmp(option, "once") == 0) {
		snprintf(r->once, sizeof r->once, "%s", v);
		return *v == '/' && strlen(v) < sizeof r->once ? NULL : complain("once: expected the absolute path of a file to make", v);
	}
	const struct { const char *key; long *to; long least; } numbers[] = {{"after", &r->after, 0}, {"every", &r->every, 1}, {"times", &r->times, 1}};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (strcmp(option, numbers[i].key) == 0)
			return number(v, numbers[i].to) && *numbers[i].to >= numbers[i].least ? NULL : complain("after, every, times: expected a number", v);
	if (value == NULL && strcmp(option, "hang") == 0) return r->action = ACT_HANG, NULL;
	if (value == NULL && strcmp(option, "flip") == 0) return r->action = ACT_FLIP, NULL;
	if (value == NULL && strcmp(option, "sticky") == 0) return r->sticky = true, NULL;
	return complain("expected code, delay, hang, crash, flip, after, every, times, probability, seed, kernel, once or sticky", option);
}

// parse_rule reads CALL:OPTION,OPTION...
static const char *parse_rule(struct rule *r, char *text) {
	*r = (struct rule){.every = 1, .probability = 1, .random = 1, .code = 0, .action = ACT_ERROR};
	char *options = strchr(text, ':');
	if (options == NULL) return complain("expected CALL:OPTION,...", text);
	*options++ = 0;
	if (!known_call(text)) return complain("expected an OpenCL call that can fail, alloc, build, wait, copy or any", text);
	snprintf(r->call, sizeof r->call, "%s", text);
	char *rest;
	for (char *o = strtok_r(options, ",", &rest); o != NULL; o = strtok_r(NULL, ",", &rest)) {
		const char *problem = parse_option(r, o);
		if (problem != NULL) return problem;
	}
	if (r->action == ACT_ERROR && r->code == 0) return complain("expected what is to happen: code, delay, hang, crash or flip", text);
	if (r->action == ACT_FLIP && strcmp(r->call, "clEnqueueNDRangeKernel") != 0) return complain("flip: expected clEnqueueNDRangeKernel, whose result is spoilt", r->call);
	return NULL;
}

const char *fault_parse(const char *text) {
	struct specification parsed = {.count = 0};
	char *copy = strdup(text), *rest;
	if (copy == NULL) return "no memory";
	const char *problem = NULL;
	for (char *rule = strtok_r(copy, "; \t\r\n", &rest); rule != NULL && problem == NULL; rule = strtok_r(NULL, "; \t\r\n", &rest)) {
		if (parsed.count == MAX_RULES) problem = "more than 32 rules";
		else problem = parse_rule(&parsed.rules[parsed.count++], rule);
	}
	free(copy);
	if (problem != NULL) return problem;
	pthread_mutex_lock(&guard);
	current = parsed;
	unreadable = false;
	pthread_mutex_unlock(&guard);
	return NULL;
}

static struct timespec seen; // when the file was changed that was read last
static ino_t seen_inode;
static bool seen_any;

// reload reads the file of faults if it has changed. One that is gone has no faults.
static void reload(void) {
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
	struct stat s;
	if (settings.fault_file == NULL || pthread_mutex_trylock(&once) != 0) return;
	bool there = stat(settings.fault_file, &s) == 0;
	if (!there) s = (struct stat){0};
	if (!seen_any || s.st_ino != seen_inode || s.st_mtim.tv_sec != seen.tv_sec || s.st_mtim.tv_nsec != seen.tv_nsec) {
		char text[8192] = "";
		FILE *f = there ? fopen(settings.fault_file, "r") : NULL;
		if (f != NULL) {
			text[fread(text, 1, sizeof text - 1, f)] = 0;
			fclose(f);
		}
		const char *problem = fault_parse(text);
		if (problem != NULL) {
			say("%s: %s; every call fails until that is mended", settings.fault_file, problem);
			pthread_mutex_lock(&guard);
			unreadable = true;
			pthread_mutex_unlock(&guard);
		}
		seen = s.st_mtim;
		seen_inode = s.st_ino;
		seen_any = true;
	}
	pthread_mutex_unlock(&once);
}

// draw returns a number from 0 to 1 (SplitMix64).
static double draw(uint64_t *state) {
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

// due counts a call and reports whether the rule acts on it.
static bool due(struct rule *r, const char *call, const char *detail) {
	if (r->sticky && r->hits > 0) return strcmp(call, "clGetDeviceIDs") != 0;
	if (!names(r->call, call)) return false;
	if (r->kernel[0] != 0 && (detail == NULL || strstr(detail, r->kernel) == NULL)) return false;
	r->calls++;
	if (r->calls <= r->after || (r->times > 0 && r->hits >= r->times)) return false;
	if ((r->calls - r->after - 1) % r->every != 0) return false;
	if (r->probability < 1 && draw(&r->random) >= r->probability) return false;
	if (r->once[0] != 0) {
		int fd = open(r->once, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
		if (fd < 0) return false; // another process has acted, or it cannot be made
		close(fd);
	}
	r->hits++;
	return true;
}

struct fault fault_at(const char *call, const char *detail) {
	struct fault f = {FAULT_NONE, CL_SUCCESS};
	struct rule hit;
	bool found = false;
	reload();
	pthread_mutex_lock(&guard);
	if (unreadable) f = (struct fault){FAULT_ERROR, CL_INVALID_OPERATION};
	for (int i = 0; i < current.count && !found && !unreadable; i++)
		if ((found = due(&current.rules[i], call, detail))) hit = current.rules[i];
	pthread_mutex_unlock(&guard);
	if (!found) return f;
	switch (hit.action) {
	case ACT_ERROR: return (struct fault){FAULT_ERROR, hit.code};
	case ACT_FLIP: return (struct fault){FAULT_FLIP, CL_SUCCESS};
	case ACT_DELAY: {
		struct timespec t = {hit.delay / 1000, hit.delay % 1000 * 1000000};
		while (nanosleep(&t, &t) != 0) {}
		break;
	}
	case ACT_HANG:
		say("%s hangs, as it was told to", call);
		for (;;) pause();
	case ACT_CRASH: // whoever has installed a handler sees it
		say("%s crashes with signal %d, as it was told to", call, hit.signal);
		if (hit.signal == SIGABRT) abort();
		raise(hit.signal);
		break;
	}
	return f;
}
