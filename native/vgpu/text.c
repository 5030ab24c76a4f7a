#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_add(struct text *t, const char *s, size_t length) {
    if (t->failed) return;
    if (t->length + length + 1 > t->room) {
        size_t room = 2 * (t->length + length + 1);
        char *at = realloc(t->at, room);
        if (!at) {
            t->failed = true;
            return;
        }
        t->at = at;
        t->room = room;
    }
    memcpy(t->at + t->length, s, length);
    t->at[t->length += length] = 0;
}

void text_puts(struct text *t, const char *s) { text_add(t, s, strlen(s)); }

void text_printf(struct text *t, const char *format, ...) {
    char line[1024]; // longer is cut: only short formats are used
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    text_puts(t, line);
}

char *text_take(struct text *t) {
    text_puts(t, "");
    char *s = t->failed ? NULL : t->at;
    if (t->failed) free(t->at);
    *t = (struct text){0};
    return s;
}
