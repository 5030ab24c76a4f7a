// Hash tables from handles to records, with open addressing. A removed entry leaves a mark that growing sweeps away.

#include "layer.h"

#include <stdlib.h>

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static char removed; // its address marks a removed entry

static size_t slot_of(const struct table *t, const void *key) {
	uint64_t h = (uint64_t)(uintptr_t)key;
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL; // MurmurHash3's 64-bit finaliser
	h ^= h >> 33;
	size_t i = h & (t->size - 1);
	while (t->keys[i] != NULL && t->keys[i] != key) i = (i + 1) & (t->size - 1);
	return i;
}

void *table_get(const struct table *t, const void *key) {
	if (t->size == 0 || key == NULL) return NULL;
	size_t i = slot_of(t, key);
	return t->keys[i] == key ? t->values[i] : NULL;
}

static void grow(struct table *t) {
	struct table old = *t;
	size_t live = 0;
	for (size_t i = 0; i < old.size; i++) live += old.keys[i] != NULL && old.keys[i] != &removed;
	t->size = 64;
	while (t->size < 4 * (live + 1)) t->size *= 2;
	t->used = 0;
	t->keys = calloc(t->size, sizeof *t->keys);
	t->values = calloc(t->size, sizeof *t->values);
	if (t->keys == NULL || t->values == NULL) abort();
	for (size_t i = 0; i < old.size; i++)
		if (old.keys[i] != NULL && old.keys[i] != &removed) table_put(t, old.keys[i], old.values[i]);
	free(old.keys);
	free(old.values);
}

void table_put(struct table *t, void *key, void *value) {
	if (2 * (t->used + 1) > t->size) grow(t);
	size_t i = slot_of(t, key);
	if (t->keys[i] == NULL) t->used++;
	t->keys[i] = key;
	t->values[i] = value;
}

void *table_remove(struct table *t, const void *key) {
	if (t->size == 0 || key == NULL) return NULL;
	size_t i = slot_of(t, key);
	if (t->keys[i] != key) return NULL;
	t->keys[i] = &removed;
	return t->values[i];
}
