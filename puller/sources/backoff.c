#include "puller/sources/backoff.h"

#include "common/random.h"

enum { JITTER_STEPS = 1000 };

uint64_t mr_source_backoff_ns(const struct mr_config *config, uint32_t attempts, uint64_t *random)
{
    uint64_t wait = config->source_backoff_min, most = config->source_backoff_max;
    for (uint32_t i = 1; i < attempts && wait < most; i++)
        wait *= 2;
    if (wait > most)
        wait = most;
    return wait / 2 + wait / 2 / JITTER_STEPS * (mr_random_next(random) % JITTER_STEPS);
}
