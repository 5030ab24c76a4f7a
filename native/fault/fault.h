// Fault injection: which call fails, how and when. The grammar is in ../vgpu/README.md.
//
// The library that is compiled with these files has a fault_target.h, which defines
//   FAULT_CALLS(C)             C(name, GROUP) for each call that can fail
//   FAULT_ERRORS(E)            E(name, number, ...) for each error that can be named
//   FAULT_SIGN                 1 or -1: that of the numbers of errors
//   FAULT_FLIPS(call)          whether flip= is for this call, and FAULT_FLIP_WORDS, which they are
//   FAULT_KERNELS(call)        whether kernel= is for this call, and FAULT_KERNEL_WORDS
//   FAULT_VALUES(call)         whether value= is for this call, and FAULT_VALUE_WORDS; not defined: there is no value=
//   FAULT_CALL_WORDS, FAULT_ERROR_WORDS    what is expected in their place
//   FAULT_REFUSED(call)        the error of a call when a specification is bad
//   FAULT_SUBJECT, FAULT_ENV   what is not available then, and the variable that has the specification
//   COMPLAIN(...), TRACE(...)  a line on standard error, and one only if that is asked for
#ifndef GENFN_FAULT_H
#define GENFN_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault_target.h"

enum call {
#define FAULT_CALL(name, group) CALL_##name,
    FAULT_CALLS(FAULT_CALL)
#undef FAULT_CALL
    CALL_COUNT
};

// GROUP_NONE is that of calls that no group means, all neither; but a sticky=all is for them too.
enum group { GROUP_DEVICE, GROUP_BUILD, GROUP_MEMORY, GROUP_QUEUE, GROUP_ALL, GROUP_COUNT, GROUP_NONE = GROUP_COUNT };

// MAX_NAME and MAX_PATH_TEXT bound what kernel= and once= take, with the final 0.
enum { MAX_FAULTS = 64, MAX_NAME = 128, MAX_PATH_TEXT = 256, MAX_FAULT_TEXT = 16 << 10, MAX_CODE = 9999, MAX_FLIP = 1 << 20 };

struct fault {
    int call;  // enum call, or -1 for all of a group
    int group; // enum group
    int error; // what the call returns; 0: none
    uint64_t delay_us;
    bool hang;
    int crash; // signal, 0: none
    uint32_t flip; // bits to invert
    bool valued;   // value is what the call gives
    uint64_t value;
    uint64_t after, every, times, seed;
    double probability;
    int sticky; // enum group, or -1
    char kernel[MAX_NAME];    // part of the kernel's name; "": any
    char once[MAX_PATH_TEXT]; // file whose making is the permission; "": none

    uint64_t calls, hits, random; // so far; state of the random numbers
};

struct fault_spec {
    struct fault faults[MAX_FAULTS];
    size_t count;
};

// fault_parse reads a specification. On an error it returns false and says in problem what is wrong with which word.
bool fault_parse(const char *text, struct fault_spec *spec, char *problem, size_t room);

extern const char *const call_names[CALL_COUNT];
extern const int call_groups[CALL_COUNT];

// fault_start takes the specification in FAULT_ENV and the path of the fault file; either may be NULL. fault_refuse makes every call fail for the life of the process, for a reason that was told before.
void fault_start(const char *text, const char *file);
void fault_refuse(void);
void fault_stop(void);

// flip says which bits of a call's result to invert.
struct flip {
    uint32_t bits;
    uint64_t seed;
};

// fault_before is to be called at the start of each call. It waits, hangs or crashes as specified, and returns the
// error that the call is to return, or 0. flip, if not NULL, gets what to do to the result, bits 0 for nothing.
// Thread-safe.
int fault_before(enum call call, struct flip *flip);

// fault_before_kernel is fault_before of a call that kernel= is for, with the kernel of that name.
int fault_before_kernel(enum call call, const char *name, struct flip *flip);

// fault_before_value is fault_before of a call that value= is for. It sets value if a fault says what the call gives.
int fault_before_value(enum call call, uint64_t *value);

// fault_flip inverts random bits of size bytes.
void fault_flip(const struct flip *flip, void *data, size_t size);

#endif
