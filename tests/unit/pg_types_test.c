#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "puller/sources/pg_json.h"
#include "puller/sources/pg_time.h"
#include "puller/sources/pg_types.h"
#include "tests/pgoutput.h"

static struct mr_pg_scratch scratch;
static struct mr_bson_writer writer;

/* The only field of a document that holds one value. */
static struct mr_bson_value put(struct mr_pg_type type, uint8_t form, const void *data, size_t len)
{
    struct mr_pg_value value = {data, (uint32_t)len, form};
    struct mr_bson_value out = {0};
    mr_bson_writer_reset(&writer);
    mr_bson_begin(&writer);
    assert_int_equal(mr_pg_put(&writer, MR_STR("v"), type, &value, &scratch), MR_OK);
    mr_bson_end(&writer);
    assert_true(writer.ok);
    assert_int_equal(mr_bson_validate(writer.data, writer.len), MR_OK);
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v"), &out));
    return out;
}

static struct mr_bson_value put_text(enum mr_pg_kind kind, bool array, const char *text)
{
    return put((struct mr_pg_type){(uint8_t)kind, array}, MR_PG_FORM_TEXT, text, strlen(text));
}

static struct mr_bson_value put_binary(enum mr_pg_kind kind, bool array,
                                       const struct pgoutput *bytes)
{
    return put((struct mr_pg_type){(uint8_t)kind, array}, MR_PG_FORM_BINARY, bytes->data,
               bytes->len);
}

static void assert_string(const struct mr_bson_value *value, const char *text)
{
    assert_int_equal(value->type, MR_BSON_STRING);
    struct mr_str got = mr_bson_string(value);
    assert_int_equal(got.len, strlen(text));
    assert_memory_equal(got.data, text, got.len);
}

static void integers_have_their_width_in_both_forms(void **state)
{
    (void)state;
    struct mr_bson_value v = put_text(MR_PG_INT2, false, "-32768");
    assert_int_equal(v.type, MR_BSON_INT32);
    assert_int_equal(mr_bson_int32(&v), -32768);
    v = put_text(MR_PG_INT8, false, "-9223372036854775808");
    assert_int_equal(v.type, MR_BSON_INT64);
    assert_true(mr_bson_int64(&v) == INT64_MIN);
    struct pgoutput bytes = {.len = 0};
    pgoutput_u32(&bytes, (uint32_t)-5);
    v = put_binary(MR_PG_INT4, false, &bytes);
    assert_int_equal(mr_bson_int32(&v), -5);
    bytes.len = 0;
    pgoutput_u64(&bytes, UINT64_C(1) << 62);
    v = put_binary(MR_PG_INT8, false, &bytes);
    assert_true(mr_bson_int64(&v) == INT64_C(1) << 62);
    bytes.len = 0;
    pgoutput_u32(&bytes, UINT32_MAX);
    v = put_binary(MR_PG_OID, false, &bytes);
    assert_true(mr_bson_int64(&v) == UINT32_MAX);
}

static void floats_keep_nan_and_infinity(void **state)
{
    (void)state;
    struct mr_bson_value v = put_text(MR_PG_FLOAT8, false, "NaN");
    assert_true(isnan(mr_bson_double(&v)));
    v = put_text(MR_PG_FLOAT8, false, "-Infinity");
    assert_true(mr_bson_double(&v) < 0 && isinf(mr_bson_double(&v)));
    struct pgoutput bytes = {.len = 0};
    pgoutput_u32(&bytes, 0x3dcccccd); /* 0.1f */
    v = put_binary(MR_PG_FLOAT4, false, &bytes);
    struct mr_bson_value w = put_text(MR_PG_FLOAT4, false, "0.1");
    assert_memory_equal(v.data, w.data, 8);
}

static void booleans_bytes_and_uuids_are_alike_in_both_forms(void **state)
{
    (void)state;
    struct mr_bson_value v = put_text(MR_PG_BOOL, false, "t");
    assert_true(mr_bson_bool(&v));
    v = put_text(MR_PG_BYTEA, false, "\\x00ff10");
    assert_int_equal(v.type, MR_BSON_BINARY);
    assert_int_equal(v.len, 4 + 1 + 3);
    assert_memory_equal(v.data + 5, "\x00\xff\x10", 3);
    struct pgoutput bytes = {.len = 0};
    for (uint8_t i = 0; i < 16; i++)
        pgoutput_u8(&bytes, (uint8_t)(i * 17));
    v = put_binary(MR_PG_UUID, false, &bytes);
    assert_string(&v, "00112233-4455-6677-8899-aabbccddeeff");
}

struct numeric_row {
    const char *text;
    uint64_t high, low;
};

