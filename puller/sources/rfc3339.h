/* puller/sources/rfc3339.h: "2026-01-01T00:00:00.123Z" or with an offset such as +02:00. */
#ifndef MR_PULLER_SOURCES_RFC3339_H
#define MR_PULLER_SOURCES_RFC3339_H
#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

/* Microseconds since 1970; digits behind them are dropped. A leap second counts as the next second.
 */
bool mr_rfc3339_parse(struct mr_str text, int64_t *us);
#endif
