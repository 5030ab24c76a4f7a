// OpenVINO's plugin compiles kernels in batches: a header, then each kernel between comments that name its template and
// itself, with every macro of it undefined at its end. So kernels can be taken apart by text.
#include "source.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

static const char template_mark[] = "// Kernel template: ", name_mark[] = "// Kernel name: ";

// patch puts text before something in the kernels of one template.
struct patch {
    const char *template_name;
    const char *only_with; // kernels without this are right as they are
    const char *before, *insert;
};

// permute_f_y_axes exchanges lanes through local memory without a barrier: right in the lockstep of a GPU's hardware
// thread, wrong on a CPU.
static const struct patch patches[] = {
    {"permute_f_y_axes", "transpose_buf", "const int f = (f_begin", "barrier(CLK_LOCAL_MEM_FENCE); "},
    {"permute_f_y_axes", "transpose_buf", "ACC_VEC_TYPE res = READ_VEC(0, &transpose_buf", "barrier(CLK_LOCAL_MEM_FENCE); "},
};

// find is strstr in the length bytes at text.
static const char *find(const char *text, size_t length, const char *what) {
    return memmem(text, length, what, strlen(what));
}

// word_after copies the word behind the first mark in text.
static char *word_after(const char *text, size_t length, const char *mark) {
    const char *at = find(text, length, mark);
    if (!at) return NULL;
    at += strlen(mark);
    size_t n = 0;
    while (at + n < text + length && !isspace((unsigned char)at[n])) n++;
    return strndup(at, n);
}

// add_patched copies one kernel's text with its patches. A patch that finds no place is a problem: the numbers would be wrong.
static bool add_patched(struct text *out, const char *text, size_t length, char *problem, size_t room) {
    char *template_name = word_after(text, length, template_mark);
    const char *end = text + length;
    bool placed[sizeof patches / sizeof *patches] = {false}, ok = true;
    while (text < end) {
        const char *at = end;
        size_t which = 0;
        for (size_t i = 0; i < sizeof patches / sizeof *patches; i++) {
            if (!template_name || strncmp(template_name, patches[i].template_name, strlen(patches[i].template_name))) continue;
            const char *found = find(text, (size_t)(end - text), patches[i].before);
            if (found && found < at) at = found, which = i;
        }
        text_add(out, text, (size_t)(at - text));
        if (at == end) break;
        placed[which] = true;
        text_puts(out, patches[which].insert);
        text_puts(out, patches[which].before);
        text = at + strlen(patches[which].before);
    }
    text = end - length;
    for (size_t i = 0; template_name && i < sizeof patches / sizeof *patches; i++) {
        if (strncmp(template_name, patches[i].template_name, strlen(patches[i].template_name)) || placed[i]) continue;
        if (!find(text, length, patches[i].only_with)) continue;
        snprintf(problem, room, "kernel template %s has changed: the place of a barrier it needs on a CPU is not found", template_name);
        ok = false;
    }
    free(template_name);
    return ok;
}

// number evaluates what stands in an attribute: digits, or a macro of the unit whose definitions all mean the same
// digits, in parentheses or not. Which of them counts is not decided here.
static bool number(const struct unit *u, const char *from, const char *to, int depth, size_t *out) {
    while (from < to && (isspace((unsigned char)*from) || *from == '(')) from++;
    while (from < to && (isspace((unsigned char)to[-1]) || to[-1] == ')')) to--;
    if (from == to || depth > 8) return false;
    if (isdigit((unsigned char)*from)) {
        char *end;
        *out = strtoul(from, &end, 10);
        return end == to && *out > 0 && *out <= 4096;
    }
    char define[128];
    snprintf(define, sizeof define, "define %.*s ", (int)(to - from), from);
    size_t values = 0, value;
    for (const char *at = u->text; (at = find(at, (size_t)(u->text + u->length - at), define));) {
        at += strlen(define);
        if (!number(u, at, at + strcspn(at, "\n"), depth + 1, &value) || (values++ && value != *out)) return false;
        *out = value;
    }
    return values > 0;
}

// required finds the local size that all reqd_work_group_size attributes of the unit agree on.
static bool required(const struct unit *u, size_t local[3]) {
    static const char attribute[] = "reqd_work_group_size(";
    bool any = false;
    for (const char *at = u->text; (at = find(at, (size_t)(u->text + u->length - at), attribute));) {
        at += strlen(attribute);
        size_t sizes[3];
        for (int i = 0; i < 3; i++) {
            const char *end = at + strcspn(at, i < 2 ? "," : ")");
            if (!number(u, at, end, 0, &sizes[i])) return false;
            at = end + 1;
        }
        if (any && memcmp(local, sizes, sizeof sizes)) return false;
        memcpy(local, sizes, sizeof sizes);
        any = true;
    }
    return any;
}

static void examine(struct unit *u) {
    static const char *const signs[] = {"sub_group", "REQD_SUB_GROUP_SIZE", "BLOCK_READ", "BLOCK_WRITE"};
    u->name = word_after(u->text, u->length, name_mark);
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) u->sub_groups |= find(u->text, u->length, signs[i]) != NULL;
    u->linear = u->sub_groups && required(u, u->local) && u->local[1] * u->local[2] > 1;
}

