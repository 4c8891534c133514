/* cel/zone.h: time zones: what a clock on the wall was ahead of UTC at a moment. */
#ifndef MR_CEL_ZONE_H
#define MR_CEL_ZONE_H
#include <stdint.h>

#include "common/str.h"

/* Seconds east of UTC in a zone at a moment (seconds since 1970). zone: an offset, "+02:00",
 * "-9:30" or "02:00", to 23:59; or a name of the tz database, "Europe/Berlin", "US/Central", "UTC".
 * False: no such zone.
 * A name's file (TZif, RFC 8536, below /usr/share/zoneinfo) is read when the name is first used by
 * this process and kept until its end, at most 1024 of them. Thread-safe without locks. */
bool mr_cel_zone_offset(struct mr_str zone, int64_t seconds, int32_t *offset_seconds);
#endif
