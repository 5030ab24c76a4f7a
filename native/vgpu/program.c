#include "object.h"

#include <stdlib.h>

#include "cache.h"
#include "device.h"
#include "fault.h"
#include "layer.h"
#include "text.h"

struct program *program_of(cl_program handle) {
    struct program *p = (struct program *)handle;
    return p && p->magic == PROGRAM_MAGIC ? p : NULL;
}

void program_retain(struct program *p) { __atomic_add_fetch(&p->refs, 1, __ATOMIC_RELAXED); }

// unbuild frees what a build has made.
static void unbuild(struct program *p) {
    for (struct variant *v = p->variants, *next; v; v = next) {
        next = v->next;
        NEXT(clReleaseProgram)(v->built);
        free(v);
    }
    p->variants = NULL;
    if (p->built) NEXT(clReleaseProgram)(p->built);
    p->built = NULL;
    source_free(&p->source);
    free(p->log);
    p->log = NULL;
}

void program_release(struct program *p) {
    if (__atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL)) return;
    unbuild(p);
    NEXT(clReleaseContext)(p->context);
    pthread_mutex_destroy(&p->lock);
    free(p->text);
    free(p->options);
    p->magic = 0;
    free(p);
}

// make returns a program with one reference that owns text and options, which it frees on an error.
static struct program *make(cl_context context, char *text, char *options, cl_int *err) {
    cl_device_id device = device_of_context(context);
    struct program *p = device && text ? calloc(1, sizeof *p) : NULL;
    if (!p) {
        free(text);
        free(options);
        return fail(err, device ? CL_OUT_OF_HOST_MEMORY : CL_INVALID_CONTEXT);
    }
    NEXT(clRetainContext)(context);
    *p = (struct program){.dispatch = *(void **)context, .magic = PROGRAM_MAGIC, .refs = 1, .context = context, .device = device,
                          .text = text, .options = options, .from_binary = options != NULL, .status = CL_BUILD_NONE};
    pthread_mutex_init(&p->lock, NULL);
    if (err) *err = CL_SUCCESS;
    return p;
}

static cl_program vgpu_clCreateProgramWithSource(cl_context context, cl_uint count, const char **strings, const size_t *lengths,
                                                 cl_int *err) {
    int error = fault_before(CALL_clCreateProgramWithSource, NULL);
    if (error) return fail(err, error);
    if (!count || !strings) return fail(err, CL_INVALID_VALUE);
    struct text all = {0};
    for (cl_uint i = 0; i < count; i++) {
        if (!strings[i]) return free(all.at), fail(err, CL_INVALID_VALUE);
        text_add(&all, strings[i], lengths && lengths[i] ? lengths[i] : strlen(strings[i]));
    }
    return (cl_program)make(context, text_take(&all), NULL, err);
}

// A program's binary is its source with its build options: the application may keep it and bring it back in another
// process (OpenVINO's CACHE_DIR), and kernels can be rewritten only from source.
static const char binary_magic[] = "genfn virtual GPU program 1";

// binary_of returns the binary, which the caller frees; NULL: no memory.
static char *binary_of(const struct program *p, size_t *size) {
    struct text t = {0};
    text_add(&t, binary_magic, sizeof binary_magic); // with the NULs
    text_add(&t, p->options ? p->options : "", strlen(p->options ? p->options : "") + 1);
    text_add(&t, p->text, strlen(p->text) + 1);
    *size = t.length;
    return text_take(&t);
}

// parse_binary is the reverse of binary_of.
static bool parse_binary(const char *binary, size_t size, const char **options, const char **text) {
    if (size < sizeof binary_magic + 2 || memcmp(binary, binary_magic, sizeof binary_magic) || binary[size - 1]) return false;
    *options = binary + sizeof binary_magic;
    *text = *options + strlen(*options) + 1;
    return *text < binary + size && *text + strlen(*text) + 1 == binary + size;
}

static cl_program vgpu_clCreateProgramWithBinary(cl_context context, cl_uint count, const cl_device_id *list, const size_t *sizes,
                                                 const unsigned char **binaries, cl_int *status, cl_int *err) {
    int error = fault_before(CALL_clCreateProgramWithBinary, NULL);
    if (error) return fail(err, error);
    if (count != 1 || !list || !sizes || !binaries || !binaries[0]) return fail(err, CL_INVALID_VALUE);
    const char *options, *text;
    bool ok = parse_binary((const char *)binaries[0], sizes[0], &options, &text);
    if (status) *status = ok ? CL_SUCCESS : CL_INVALID_BINARY;
    if (!ok) {
        COMPLAIN("a program binary that this virtual GPU has not made is refused");
        return fail(err, CL_INVALID_BINARY);
    }
    return (cl_program)make(context, strdup(text), strdup(options), err);
}

