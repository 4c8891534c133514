#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "cel/timestamp.h"
#include "cel/zone.h"
#include "cel/zone_rule.h"

static void the_calendar_agrees_with_the_system_day_by_day(void **state)
{
    (void)state;
    for (int64_t day = -719162; day < 2932896; day += 37) { /* years 1 to 9999 */
        time_t seconds = (time_t)(day * 86400 + 3661);
        struct tm tm;
        assert_non_null(gmtime_r(&seconds, &tm));
        struct mr_cel_civil civil =
            mr_cel_civil_at((struct mr_cel_time){.seconds = seconds, .nanos = 7000000}, 0);
        assert_int_equal(civil.year, tm.tm_year + 1900);
        assert_int_equal(civil.month, tm.tm_mon + 1);
        assert_int_equal(civil.day, tm.tm_mday);
        assert_int_equal(civil.day_of_week, tm.tm_wday);
        assert_int_equal(civil.day_of_year, tm.tm_yday);
        assert_int_equal(civil.hour * 10000 + civil.minute * 100 + civil.second, 10101);
        assert_int_equal(civil.millisecond, 7);
        assert_int_equal(mr_cel_civil_days(civil.year, civil.month, civil.day), day);
    }
}

static void a_timestamp_is_rfc_3339_and_nothing_else(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-01-01 00:00:00Z",
        "2024-01-01t00:00:00Z",
        "2024-01-01T00:00:00z",
        "2024-01-01T00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z",
        "2024-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "2024-01-01T00:00:00,5Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+0200",
        "2024-01-01T00:00:00Zx",
        "0000-12-31T23:59:59Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "-024-01-01T00:00:00Z",
    };
    static const struct {
        const char *text;
        int64_t seconds;
        int32_t nanos;
        const char *again;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00Z"},
        {"2024-02-29T12:30:00.5+02:00", 1709202600, 500000000, "2024-02-29T10:30:00.5Z"},
        {"1969-12-31T23:59:59.5Z", -1, 500000000, "1969-12-31T23:59:59.5Z"},
        {"2009-02-13T23:31:30.1234567891Z", 1234567890, 123456789,
         "2009-02-13T23:31:30.123456789Z"},
        {"0001-01-01T00:00:00Z", MR_CEL_TIME_SECONDS_MIN, 0, "0001-01-01T00:00:00Z"},
        {"9999-12-31T23:59:59.999999999Z", MR_CEL_TIME_SECONDS_MAX, 999999999,
         "9999-12-31T23:59:59.999999999Z"},
    };
    struct mr_cel_time time;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (mr_cel_time_parse(mr_str_from(bad[i]), &time))
            fail_msg("\"%s\" was taken for a time", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_cel_time_parse(mr_str_from(good[i].text), &time));
        assert_int_equal(time.seconds, good[i].seconds);
        assert_int_equal(time.nanos, good[i].nanos);
        char text[MR_CEL_TIME_TEXT_MAX + 1];
        text[mr_cel_time_format(text, time)] = '\0';
        assert_string_equal(text, good[i].again);
    }
}

static void times_add_and_subtract_within_their_limits(void **state)
{
    (void)state;
    struct mr_cel_time start = {10, 500000000}, out;
    int64_t ns;
    assert_true(mr_cel_time_add(start, -600000000, &out));
    assert_int_equal(out.seconds, 9);
    assert_int_equal(out.nanos, 900000000);
    assert_true(mr_cel_time_add(start, 500000000, &out));
    assert_int_equal(out.seconds, 11);
    assert_int_equal(out.nanos, 0);
    struct mr_cel_time last = {MR_CEL_TIME_SECONDS_MAX, 999999999};
    assert_false(mr_cel_time_add(last, 1, &out));
    assert_true(mr_cel_time_add(last, INT64_MIN, &out));
    assert_false(mr_cel_time_add((struct mr_cel_time){MR_CEL_TIME_SECONDS_MIN, 0}, -1, &out));
    assert_false(mr_cel_time_subtract(last, (struct mr_cel_time){MR_CEL_TIME_SECONDS_MIN, 0}, &ns));
    assert_true(mr_cel_time_subtract((struct mr_cel_time){0, 0}, start, &ns));
    assert_int_equal(ns, -10500000000);
    /* INT64_MIN nanoseconds are a duration; one less is none. */
    struct mr_cel_time zero = {0, 0}, far = {9223372036, 854775808};
    assert_true(mr_cel_time_subtract(zero, far, &ns));
    assert_true(ns == INT64_MIN);
    far.nanos++;
    assert_false(mr_cel_time_subtract(zero, far, &ns));
}

