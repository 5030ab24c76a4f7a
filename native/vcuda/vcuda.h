// The inside of the virtual CUDA device. One lock guards everything; the work of streams is done without it.
#ifndef GENFN_VCUDA_H
#define GENFN_VCUDA_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda.h"
#include "fault.h"

enum { MAX_DEVICES = 8, COMPUTE_MAJOR = 9, COMPUTE_MINOR = 0, VERSION = 13050 };

// block is an allocation of device memory. Lists are sorted by address.
struct block {
    unsigned char *address;
    size_t asked, bytes; // as asked for, and as counted
    bool pooled;
    struct block *next;
};

// pool is the default memory pool of a device: its handle is the pool's address.
struct pool {
    size_t reserved, used;
    uint64_t threshold; // of unused bytes that a synchronization leaves
};

struct device {
    int dead;      // the error that killed the context, 0: alive
    bool context;  // it was made
    size_t total, used;
    size_t pending, running; // work of all streams: not done yet, and being done now
    unsigned char *arena;    // addresses of the device; bytes of it: ARENA * total
    struct block *blocks;
    struct pool pool;
};

enum kind { KIND_STREAM, KIND_EVENT, KIND_LIBRARY, KIND_PINNED };

// object is what a handle points to. Those that are not destroyed are in a list, so that a bad handle is an error.
struct object {
    enum kind kind;
    struct object *next;
};

// work is something that a stream is to do. run is called without the lock by the stream's thread and returns 0 or the
// error that kills the context; then, or if the context is dead before, end, if not NULL, with the lock; then the work is freed.
struct work {
    int (*run)(struct work *);
    void (*end)(struct work *);
    struct device *device;
    struct work *next;
};

struct stream {
    struct object object;
    struct device *device;
    struct work *first, **last;
    uint64_t queued, done;
    bool running, closing;
};

struct world {
    pthread_mutex_t lock;
    pthread_cond_t changed; // anything: whoever waits looks again
    bool refused;           // for a bad setting
    int count;
    struct device devices[MAX_DEVICES];
    struct object *objects;
    int streams; // threads of streams that have not ended
};
extern struct world world;

static inline void lock(void) { pthread_mutex_lock(&world.lock); }
static inline void unlock(void) { pthread_mutex_unlock(&world.lock); }
static inline void wait_change(void) { pthread_cond_wait(&world.changed, &world.lock); }

// world_start reads the settings from the environment; any call does so first. world_stop waits for the streams, which
// must be destroyed, and frees everything, for tests. The next call starts anew.
void world_start(void);
void world_stop(void);

// enter is to be called first by every function that can fail, without the lock: it suffers the call's faults, and
// returns the error that it is to return at once, or 0. current is the device of this thread, with its context made.
int enter(enum call call);
int enter_kernel(enum call call, const char *kernel);
struct device *current(void);

// leave remembers the error of a call for cudaGetLastError, and returns it.
int leave(int error);

// kill_context makes every later call on the device return error. The lock is held.
void kill_context(struct device *d, int error);

// object_add takes an object into the list; object_find returns the handle if it is one of that kind, else NULL;
// object_remove takes it out. The lock is held.
void object_add(struct object *o, enum kind kind);
void *object_find(const void *handle, enum kind kind);
void object_remove(struct object *o);

// stream_push queues work; the stream frees it. settle and settle_stream wait for all work of the device or of the
// stream, or until the context is dead and nothing runs, and return the device's error. The lock is held.
void stream_push(struct stream *s, struct work *w);
int settle(struct device *d);
int settle_stream(struct stream *s);

// stream_of returns the stream of a handle, or NULL and an error; the default stream is not supported. The lock is held.
struct stream *stream_of(void *handle, int *error);

// memory_find tells where bytes from address on lie: in one allocation of a device, which it sets, or of pinned memory;
// in none; or illegally, partly in one or in addresses of a device that are not allocated. The lock is held.
enum place { PLACE_DEVICE, PLACE_PINNED, PLACE_PAGEABLE, PLACE_ILLEGAL };
enum place memory_find(const void *address, size_t bytes, const struct device **device);

// memory_trim gives back what the pool keeps beyond keep bytes. memory_free_all frees all, for tests. The lock is held.
void memory_trim(struct device *d, uint64_t keep);
void memory_free_all(struct device *d);

// range is memory that a kernel uses.
struct range {
    void *address;
    size_t bytes;
    bool written;
};
enum { MAX_RANGES = 16 };

// kernel is a function that the device can run: param is its one parameter, a struct, and size that of a value.
struct kernel {
    const char *name;
    size_t param_bytes, size;
    void (*run)(const void *param);
    size_t (*ranges)(const void *param, size_t size, struct range *out);
};

// kernel_named returns the CPU build of a kernel, or NULL.
const struct kernel *kernel_named(const char *name);
// kernel_of returns the kernel of a handle, or NULL. Handles stay good, as no code is ever unloaded.
const struct kernel *kernel_of(const void *handle);

// code_entries reads a compiled image and returns the names of its kernels, each between newlines; the caller frees
// them. NULL and an error: it is no code for this device.
char *code_entries(const void *image, int *error);

// now_ns is a clock that only goes forward.
uint64_t now_ns(void);

#endif
