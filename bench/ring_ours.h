/* bench/ring_ours.h: our ring, and the floor and the kernel channels that are written in C. */
#ifndef MR_BENCH_RING_OURS_H
#define MR_BENCH_RING_OURS_H
#include <stdint.h>

#include "bench/ring_channel.h"

/* The first row is the one that the others are compared with. */
const struct bench_channel *bench_ours(uint32_t *count);
#endif