// Programs without source cannot be made right on a CPU.
static cl_program vgpu_clCreateProgramWithIL(cl_context context, const void *il, size_t size, cl_int *err) {
    (void)context, (void)il, (void)size;
    COMPLAIN("programs of intermediate language are refused");
    return fail(err, CL_INVALID_OPERATION);
}

static cl_program vgpu_clCreateProgramWithBuiltInKernels(cl_context context, cl_uint count, const cl_device_id *list, const char *names,
                                                         cl_int *err) {
    (void)context, (void)count, (void)list, (void)names;
    return fail(err, CL_INVALID_VALUE); // a device has the built-in kernels it names, and this one names none
}

static cl_int vgpu_clRetainProgram(cl_program handle) {
    struct program *p = program_of(handle);
    if (!p) return CL_INVALID_PROGRAM;
    program_retain(p);
    return CL_SUCCESS;
}

static cl_int vgpu_clReleaseProgram(cl_program handle) {
    struct program *p = program_of(handle);
    if (!p) return CL_INVALID_PROGRAM;
    program_release(p);
    return CL_SUCCESS;
}

// compile builds source with the program's options and those of the layer.
static cl_int compile(const struct program *p, char *source, cl_program *out) {
    struct text options = {0};
    text_puts(&options, p->options);
    text_puts(&options, " ");
    text_puts(&options, layer.options);
    char *all = text_take(&options);
    cl_int error = source && all ? cache_build(p->context, p->device, source, all, out) : CL_OUT_OF_HOST_MEMORY;
    free(all);
    free(source);
    return error;
}

static cl_int build(struct program *p, const char *options) {
    unbuild(p);
    p->status = CL_BUILD_ERROR;
    if (!p->from_binary) {
        free(p->options);
        p->options = strdup(options ? options : "");
    }
    if (!p->options) return CL_OUT_OF_HOST_MEMORY;
    char problem[256];
    if (!source_parse(p->text, &p->source, problem, sizeof problem)) {
        p->log = strdup(problem);
        COMPLAIN("%s", problem);
        return CL_BUILD_PROGRAM_FAILURE;
    }
    cl_int error = compile(p, source_render(&p->source), &p->built);
    if (!error) p->status = CL_BUILD_SUCCESS;
    return error;
}

static cl_int vgpu_clBuildProgram(cl_program handle, cl_uint count, const cl_device_id *list, const char *options, cl_build_notify *notify,
                                  void *data) {
    int error = fault_before(CALL_clBuildProgram, NULL);
    if (error) return error;
    struct program *p = program_of(handle);
    if (!p) return CL_INVALID_PROGRAM;
    if (__atomic_load_n(&p->kernels, __ATOMIC_RELAXED)) return CL_INVALID_OPERATION;
    if (count && list) p->device = list[0];
    error = build(p, options);
    if (notify) notify(handle, data);
    return error;
}

// Compiling and linking apart would hide from the layer what belongs to a kernel; OpenVINO's plugin does not do it.
static cl_int vgpu_clCompileProgram(cl_program handle, cl_uint count, const cl_device_id *list, const char *options, cl_uint headers,
                                    const cl_program *inputs, const char **names, cl_build_notify *notify, void *data) {
    (void)handle, (void)count, (void)list, (void)options, (void)headers, (void)inputs, (void)names, (void)notify, (void)data;
    int error = fault_before(CALL_clCompileProgram, NULL);
    return error ? error : CL_COMPILER_NOT_AVAILABLE;
}

static cl_program vgpu_clLinkProgram(cl_context context, cl_uint count, const cl_device_id *list, const char *options, cl_uint inputs,
                                     const cl_program *programs, cl_build_notify *notify, void *data, cl_int *err) {
    (void)context, (void)count, (void)list, (void)options, (void)inputs, (void)programs, (void)notify, (void)data;
    int error = fault_before(CALL_clLinkProgram, NULL);
    return fail(err, error ? error : CL_LINKER_NOT_AVAILABLE);
}

cl_int program_variant(struct program *p, const struct unit *u, const size_t local[3], cl_program *out) {
    pthread_mutex_lock(&p->lock);
    struct variant *v = p->variants;
    while (v && (v->unit != u || memcmp(v->local, local, sizeof v->local))) v = v->next;
    cl_int error = CL_SUCCESS;
    if (!v) {
        TRACE("%s is rewritten for the local size %zu,%zu,%zu", u->name ? u->name : "a program", local[0], local[1], local[2]);
        cl_program built = NULL;
        error = compile(p, source_render_unit(&p->source, u, local), &built);
        if (!error && !(v = malloc(sizeof *v))) error = CL_OUT_OF_HOST_MEMORY;
        if (!error) {
            *v = (struct variant){.unit = u, .local = {local[0], local[1], local[2]}, .built = built, .next = p->variants};
            p->variants = v;
        } else if (built) {
            NEXT(clReleaseProgram)(built);
        }
    }
    pthread_mutex_unlock(&p->lock);
    if (v) *out = v->built;
    return error;
}

