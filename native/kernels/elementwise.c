/* The kernels for the baseline instruction set, and the functions that choose between this and elementwise_avx2.c. */
#include "elementwise.h"