static void numeric_becomes_an_exact_decimal128_or_stays_text(void **state)
{
    (void)state;
    static const struct numeric_row rows[] = {
        {"0", 0x3040000000000000, 0},
        {"1", 0x3040000000000000, 1},
        {"-1", 0xb040000000000000, 1},
        {"12.50", 0x303c000000000000, 1250},
        {"0.001234", 0x3034000000000000, 1234},
        {"9999999999999999999999999999999999", 0x3041ed09bead87c0, 0x378d8e63ffffffff},
        {"NaN", 0x7c00000000000000, 0},
        {"Infinity", 0x7800000000000000, 0},
        {"-Infinity", 0xf800000000000000, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mr_bson_value v = put_text(MR_PG_NUMERIC, false, rows[i].text);
        uint64_t got[2];
        assert_int_equal(v.type, MR_BSON_DECIMAL128);
        memcpy(got, v.data, sizeof got);
        assert_true(got[0] == rows[i].low);
        assert_true(got[1] == rows[i].high);
    }
    struct mr_bson_value v = put_text(MR_PG_NUMERIC, false, "12345678901234567890123456789012345");
    assert_string(&v, "12345678901234567890123456789012345");
    v = put_text(MR_PG_NUMERIC, false, "100000000000000000000000000000000000000"); /* 1e38 fits */
    assert_int_equal(v.type, MR_BSON_DECIMAL128);
}

static void assert_numeric_text(const uint16_t *words, size_t count, const char *wanted)
{
    struct pgoutput bytes = {.len = 0};
    struct mr_str text;
    for (size_t i = 0; i < count; i++)
        pgoutput_u16(&bytes, words[i]);
    struct mr_pg_value value = {bytes.data, (uint32_t)bytes.len, MR_PG_FORM_BINARY};
    assert_int_equal(mr_pg_text((struct mr_pg_type){MR_PG_NUMERIC, false}, &value, &scratch, &text),
                     MR_OK);
    assert_int_equal(text.len, strlen(wanted));
    assert_memory_equal(text.data, wanted, text.len);
}

static void binary_numeric_reads_as_the_server_prints_it(void **state)
{
    (void)state;
    assert_numeric_text((uint16_t[]){2, 0, 0, 2, 12, 5000}, 6, "12.50");
    assert_numeric_text((uint16_t[]){0, 0, 0, 0}, 4, "0");
    assert_numeric_text((uint16_t[]){0, 0, 0, 3}, 4, "0.000");
    assert_numeric_text((uint16_t[]){1, (uint16_t)-2, 0x4000, 8, 1234}, 5, "-0.00001234");
    assert_numeric_text((uint16_t[]){1, 2, 0, 0, 1}, 5, "100000000");
    assert_numeric_text((uint16_t[]){2, 1, 0, 0, 12, 34}, 6, "120034");
}

static void assert_ms(enum mr_pg_kind kind, const char *text, int64_t ms)
{
    struct mr_bson_value v = put_text(kind, false, text);
    assert_int_equal(v.type, MR_BSON_DATE);
    assert_true(mr_bson_int64(&v) == ms);
}

static void times_become_milliseconds_cut_towards_the_past(void **state)
{
    (void)state;
    assert_ms(MR_PG_TIMESTAMPTZ, "1970-01-01 00:00:00.0019+00", 1);
    assert_ms(MR_PG_TIMESTAMPTZ, "1969-12-31 23:59:59.9999+00", -1);
    assert_ms(MR_PG_TIMESTAMPTZ, "2026-01-01 02:00:00+05:30", 1767213000000);
    assert_ms(MR_PG_TIMESTAMP, "2000-02-29 12:00:00", 951825600000);
    assert_ms(MR_PG_DATE, "0001-01-01 BC", -62167219200000);
    assert_ms(MR_PG_DATE, "infinity", INT64_MAX);
    assert_ms(MR_PG_TIMESTAMP, "-infinity", INT64_MIN);
    assert_ms(MR_PG_DATE, "10000-01-01", 253402300800000);
    struct pgoutput bytes = {.len = 0};
    pgoutput_u64(&bytes, (uint64_t)-1); /* a microsecond before 2000 */
    struct mr_bson_value v = put_binary(MR_PG_TIMESTAMPTZ, false, &bytes);
    assert_true(mr_bson_int64(&v) == 946684799999);
    v = put_text(MR_PG_TIMESTAMP, false, "yesterday"); /* no such text: kept as it is */
    assert_string(&v, "yesterday");
}

static void assert_formatted(size_t len, const char *got, const char *wanted)
{
    assert_int_equal(len, strlen(wanted));
    assert_memory_equal(got, wanted, len);
}

static void binary_times_read_as_the_server_prints_them(void **state)
{
    (void)state;
    char text[MR_PG_TIME_TEXT_MAX];
    assert_formatted(mr_pg_date_format(0, text), text, "2000-01-01");
    assert_formatted(mr_pg_date_format(-730119, text), text, "0001-01-01");
    assert_formatted(mr_pg_date_format(-730120, text), text, "0001-12-31 BC");
    assert_formatted(mr_pg_timestamp_format(-1, true, text), text, "1999-12-31 23:59:59.999999+00");
    assert_formatted(mr_pg_timestamp_format(1500000, false, text), text, "2000-01-01 00:00:01.5");
    assert_formatted(mr_pg_timeofday_format(3723000000, -19800, text), text, "01:02:03+05:30");
    assert_formatted(mr_pg_timeofday_format(0, 12600 + 15, text), text, "00:00:00-03:30:15");
    assert_formatted(mr_pg_interval_format(0, 0, 0, text), text, "00:00:00");
    assert_formatted(mr_pg_interval_format(-3600000000, 2, 14, text), text,
                     "1 year 2 mons 2 days -01:00:00");
    assert_formatted(mr_pg_interval_format(500000, -1, 0, text), text, "-1 days +00:00:00.5");
    assert_formatted(mr_pg_interval_format(0, 1, -1, text), text, "-1 mons +1 day");
    assert_formatted(mr_pg_interval_format(INT64_MAX, INT32_MAX, INT32_MAX, text), text,
                     "infinity"); /* PostgreSQL 17 and newer */
    assert_formatted(mr_pg_interval_format(INT64_MIN, INT32_MIN, INT32_MIN, text), text,
                     "-infinity");
}

static void json_becomes_documents_with_typed_numbers(void **state)
{
    (void)state;
    struct mr_bson_value v = put_text(MR_PG_JSON, false,
                                      " {\"a\" : {\"b\\u00e9\" : [1, 2147483648, 1.0, 1e2,"
                                      " true, null, \"x\\n\\ud83d\\ude00\"]}} ");
    struct mr_bson_value e;
    assert_int_equal(v.type, MR_BSON_DOCUMENT);
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.a.b\xc3\xa9.0"), &e));
    assert_int_equal(e.type, MR_BSON_INT32);
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.a.b\xc3\xa9.1"), &e));
    assert_int_equal(e.type, MR_BSON_INT64);
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.a.b\xc3\xa9.2"), &e));
    assert_int_equal(e.type, MR_BSON_DOUBLE);
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.a.b\xc3\xa9.6"), &e));
    assert_string(&e, "x\n\xf0\x9f\x98\x80");
    struct pgoutput bytes = {.len = 0};
    pgoutput_bytes(&bytes, "\1-9223372036854775808", 21);
    v = put_binary(MR_PG_JSONB, false, &bytes);
    assert_true(mr_bson_int64(&v) == INT64_MIN);
    v = put_text(MR_PG_JSON, false, "9223372036854775808");
    assert_int_equal(v.type, MR_BSON_DOUBLE);
}

static void json_that_bson_cannot_hold_stays_text(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"a\\u0000b\":1}", "{\"a\":", "[1,]", "01", "nul", "\"\\x\"", "1 2", "[1}",
        "{\"a\" 1}",         "\"\t\"",  "-",    "1.", "1e"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct mr_bson_value v = put_text(MR_PG_JSON, false, texts[i]);
        assert_string(&v, texts[i]);
    }
    char deep[301];
    memset(deep, '[', 150);
    memset(deep + 150, ']', 150);
    deep[300] = '\0';
    struct mr_bson_value v = put_text(MR_PG_JSON, false, deep);
    assert_string(&v, deep);
    v = put_text(MR_PG_JSON, false, "\"\\ud800x\""); /* half of a pair */
    assert_string(&v, "\xef\xbf\xbdx");
}

