/* common/random.h: numbers that only have to differ, as the jitter of a wait: xorshift64
 * (Marsaglia, "Xorshift RNGs", 2003). */
#ifndef MR_COMMON_RANDOM_H
#define MR_COMMON_RANDOM_H
#include <stdint.h>

/* The next one, never 0. state: seeded with anything but 0; its owner's alone. */
static inline uint64_t mr_random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}
#endif