static void a_duration_is_numbers_with_units(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "-",
                                      "1",
                                      "s",
                                      ".s",
                                      "1d",
                                      "1h30",
                                      "1 s",
                                      "--1s",
                                      "1s-1s",
                                      "1.2.3s",
                                      "00",
                                      "9223372037s",
                                      "1e3s",
                                      "1S",
                                      "2562048h",
                                      "9223372036854775808ns",
                                      "99999999999999999999ns"};
    static const struct {
        const char *text;
        int64_t ns;
        const char *again;
    } good[] = {
        {"0", 0, "0s"},
        {"-0", 0, "0s"},
        {"1h30m", INT64_C(5400000000000), "5400s"},
        {"-1.5h", INT64_C(-5400000000000), "-5400s"},
        {"+1.5s", 1500000000, "1.5s"},
        {"-250ms", -250000000, "-0.25s"},
        {"1ns", 1, "0.000000001s"},
        {"1us1\xc2\xb5s", 2000, "0.000002s"},
        {".5s", 500000000, "0.5s"},
        {"1.s", 1000000000, "1s"},
        {"0.3333333333333333333h", INT64_C(1199999999999), "1199.999999999s"},
        {"9223372036854775807ns", INT64_MAX, "9223372036.854775807s"},
        {"-9223372036854775808ns", INT64_MIN, "-9223372036.854775808s"},
    };
    int64_t ns;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (mr_cel_duration_parse(mr_str_from(bad[i]), &ns))
            fail_msg("\"%s\" was taken for a duration", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_cel_duration_parse(mr_str_from(good[i].text), &ns));
        assert_true(ns == good[i].ns);
        char text[MR_CEL_DURATION_TEXT_MAX + 1];
        text[mr_cel_duration_format(text, ns)] = '\0';
        assert_string_equal(text, good[i].again);
    }
}

static int32_t offset_of(const char *zone, const char *moment)
{
    struct mr_cel_time time;
    int32_t offset = 0;
    assert_true(mr_cel_time_parse(mr_str_from(moment), &time));
    if (!mr_cel_zone_offset(mr_str_from(zone), time.seconds, &offset))
        fail_msg("no zone \"%s\"", zone);
    return offset;
}