static void what_is_too_large_fails_the_document_and_does_not_become_text(void **state)
{
    (void)state;
    static const struct {
        struct mr_pg_type type;
        const char *text;
    } rows[] = {{{MR_PG_JSON, false}, "[1,2,3,4,5,6,7,8]"},
                {{MR_PG_JSONB, false}, "{\"a\":1,\"b\":{\"c\":[1,2]},\"d\":3}"},
                {{MR_PG_INT4, true}, "{1,2,3,4,5,6,7,8}"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mr_pg_value value = {(const uint8_t *)rows[i].text, (uint32_t)strlen(rows[i].text),
                                    MR_PG_FORM_TEXT};
        writer.len_max = 40; /* the text itself would fit */
        mr_bson_writer_reset(&writer);
        mr_bson_begin(&writer);
        enum mr_rc rc = mr_pg_put(&writer, MR_STR("v"), rows[i].type, &value, &scratch);
        writer.len_max = INT32_MAX;
        assert_int_equal(rc, MR_OK);
        assert_false(writer.ok);
    }
}

static void arrays_nest_by_dimension_in_both_forms(void **state)
{
    (void)state;
    struct mr_bson_value e;
    put_text(MR_PG_INT4, true, "[0:1][3:4]={{1,2},{3,NULL}}");
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.1.0"), &e));
    assert_int_equal(mr_bson_int32(&e), 3);
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.1.1"), &e));
    assert_int_equal(e.type, MR_BSON_NULL);
    put_text(MR_PG_TEXT, true, "{\"a,\\\"b\\\\\",NULL,\"NULL\",x}");
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.0"), &e));
    assert_string(&e, "a,\"b\\");
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.2"), &e));
    assert_string(&e, "NULL");
    put_text(MR_PG_JSONB, true, "{\"{\\\"k\\\": \\\"a\\\\\\\\b\\\"}\",\"[1]\"}");
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.0.k"), &e));
    assert_string(&e, "a\\b");
    struct pgoutput bytes = {.len = 0};
    static const uint32_t words[] = {2, 1, 23, 2, 1, 1, 1, 4, 7, UINT32_MAX}; /* {{7},{NULL}} */
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        pgoutput_u32(&bytes, words[i]);
    put_binary(MR_PG_INT4, true, &bytes);
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.0.0"), &e));
    assert_int_equal(mr_bson_int32(&e), 7);
    assert_true(mr_bson_find(writer.data, writer.len, MR_STR("v.1.0"), &e));
    assert_int_equal(e.type, MR_BSON_NULL);
    struct mr_bson_value v = put_text(MR_PG_INT4, true, "{1,{2}");
    assert_string(&v, "{1,{2}"); /* does not read as an array */
}

static void text_that_is_no_utf8_becomes_binary(void **state)
{
    (void)state;
    struct mr_bson_value v = put_text(MR_PG_TEXT, false, "12345678\xff");
    assert_int_equal(v.type, MR_BSON_BINARY);
    v = put_text(MR_PG_TEXT, false, "\xed\xa0\x80"); /* a surrogate */
    assert_int_equal(v.type, MR_BSON_BINARY);
    v = put_text(MR_PG_TEXT, false, "gr\xc3\xbc\xc3\x9f");
    assert_int_equal(v.type, MR_BSON_STRING);
}

static void binary_of_a_wrong_length_is_corrupt(void **state)
{
    (void)state;
    static const uint8_t bytes[40] = {0};
    for (int kind = MR_PG_OPAQUE; kind < MR_PG_KIND_COUNT; kind++) {
        if (kind == MR_PG_TEXT || kind == MR_PG_BYTEA || kind == MR_PG_JSON)
            continue;
        struct mr_pg_value value = {bytes, 3, MR_PG_FORM_BINARY};
        mr_bson_writer_reset(&writer);
        mr_bson_begin(&writer);
        struct mr_pg_type type = {(uint8_t)kind, false};
        assert_int_equal(mr_pg_put(&writer, MR_STR("v"), type, &value, &scratch), MR_CORRUPT);
        type.array = true;
        assert_int_equal(mr_pg_put(&writer, MR_STR("v"), type, &value, &scratch), MR_CORRUPT);
    }
}

int main(void)
{
    mr_bson_writer_init(&writer);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_have_their_width_in_both_forms),
        cmocka_unit_test(floats_keep_nan_and_infinity),
        cmocka_unit_test(booleans_bytes_and_uuids_are_alike_in_both_forms),
        cmocka_unit_test(numeric_becomes_an_exact_decimal128_or_stays_text),
        cmocka_unit_test(binary_numeric_reads_as_the_server_prints_it),
        cmocka_unit_test(times_become_milliseconds_cut_towards_the_past),
        cmocka_unit_test(binary_times_read_as_the_server_prints_them),
        cmocka_unit_test(json_becomes_documents_with_typed_numbers),
        cmocka_unit_test(json_that_bson_cannot_hold_stays_text),
        cmocka_unit_test(what_is_too_large_fails_the_document_and_does_not_become_text),
        cmocka_unit_test(arrays_nest_by_dimension_in_both_forms),
        cmocka_unit_test(text_that_is_no_utf8_becomes_binary),
        cmocka_unit_test(binary_of_a_wrong_length_is_corrupt),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mr_bson_writer_fini(&writer);
    mr_pg_scratch_fini(&scratch);
    return failed;
}