// split finds where each kernel begins.
static bool split(struct source *s) {
    size_t n = 0;
    for (const char *at = s->text; (at = strstr(at, template_mark)); at++) n++;
    s->count = n ? n : 1;
    if (!(s->units = calloc(s->count, sizeof *s->units))) return false;
    const char *at = n ? strstr(s->text, template_mark) : s->text;
    s->header = (size_t)(at - s->text);
    for (size_t i = 0; i < s->count; i++) {
        const char *next = n ? strstr(at + 1, template_mark) : NULL;
        s->units[i].text = at;
        s->units[i].length = next ? (size_t)(next - at) : strlen(at);
        examine(&s->units[i]);
        at = next;
    }
    return true;
}

bool source_parse(const char *text, struct source *s, char *problem, size_t room) {
    struct text patched = {0};
    *s = (struct source){0};
    bool ok = true;
    for (const char *at = text; ok && at;) {
        const char *next = strstr(at + (at != text), template_mark);
        if (next == at) next = strstr(at + 1, template_mark);
        ok = add_patched(&patched, at, next ? (size_t)(next - at) : strlen(at), problem, room);
        at = next;
    }
    s->text = text_take(&patched);
    if (!ok) {
        source_free(s);
        return false;
    }
    if (s->text && split(s)) return true;
    source_free(s);
    snprintf(problem, room, "no memory");
    return false;
}

void source_free(struct source *s) {
    for (size_t i = 0; s->units && i < s->count; i++) free(s->units[i].name);
    free(s->units);
    free(s->text);
    *s = (struct source){0};
}

// The functions whose meaning changes when a work-group is laid along dimension 0. A macro's own name inside it is the
// function itself (C11 6.10.3.4).
static const char *const replaced[] = {
    "get_local_id", "get_local_size", "get_enqueued_local_size", "get_global_size", "get_global_id", "get_local_linear_id",
    "get_global_linear_id", "reqd_work_group_size",
};

static void add_linear(struct text *out, const struct unit *u, const size_t l[3]) {
    // vgpu_lid is a function before these macros, so that they do not reach into it.
    text_puts(out, "\n#define get_local_linear_id() vgpu_lid()\n");
    text_printf(out, "#define get_local_id(d) ((size_t)((d) == 0 ? vgpu_lid() %% %zu : (d) == 1 ? vgpu_lid() / %zu %% %zu : (d) == 2 ? vgpu_lid() / %zu : 0))\n",
                l[0], l[0], l[1], l[0] * l[1]);
    text_printf(out, "#define get_local_size(d) ((size_t)((d) == 0 ? %zu : (d) == 1 ? %zu : (d) == 2 ? %zu : 1))\n", l[0], l[1], l[2]);
    text_puts(out, "#define get_enqueued_local_size(d) get_local_size(d)\n"
                   "#define get_global_size(d) (get_num_groups(d) * get_local_size(d))\n"
                   "#define get_global_id(d) (get_group_id(d) * get_local_size(d) + get_local_id(d) + get_global_offset(d))\n"
                   "#define get_global_linear_id() ((get_global_id(2) - get_global_offset(2)) * get_global_size(1) * get_global_size(0) + "
                   "(get_global_id(1) - get_global_offset(1)) * get_global_size(0) + get_global_id(0) - get_global_offset(0))\n");
    text_printf(out, "#define reqd_work_group_size(a, b, c) reqd_work_group_size(%zu, 1, 1)\n", l[0] * l[1] * l[2]);
    text_add(out, u->text, u->length);
    for (size_t i = 0; i < sizeof replaced / sizeof *replaced; i++) text_printf(out, "\n#undef %s", replaced[i]);
    text_puts(out, "\n");
}

// A block read or write takes its address from the first lane on a GPU; the CPU runtime takes each lane's own, and adds
// the lane to it. Kernels exist that pass the address of the lane (fully_connected_gpu_bs_f_bsv16_b1).
static void add_block_access(struct text *out) {
    static const char *const types[] = {"", "_us", "_uc"}, *const widths[] = {"", "2", "4", "8", "16"};
    text_puts(out, "#define VGPU_FIRST_LANE(p) ((__typeof__(p))sub_group_broadcast((ulong)(p), 0))\n");
    for (size_t t = 0; t < 3; t++) {
        for (size_t w = 0; w < 5; w++) {
            char name[32];
            snprintf(name, sizeof name, "%s%s", types[t], widths[w]);
            text_printf(out, "#define intel_sub_group_block_read%s(p) intel_sub_group_block_read%s(VGPU_FIRST_LANE(p))\n", name, name);
            text_printf(out, "#define intel_sub_group_block_write%s(p, v) intel_sub_group_block_write%s(VGPU_FIRST_LANE(p), v)\n", name, name);
        }
    }
}

static void add_header(struct text *out, const struct source *s) {
    text_puts(out, "inline size_t vgpu_lid(void) { return get_local_id(0); }\n");
    add_block_access(out);
    text_add(out, s->text, s->header);
}

char *source_render(const struct source *s) {
    struct text out = {0};
    add_header(&out, s);
    for (size_t i = 0; i < s->count; i++) {
        const struct unit *u = &s->units[i];
        if (u->linear) add_linear(&out, u, u->local);
        else text_add(&out, u->text, u->length);
    }
    return text_take(&out);
}

char *source_render_unit(const struct source *s, const struct unit *u, const size_t local[3]) {
    struct text out = {0};
    add_header(&out, s);
    add_linear(&out, u, local);
    return text_take(&out);
}

const struct unit *source_unit(const struct source *s, const char *kernel) {
    for (size_t i = 0; i < s->count; i++) {
        if (!s->units[i].name || !strcmp(s->units[i].name, kernel)) return &s->units[i];
    }
    return NULL;
}
