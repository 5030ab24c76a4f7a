// Open addressing with linear probing; removal moves later entries back, so there are no tombstones (Knuth, The Art
// of Computer Programming, volume 3, section 6.4, algorithm R).
#include "table.h"

#include <stdint.h>
#include <stdlib.h>

static size_t home(const struct table *t, const void *key) {
    uint64_t h = (uint64_t)(uintptr_t)key * 0x9E3779B97F4A7C15u; // Fibonacci hashing
    return (size_t)(h >> 32) & (t->size - 1);
}

// find returns the index of key, or of the empty slot where it belongs. The table has an empty slot.
static size_t find(const struct table *t, const void *key) {
    size_t i = home(t, key);
    while (t->slots[i].key && t->slots[i].key != key) i = (i + 1) & (t->size - 1);
    return i;
}

static bool grow(struct table *t) {
    struct table bigger = {.size = t->size ? 2 * t->size : 64, .used = t->used};
    bigger.slots = calloc(bigger.size, sizeof *bigger.slots);
    if (!bigger.slots) return false;
    for (size_t i = 0; i < t->size; i++) {
        if (t->slots[i].key) bigger.slots[find(&bigger, t->slots[i].key)] = t->slots[i];
    }
    free(t->slots);
    *t = bigger;
    return true;
}

bool table_put(struct table *t, const void *key, void *value) {
    if (2 * (t->used + 1) > t->size && !grow(t)) return false;
    struct slot *s = &t->slots[find(t, key)];
    if (!s->key) t->used++;
    *s = (struct slot){key, value};
    return true;
}

void *table_get(const struct table *t, const void *key) {
    return t->size ? t->slots[find(t, key)].value : NULL;
}

void *table_remove(struct table *t, const void *key) {
    if (!t->size) return NULL;
    size_t hole = find(t, key);
    void *value = t->slots[hole].value;
    if (!t->slots[hole].key) return NULL;
    t->used--;
    for (size_t i = hole;;) {
        t->slots[hole] = (struct slot){0};
        size_t wanted;
        do {
            i = (i + 1) & (t->size - 1);
            if (!t->slots[i].key) return value;
            wanted = home(t, t->slots[i].key);
            // An entry may move to the hole unless its home lies cyclically in (hole, i].
        } while (hole <= i ? hole < wanted && wanted <= i : hole < wanted || wanted <= i);
        t->slots[hole] = t->slots[i];
        hole = i;
    }
}

void table_free(struct table *t) {
    free(t->slots);
    *t = (struct table){0};
}
