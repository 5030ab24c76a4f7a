// Streams, each with a thread that does its work in order, and events.
#include <stdlib.h>

#include "vcuda.h"

// next waits for the work of a stream; NULL: there is none and will be none. The lock is held.
static struct work *next(struct stream *s) {
    while (!s->first && !s->closing) wait_change();
    struct work *w = s->first;
    if (!w) return NULL;
    s->first = w->next;
    if (!s->first) s->last = &s->first;
    s->running = true;
    s->device->running++;
    return w;
}

// serve is the stream's thread.
static void *serve(void *argument) {
    struct stream *s = argument;
    lock();
    for (struct work *w; (w = next(s));) {
        if (!s->device->dead) {
            unlock();
            int error = w->run(w);
            lock();
            if (error) kill_context(s->device, error);
        }
        if (w->end) w->end(w);
        free(w);
        s->running = false;
        s->done++;
        s->device->running--;
        s->device->pending--;
        pthread_cond_broadcast(&world.changed);
    }
    world.streams--;
    pthread_cond_broadcast(&world.changed);
    unlock();
    free(s);
    return NULL;
}

void stream_push(struct stream *s, struct work *w) {
    w->device = s->device;
    w->next = NULL;
    *s->last = w;
    s->last = &w->next;
    s->queued++;
    s->device->pending++;
    pthread_cond_broadcast(&world.changed);
}

int settle(struct device *d) {
    while (d->pending && !(d->dead && !d->running)) wait_change();
    return d->dead;
}

int settle_stream(struct stream *s) {
    uint64_t wanted = s->queued;
    while (s->done < wanted && !(s->device->dead && !s->running)) wait_change();
    return s->device->dead;
}

struct stream *stream_of(void *handle, int *error) {
    struct stream *s = object_find(handle, KIND_STREAM);
    if (!s) *error = handle ? cudaErrorInvalidResourceHandle : cudaErrorNotSupported;
    else if (s->device->dead) *error = s->device->dead;
    return *error ? NULL : s;
}

int cudaStreamCreateWithFlags(void **out, unsigned flags) {
    int error = enter(CALL_cudaStreamCreateWithFlags);
    if (error) return error;
    if (flags != STREAM_NON_BLOCKING) return leave(cudaErrorNotSupported);
    struct stream *s = calloc(1, sizeof *s);
    if (!s) return leave(cudaErrorMemoryAllocation);
    s->last = &s->first;
    pthread_t id;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    lock();
    s->device = current();
    if (pthread_create(&id, &detached, serve, s)) error = cudaErrorMemoryAllocation;
    else {
        world.streams++;
        object_add(&s->object, KIND_STREAM);
        *out = s;
    }
    unlock();
    pthread_attr_destroy(&detached);
    if (error) free(s);
    return leave(error);
}

// Work that is in the stream is done nevertheless; its thread frees it then.
int cudaStreamDestroy(void *stream) {
    int error = enter(CALL_cudaStreamDestroy);
    if (error) return error;
    lock();
    struct stream *s = stream_of(stream, &error);
    if (s) {
        object_remove(&s->object);
        s->closing = true;
        pthread_cond_broadcast(&world.changed);
    }
    unlock();
    return leave(error);
}

int cudaStreamSynchronize(void *stream) {
    int error = enter(CALL_cudaStreamSynchronize);
    if (error) return error;
    lock();
    struct stream *s = stream_of(stream, &error);
    if (s) {
        error = settle_stream(s);
        memory_trim(s->device, s->device->pool.threshold);
    }
    unlock();
    return leave(error);
}

int cudaStreamQuery(void *stream) {
    int error = enter(CALL_cudaStreamQuery);
    if (error) return error;
    lock();
    struct stream *s = stream_of(stream, &error);
    if (s && s->done < s->queued) error = cudaErrorNotReady;
    unlock();
    return leave(error);
}

int cudaDeviceSynchronize(void) {
    int error = enter(CALL_cudaDeviceSynchronize);
    if (error) return error;
    lock();
    struct device *d = current();
    error = settle(d);
    memory_trim(d, d->pool.threshold);
    unlock();
    return leave(error);
}

struct event {
    struct object object;
    struct device *device;
    unsigned flags;
    uint64_t recorded, reached; // how often
    uint64_t at;                // ns, when it was last reached
    int uses;                   // by work of streams
    bool destroyed;
};

