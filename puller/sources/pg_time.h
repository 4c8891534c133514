/* puller/sources/pg_time.h: PostgreSQL's dates and times, both forms. Binary: days or microseconds
 * since 2000-01-01, the extreme values being the infinities. */
#ifndef MR_PULLER_SOURCES_PG_TIME_H
#define MR_PULLER_SOURCES_PG_TIME_H
#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

enum { MR_PG_TIME_TEXT_MAX = 128 };

/* Milliseconds since 1970 as BSON has them: microseconds are cut towards the past; the infinities
 * become the least and the greatest value. */
int64_t mr_pg_timestamp_ms(int64_t pg_us);
int64_t mr_pg_date_ms(int32_t pg_days);

/* From ISO text: "2026-01-31", "2026-01-31 10:11:12.5", with "+02", "+05:30", "-03:30:15", " BC",
 * "infinity", "-infinity". False: not of this form. */
bool mr_pg_time_parse_ms(struct mr_str text, int64_t *ms);

/* To ISO text; return bytes written. */
size_t mr_pg_date_format(int32_t pg_days, char out[MR_PG_TIME_TEXT_MAX]);
size_t mr_pg_timestamp_format(int64_t pg_us, bool with_zone, char out[MR_PG_TIME_TEXT_MAX]);
/* zone_s: seconds west of Greenwich, INT32_MIN: no zone. */
size_t mr_pg_timeofday_format(int64_t us, int32_t zone_s, char out[MR_PG_TIME_TEXT_MAX]);
size_t mr_pg_interval_format(int64_t us, int32_t days, int32_t months,
                             char out[MR_PG_TIME_TEXT_MAX]);
#endif
