/* common/clock.h: the two clocks. Processes of one machine share both. */
#ifndef MR_COMMON_CLOCK_H
#define MR_COMMON_CLOCK_H
#include <stdint.h>
#include <time.h>

#define MR_NS_PER_US UINT64_C(1000)
#define MR_NS_PER_MS UINT64_C(1000000)
#define MR_NS_PER_S  UINT64_C(1000000000)

/* Monotonic nanoseconds since boot: for every timeout, rate and latency. Read once a turn. */
static inline uint64_t mr_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MR_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Microseconds since 1970, UTC: for what people and other systems read. May jump. */
static inline int64_t mr_clock_wall_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
#endif
