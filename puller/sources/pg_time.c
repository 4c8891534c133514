#include "puller/sources/pg_time.h"

#include <stdlib.h>

#include "proto/json_number.h"
#include "puller/sources/pg_decode.h"

enum { DAYS_1970_TO_2000 = 10957 };
#define US_PER_S   INT64_C(1000000)
#define US_PER_DAY (INT64_C(86400) * US_PER_S)
#define MS_PER_DAY INT64_C(86400000)

static int64_t divide_down(int64_t value, int64_t by)
{
    int64_t quotient = value / by;
    return value % by < 0 ? quotient - 1 : quotient;
}

int64_t mr_pg_timestamp_ms(int64_t pg_us)
{
    if (pg_us == INT64_MAX || pg_us == INT64_MIN)
        return pg_us;
    return divide_down(pg_us, 1000) + MR_PG_EPOCH_US / 1000;
}

int64_t mr_pg_date_ms(int32_t pg_days)
{
    if (pg_days == INT32_MAX)
        return INT64_MAX;
    if (pg_days == INT32_MIN)
        return INT64_MIN;
    return ((int64_t)pg_days + DAYS_1970_TO_2000) * MS_PER_DAY;
}

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar, years counted astronomically
 * (0 is 1 BC). The year is made to begin in March, so that the leap day is its last. */
