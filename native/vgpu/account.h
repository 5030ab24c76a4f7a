// Counts the memory of the virtual devices and refuses what does not fit. The counts can be read by other processes.
#ifndef GENFN_VGPU_ACCOUNT_H
#define GENFN_VGPU_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

// The file GENFN_VGPU_COUNTERS/<process id>: little-endian 64-bit words; functions/device/virtualgpu reads it.
#define COUNTER_MAGIC UINT64_C(0x31554d454d504756) // "VGPMEMU1"

struct counter {
    int64_t current, peak; // bytes
    int64_t limit;         // bytes
    int64_t allocations;   // that there are now
    int64_t refused;       // for want of memory, ever
    int64_t unused[3];
};

// account_start makes the file; folder may be NULL: the counts are this process's own then. It complains and returns
// false if that cannot be done.
bool account_start(const char *folder, unsigned devices);
void account_stop(void); // keeps the file

void account_limit(unsigned device, uint64_t bytes);
bool account_take(int device, uint64_t bytes); // false: does not fit
void account_give(int device, uint64_t bytes);

#endif
