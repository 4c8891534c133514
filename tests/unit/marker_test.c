#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/marker.h"

static void a_marker_has_one_known_text(void **state)
{
    (void)state;
    char text[MR_MARKER_TEXT_MAX];
    struct mr_marker marker = {.log_id = UINT64_C(0x1122334455667788), .sequence = 42};
    assert_int_equal(mr_marker_format(marker, text), 23);
    assert_string_equal(text, "AYh3ZlVEMyIRKgAAAAAAAAA");
    mr_marker_format((struct mr_marker){UINT64_MAX, UINT64_MAX}, text);
    assert_string_equal(text, "Af____________________8");
}

static void what_was_formatted_parses_back(void **state)
{
    (void)state;
    uint64_t value = 1;
    for (int i = 0; i < 1000; i++) {
        value = value * UINT64_C(6364136223846793005) + 1442695040888963407u;
        struct mr_marker in = {value, value >> (i & 63)}, out;
        char text[MR_MARKER_TEXT_MAX];
        size_t len = mr_marker_format(in, text);
        assert_int_equal(mr_marker_parse((struct mr_str){text, len}, &out, NULL), MR_OK);
        assert_int_equal(out.log_id, in.log_id);
        assert_int_equal(out.sequence, in.sequence);
    }
}

static void a_text_that_is_no_marker_is_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *text, *reason;
    } rows[] = {
        {"", "expected 23 characters, got 0"},
        {"AYh3ZlVEMyIRKgAAAAAAAA", "expected 23 characters, got 22"},
        {"AYh3ZlVEMyIRKgAAAAAAAAA=", "expected 23 characters, got 24"},
        {"AYh3ZlVEMyIRKgAAAAAAAA+", "character 23 is not in the base64url alphabet"},
        {" Yh3ZlVEMyIRKgAAAAAAAAA", "character 1 is not"},
        {"AoCDZlVEMyIRKgAAAAAAAAA", "not a marker of version 1"},
        {"AYh3ZlVEMyIRKgAAAAAAAAB", "not a marker of version 1"}, /* left-over bits */
        {"AYh3ZlVEMyIRKgAAAAAAAA\xc3", "character 23 is not"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_marker out = {7, 7};
        struct mr_err err = {0};
        assert_int_equal(mr_marker_parse(mr_str_from(rows[i].text), &out, &err), MR_USAGE);
        if (!strstr(err.text, rows[i].reason))
            fail_msg("row %zu: %s", i, err.text);
        assert_int_equal(out.sequence, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_marker_has_one_known_text),
        cmocka_unit_test(what_was_formatted_parses_back),
        cmocka_unit_test(a_text_that_is_no_marker_is_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
