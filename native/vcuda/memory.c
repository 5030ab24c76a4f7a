// Memory of devices and pinned memory of the host. A device's addresses are a range of their own, which no other memory
// has: what is freed there is not readable until it is allocated again.
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vcuda.h"

enum { GRANULE = 512, PAGE = 4096, ARENA = 16 }; // a device has ARENA times more addresses than memory

struct pinned {
    struct object object;
    unsigned char *address;
    size_t bytes;
};

static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// arena_of reserves the device's addresses.
static unsigned char *arena_of(struct device *d) {
    if (d->arena) return d->arena;
    void *at = mmap(NULL, ARENA * d->total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : (d->arena = at);
}

// place puts a block into the first gap that is large enough. Blocks begin on pages, so that each can be protected.
static bool place(struct device *d, struct block *b) {
    unsigned char *at = arena_of(d);
    if (!at) return false;
    const unsigned char *end = at + ARENA * d->total;
    size_t bytes = up(b->bytes, PAGE);
    struct block **link = &d->blocks;
    for (; *link && (size_t)((*link)->address - at) < bytes; link = &(*link)->next) at = (*link)->address + up((*link)->bytes, PAGE);
    if ((size_t)(end - at) < bytes || mprotect(at, bytes, PROT_READ | PROT_WRITE)) return false;
    b->address = at;
    b->next = *link;
    *link = b;
    return true;
}

// grow takes bytes more of the device's memory, for the pool or not.
static bool grow(struct device *d, size_t bytes, bool pooled) {
    size_t spare = d->pool.reserved - d->pool.used, more = !pooled ? bytes : bytes > spare ? bytes - spare : 0;
    if (more > d->total - d->used) return false;
    d->used += more;
    if (pooled) {
        d->pool.reserved += more;
        d->pool.used += bytes;
    }
    return true;
}

static void shrink(struct device *d, size_t bytes, bool pooled) {
    if (pooled) d->pool.used -= bytes; // it stays the pool's
    else d->used -= bytes;
}

static int allocate(void **out, size_t bytes, struct device *d, bool pooled) {
    if (bytes > d->total) return cudaErrorMemoryAllocation;
    struct block *b = malloc(sizeof *b);
    if (!b) return cudaErrorMemoryAllocation;
    *b = (struct block){.asked = bytes, .bytes = up(bytes, GRANULE), .pooled = pooled};
    bool fits = grow(d, b->bytes, pooled);
    if (fits && !place(d, b)) {
        shrink(d, b->bytes, pooled);
        fits = false;
    }
    if (!fits) {
        free(b);
        return cudaErrorMemoryAllocation;
    }
    *out = b->address;
    return 0;
}

static void release(struct device *d, struct block **link) {
    struct block *b = *link;
    *link = b->next;
    madvise(b->address, up(b->bytes, PAGE), MADV_DONTNEED);
    mprotect(b->address, up(b->bytes, PAGE), PROT_NONE);
    shrink(d, b->bytes, b->pooled);
    free(b);
}

// find_block returns the link to the block that begins at address, or NULL.
static struct block **find_block(struct device *d, const void *address) {
    for (struct block **link = &d->blocks; *link; link = &(*link)->next) {
        if ((*link)->address == address) return link;
    }
    return NULL;
}

void memory_trim(struct device *d, uint64_t keep) {
    size_t least = keep > d->pool.used ? (keep > d->pool.reserved ? d->pool.reserved : (size_t)keep) : d->pool.used;
    d->used -= d->pool.reserved - least;
    d->pool.reserved = least;
}

void memory_free_all(struct device *d) {
    while (d->blocks) release(d, &d->blocks);
    if (d->arena) munmap(d->arena, ARENA * d->total);
    d->arena = NULL;
}

static bool overlaps(const void *address, size_t bytes, const unsigned char *at, size_t size) {
    const unsigned char *a = address;
    return a < at + size && at < a + (bytes ? bytes : 1);
}

static bool inside(const void *address, size_t bytes, const unsigned char *at, size_t size) {
    const unsigned char *a = address;
    return a >= at && a <= at + size && bytes <= (size_t)(at + size - a);
}

enum place memory_find(const void *address, size_t bytes, const struct device **device) {
    for (int i = 0; i < world.count; i++) {
        struct device *d = &world.devices[i];
        if (!d->arena || !overlaps(address, bytes, d->arena, ARENA * d->total)) continue;
        *device = d;
        for (struct block *b = d->blocks; b; b = b->next) {
            if (inside(address, bytes, b->address, b->asked)) return PLACE_DEVICE;
        }
        return PLACE_ILLEGAL;
    }
    for (struct object *o = world.objects; o; o = o->next) {
        struct pinned *p = (struct pinned *)o;
        if (o->kind != KIND_PINNED || !overlaps(address, bytes, p->address, p->bytes)) continue;
        return inside(address, bytes, p->address, p->bytes) ? PLACE_PINNED : PLACE_ILLEGAL;
    }
    return PLACE_PAGEABLE;
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    int error = enter(CALL_cudaMemGetInfo);
    if (error) return error;
    lock();
    struct device *d = current();
    *free_bytes = d->total - d->used;
    *total = d->total;
    unlock();
    return 0;
}

int cudaMalloc(void **out, size_t bytes) {
    int error = enter(CALL_cudaMalloc);
    if (error) return error;
    lock();
    struct device *d = current();
    if (bytes) error = allocate(out, bytes, d, false);
    else *out = NULL;
    unlock();
    return leave(error);
}

int cudaFree(void *address) {
    int error = enter(CALL_cudaFree);
    if (error) return error;
    lock();
    struct device *d = current();
    if (address) {
        const struct device *owner = d;
        memory_find(address, 0, &owner);
        d = &world.devices[owner - world.devices];
        error = settle(d); // work may use it
        struct block **link = error ? NULL : find_block(d, address);
        if (link) release(d, link);
        else if (!error) error = cudaErrorInvalidValue;
        memory_trim(d, d->pool.threshold);
    }
    unlock();
    return leave(error);
}

int cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
    int error = enter(CALL_cudaHostAlloc);
    if (error) return error;
    if (flags & ~7u) return leave(cudaErrorInvalidValue);
    struct pinned *p = malloc(sizeof *p);
    void *at = mmap(NULL, up(bytes ? bytes : 1, PAGE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!p || at == MAP_FAILED) {
        if (at != MAP_FAILED) munmap(at, up(bytes ? bytes : 1, PAGE));
        free(p);
        return leave(cudaErrorMemoryAllocation);
    }
    *p = (struct pinned){.address = at, .bytes = bytes};
    lock();
    current();
    object_add(&p->object, KIND_PINNED);
    unlock();
    *out = at;
    return 0;
}

int cudaFreeHost(void *address) {
    int error = enter(CALL_cudaFreeHost);
    if (error || !address) return error;
    lock();
    struct object *o = world.objects;
    while (o && !(o->kind == KIND_PINNED && ((struct pinned *)o)->address == address)) o = o->next;
    if (o) {
        error = settle(current()); // copies may be under way
        if (!error) {
            object_remove(o);
            munmap(address, up(((struct pinned *)o)->bytes ? ((struct pinned *)o)->bytes : 1, PAGE));
            free(o);
        }
    } else error = cudaErrorInvalidValue;
    unlock();
    return leave(error);
}

// pool_of returns the device whose pool a handle is, or NULL.
static struct device *pool_of(const void *pool) {
    for (int i = 0; i < world.count; i++) {
        if (pool == &world.devices[i].pool) return &world.devices[i];
    }
    return NULL;
}

int cudaDeviceGetDefaultMemPool(void **pool, int device) {
    int error = enter(CALL_cudaDeviceGetDefaultMemPool);
    if (error) return error;
    if (device < 0 || device >= world.count) return leave(cudaErrorInvalidDevice);
    return *pool = &world.devices[device].pool, 0;
}

int cudaMallocAsync(void **out, size_t bytes, void *stream) {
    int error = enter(CALL_cudaMallocAsync);
    if (error) return error;
    lock();
    struct stream *s = stream_of(stream, &error);
    if (s) error = bytes ? allocate(out, bytes, s->device, true) : cudaErrorInvalidValue;
    unlock();
    return leave(error);
}

// pooled_free is the free of a stream, when its turn has come.
struct pooled_free {
    struct work work;
    void *address;
};

static int run_free(struct work *w) {
    struct pooled_free *f = (struct pooled_free *)w;
    lock();
    struct block **link = find_block(w->device, f->address);
    if (link) release(w->device, link);
    unlock();
    return link ? 0 : cudaErrorIllegalAddress; // it was freed twice
}

int cudaFreeAsync(void *address, void *stream) {
    int error = enter(CALL_cudaFreeAsync);
    if (error) return error;
    struct pooled_free *f = malloc(sizeof *f);
    if (!f) return leave(cudaErrorMemoryAllocation);
    lock();
    struct stream *s = stream_of(stream, &error);
    struct block **link = s ? find_block(s->device, address) : NULL;
    if (s && !(link && (*link)->pooled)) error = cudaErrorInvalidValue;
    if (!error) {
        *f = (struct pooled_free){.work = {.run = run_free}, .address = address};
        stream_push(s, &f->work);
    }
    unlock();
    if (error) free(f);
    return leave(error);
}

int cudaMemPoolTrimTo(void *pool, size_t keep) {
    int error = enter(CALL_cudaMemPoolTrimTo);
    if (error) return error;
    lock();
    struct device *d = pool_of(pool);
    if (d) memory_trim(d, keep);
    unlock();
    return leave(d ? 0 : cudaErrorInvalidValue);
}

int cudaMemPoolGetAttribute(void *pool, int attribute, void *value) {
    int error = enter(CALL_cudaMemPoolGetAttribute);
    if (error) return error;
    uint64_t n = 0;
    lock();
    struct device *d = pool_of(pool);
    if (!d || (attribute != POOL_RELEASE_THRESHOLD && attribute != POOL_RESERVED && attribute != POOL_USED)) error = cudaErrorInvalidValue;
    else n = attribute == POOL_RESERVED ? d->pool.reserved : attribute == POOL_USED ? d->pool.used : d->pool.threshold;
    unlock();
    if (!error) memcpy(value, &n, sizeof n);
    return leave(error);
}

int cudaMemPoolSetAttribute(void *pool, int attribute, void *value) {
    int error = enter(CALL_cudaMemPoolSetAttribute);
    if (error) return error;
    lock();
    struct device *d = pool_of(pool);
    if (d && attribute == POOL_RELEASE_THRESHOLD) memcpy(&d->pool.threshold, value, sizeof d->pool.threshold);
    else error = cudaErrorInvalidValue;
    unlock();
    return leave(error);
}
