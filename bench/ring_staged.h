/* bench/ring_staged.h: our ring with staged release, in the shapes in which it could be used. */
#ifndef MR_BENCH_RING_STAGED_H
#define MR_BENCH_RING_STAGED_H
#include "bench/ring_channel.h"

const struct bench_channel *bench_staged(uint32_t *count);
#endif
