//go:build cgo

package main

// The libraries are opened at run time, as genfn does it, and everything that is set up once is set up in C.
// What is left to measure are the calls from Go.

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "../../native/kernels/genfn_kernels.h"

// The types of OpenVINO's C API, release 2026.
typedef struct { int64_t rank; int64_t *dims; } shape_t;
typedef struct { int64_t min, max; } dimension_t;
typedef struct { dimension_t rank, *dims; } partial_shape_t;
enum { F32 = 4 };

static char problem[512];

static void (*scale)(const struct genfn_scale_args *);
static void (*step)(const struct genfn_step_args *);
static int (*set_input)(void *, size_t, const void *);
static int (*infer)(void *);
static int (*get_shape)(const void *, shape_t *);
static int (*free_shape)(shape_t *);

static void *request, *input;
static float values[4][1024];

static void *symbol(void *library, const char *name) {
	void *p = dlsym(library, name);
	if (!p && !problem[0]) snprintf(problem, sizeof problem, "%s", dlerror());
	return p;
}

static void check(int status, const char *what) {
	if (status && !problem[0]) snprintf(problem, sizeof problem, "%s: status %d", what, status);
}

static void *library(const char *path) {
	void *p = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!p && !problem[0]) snprintf(problem, sizeof problem, "%s", dlerror());
	return p;
}

static const char *open_kernels(const char *path) {
	void *k = library(path);
	if (!k) return problem;
	scale = symbol(k, "genfn_scale");
	step = symbol(k, "genfn_step");
	return problem;
}

// The model has one input of f32 [2,4], made static as the harness makes it.
static const char *open_openvino(const char *path, const char *xml) {
	void *l = library(path);
	if (!l) return problem;
	int (*core_create)(void **) = symbol(l, "ov_core_create");
	int (*read)(void *, const char *, const char *, void **) = symbol(l, "ov_core_read_model");
	int (*reshape)(void *, const char **, const partial_shape_t *, size_t) = symbol(l, "ov_model_reshape");
	int (*compile)(void *, void *, const char *, size_t, void **, ...) = symbol(l, "ov_core_compile_model");
	int (*new_request)(void *, void **) = symbol(l, "ov_compiled_model_create_infer_request");
	int (*new_tensor)(int, shape_t, void **) = symbol(l, "ov_tensor_create");
	set_input = symbol(l, "ov_infer_request_set_input_tensor_by_index");
	infer = symbol(l, "ov_infer_request_infer");
	get_shape = symbol(l, "ov_tensor_get_shape");
	free_shape = symbol(l, "ov_shape_free");
	if (problem[0]) return problem;
	void *core = 0, *model = 0, *compiled = 0;
	check(core_create(&core), "create core");
	check(problem[0] ? 1 : read(core, xml, 0, &model), "read model");
	const char *name = "x";
	dimension_t open_dims[2] = {{2, 2}, {4, 4}};
	partial_shape_t partial = {{2, 2}, open_dims};
	int64_t dims[2] = {2, 4};
	shape_t shape = {2, dims};
	check(problem[0] ? 1 : reshape(model, &name, &partial, 1), "reshape");
	check(problem[0] ? 1 : compile(core, model, "CPU", 4, &compiled,
		"INFERENCE_NUM_THREADS", "1", "INFERENCE_PRECISION_HINT", "f32"), "compile");
	check(problem[0] ? 1 : new_request(compiled, &request), "create request");
	check(problem[0] ? 1 : new_tensor(F32, shape, &input), "create tensor");
	check(problem[0] ? 1 : set_input(request, 0, input), "set input");
	return problem;
}

static void call_scale(void) {
	struct genfn_scale_args a = {.dst = values[0], .src = values[1], .mul = 2, .add = 1, .n = 1};
	scale(&a);
}

static void call_step(void) {
	struct genfn_step_args a = {.sample = values[0], .cond = values[1], .uncond = values[2], .prev = values[3],
		.guidance = 7.5f, .sample_coef = 1, .output_coef = -0.1f, .n = 1024};
	step(&a);
}

static int call_set_input(void) { return set_input(request, 0, input); }
static int call_infer(void) { return infer(request); }
static int call_get_shape(void) {
	shape_t s;
	int status = get_shape(input, &s);
	return status ? status : free_shape(&s);
}
*/
import "C"

import (
	"errors"
	"fmt"
)

func open(kernels, openvino, model string) (map[string]func() error, error) {
	if problem := C.GoString(C.open_kernels(C.CString(kernels))); problem != "" {
		return nil, errors.New(problem)
	}
	if problem := C.GoString(C.open_openvino(C.CString(openvino), C.CString(model))); problem != "" {
		return nil, errors.New(problem)
	}
	return map[string]func() error{
		"scale":     func() error { C.call_scale(); return nil },
		"step":      func() error { C.call_step(); return nil },
		"set_input": func() error { return status(C.call_set_input()) },
		"infer":     func() error { return status(C.call_infer()) },
		"shape":     func() error { return status(C.call_get_shape()) },
	}, nil
}

func status(code C.int) error {
	if code != 0 {
		return fmt.Errorf("OpenVINO returned status %d", code)
	}
	return nil
}
