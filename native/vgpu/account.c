#include "account.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layer.h"

struct counters {
    uint64_t magic, pid, devices;
    uint64_t start; // of the process, in clock ticks since boot: tells it from a later one with its id
    struct counter device[MAX_DEVICES];
};

static struct counters private_counters;
static struct counters *counters = &private_counters;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// start_time is field 22 of /proc/self/stat (proc(5)); the second field, in parentheses, may hold blanks.
static uint64_t start_time(void) {
    char line[1024] = "";
    FILE *f = fopen("/proc/self/stat", "re");
    if (f && !fgets(line, sizeof line, f)) line[0] = 0;
    if (f) fclose(f);
    char *rest = strrchr(line, ')'), *field = NULL;
    for (int i = 2; rest && i <= 22; i++) field = strsep(&rest, " ");
    return field ? strtoull(field, NULL, 10) : 0;
}

// map makes the file under another name first, so that no reader finds half of it.
static struct counters *map(const char *folder, const struct counters *start) {
    char path[PATH_MAX], temporary[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%d", folder, (int)getpid());
    if (n < 0 || n >= (int)sizeof path - 8) return errno = ENAMETOOLONG, NULL;
    snprintf(temporary, sizeof temporary, "%s/.%d.XXXXXX", folder, (int)getpid());
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) return NULL;
    void *at = MAP_FAILED;
    if (write(fd, start, sizeof *start) == (ssize_t)sizeof *start) {
        at = mmap(NULL, sizeof *start, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (at != MAP_FAILED && rename(temporary, path)) {
        munmap(at, sizeof *start);
        at = MAP_FAILED;
    }
    int error = errno;
    if (at == MAP_FAILED) unlink(temporary);
    close(fd);
    errno = error;
    return at == MAP_FAILED ? NULL : at;
}

bool account_start(const char *folder, unsigned devices) {
    private_counters = (struct counters){.magic = COUNTER_MAGIC, .pid = (uint64_t)getpid(), .devices = devices, .start = start_time()};
    if (!folder || !*folder) return true;
    struct counters *shared = map(folder, &private_counters);
    if (!shared) {
        COMPLAIN("GENFN_VGPU_COUNTERS: cannot make a file in %s: %s", folder, strerror(errno));
        return false;
    }
    counters = shared;
    return true;
}

void account_stop(void) {
    if (counters != &private_counters) munmap(counters, sizeof *counters);
    counters = &private_counters;
}

void account_limit(unsigned device, uint64_t bytes) {
    __atomic_store_n(&counters->device[device].limit, (int64_t)bytes, __ATOMIC_RELAXED);
}

// set publishes a count to readers in other processes.
static void set(int64_t *count, int64_t value) { __atomic_store_n(count, value, __ATOMIC_RELAXED); }

bool account_take(int device, uint64_t bytes) {
    struct counter *c = &counters->device[device];
    pthread_mutex_lock(&lock);
    bool fits = bytes <= (uint64_t)(c->limit - c->current);
    if (fits) {
        set(&c->current, c->current + (int64_t)bytes);
        if (c->current > c->peak) set(&c->peak, c->current);
        set(&c->allocations, c->allocations + 1);
    } else {
        set(&c->refused, c->refused + 1);
    }
    pthread_mutex_unlock(&lock);
    return fits;
}

void account_give(int device, uint64_t bytes) {
    struct counter *c = &counters->device[device];
    pthread_mutex_lock(&lock);
    set(&c->current, c->current - (int64_t)bytes);
    set(&c->allocations, c->allocations - 1);
    pthread_mutex_unlock(&lock);
}