cl_program program_described(struct program *p, const struct unit *u) {
    char *source = source_render_unit(&p->source, u, (const size_t[3]){1, 1, 1});
    if (!source) return NULL;
    cl_program described = NEXT(clCreateProgramWithSource)(p->context, 1, (const char **)&source, NULL, NULL);
    if (described && NEXT(clBuildProgram)(described, 1, &p->device, "-cl-std=CL3.0 -cl-opt-disable -cl-kernel-arg-info", NULL, NULL)) {
        COMPLAIN("no information on the arguments of kernel %s: it is not spoilt", u->name ? u->name : "?");
        NEXT(clReleaseProgram)(described);
        described = NULL;
    }
    free(source);
    return described;
}

static cl_int answer_text(const char *s, size_t room, void *out, size_t *size) { return answer(s, strlen(s) + 1, room, out, size); }

// answer_binary copies the binary to where the application's array of one pointer points.
static cl_int answer_binary(const struct program *p, cl_uint name, size_t room, void *out, size_t *size) {
    if (p->status != CL_BUILD_SUCCESS) return CL_INVALID_PROGRAM_EXECUTABLE;
    size_t length;
    char *binary = binary_of(p, &length);
    if (!binary) return CL_OUT_OF_HOST_MEMORY;
    cl_int error = CL_SUCCESS;
    if (name == CL_PROGRAM_BINARY_SIZES) {
        error = answer(&length, sizeof length, room, out, size);
    } else {
        if (size) *size = sizeof(char *);
        if (out && room < sizeof(char *)) error = CL_INVALID_VALUE;
        else if (out && *(char **)out) memcpy(*(char **)out, binary, length);
    }
    free(binary);
    return error;
}

static cl_int vgpu_clGetProgramInfo(cl_program handle, cl_uint name, size_t room, void *out, size_t *size) {
    const struct program *p = program_of(handle);
    if (!p) return CL_INVALID_PROGRAM;
    switch (name) {
    case CL_PROGRAM_REFERENCE_COUNT: return answer(&(cl_uint){__atomic_load_n(&p->refs, __ATOMIC_RELAXED)}, sizeof(cl_uint), room, out, size);
    case CL_PROGRAM_CONTEXT: return answer(&p->context, sizeof p->context, room, out, size);
    case CL_PROGRAM_NUM_DEVICES: return answer(&(cl_uint){1}, sizeof(cl_uint), room, out, size);
    case CL_PROGRAM_DEVICES: return answer(&p->device, sizeof p->device, room, out, size);
    case CL_PROGRAM_SOURCE: return answer_text(p->from_binary ? "" : p->text, room, out, size);
    case CL_PROGRAM_BINARY_SIZES:
    case CL_PROGRAM_BINARIES: return answer_binary(p, name, room, out, size);
    }
    return p->built ? NEXT(clGetProgramInfo)(p->built, name, room, out, size) : CL_INVALID_PROGRAM_EXECUTABLE;
}

static cl_int vgpu_clGetProgramBuildInfo(cl_program handle, cl_device_id device, cl_uint name, size_t room, void *out, size_t *size) {
    const struct program *p = program_of(handle);
    if (!p) return CL_INVALID_PROGRAM;
    switch (name) {
    case CL_PROGRAM_BUILD_STATUS: return answer(&p->status, sizeof p->status, room, out, size);
    case CL_PROGRAM_BUILD_OPTIONS: return answer_text(p->options ? p->options : "", room, out, size);
    case CL_PROGRAM_BUILD_LOG:
        if (p->log || !p->built) return answer_text(p->log ? p->log : "", room, out, size);
    }
    return p->built ? NEXT(clGetProgramBuildInfo)(p->built, device, name, room, out, size) : CL_INVALID_VALUE;
}

static cl_int vgpu_clSetProgramReleaseCallback(cl_program handle, cl_build_notify *notify, void *data) {
    (void)handle, (void)notify, (void)data;
    return CL_INVALID_OPERATION; // as drivers without global constructors answer
}

static cl_int vgpu_clSetProgramSpecializationConstant(cl_program handle, cl_uint id, size_t size, const void *value) {
    (void)handle, (void)id, (void)size, (void)value;
    return CL_INVALID_PROGRAM; // for programs of intermediate language only
}

void program_install(void) {
    REPLACE(clCreateProgramWithSource);
    REPLACE(clCreateProgramWithBinary);
    REPLACE(clCreateProgramWithIL);
    REPLACE(clCreateProgramWithBuiltInKernels);
    REPLACE(clRetainProgram);
    REPLACE(clReleaseProgram);
    REPLACE(clBuildProgram);
    REPLACE(clCompileProgram);
    REPLACE(clLinkProgram);
    REPLACE(clGetProgramInfo);
    REPLACE(clGetProgramBuildInfo);
    REPLACE(clSetProgramReleaseCallback);
    REPLACE(clSetProgramSpecializationConstant);
}
