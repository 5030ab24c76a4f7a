// Reads fault specifications. functions/device/virtualgpu reads the same grammar in Go, for OpenCL; its tests give both
// the same texts.
#include "fault.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const call_names[CALL_COUNT] = {
#define FAULT_CALL(name, group) #name,
    FAULT_CALLS(FAULT_CALL)
#undef FAULT_CALL
};

const int call_groups[CALL_COUNT] = {
#define FAULT_CALL(name, group) GROUP_##group,
    FAULT_CALLS(FAULT_CALL)
#undef FAULT_CALL
};

static const char *const group_names[GROUP_COUNT] = {"device", "build", "memory", "queue", "all"};

// parser is where the words of the problem go.
struct parser {
    char *problem;
    size_t room;
};

__attribute__((format(printf, 2, 3))) static bool wrong(const struct parser *p, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(p->problem, p->room, format, list);
    va_end(list);
    return false;
}

static int find_name(const char *const *names, int count, const char *name) {
    for (int i = 0; i < count; i++) {
        if (!strcmp(names[i], name)) return i;
    }
    return -1;
}

// parse_count reads a whole number of decimal digits, least to 2^63-1.
static bool parse_count(const char *s, uint64_t least, uint64_t *out) {
    if (!*s || strspn(s, "0123456789") != strlen(s)) return false;
    errno = 0;
    unsigned long long n = strtoull(s, NULL, 10);
    if (errno || n > INT64_MAX || n < least) return false;
    *out = n;
    return true;
}

static bool parse_code(const char *s, int *out) {
    static const struct {
        const char *name;
        int number;
    } errors[] = {
#define FAULT_ERROR(name, number, ...) {#name, number},
        FAULT_ERRORS(FAULT_ERROR)
#undef FAULT_ERROR
    };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        if (!strcmp(errors[i].name, s)) {
            *out = errors[i].number;
            return true;
        }
    }
    uint64_t n;
    if (FAULT_SIGN < 0 && *s++ != '-') return false;
    if (!parse_count(s, 1, &n) || n > MAX_CODE) return false;
    *out = FAULT_SIGN * (int)n;
    return true;
}

static bool parse_delay(const char *s, uint64_t *us) {
    size_t digits = strspn(s, "0123456789");
    uint64_t unit = !strcmp(s + digits, "us") ? 1 : !strcmp(s + digits, "ms") ? 1000 : !strcmp(s + digits, "s") ? 1000000 : 0;
    char number[24];
    if (!unit || digits >= sizeof number) return false;
    memcpy(number, s, digits);
    number[digits] = 0;
    if (!parse_count(number, 1, us) || *us > UINT64_C(3600000000) / unit) return false;
    *us *= unit;
    return true;
}

static bool parse_probability(const char *s, double *out) {
    if (strspn(s, "0123456789.") != strlen(s)) return false;
    char *end;
    *out = strtod(s, &end); // the process keeps the "C" locale's decimal point unless it asks for another
    return end != s && !*end && *out > 0 && *out <= 1;
}

static bool parse_text(const char *s, char *out, size_t room) {
    size_t n = strlen(s);
    if (!n || n >= room) return false;
    memcpy(out, s, n + 1);
    return true;
}

#ifdef FAULT_VALUES
#define VALUE_WORD " value=,"
#define VALUE_WORDS ", flip= and value="
#else
#define FAULT_VALUES(call) ((void)(call), false)
#define FAULT_VALUE_WORDS "no call"
#define VALUE_WORD ""
#define VALUE_WORDS " and flip="
#endif

