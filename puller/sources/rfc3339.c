#include "puller/sources/rfc3339.h"

/* Exactly count digits at *at; moves behind them. */
static bool digits(const char **at, const char *end, int count, int64_t *out)
{
    *out = 0;
    for (int i = 0; i < count; i++, ++*at) {
        if (*at == end || **at < '0' || **at > '9')
            return false;
        *out = *out * 10 + (**at - '0');
    }
    return true;
}

static bool skip(const char **at, const char *end, char a, char b)
{
    if (*at == end || (**at != a && **at != b))
        return false;
    ++*at;
    return true;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

/* Days from 1970-01-01, in years that begin with March. */
static int64_t days_since_1970(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static bool fraction(const char **at, const char *end, int64_t *us)
{
    *us = 0;
    if (*at == end || **at != '.')
        return true;
    ++*at;
    int64_t unit = 100000;
    const char *first = *at;
    for (; *at != end && **at >= '0' && **at <= '9'; ++*at, unit /= 10)
        *us += (**at - '0') * unit;
    return *at != first;
}

static bool zone(const char **at, const char *end, int64_t *minutes)
{
    *minutes = 0;
    if (skip(at, end, 'Z', 'z'))
        return true;
    int64_t sign = *at != end && **at == '-' ? -1 : 1, hours, rest;
    if (!skip(at, end, '+', '-') || !digits(at, end, 2, &hours) || !skip(at, end, ':', ':') ||
        !digits(at, end, 2, &rest) || hours > 23 || rest > 59)
        return false;
    *minutes = sign * (hours * 60 + rest);
    return true;
}

bool mr_rfc3339_parse(struct mr_str text, int64_t *us)
{
    const char *at = text.data, *end = text.data + text.len;
    int64_t year, month, day, hour, minute, second, part_us, zone_minutes;
    if (!digits(&at, end, 4, &year) || !skip(&at, end, '-', '-') || !digits(&at, end, 2, &month) ||
        !skip(&at, end, '-', '-') || !digits(&at, end, 2, &day) || !skip(&at, end, 'T', 't') ||
        !digits(&at, end, 2, &hour) || !skip(&at, end, ':', ':') || !digits(&at, end, 2, &minute) ||
        !skip(&at, end, ':', ':') || !digits(&at, end, 2, &second))
        return false;
    if (!fraction(&at, end, &part_us) || !zone(&at, end, &zone_minutes) || at != end)
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 ||
        minute > 59 || second > 60)
        return false;
    int64_t seconds = days_since_1970(year, month, day) * 86400 + hour * 3600 +
                      (minute - zone_minutes) * 60 + second;
    *us = seconds * 1000000 + part_us;
    return true;
}
