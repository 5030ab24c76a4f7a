// A growing string.
#ifndef GENFN_VGPU_TEXT_H
#define GENFN_VGPU_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
    char *at; // ends with a NUL, or NULL
    size_t length, room;
    bool failed; // no memory: nothing more is added
};

void text_add(struct text *t, const char *s, size_t length);
void text_puts(struct text *t, const char *s);
__attribute__((format(printf, 2, 3))) void text_printf(struct text *t, const char *format, ...);
// text_take gives the string to the caller, who frees it; NULL: no memory.
char *text_take(struct text *t);

#endif
