#include "supervisor/backoff.h"

#include "common/random.h"

bool mr_backoff_next(struct mr_backoff *backoff, const struct mr_backoff_limits *limits,
                     uint64_t ran_ns, uint64_t *wait_ns)
{
    if (ran_ns >= limits->healthy_after_ns)
        backoff->failures = 0;
    if (limits->restarts_max != 0 && backoff->failures >= limits->restarts_max)
        return false;
    uint64_t wait = limits->min_ns;
    for (uint32_t i = 0; i < backoff->failures && wait < limits->max_ns; i++)
        wait *= 2; /* max_ns is at most an hour: no overflow */
    if (wait > limits->max_ns)
        wait = limits->max_ns;
    backoff->failures++;
    *wait_ns = wait / 2 + mr_random_next(&backoff->random) % (wait / 2 + 1);
    return true;
}