static int64_t days_of_civil(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = divide_down(year, 400);
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void civil_of_days(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468;
    int64_t era = divide_down(days, 146097);
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = year_of_era + era * 400 + (*month <= 2);
}

struct scan {
    const char *at, *end;
};

/* Digits, at most nine of them so that nothing overflows; false: none or too many. */
static bool scan_number(struct scan *in, int64_t *out)
{
    const char *start = in->at;
    int64_t value = 0;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9' && in->at - start < 10)
        value = value * 10 + (*in->at++ - '0');
    *out = value;
    return in->at > start && in->at - start < 10;
}

static bool scan_char(struct scan *in, char wanted)
{
    if (in->at == in->end || *in->at != wanted)
        return false;
    in->at++;
    return true;
}

/* ".123456" as microseconds; further digits are read and dropped. */
static bool scan_fraction(struct scan *in, int64_t *us)
{
    int64_t unit = 100000;
    const char *start = in->at;
    for (*us = 0; in->at < in->end && *in->at >= '0' && *in->at <= '9'; in->at++, unit /= 10)
        *us += (*in->at - '0') * unit;
    return in->at > start;
}

static bool scan_time(struct scan *in, int64_t *us)
{
    int64_t hour, minute, second, fraction = 0;
    if (!scan_number(in, &hour) || !scan_char(in, ':') || !scan_number(in, &minute) ||
        !scan_char(in, ':') || !scan_number(in, &second))
        return false;
    if (scan_char(in, '.') && !scan_fraction(in, &fraction))
        return false;
    *us = ((hour * 60 + minute) * 60 + second) * US_PER_S + fraction;
    return hour <= 24 && minute < 60 && second <= 60;
}

static bool scan_zone(struct scan *in, int64_t *seconds_east)
{
    *seconds_east = 0;
    if (in->at == in->end || (*in->at != '+' && *in->at != '-'))
        return true;
    int64_t sign = *in->at++ == '-' ? -1 : 1, hour, minute = 0, second = 0;
    if (!scan_number(in, &hour) || (scan_char(in, ':') && !scan_number(in, &minute)) ||
        (scan_char(in, ':') && !scan_number(in, &second)))
        return false;
    *seconds_east = sign * ((hour * 60 + minute) * 60 + second);
    return hour < 24 && minute < 60 && second < 60;
}

bool mr_pg_time_parse_ms(struct mr_str text, int64_t *ms)
{
    if (mr_str_equal(text, MR_STR("infinity")) || mr_str_equal(text, MR_STR("-infinity"))) {
        *ms = text.data[0] == '-' ? INT64_MIN : INT64_MAX;
        return true;
    }
    struct scan in = {text.data, text.data + text.len};
    int64_t year, month, day, us = 0, east = 0;
    if (!scan_number(&in, &year) || !scan_char(&in, '-') || !scan_number(&in, &month) ||
        !scan_char(&in, '-') || !scan_number(&in, &day) || month < 1 || month > 12 || day < 1 ||
        day > 31)
        return false;
    if (in.end - in.at > 1 && in.at[0] == ' ' && in.at[1] != 'B') {
        in.at++;
        if (!scan_time(&in, &us) || !scan_zone(&in, &east))
            return false;
    }
    if (in.end - in.at == 3 && memcmp(in.at, " BC", 3) == 0) {
        year = 1 - year;
        in.at += 3;
    }
    /* us is cut to the past together with the day's part: both are positive here. */
    *ms = days_of_civil(year, month, day) * MS_PER_DAY + us / 1000 - east * 1000;
    return in.at == in.end;
}

/* The texts that follow are all shorter than MR_PG_TIME_TEXT_MAX, whatever the numbers. */
static size_t put_text(char *out, const char *text)
{
    size_t len = strlen(text);
    memcpy(out, text, len);
    return len;
}

/* At least width digits. */
static size_t put_number(char *out, int64_t value, size_t width)
{
    char digits[MR_TEXT_INT_MAX];
    size_t len = mr_text_int(digits, value), zeros = width > len ? width - len : 0;
    memset(out, '0', zeros);
    memcpy(out + zeros, digits, len);
    return zeros + len;
}

/* A sign that parts two numbers, and the second one. */
static size_t put_next(char *out, char sign, int64_t value, size_t width)
{
    *out = sign;
    return 1 + put_number(out + 1, value, width);
}

static size_t format_date_of(int64_t days_1970, char out[MR_PG_TIME_TEXT_MAX], bool *bc)
{
    int64_t year;
    int month, day;
    civil_of_days(days_1970, &year, &month, &day);
    *bc = year <= 0;
    size_t len = put_number(out, *bc ? 1 - year : year, 4);
    len += put_next(out + len, '-', month, 2);
    return len + put_next(out + len, '-', day, 2);
}

size_t mr_pg_date_format(int32_t pg_days, char out[MR_PG_TIME_TEXT_MAX])
{
    if (pg_days == INT32_MAX || pg_days == INT32_MIN)
        return put_text(out, pg_days < 0 ? "-infinity" : "infinity");
    bool bc;
    size_t len = format_date_of((int64_t)pg_days + DAYS_1970_TO_2000, out, &bc);
    return bc ? len + put_text(out + len, " BC") : len;
}

/* "HH:MM:SS" with as many digits of a second as needed. */
static size_t format_clock(int64_t us, char *out)
{
    int64_t s = us / US_PER_S, fraction = us % US_PER_S;
    size_t len = put_number(out, s / 3600, 2);
    len += put_next(out + len, ':', s / 60 % 60, 2);
    len += put_next(out + len, ':', s % 60, 2);
    if (fraction == 0)
        return len;
    len += put_next(out + len, '.', fraction, 6);
    while (out[len - 1] == '0')
        len--;
    return len;
}

size_t mr_pg_timestamp_format(int64_t pg_us, bool with_zone, char out[MR_PG_TIME_TEXT_MAX])
{
    if (pg_us == INT64_MAX || pg_us == INT64_MIN)
        return put_text(out, pg_us < 0 ? "-infinity" : "infinity");
    int64_t days = divide_down(pg_us, US_PER_DAY);
    bool bc;
    size_t len = format_date_of(days + DAYS_1970_TO_2000, out, &bc);
    out[len++] = ' ';
    len += format_clock(pg_us - days * US_PER_DAY, out + len);
    if (with_zone)
        len += put_text(out + len, "+00");
    return bc ? len + put_text(out + len, " BC") : len;
}

size_t mr_pg_timeofday_format(int64_t us, int32_t zone_s, char out[MR_PG_TIME_TEXT_MAX])
{
    size_t len = format_clock(us, out);
    if (zone_s == INT32_MIN)
        return len;
    int32_t east = abs(zone_s);
    len += put_next(out + len, zone_s > 0 ? '-' : '+', east / 3600, 2);
    if (east % 3600 != 0)
        len += put_next(out + len, ':', east / 60 % 60, 2);
    if (east % 60 != 0)
        len += put_next(out + len, ':', east % 60, 2);
    return len;
}

size_t mr_pg_interval_format(int64_t us, int32_t days, int32_t months,
                             char out[MR_PG_TIME_TEXT_MAX])
{
    const struct {
        int32_t value;
        const char *unit;
    } parts[] = {{months / 12, " year"}, {months % 12, " mon"}, {days, " day"}};
    size_t len = 0;
    /* The infinities of PostgreSQL 17: all three parts at their end. */
    if (us == INT64_MAX && days == INT32_MAX && months == INT32_MAX)
        return put_text(out, "infinity");
    if (us == INT64_MIN && days == INT32_MIN && months == INT32_MIN)
        return put_text(out, "-infinity");
    bool before = false; /* the last part was negative, so a positive one states its sign */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int32_t value = parts[i].value;
        if (value == 0)
            continue;
        len += put_text(out + len, len ? " " : "");
        len += put_text(out + len, before && value > 0 ? "+" : "");
        len += put_number(out + len, value, 1);
        len += put_text(out + len, parts[i].unit);
        len += put_text(out + len, value == 1 ? "" : "s");
        before = value < 0;
    }
    if (len != 0 && us == 0)
        return len;
    int64_t magnitude = us == INT64_MIN ? INT64_MAX : us < 0 ? -us : us;
    len += put_text(out + len, len ? " " : "");
    len += put_text(out + len, us < 0 ? "-" : before ? "+" : "");
    return len + format_clock(magnitude, out + len);
}
