// Decides at each call what goes wrong, and does it.
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    struct fault_spec fixed, file; // of the environment and of the file
    bool refused;                  // for ever
    bool bad_file;                 // until it changes
    const char *path;              // or NULL
    struct stat seen;              // of the file when it was read; st_ino 0: it was not there
    int dead[GROUP_COUNT + 1];     // error of all calls of the group, 0: none
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

void fault_refuse(void) { state.refused = true; }

void fault_start(const char *text, const char *file) {
    char problem[512];
    if (text && !fault_parse(text, &state.fixed, problem, sizeof problem)) {
        COMPLAIN(FAULT_ENV ": %s: " FAULT_SUBJECT " is not available", problem);
        fault_refuse();
    }
    state.path = file && *file ? file : NULL;
}

void fault_stop(void) {
    state.fixed.count = state.file.count = 0;
    state.refused = state.bad_file = false;
    state.path = NULL;
    state.seen = (struct stat){0};
    memset(state.dead, 0, sizeof state.dead);
}

// read_text reads the whole file, at most one byte more than is allowed, so that more is seen to be too much.
static bool read_text(int fd, char *text) {
    size_t n = 0;
    while (n <= MAX_FAULT_TEXT) {
        ssize_t got = read(fd, text + n, MAX_FAULT_TEXT + 1 - n);
        if (got < 0) return false;
        if (got == 0) break;
        n += (size_t)got;
    }
    text[n] = 0;
    return strlen(text) == n || (errno = EILSEQ, false); // no NUL inside
}

// reload reads the file if it is not the one that was read last. A missing file has no faults.
static void reload(void) {
    struct stat now;
    if (stat(state.path, &now)) {
        if (errno == ENOENT) {
            state.seen.st_ino = 0;
            state.file.count = 0;
            state.bad_file = false;
        } else if (!state.bad_file) {
            COMPLAIN("fault file %s: %s: " FAULT_SUBJECT " is not available", state.path, strerror(errno));
            state.bad_file = true;
        }
        return;
    }
    if (now.st_ino == state.seen.st_ino && now.st_dev == state.seen.st_dev && now.st_size == state.seen.st_size &&
        now.st_mtim.tv_sec == state.seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == state.seen.st_mtim.tv_nsec) return;
    state.seen = now;
    char text[MAX_FAULT_TEXT + 2], problem[512];
    int fd = open(state.path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && read_text(fd, text);
    if (!ok) snprintf(problem, sizeof problem, "%s", strerror(errno));
    if (fd >= 0) close(fd);
    ok = ok && fault_parse(text, &state.file, problem, sizeof problem);
    state.bad_file = !ok;
    if (!ok) {
        state.file.count = 0;
        COMPLAIN("fault file %s: %s: " FAULT_SUBJECT " is not available", state.path, problem);
    }
}

// next_random is splitmix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014).
static uint64_t next_random(uint64_t *s) {
    uint64_t z = *s += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

// permitted makes the file of once=, of all processes that try only the first. The lock is held.
static bool permitted(const struct fault *f) {
    int fd = open(f->once, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) return close(fd), true;
    if (errno != EEXIST) {
        COMPLAIN("once=%s: %s: " FAULT_SUBJECT " is not available", f->once, strerror(errno));
        state.refused = true;
    }
    return false;
}

// hit counts a call of f's and reports whether it goes wrong.
static bool hit(struct fault *f) {
    uint64_t n = f->calls++;
    if (n < f->after || (n - f->after) % f->every != 0 || (f->times && f->hits >= f->times)) return false;
    if (f->probability < 1 && (double)(next_random(&f->random) >> 11) * 0x1p-53 >= f->probability) return false;
    if (*f->once && !permitted(f)) return false;
    f->hits++;
    return true;
}

// outcome is what one call suffers.
struct outcome {
    int error, crash;
    bool hang;
    uint64_t delay_us;
    struct flip flip;
    bool valued;
    uint64_t value;
};

static void apply(struct fault_spec *spec, enum call call, const char *kernel, struct outcome *o) {
    for (size_t i = 0; i < spec->count && !o->error; i++) {
        struct fault *f = &spec->faults[i];
        bool meant = f->call >= 0 ? f->call == (int)call : f->group == call_groups[call] || (f->group == GROUP_ALL && call_groups[call] != GROUP_NONE);
        if (*f->kernel && !strstr(kernel, f->kernel)) continue;
        if (!meant || !hit(f)) continue;
        TRACE("fault %zu at %s %s, time %llu", i + 1, call_names[call], kernel, (unsigned long long)f->hits);
        o->delay_us += f->delay_us;
        o->hang |= f->hang;
        if (f->crash) o->crash = f->crash;
        if (f->flip) o->flip = (struct flip){f->flip, next_random(&f->random)};
        if (f->valued) o->valued = true, o->value = f->value;
        o->error = f->error;
        if (f->sticky >= 0) state.dead[f->sticky] = f->error;
    }
}

static struct outcome decide(enum call call, const char *kernel) {
    struct outcome o = {0};
    pthread_mutex_lock(&state.lock);
    if (state.path) reload();
    int dead = state.dead[GROUP_ALL] ? state.dead[GROUP_ALL] : state.dead[call_groups[call]];
    if (state.refused || state.bad_file) {
        o.error = FAULT_REFUSED(call);
    } else if (dead) {
        o.error = dead;
    } else {
        apply(&state.fixed, call, kernel, &o);
        apply(&state.file, call, kernel, &o);
    }
    pthread_mutex_unlock(&state.lock);
    return o;
}

static void wait_us(uint64_t us) {
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    while (nanosleep(&t, &t) && errno == EINTR) {}
}

// segfault writes to address 0; the sanitizers would see it first.
__attribute__((no_sanitize("address", "undefined"))) static void segfault(void) {
    int *volatile nowhere = NULL;
    *(volatile int *)nowhere = 0;
}

static struct outcome suffer(enum call call, const char *kernel) {
    struct outcome o = decide(call, kernel);
    if (o.delay_us) wait_us(o.delay_us);
    while (o.hang) pause();
    if (o.crash == SIGSEGV) segfault();
    if (o.crash) abort();
    return o;
}

int fault_before(enum call call, struct flip *flip) { return fault_before_kernel(call, "", flip); }

int fault_before_kernel(enum call call, const char *name, struct flip *flip) {
    struct outcome o = suffer(call, name);
    if (flip) *flip = o.flip;
    return o.error;
}

int fault_before_value(enum call call, uint64_t *value) {
    struct outcome o = suffer(call, "");
    if (o.valued) *value = o.value;
    return o.error;
}

void fault_flip(const struct flip *flip, void *data, size_t size) {
    if (!size) return;
    uint64_t random = flip->seed;
    for (uint32_t i = 0; i < flip->bits; i++) {
        uint64_t r = next_random(&random);
        ((unsigned char *)data)[(r >> 3) % size] ^= (unsigned char)(1u << (r & 7));
    }
}
