// Copies and fills. A copy from pageable memory returns when that is read, one to pageable memory when it is done; all
// others return at once, as CUDA's documentation says (API synchronization behavior).
#include <stdlib.h>
#include <string.h>

#include "vcuda.h"

struct copy {
    struct work work;
    unsigned char *dst;
    const unsigned char *src; // or NULL: a fill
    void *staged;             // what src is a copy of, or NULL
    int value;
    size_t bytes;
};

// still_there makes sure that memory of a device has not been freed meanwhile.
static bool still_there(const void *address, size_t bytes) {
    const struct device *d;
    lock();
    bool there = memory_find(address, bytes, &d) != PLACE_ILLEGAL;
    unlock();
    return there;
}

static int run_copy(struct work *w) {
    struct copy *c = (struct copy *)w;
    struct flip flip = {0};
    int error = fault_before(CALL_copy, &flip);
    if (error) return error;
    if (!still_there(c->dst, c->bytes) || (c->src && !still_there(c->src, c->bytes))) return cudaErrorIllegalAddress;
    if (c->src) memmove(c->dst, c->src, c->bytes);
    else memset(c->dst, c->value, c->bytes);
    fault_flip(&flip, c->dst, c->bytes);
    return 0;
}

static void end_copy(struct work *w) { free(((struct copy *)w)->staged); }

// stage copies pageable memory once the stream has come so far. The lock is held.
static int stage(struct stream *s, struct copy *c) {
    int error = settle_stream(s);
    if (error) return error;
    c->staged = malloc(c->bytes);
    if (!c->staged) return cudaErrorMemoryAllocation;
    memcpy(c->staged, c->src, c->bytes);
    c->src = c->staged;
    return 0;
}

// queue_copy queues c, which it frees if it fails. The lock is held.
static int queue_copy(struct stream *s, struct copy *c) {
    const struct device *d;
    enum place to = memory_find(c->dst, c->bytes, &d), from = c->src ? memory_find(c->src, c->bytes, &d) : PLACE_DEVICE;
    int error = to == PLACE_ILLEGAL || from == PLACE_ILLEGAL || (!c->src && to != PLACE_DEVICE) ? cudaErrorInvalidValue : 0;
    if (!error && from == PLACE_PAGEABLE) error = stage(s, c);
    if (error) {
        free(c);
        return error;
    }
    stream_push(s, &c->work);
    return to == PLACE_PAGEABLE ? settle_stream(s) : 0;
}

static int copy_on(void *stream, struct copy copy) {
    struct copy *c = malloc(sizeof *c);
    if (!c) return cudaErrorMemoryAllocation;
    *c = copy;
    c->work = (struct work){.run = run_copy, .end = end_copy};
    int error = 0;
    lock();
    struct stream *s = stream_of(stream, &error);
    if (s && c->bytes) error = queue_copy(s, c);
    else free(c);
    unlock();
    return error;
}

int cudaMemcpyAsync(void *dst, const void *src, size_t bytes, int kind, void *stream) {
    int error = enter(CALL_cudaMemcpyAsync);
    if (error) return error;
    if (kind != MEMCPY_DEFAULT) return leave(cudaErrorNotSupported);
    if (bytes && (!dst || !src)) return leave(cudaErrorInvalidValue);
    return leave(copy_on(stream, (struct copy){.dst = dst, .src = src, .bytes = bytes}));
}

int cudaMemsetAsync(void *dst, int value, size_t bytes, void *stream) {
    int error = enter(CALL_cudaMemsetAsync);
    return error ? error : leave(copy_on(stream, (struct copy){.dst = dst, .value = value, .bytes = bytes}));
}
