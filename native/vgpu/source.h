// What the layer knows of the plugin's kernel sources, and how it makes them right on a CPU.
//
// On an Intel GPU the sub-groups of a work-group are formed along its linear local id. The CPU runtime forms them along
// dimension 0 only: a kernel with the local size (1, 16, 1) would silently compute something else. Such a kernel is
// rewritten to run with its whole work-group along dimension 0, its ids computed from the linear one.
#ifndef GENFN_VGPU_SOURCE_H
#define GENFN_VGPU_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

// unit is one kernel of a program with the text that belongs to it alone.
struct unit {
    char *name;           // of the kernel; NULL: a program that is not in the plugin's form is one unit
    const char *text;     // in the source
    size_t length;
    bool sub_groups;      // it uses sub-groups
    bool linear;          // source_render rewrites it for the local size that its attribute requires
    size_t local[3];      // that local size, if linear
};

struct source {
    char *text;
    size_t header; // length of what all units share
    struct unit *units;
    size_t count; // at least 1
};

// source_parse reads a program; source_free frees it. On an error it returns false with a problem for the build log.
bool source_parse(const char *text, struct source *s, char *problem, size_t room);
void source_free(struct source *s);

// source_render returns the whole program as it is to be compiled, source_render_unit one unit for one local size.
// The caller frees it; NULL: no memory.
char *source_render(const struct source *s);
char *source_render_unit(const struct source *s, const struct unit *u, const size_t local[3]);

const struct unit *source_unit(const struct source *s, const char *kernel);

#endif
