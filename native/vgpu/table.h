// A hash table from handles to records of the layer. It holds no lock: its owner does.
#ifndef GENFN_VGPU_TABLE_H
#define GENFN_VGPU_TABLE_H

#include <stdbool.h>
#include <stddef.h>

struct table {
    struct slot {
        const void *key; // NULL: empty
        void *value;
    } *slots;
    size_t size, used; // size is 0 or a power of two
};

// table_put replaces what key had; it returns false, changing nothing, when there is no memory. Neither is NULL.
bool table_put(struct table *t, const void *key, void *value);
void *table_get(const struct table *t, const void *key); // NULL: not there
void *table_remove(struct table *t, const void *key);    // what it was, or NULL
void table_free(struct table *t);                        // the slots, not the values

#endif
