/* puller/sources/backoff.h: how long a source waits before it connects again. */
#ifndef MR_PULLER_SOURCES_BACKOFF_H
#define MR_PULLER_SOURCES_BACKOFF_H
#include "common/config.h"

/* source.backoff_min, doubled with every failed attempt (1 is the first) up to source.backoff_max,
 * of that something between half and all: several pullers must not come back at the same moment.
 *   random  state of the jitter, any value but 0; changed */
uint64_t mr_source_backoff_ns(const struct mr_config *config, uint32_t attempts, uint64_t *random);
#endif