// parse_word reads one key=value into f.
static bool parse_word(const struct parser *p, struct fault *f, const char *word, const char *key, const char *value) {
    uint64_t n;
    if (!strcmp(key, "error")) {
        if (parse_code(value, &f->error)) return true;
        return wrong(p, "\"%s\": expected " FAULT_ERROR_WORDS, word);
    }
    if (!strcmp(key, "delay")) {
        if (parse_delay(value, &f->delay_us)) return true;
        return wrong(p, "\"%s\": expected a whole number of us, ms or s, at most an hour, such as 250ms", word);
    }
    if (!strcmp(key, "hang")) {
        f->hang = true;
        return !strcmp(word, "hang") || wrong(p, "\"%s\": hang takes no value", word);
    }
    if (!strcmp(key, "crash")) {
        f->crash = !strcmp(value, "SIGSEGV") ? SIGSEGV : !strcmp(value, "SIGABRT") ? SIGABRT : 0;
        return f->crash || wrong(p, "\"%s\": expected SIGSEGV or SIGABRT", word);
    }
    if (!strcmp(key, "flip")) {
        if (!parse_count(value, 1, &n) || n > MAX_FLIP) return wrong(p, "\"%s\": expected 1 to %d", word, MAX_FLIP);
        f->flip = (uint32_t)n;
        return true;
    }
    if (!strcmp(key, "probability")) {
        return parse_probability(value, &f->probability) || wrong(p, "\"%s\": expected a decimal fraction above 0, at most 1", word);
    }
    if (!strcmp(key, "kernel")) {
        return parse_text(value, f->kernel, sizeof f->kernel) || wrong(p, "\"%s\": expected a part of a kernel's name", word);
    }
    if (!strcmp(key, "once")) {
        return (*value == '/' && parse_text(value, f->once, sizeof f->once)) ||
               wrong(p, "\"%s\": expected the absolute path of a file to make", word);
    }
    if (!strcmp(key, "sticky")) {
        f->sticky = find_name(group_names, GROUP_COUNT, value);
        return f->sticky >= 0 || wrong(p, "\"%s\": expected one of device, build, memory, queue, all", word);
    }
    const struct {
        const char *key;
        uint64_t least, *out;
    } counts[] = {{"after", 0, &f->after}, {"every", 1, &f->every}, {"times", 1, &f->times}, {"seed", 0, &f->seed}, {"value", 0, &f->value}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (strcmp(key, counts[i].key) || (!*VALUE_WORD && counts[i].out == &f->value)) continue;
        f->valued |= counts[i].out == &f->value;
        return parse_count(value, counts[i].least, counts[i].out) ||
               wrong(p, "\"%s\": expected a whole number, %d or more", word, (int)counts[i].least);
    }
    return wrong(p, "\"%s\": expected error=, delay=, hang, crash=, flip=," VALUE_WORD " after=, every=, times=, probability=, seed=, sticky=, kernel= or once=", word);
}

static bool check(const struct parser *p, const struct fault *f, const char *target) {
    int actions = !!f->error + !!f->delay_us + f->hang + !!f->crash + !!f->flip + f->valued;
    if (actions != 1) {
        return wrong(p, "\"%s\": expected exactly one of error=, delay=, hang, crash=" VALUE_WORDS ", found %d", target, actions);
    }
    if (f->flip && !FAULT_FLIPS(f->call)) return wrong(p, "\"%s\": flip= is for " FAULT_FLIP_WORDS, target);
    if (f->valued && !FAULT_VALUES(f->call)) return wrong(p, "\"%s\": value= is for " FAULT_VALUE_WORDS, target);
    if (*f->kernel && !FAULT_KERNELS(f->call)) return wrong(p, "\"%s\": kernel= is for " FAULT_KERNEL_WORDS, target);
    if (f->sticky >= 0 && !f->error) return wrong(p, "\"%s\": sticky= needs error=", target);
    return true;
}

static const char blanks[] = " \t\r";

// parse_fault reads "target word word ..." and changes text while doing so.
static bool parse_fault(const struct parser *p, char *text, struct fault *f) {
    char *rest, *target = strtok_r(text, blanks, &rest);
    *f = (struct fault){.call = find_name(call_names, CALL_COUNT, target), .every = 1, .probability = 1, .sticky = -1};
    f->group = f->call >= 0 ? call_groups[f->call] : find_name(group_names, GROUP_COUNT, target);
    if (f->group < 0) {
        return wrong(p, "\"%s\": expected " FAULT_CALL_WORDS ", or one of the groups device, build, memory, queue, all", target);
    }
    char seen[256] = " ";
    for (char *word; (word = strtok_r(NULL, blanks, &rest));) {
        char key[16];
        size_t length = strcspn(word, "=");
        snprintf(key, sizeof key, "%.*s", (int)(length < 15 ? length : 15), word);
        if (!parse_word(p, f, word, key, word + length + (word[length] == '='))) return false;
        char marked[20];
        snprintf(marked, sizeof marked, " %s ", key);
        if (strstr(seen, marked)) return wrong(p, "\"%s\": given twice", word);
        strcat(seen, marked + 1); // at most the fourteen known keys
    }
    f->random = f->seed;
    return check(p, f, target);
}

bool fault_parse(const char *text, struct fault_spec *spec, char *problem, size_t room) {
    const struct parser p = {problem, room};
    spec->count = 0;
    if (strlen(text) > MAX_FAULT_TEXT) return wrong(&p, "%zu bytes: expected at most %d", strlen(text), MAX_FAULT_TEXT);
    char *copy = strdup(text), *rest_lines = copy, *line;
    if (!copy) return wrong(&p, "no memory");
    bool ok = true;
    while (ok && (line = strsep(&rest_lines, "\n"))) {
        line[strcspn(line, "#")] = 0;
        for (char *part; ok && (part = strsep(&line, ";"));) {
            if (part[strspn(part, blanks)] == 0) continue;
            ok = spec->count < MAX_FAULTS ? parse_fault(&p, part, &spec->faults[spec->count]) : wrong(&p, "more than %d faults", MAX_FAULTS);
            spec->count += ok;
        }
    }
    free(copy);
    return ok;
}