// mark is work that reaches an event or waits for one.
struct mark {
    struct work work;
    struct event *event;
    uint64_t number; // of the record
};

static void unuse(struct event *e) {
    if (!--e->uses && e->destroyed) free(e);
}

static void end_mark(struct work *w) { unuse(((struct mark *)w)->event); }

static int reach(struct work *w) {
    struct mark *m = (struct mark *)w;
    lock();
    if (m->number > m->event->reached) m->event->reached = m->number;
    m->event->at = now_ns();
    unlock();
    return 0;
}

static int await(struct work *w) {
    struct mark *m = (struct mark *)w;
    lock();
    while (m->event->reached < m->number && !w->device->dead && !m->event->device->dead) wait_change();
    unlock();
    return 0;
}

static struct event *event_of(void *handle, int *error) {
    struct event *e = object_find(handle, KIND_EVENT);
    if (!e) *error = cudaErrorInvalidResourceHandle;
    return e;
}

// push_mark queues run on the stream; record says whether it makes a new number.
static int push_mark(void *stream, void *event, int (*run)(struct work *), bool record) {
    struct mark *m = malloc(sizeof *m);
    if (!m) return cudaErrorMemoryAllocation;
    int error = 0;
    lock();
    struct stream *s = stream_of(stream, &error);
    struct event *e = s ? event_of(event, &error) : NULL;
    if (e) {
        *m = (struct mark){.work = {.run = run, .end = end_mark}, .event = e, .number = e->recorded += record};
        e->uses++;
        stream_push(s, &m->work);
    }
    unlock();
    if (!e) free(m);
    return error;
}

int cudaStreamWaitEvent(void *stream, void *event, unsigned flags) {
    int error = enter(CALL_cudaStreamWaitEvent);
    if (error) return error;
    return leave(flags ? cudaErrorInvalidValue : push_mark(stream, event, await, false));
}

int cudaEventRecord(void *event, void *stream) {
    int error = enter(CALL_cudaEventRecord);
    return error ? error : leave(push_mark(stream, event, reach, true));
}

int cudaEventCreateWithFlags(void **out, unsigned flags) {
    int error = enter(CALL_cudaEventCreateWithFlags);
    if (error) return error;
    if (flags & ~(unsigned)(EVENT_BLOCKING_SYNC | EVENT_DISABLE_TIMING)) return leave(cudaErrorNotSupported);
    struct event *e = calloc(1, sizeof *e);
    if (!e) return leave(cudaErrorMemoryAllocation);
    e->flags = flags;
    lock();
    e->device = current();
    object_add(&e->object, KIND_EVENT);
    unlock();
    *out = e;
    return 0;
}

int cudaEventDestroy(void *event) {
    int error = enter(CALL_cudaEventDestroy);
    if (error) return error;
    lock();
    struct event *e = event_of(event, &error);
    if (e) {
        object_remove(&e->object);
        e->destroyed = true;
        e->uses++;
        unuse(e);
    }
    unlock();
    return leave(error);
}

int cudaEventSynchronize(void *event) {
    int error = enter(CALL_cudaEventSynchronize);
    if (error) return error;
    lock();
    struct event *e = event_of(event, &error);
    if (e) {
        uint64_t wanted = e->recorded;
        while (e->reached < wanted && !e->device->dead) wait_change();
        error = e->device->dead;
        memory_trim(e->device, e->device->pool.threshold);
    }
    unlock();
    return leave(error);
}

int cudaEventQuery(void *event) {
    int error = enter(CALL_cudaEventQuery);
    if (error) return error;
    lock();
    struct event *e = event_of(event, &error);
    if (e && e->device->dead) error = e->device->dead;
    else if (e && e->reached < e->recorded) error = cudaErrorNotReady;
    unlock();
    return leave(error);
}

int cudaEventElapsedTime(float *ms, void *begin, void *end) {
    int error = enter(CALL_cudaEventElapsedTime);
    if (error) return error;
    lock();
    struct event *a = event_of(begin, &error), *b = event_of(end, &error);
    if (a && b) {
        if (!a->recorded || !b->recorded || ((a->flags | b->flags) & EVENT_DISABLE_TIMING)) error = cudaErrorInvalidResourceHandle;
        else if (a->reached < a->recorded || b->reached < b->recorded) error = cudaErrorNotReady;
        else *ms = (float)((double)(int64_t)(b->at - a->at) / 1e6);
    }
    unlock();
    return leave(error);
}
