#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "cel/number.h"
#include "cel/utf8.h"

static void a_double_has_the_shortest_text_that_reads_back_the_same(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {1, "1"},
        {-0.0, "-0"},
        {0.1, "0.1"},
        {0.25, "0.25"},
        {-1.5, "-1.5"},
        {100000, "100000"},
        {1e6, "1e+06"},
        {123456789, "1.23456789e+08"},
        {123456.789, "123456.789"},
        {0.0001, "0.0001"},
        {0.00012345, "0.00012345"},
        {0.00001, "1e-05"},
        {1e-7, "1e-07"},
        {1e20, "1e+20"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {NAN, "NaN"},
        {INFINITY, "+Inf"},
        {-INFINITY, "-Inf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[MR_CEL_DOUBLE_TEXT_MAX + 1];
        text[mr_cel_double_format(text, cases[i].value)] = '\0';
        assert_string_equal(text, cases[i].text);
    }
}

static void every_double_reads_back_as_itself(void **state)
{
    (void)state;
    uint64_t bits = 1;
    for (int i = 0; i < 100000; i++) {
        bits = bits * UINT64_C(6364136223846793005) + 1442695040888963407u;
        double value, again;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        char text[MR_CEL_DOUBLE_TEXT_MAX];
        struct mr_str written = {text, mr_cel_double_format(text, value)};
        assert_true(mr_cel_double_parse(written, &again));
        assert_memory_equal(&value, &again, sizeof value);
    }
}

static void a_text_is_a_number_as_a_whole_or_not_at_all(void **state)
{
    (void)state;
    static const char *const bad[] = {"",     "-",    "+",    " 1",   "1 ",     "1_0", "0x10",
                                      "--1",  "+-1",  "1e",   "1e+",  ".",      "e5",  "1e400",
                                      "1.5d", "infx", "nan ", "+nan", "-1e999", "1,5"};
    static const struct {
        const char *text;
        double value;
    } good[] = {{"1", 1},          {"+1.5", 1.5},     {".5", 0.5},
                {"5.", 5},         {"1e-400", 0},     {"0e999", 0},
                {"1E3", 1000},     {"inf", INFINITY}, {"-Infinity", -INFINITY},
                {"+INF", INFINITY}};
    double value;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (mr_cel_double_parse(mr_str_from(bad[i]), &value))
            fail_msg("\"%s\" was taken for %g", bad[i], value);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_cel_double_parse(mr_str_from(good[i].text), &value));
        assert_true(value == good[i].value);
    }
    assert_true(mr_cel_double_parse(MR_STR("NaN"), &value) && isnan(value));
}

static void a_thousand_zeros_in_front_of_an_exponent_still_count(void **state)
{
    (void)state;
    char text[1100] = "0.";
    memset(text + 2, '0', 1000);
    memcpy(text + 1002, "1e900", 6);
    double value = 1;
    assert_true(mr_cel_double_parse(mr_str_from(text), &value)); /* 1e-101 */
    assert_true(value > 0.9e-101 && value < 1.1e-101);
    memcpy(text + 1002, "1e-900", 7);
    assert_true(mr_cel_double_parse(mr_str_from(text), &value));
    assert_true(value == 0);
    memcpy(text + 1002, "1e9000", 7);
    assert_false(mr_cel_double_parse(mr_str_from(text), &value));
}

static void integers_keep_their_bounds(void **state)
{
    (void)state;
    int64_t i;
    uint64_t u;
    assert_true(mr_cel_int_parse(MR_STR("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(mr_cel_int_parse(MR_STR("+9223372036854775807"), &i) && i == INT64_MAX);
    assert_false(mr_cel_int_parse(MR_STR("9223372036854775808"), &i));
    assert_false(mr_cel_int_parse(MR_STR("-9223372036854775809"), &i));
    assert_false(mr_cel_int_parse(MR_STR("1.0"), &i));
    assert_true(mr_cel_uint_parse(MR_STR("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(mr_cel_uint_parse(MR_STR("18446744073709551616"), &u));
    assert_false(mr_cel_uint_parse(MR_STR("+1"), &u));
    char text[MR_CEL_INT_TEXT_MAX + 1];
    text[mr_cel_int_format(text, INT64_MIN)] = '\0';
    assert_string_equal(text, "-9223372036854775808");
}

static void text_is_utf_8_by_the_table_of_unicode(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xe2\x82",     "1234567\xff",      "12345678\xc3"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(mr_cel_utf8_valid(mr_str_from(bad[i])));
    assert_true(mr_cel_utf8_valid(MR_STR("a\0b")));
    for (uint32_t point = 0; point <= 0x10ffff; point++) {
        if (!mr_cel_utf8_is_scalar(point))
            continue;
        char text[4];
        struct mr_str one = {text, mr_cel_utf8_put(text, point)};
        size_t offset = 0;
        if (!mr_cel_utf8_valid(one) || mr_cel_utf8_next(one, &offset) != point || offset != one.len)
            fail_msg("U+%04X does not survive", point);
    }
}

static void lengths_and_offsets_count_code_points(void **state)
{
    (void)state;
    struct mr_str text = MR_STR("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    size_t offset;
    assert_int_equal(mr_cel_utf8_count(text), 4);
    assert_true(mr_cel_utf8_offset(text, 3, &offset) && offset == 6);
    assert_true(mr_cel_utf8_offset(text, 4, &offset) && offset == text.len);
    assert_false(mr_cel_utf8_offset(text, 5, &offset));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_double_has_the_shortest_text_that_reads_back_the_same),
        cmocka_unit_test(every_double_reads_back_as_itself),
        cmocka_unit_test(a_text_is_a_number_as_a_whole_or_not_at_all),
        cmocka_unit_test(a_thousand_zeros_in_front_of_an_exponent_still_count),
        cmocka_unit_test(integers_keep_their_bounds),
        cmocka_unit_test(text_is_utf_8_by_the_table_of_unicode),
        cmocka_unit_test(lengths_and_offsets_count_code_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
