/* cel/timestamp.h: timestamps and durations: text, the calendar (proleptic Gregorian), limits. */
#ifndef MR_CEL_TIMESTAMP_H
#define MR_CEL_TIMESTAMP_H
#include <stdint.h>

#include "common/str.h"

/* 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z. */
#define MR_CEL_TIME_SECONDS_MIN INT64_C(-62135596800)
#define MR_CEL_TIME_SECONDS_MAX INT64_C(253402300799)

enum { MR_CEL_TIME_TEXT_MAX = 32, MR_CEL_DURATION_TEXT_MAX = 32 };

/* A moment: seconds since 1970-01-01T00:00:00Z and nanoseconds, 0 to 999,999,999, behind them. */
struct mr_cel_time {
    int64_t seconds;
    int32_t nanos;
};
static inline bool mr_cel_time_in_range(int64_t seconds)
{
    return seconds >= MR_CEL_TIME_SECONDS_MIN && seconds <= MR_CEL_TIME_SECONDS_MAX;
}

/* RFC 3339, strict: "2024-02-29T12:30:00.5+02:00", capital T and Z; digits behind the ninth of a
 * fraction are cut. False: it is none, or out of range. */
bool mr_cel_time_parse(struct mr_str text, struct mr_cel_time *out);
/* RFC 3339 in UTC, without zeros at the fraction's end. Writes at most MR_CEL_TIME_TEXT_MAX bytes,
 * no NUL; returns how many. time: in range. */
size_t mr_cel_time_format(char out[MR_CEL_TIME_TEXT_MAX], struct mr_cel_time time);

/* time + duration_ns. False: out of range. */
bool mr_cel_time_add(struct mr_cel_time time, int64_t duration_ns, struct mr_cel_time *out);
/* a - b in nanoseconds. False: more than an int64 holds. */
bool mr_cel_time_subtract(struct mr_cel_time a, struct mr_cel_time b, int64_t *duration_ns);
static inline int mr_cel_time_compare(struct mr_cel_time a, struct mr_cel_time b)
{
    if (a.seconds != b.seconds)
        return a.seconds < b.seconds ? -1 : 1;
    return (a.nanos > b.nanos) - (a.nanos < b.nanos);
}

/* What a calendar and a clock in a zone say at a moment. */
struct mr_cel_civil {
    int64_t year;
    int month, day;               /* from 1 */
    int day_of_year, day_of_week; /* from 0; Sunday is 0 */
    int hour, minute, second, millisecond;
};
/* offset_seconds: of the zone, east of UTC. */
struct mr_cel_civil mr_cel_civil_at(struct mr_cel_time time, int32_t offset_seconds);
/* Days from 1970-01-01 to a day of the calendar. month, day: from 1; day may lie beyond the
 * month. */
int64_t mr_cel_civil_days(int64_t year, int month, int day);
bool mr_cel_civil_is_leap(int64_t year);

/* A duration is an int64 of nanoseconds. Text: numbers with units, "1h30m", "-1.5s", "10ms", with
 * an optional sign in front; units h, m, s, ms, us (also written with a micro sign), ns; "0" needs
 * none. What is finer than a nanosecond is cut. False: it is none, or does not fit. */
bool mr_cel_duration_parse(struct mr_str text, int64_t *out);
/* Seconds: "5400s", "-0.25s". Exact. At most MR_CEL_DURATION_TEXT_MAX bytes, no NUL. */
size_t mr_cel_duration_format(char out[MR_CEL_DURATION_TEXT_MAX], int64_t duration_ns);
#endif
