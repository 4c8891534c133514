#include "cel/zone_rule.h"

#include "cel/timestamp.h"

enum { SECONDS_PER_DAY = 86400, SECONDS_PER_HOUR = 3600 };

/* Reads from the left; after a mismatch ok is false and nothing moves. */
struct reader {
    const char *at, *end;
    bool ok;
};

static bool next_is(const struct reader *r, char c)
{
    return r->ok && r->at < r->end && *r->at == c;
}

static bool skip(struct reader *r, char c)
{
    bool there = next_is(r, c);
    r->at += there;
    return there;
}

static void expect(struct reader *r, char c)
{
    r->ok = skip(r, c);
}

static int take_number(struct reader *r, int max)
{
    int value = 0;
    const char *start = r->at;
    for (; r->ok && r->at < r->end && *r->at >= '0' && *r->at <= '9' && value <= max; r->at++)
        value = value * 10 + (*r->at - '0');
    r->ok = r->ok && r->at > start && value <= max;
    return value;
}

/* "CET" or "<-03>". */
static void skip_name(struct reader *r)
{
    const char *start = r->at;
    if (skip(r, '<')) {
        while (r->at < r->end && *r->at != '>')
            r->at++;
        expect(r, '>');
        return;
    }
    while (r->at < r->end && ((*r->at | 0x20) >= 'a' && (*r->at | 0x20) <= 'z'))
        r->at++;
    r->ok = r->ok && r->at - start >= 3;
}

/* [+-]hh[:mm[:ss]] */
static int32_t take_time(struct reader *r)
{
    bool negative = skip(r, '-');
    if (!negative)
        skip(r, '+');
    int32_t seconds = take_number(r, 167) * SECONDS_PER_HOUR;
    if (skip(r, ':'))
        seconds += take_number(r, 59) * 60;
    if (skip(r, ':'))
        seconds += take_number(r, 59);
    return negative ? -seconds : seconds;
}

static struct mr_cel_zone_change take_change(struct reader *r)
{
    struct mr_cel_zone_change change = {.seconds = 2 * SECONDS_PER_HOUR};
    expect(r, ',');
    if (skip(r, 'M')) {
        change.kind = MR_CEL_CHANGE_WEEKDAY;
        change.month = take_number(r, 12);
        expect(r, '.');
        change.week = take_number(r, 5);
        expect(r, '.');
        change.day = take_number(r, 6);
        r->ok = r->ok && change.month > 0 && change.week > 0;
    } else {
        change.kind = skip(r, 'J') ? MR_CEL_CHANGE_JULIAN : MR_CEL_CHANGE_DAY;
        change.day = take_number(r, 365);
        r->ok = r->ok && (change.kind == MR_CEL_CHANGE_DAY || change.day > 0);
    }
    if (skip(r, '/'))
        change.seconds = take_time(r);
    return change;
}

bool mr_cel_zone_rule_parse(struct mr_str text, struct mr_cel_zone_rule *out)
{
    struct reader r = {text.data, text.data + text.len, text.len > 0};
    *out = (struct mr_cel_zone_rule){0};
    skip_name(&r);
    out->standard_offset = -take_time(&r); /* POSIX counts westwards */
    if (!r.ok || r.at == r.end)
        return r.ok;
    out->has_summer = true;
    skip_name(&r);
    out->summer_offset = out->standard_offset + SECONDS_PER_HOUR;
    if (!next_is(&r, ','))
        out->summer_offset = -take_time(&r);
    out->to_summer = take_change(&r);
    out->to_standard = take_change(&r);
    return r.ok && r.at == r.end;
}

/* Seconds since 1970 of a change in a year, by the clock on the wall as if it were UTC. */
static int64_t change_at(const struct mr_cel_zone_change *change, int64_t year)
{
    int64_t day = mr_cel_civil_days(year, 1, 1);
    if (change->kind == MR_CEL_CHANGE_DAY)
        day += change->day;
    else if (change->kind == MR_CEL_CHANGE_JULIAN)
        day += change->day - 1 + (mr_cel_civil_is_leap(year) && change->day >= 60);
    else {
        int64_t first = mr_cel_civil_days(year, change->month, 1);
        int64_t next = change->month == 12 ? mr_cel_civil_days(year + 1, 1, 1)
                                           : mr_cel_civil_days(year, change->month + 1, 1);
        int64_t weekday = ((first + 4) % 7 + 7) % 7; /* 1970-01-01 was a Thursday */
        day = first + (change->day - weekday + 7) % 7 + (change->week - 1) * 7;
        if (day >= next)
            day -= 7;
    }
    return day * SECONDS_PER_DAY + change->seconds;
}

int32_t mr_cel_zone_rule_offset(const struct mr_cel_zone_rule *rule, int64_t seconds)
{
    if (!rule->has_summer)
        return rule->standard_offset;
    struct mr_cel_time time = {.seconds = seconds};
    int64_t year = mr_cel_civil_at(time, rule->standard_offset).year;
    int64_t summer = change_at(&rule->to_summer, year) - rule->standard_offset;
    int64_t standard = change_at(&rule->to_standard, year) - rule->summer_offset;
    /* In the south summer time spans the turn of the year. */
    bool is_summer = summer < standard ? seconds >= summer && seconds < standard
                                       : seconds >= summer || seconds < standard;
    return is_summer ? rule->summer_offset : rule->standard_offset;
}
