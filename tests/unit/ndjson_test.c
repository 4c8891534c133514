#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/bson.h"
#include "puller/sources/ndjson.h"
#include "puller/sources/rfc3339.h"
#include "tests/unit/keep_case.h"

static struct mr_ndjson_parser *parser;

static int set_up(void **state)
{
    (void)state;
    return (int)mr_ndjson_parser_create(&parser, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    mr_ndjson_parser_destroy(&parser);
    return 0;
}

static enum mr_rc parse(const char *text, size_t len, struct mr_event *out, struct mr_err *err)
{
    /* A copy with nothing behind it: reading on would be seen. */
    static char *copy;
    free(copy);
    copy = malloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = '\n';
    enum mr_rc rc = mr_ndjson_parse(parser, (struct mr_str){copy, len}, MR_STR("db"), out, err);
    return rc;
}

static void a_full_line_gives_every_part(void **state)
{
    (void)state;
    static const char line[] =
        "{\"op\":\"update\",\"database\":\"shop\",\"collection\":\"orders\",\"id\":\"o1\","
        "\"doc\":{\"a\":1,\"when\":{\"$date\":\"2026-01-01T00:00:00Z\"}},\"before\":{\"a\":0},"
        "\"update\":{\"updatedFields\":{\"a\":1}},\"time\":\"2026-01-01T00:00:00.5Z\","
        "\"event_id\":\"e1\",\"txn\":7}\r";
    struct mr_event event;
    struct mr_err err;
    assert_int_equal(parse(line, sizeof line - 1, &event, &err), MR_OK);
    assert_int_equal(event.head.op, MR_OP_UPDATE);
    assert_true(mr_str_equal(event.database, MR_STR("shop")));
    assert_true(mr_str_equal(event.collection, MR_STR("orders")));
    assert_true(mr_str_equal(event.document_id, MR_STR("o1")));
    assert_true(mr_str_equal(event.event_id, MR_STR("e1")));
    assert_int_equal(event.head.source_time_us, INT64_C(1767225600500000));
    assert_int_equal(event.head.transaction, 7);
    struct mr_bson_value value;
    assert_true(mr_bson_find(event.document.data, event.document.len, MR_STR("when"), &value));
    assert_int_equal(value.type, MR_BSON_DATE);
    assert_true(mr_bson_find(event.before.data, event.before.len, MR_STR("a"), &value));
    assert_true(event.update.len > 0);
    assert_true(mr_event_size(&event) > 0);
}

static void a_short_line_is_an_insert_of_the_default_database(void **state)
{
    (void)state;
    static const struct {
        const char *line, *id;
    } rows[] = {
        {"{\"collection\":\"c\",\"id\":\"x\",\"doc\":{}}", "x"},
        {"{\"collection\":\"c\",\"id\":42,\"doc\":{}}", "42"},
        {"{\"collection\":\"c\",\"id\":-9223372036854775808,\"doc\":{}}", "-9223372036854775808"},
        {" {\"collection\":\"c\",\"id\":{\"$oid\":\"650f00010203040506070809\"},\"doc\":{}} ",
         "650f00010203040506070809"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_event event;
        struct mr_err err = {0};
        if (parse(rows[i].line, strlen(rows[i].line), &event, &err) != MR_OK)
            fail_msg("%s: %s", rows[i].line, err.text);
        assert_int_equal(event.head.op, MR_OP_INSERT);
        assert_true(mr_str_equal(event.database, MR_STR("db")));
        assert_true(mr_str_equal(event.document_id, mr_str_from(rows[i].id)));
    }
}

static void deletes_and_truncates_need_no_document(void **state)
{
    (void)state;
    struct mr_event event;
    struct mr_err err;
    const char *line = "{\"op\":\"delete\",\"collection\":\"c\",\"id\":\"x\"}";
    assert_int_equal(parse(line, strlen(line), &event, &err), MR_OK);
    assert_int_equal(event.document.len, 0);
    line = "{\"op\":\"truncate\",\"collection\":\"c\"}";
    assert_int_equal(parse(line, strlen(line), &event, &err), MR_OK);
    assert_int_equal(event.head.op, MR_OP_TRUNCATE);
}

static void empty_lines_are_passed_over(void **state)
{
    (void)state;
    struct mr_event event;
    struct mr_err err;
    assert_int_equal(parse("", 0, &event, &err), MR_AGAIN);
    assert_int_equal(parse(" \t\r", 3, &event, &err), MR_AGAIN);
}

#define GOOD "\"collection\":\"c\",\"id\":\"x\",\"doc\":{}"
#define ROW(text, reason)                \
    {                                    \
        {text, sizeof(text) - 1}, reason \
    }
static const struct {
    struct mr_str line;
    const char *reason;
} broken[] = {
    ROW("x", "expected an object in braces, got \"x"),
    ROW("[1,2]", "expected an object in braces"),
    ROW("\"text\"", "expected an object in braces"),
    ROW("{", "the object has no end"),
    ROW("{" GOOD, "the object has no end"),
    ROW("{" GOOD ",\"e\":\"}", "the object has no end"),
    ROW("{" GOOD "} x", "more behind the object"),
    ROW("{" GOOD "}{}", "more behind the object, at column 37"),
    ROW("{" GOOD ",}", "no JSON"),
    ROW("{'collection':'c'}", "no JSON"),
    ROW("{\"collection\":c}", "no JSON"),
    ROW("{" GOOD ",\"doc\":{\"a\":01}}", "no JSON"),
    ROW("{\"a\0b\":1}", "a zero byte at column 4"),
    ROW("{\"collection\":\"\xff\",\"id\":\"x\",\"doc\":{}}", "invalid bytes in UTF8"),
    ROW("{\"collection\":\"c\",\"id\":\"x\",\"doc\":{\"t\":\"\xed\xa0\x80\"}}",
        "invalid bytes in UTF8"),
    ROW("{}", "\"collection\": missing"),
    ROW("{\"collection\":\"c\",\"doc\":{}}", "\"id\": missing"),
    ROW("{\"collection\":\"c\",\"id\":\"x\"}", "\"doc\": missing; insert needs it"),
    ROW("{\"op\":\"update\",\"collection\":\"c\",\"id\":\"x\"}", "update needs it"),
    ROW("{\"collection\":\"\",\"id\":\"x\",\"doc\":{}}", "\"collection\": expected 1 to 1024"),
    ROW("{\"collection\":1,\"id\":\"x\",\"doc\":{}}", "expected a string, got a number"),
    ROW("{\"collection\":\"c\",\"id\":\"\",\"doc\":{}}", "\"id\": expected 1 to 1024"),
    ROW("{\"collection\":\"c\",\"id\":null,\"doc\":{}}", "\"id\": expected a string, a whole"),
    ROW("{\"collection\":\"c\",\"id\":1.5,\"doc\":{}}", "got a number"),
    ROW("{\"collection\":\"c\",\"id\":\"x\",\"doc\":[]}",
        "\"doc\": expected an object, got an array"),
    ROW("{\"collection\":\"c\",\"id\":\"x\",\"doc\":\"d\"}", "expected an object, got a string"),
    ROW("{" GOOD ",\"op\":\"upsert\"}", "expected insert, update, replace, delete or truncate"),
    ROW("{" GOOD ",\"op\":\"gap\"}", "\"op\": expected insert"),
    ROW("{" GOOD ",\"op\":true}", "\"op\": expected insert"),
    ROW("{" GOOD ",\"time\":\"yesterday\"}", "\"time\": expected RFC 3339"),
    ROW("{" GOOD ",\"time\":\"2026-02-30T00:00:00Z\"}", "\"time\": expected RFC 3339"),
    ROW("{" GOOD ",\"time\":9223372036854775807}", "out of range"),
    ROW("{" GOOD ",\"time\":{}}", "\"time\": expected RFC 3339"),
    ROW("{" GOOD ",\"txn\":-1}", "\"txn\": expected a whole number"),
    ROW("{" GOOD ",\"event_id\":\"\"}", "\"event_id\": expected 1 to 63"),
    ROW("{" GOOD ",\"colour\":1}", "\"colour\": unknown"),
    ROW("{" GOOD ",\"before\":{}}", "an insert has none"),
    ROW("{" GOOD ",\"update\":{}}", "only an update has one"),
    ROW("{\"op\":\"truncate\",\"collection\":\"c\",\"id\":\"x\"}", "a truncate has no id"),
};

static void every_broken_line_is_refused_with_its_reason(void **state)
{
    (void)state;
    assert_true(sizeof broken / sizeof broken[0] >= 20);
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct mr_event event;
        struct mr_err err = {0};
        enum mr_rc rc = parse(broken[i].line.data, broken[i].line.len, &event, &err);
        keep_case("line", i, broken[i].line.data, broken[i].line.len);
        if (rc == MR_USAGE && strstr(err.text, broken[i].reason))
            continue;
        wrong++;
        print_error("%s: expected \"%s\", got %s \"%s\"\n", broken[i].line.data, broken[i].reason,
                    mr_rc_name(rc), err.text);
    }
    assert_int_equal(wrong, 0);
}

static void names_over_their_limit_are_refused(void **state)
{
    (void)state;
    char line[1200] = "{\"id\":\"x\",\"doc\":{},\"collection\":\"";
    size_t len = strlen(line);
    memset(line + len, 'c', 1025);
    memcpy(line + len + 1025, "\"}", 2);
    struct mr_event event;
    struct mr_err err = {0};
    assert_int_equal(parse(line, len + 1027, &event, &err), MR_USAGE);
    assert_non_null(strstr(err.text, "expected 1 to 1024 bytes, got 1025"));
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    enum { DEEP = 5000 };
    static char line[DEEP * 6 + 100];
    size_t len = (size_t)sprintf(line, "{\"collection\":\"c\",\"id\":\"x\",\"doc\":");
    for (int i = 0; i < DEEP; i++, len += 5)
        memcpy(line + len, "{\"a\":", 5);
    line[len++] = '1';
    memset(line + len, '}', DEEP + 1);
    struct mr_event event;
    struct mr_err err = {0};
    assert_int_equal(parse(line, len + DEEP + 1, &event, &err), MR_USAGE);
}

static void rfc_3339_is_read_as_it_is_defined(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
        bool good;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0, true},
        {"2026-01-01T00:00:00.123456789Z", 1767225600123456, true},
        {"2026-01-01t02:30:00+02:30", 1767225600000000, true},
        {"2025-12-31T23:00:00-01:00", 1767225600000000, true},
        {"1969-12-31T23:59:59.5Z", -500000, true},
        {"2000-02-29T00:00:00Z", 951782400000000, true},
        {"2016-12-31T23:59:60Z", 1483228800000000, true},
        {"0000-01-01T00:00:00Z", -62167219200000000, true},
        {"1900-02-29T00:00:00Z", 0, false},
        {"2026-01-01T00:00:00", 0, false},
        {"2026-01-01 00:00:00Z", 0, false},
        {"2026-01-01T00:00:00.Z", 0, false},
        {"2026-01-01T24:00:00Z", 0, false},
        {"2026-13-01T00:00:00Z", 0, false},
        {"2026-01-01T00:00:00+0200", 0, false},
        {"2026-01-01T00:00:00Zx", 0, false},
        {"", 0, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t us = 0;
        if (mr_rfc3339_parse(mr_str_from(rows[i].text), &us) != rows[i].good ||
            (rows[i].good && us != rows[i].us))
            fail_msg("%s: %lld", rows[i].text, (long long)us);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_line_gives_every_part),
        cmocka_unit_test(a_short_line_is_an_insert_of_the_default_database),
        cmocka_unit_test(deletes_and_truncates_need_no_document),
        cmocka_unit_test(empty_lines_are_passed_over),
        cmocka_unit_test(every_broken_line_is_refused_with_its_reason),
        cmocka_unit_test(names_over_their_limit_are_refused),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(rfc_3339_is_read_as_it_is_defined),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