static void a_zone_is_an_offset_or_a_name(void **state)
{
    (void)state;
    int32_t offset;
    assert_int_equal(offset_of("+02:00", "2024-01-01T00:00:00Z"), 7200);
    assert_int_equal(offset_of("-09:30", "2024-01-01T00:00:00Z"), -34200);
    assert_int_equal(offset_of("2:00", "2024-01-01T00:00:00Z"), 7200);
    assert_int_equal(offset_of("UTC", "2024-01-01T00:00:00Z"), 0);
    static const char *const bad[] = {"",         "+24:00",        "+02:60",   "+2",
                                      "2:0",      ":30",           "+:30",     "1:2:3",
                                      "No/Where", "/etc/passwd",   "../UTC",   "Europe/../UTC",
                                      "Europe",   "europe/berlin", "tzdata.zi"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (mr_cel_zone_offset(mr_str_from(bad[i]), 0, &offset))
            fail_msg("\"%s\" was taken for a zone", bad[i]);
}

static void zones_follow_their_history_and_then_their_rule(void **state)
{
    (void)state;
    if (!mr_cel_zone_offset(MR_STR("Europe/Berlin"), 0, &(int32_t){0})) {
        print_message("no tz database on this machine\n");
        skip();
    }
    assert_int_equal(offset_of("Europe/Berlin", "2024-03-31T00:59:59Z"), 3600);
    assert_int_equal(offset_of("Europe/Berlin", "2024-03-31T01:00:00Z"), 7200);
    assert_int_equal(offset_of("Europe/Berlin", "2024-10-27T00:59:59Z"), 7200);
    assert_int_equal(offset_of("Europe/Berlin", "2024-10-27T01:00:00Z"), 3600);
    assert_int_equal(offset_of("Europe/Berlin", "1800-01-01T00:00:00Z"),
                     3208); /* local mean time */
    assert_int_equal(offset_of("Europe/Berlin", "2100-03-28T00:59:59Z"), 3600);
    assert_int_equal(offset_of("Europe/Berlin", "2100-03-28T01:00:00Z"), 7200);
    assert_int_equal(offset_of("America/New_York", "2500-07-01T00:00:00Z"), -14400);
    assert_int_equal(offset_of("Australia/Sydney", "2500-01-01T00:00:00Z"), 39600);
    assert_int_equal(offset_of("Europe/Dublin", "2500-01-01T00:00:00Z"), 0);
    assert_int_equal(offset_of("Europe/Dublin", "2500-07-01T00:00:00Z"), 3600);
    assert_int_equal(offset_of("Asia/Kolkata", "2500-01-01T00:00:00Z"), 19800);
}

static void rules_are_read_whole_or_refused(void **state)
{
    (void)state;
    struct mr_cel_zone_rule rule;
    static const char *const bad[] = {"",
                                      "C",
                                      "CET",
                                      "CET-1CEST,M3.5.0",
                                      "CET-1x",
                                      "CET-1CEST,",
                                      "CET-1CEST,M13.5.0,M10.5.0",
                                      "CET-1CEST,M3.6.0,M10.5.0",
                                      "<+03-3",
                                      "CET-200",
                                      "CET-1CEST,M3.5.0,M10.5.0x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (mr_cel_zone_rule_parse(mr_str_from(bad[i]), &rule))
            fail_msg("\"%s\" was taken for a rule", bad[i]);
    assert_true(mr_cel_zone_rule_parse(MR_STR("<-02>2<-01>,M3.5.0/-1,M10.5.0/0"), &rule));
    assert_int_equal(rule.to_summer.seconds, -3600);
    assert_int_equal(mr_cel_zone_rule_offset(&rule, 4102444800), -7200); /* 2100-01-01 */
    assert_true(mr_cel_zone_rule_parse(MR_STR("AAA3BBB,J60/0,J300"), &rule));
    /* J60 is the first of March in every year. */
    assert_int_equal(mr_cel_zone_rule_offset(&rule, 1709262000 - 1),
                     -10800); /* 2024-03-01T03:00Z */
    assert_int_equal(mr_cel_zone_rule_offset(&rule, 1709262000), -7200);
    assert_int_equal(mr_cel_zone_rule_offset(&rule, 1677639600), -7200); /* 2023-03-01T03:00Z */
    assert_int_equal(mr_cel_zone_rule_offset(&rule, 1677639600 - 1), -10800);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_calendar_agrees_with_the_system_day_by_day),
        cmocka_unit_test(a_timestamp_is_rfc_3339_and_nothing_else),
        cmocka_unit_test(times_add_and_subtract_within_their_limits),
        cmocka_unit_test(a_duration_is_numbers_with_units),
        cmocka_unit_test(a_zone_is_an_offset_or_a_name),
        cmocka_unit_test(zones_follow_their_history_and_then_their_rule),
        cmocka_unit_test(rules_are_read_whole_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
