#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/bson.h"
#include "proto/json.h"

static void assert_json(const struct mr_json *json, const char *expected)
{
    if (json->failed || json->len != strlen(expected) || memcmp(json->data, expected, json->len))
        fail_msg("expected %s\n     got %.*s", expected, (int)json->len, json->data);
}

static void assert_document(struct mr_bson_writer *w, const char *expected)
{
    mr_bson_end(w);
    assert_true(w->ok);
    struct mr_json json = {0};
    assert_int_equal(mr_json_put_document(&json, mr_bson_bytes(w)), MR_OK);
    assert_json(&json, expected);
    mr_json_fini(&json);
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
}

static void begin(struct mr_bson_writer *w)
{
    mr_bson_writer_init(w);
    mr_bson_begin(w);
}

static void every_scalar_has_its_text(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    begin(&w);
    assert_document(&w, "{}");
    mr_bson_put_int32(&w, MR_STR("b"), -2147483647 - 1);
    mr_bson_put_int64(&w, MR_STR("a"), INT64_MIN);
    mr_bson_put_int64(&w, MR_STR("c"), INT64_MAX);
    assert_document(&w, "{\"b\":-2147483648,\"a\":-9223372036854775808,\"c\":9223372036854775807}");
    mr_bson_put_bool(&w, MR_STR("t"), true);
    mr_bson_put_bool(&w, MR_STR("f"), false);
    mr_bson_put_null(&w, MR_STR("n"));
    mr_bson_put_double(&w, MR_STR("nan"), (double)NAN);
    mr_bson_put_double(&w, MR_STR("inf"), (double)-INFINITY);
    assert_document(&w, "{\"t\":true,\"f\":false,\"n\":null,\"nan\":null,\"inf\":null}");
    mr_bson_put_binary(&w, MR_STR("x"), 0, MR_STR("a"));
    mr_bson_put_binary(&w, MR_STR("y"), 5, MR_STR("ab"));
    mr_bson_put_binary(&w, MR_STR("z"), 128, MR_STR("\xff\xfe\xfd"));
    mr_bson_put_binary(&w, MR_STR("0"), 0, MR_STR(""));
    mr_bson_put_binary(&w, MR_STR("old"), 2, MR_STR("\2\0\0\0hi"));
    assert_document(&w, "{\"x\":{\"Subtype\":0,\"Data\":\"YQ==\"},"
                        "\"y\":{\"Subtype\":5,\"Data\":\"YWI=\"},"
                        "\"z\":{\"Subtype\":128,\"Data\":\"//79\"},"
                        "\"0\":{\"Subtype\":0,\"Data\":\"\"},"
                        "\"old\":{\"Subtype\":2,\"Data\":\"aGk=\"}}");
    mr_bson_writer_fini(&w);
}

static void put_raw(struct mr_bson_writer *w, uint8_t type, struct mr_str bytes)
{
    struct mr_bson_value value = {type, (const uint8_t *)bytes.data, (uint32_t)bytes.len};
    mr_bson_put_value(w, MR_STR("v"), &value);
}

static void types_of_mongodb_have_their_text(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    begin(&w);
    put_raw(&w, MR_BSON_OID, MR_STR("\x65\x0f\0\1\2\3\4\5\6\7\x08\xff"));
    assert_document(&w, "{\"v\":\"650f0001020304050607"
                        "08ff\"}");
    put_raw(&w, MR_BSON_TIMESTAMP, MR_STR("\7\0\0\0\xff\xff\xff\xff"));
    assert_document(&w, "{\"v\":{\"T\":4294967295,\"I\":7}}");
    put_raw(&w, MR_BSON_REGEX, MR_STR("^a\"\0i\0"));
    assert_document(&w, "{\"v\":{\"Pattern\":\"^a\\\"\",\"Options\":\"i\"}}");
    put_raw(&w, MR_BSON_DBPOINTER,
            MR_STR("\3\0\0\0ab\0"
                   "123456789012"));
    assert_document(&w, "{\"v\":{\"DB\":\"ab\",\"Pointer\":\"313233343536373839303132\"}}");
    put_raw(&w, MR_BSON_CODE, MR_STR("\2\0\0\0f\0"));
    assert_document(&w, "{\"v\":\"f\"}");
    put_raw(&w, MR_BSON_SYMBOL, MR_STR("\2\0\0\0s\0"));
    assert_document(&w, "{\"v\":\"s\"}");
    put_raw(&w, MR_BSON_CODE_SCOPE, MR_STR("\x16\0\0\0\2\0\0\0f\0\x0c\0\0\0\x10x\0\1\0\0\0\0"));
    assert_document(&w, "{\"v\":{\"Code\":\"f\",\"Scope\":{\"x\":1}}}");
    put_raw(&w, MR_BSON_MINKEY, MR_STR(""));
    assert_document(&w, "{\"v\":{}}");
    put_raw(&w, MR_BSON_UNDEFINED, MR_STR(""));
    assert_document(&w, "{\"v\":null}");
    mr_bson_writer_fini(&w);
}

static void keys_keep_their_order_and_levels_nest(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    begin(&w);
    mr_bson_put_int32(&w, MR_STR("z"), 1);
    mr_bson_begin_array(&w, MR_STR("a"));
    mr_bson_begin_document(&w, MR_STR("0"));
    mr_bson_end(&w);
    mr_bson_begin_document(&w, MR_STR("1"));
    mr_bson_put_int32(&w, MR_STR("k"), 2);
    mr_bson_begin_array(&w, MR_STR("e"));
    mr_bson_end(&w);
    mr_bson_end(&w);
    mr_bson_put_int32(&w, MR_STR("2"), 3);
    mr_bson_end(&w);
    mr_bson_put_int32(&w, MR_STR(""), 4);
    assert_document(&w, "{\"z\":1,\"a\":[{},{\"k\":2,\"e\":[]},3],\"\":4}");
    mr_bson_writer_fini(&w);
}

static void strings_are_escaped_for_json_and_html(void **state)
{
    (void)state;
    static const struct {
        struct mr_str in;
        const char *out;
    } rows[] = {
        {{"", 0}, "\"\""},
        {{"a\0b", 3}, "\"a\\u0000b\""},
        {{"\"\\/\b\f\n\r\t\x1f\x7f", 10}, "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u001f\x7f\""},
        {{"<a href='x'>&", 13}, "\"\\u003ca href='x'\\u003e\\u0026\""},
        {{"\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa", 9}, "\"\\u2028\\u2029\xe2\x80\xaa\""},
        {{"Zo\xc3\xab \xf0\x9f\x98\x80 \xed\x9f\xbf", 13},
         "\"Zo\xc3\xab \xf0\x9f\x98\x80 \xed\x9f\xbf\""},
        {{"\x80", 1}, "\"\\ufffd\""},
        {{"\xc0\xaf", 2}, "\"\\ufffd\\ufffd\""},            /* overlong */
        {{"\xed\xa0\x80", 3}, "\"\\ufffd\\ufffd\\ufffd\""}, /* surrogate */
        {{"\xf4\x90\x80\x80", 4}, "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {{"x\xe2\x82", 3}, "\"x\\ufffd\\ufffd\""}, /* cut off */
        {{"\xf0\x8f\xbf\xbf", 4}, "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_json json = {0};
        mr_json_put_string(&json, rows[i].in);
        assert_json(&json, rows[i].out);
        mr_json_fini(&json);
    }
}

/* Sixteen bytes are looked at together: every byte, alone and at each place of a longer text. */
static void every_byte_is_told_apart_wherever_it_stands(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++)
        for (size_t at = 0; at < 40; at++) {
            char text[40], byte = (char)c;
            memset(text, 'x', sizeof text);
            text[at] = byte;
            struct mr_json alone = {0}, whole = {0};
            mr_json_put_string(&alone, (struct mr_str){&byte, 1});
            mr_json_put_string(&whole, (struct mr_str){text, sizeof text});
            assert_int_equal(whole.len, sizeof text - 1 + alone.len);
            assert_memory_equal(whole.data + 1 + at, alone.data + 1, alone.len - 2);
            mr_json_fini(&alone);
            mr_json_fini(&whole);
        }
}

static void doubles_have_the_shortest_text(void **state)
{
    (void)state;
    static const struct {
        double in;
        const char *out;
    } rows[] = {
        {1.0, "1"},
        {0.0, "0"},
        {-0.0, "-0"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {0.05, "0.05"},
        {0.1 + 0.2, "0.30000000000000004"},
        {123456.789, "123456.789"},
        {1e-6, "0.000001"},
        {1.5e-6, "0.0000015"},
        {1e-7, "1e-7"},
        {1.25e-10, "1.25e-10"},
        {1e20, "100000000000000000000"},
        {1e21, "1e+21"},
        {1.5e300, "1.5e+300"},
        {5e-324, "5e-324"},
        {DBL_MAX, "1.7976931348623157e+308"},
        {DBL_MIN, "2.2250738585072014e-308"},
        {9007199254740991.0, "9007199254740991"},
        {9007199254740992.0, "9007199254740992"},
        {1.0 / 3.0, "0.3333333333333333"},
        {123456789012345.6, "123456789012345.6"},
        {2.5e15 + 0.5, "2500000000000000.5"},
        {3.141592653589793, "3.141592653589793"},
        {99.99, "99.99"},
        {1e15, "1000000000000000"},
        {0.000123456789, "0.000123456789"},
        {1234567890123456789.0, "1234567890123456800"},
        {0.000001234567890123456, "0.000001234567890123456"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_json json = {0};
        mr_json_put_double(&json, rows[i].in);
        assert_json(&json, rows[i].out);
        mr_json_fini(&json);
    }
}

static void many_doubles_read_back_the_same(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252u;
    struct mr_json json = {0};
    int count = getenv("MILLRACE_TEST_BRIEF") ? 3000 : 300000;
    for (int i = 0; i < count; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        double value;
        if (i % 3 == 0)
            memcpy(&value, &random, sizeof value);
        else if (i % 3 == 1)
            value = (double)(int64_t)(random >> 20) / 1e4;
        else
            value = (double)(random >> 12) * 0x1p-60;
        if (!isfinite(value))
            continue;
        mr_json_reset(&json);
        mr_json_put_double(&json, value);
        mr_json_put_raw(&json, (struct mr_str){"", 1});
        double back = strtod(json.data, NULL);
        char plain[40];
        snprintf(plain, sizeof plain, "%.17g", value);
        if (memcmp(&back, &value, sizeof value) != 0)
            fail_msg("%s became %s", plain, json.data);
    }
    mr_json_fini(&json);
}

static void dates_are_rfc_3339_in_utc(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *out;
    } rows[] = {
        {0, "1970-01-01T00:00:00Z"},
        {1767225600000, "2026-01-01T00:00:00Z"},
        {1767225600120, "2026-01-01T00:00:00.12Z"},
        {1767225600100, "2026-01-01T00:00:00.1Z"},
        {1767225600123, "2026-01-01T00:00:00.123Z"},
        {1767225600003, "2026-01-01T00:00:00.003Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00Z"},
        {-2203891200000, "1900-03-01T00:00:00Z"},
        {4107542399000, "2100-02-28T23:59:59Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
        {253402300800000, "+010000-01-01T00:00:00Z"},
        {-62167219200000, "0000-01-01T00:00:00Z"},
        {-62167219200001, "-000001-12-31T23:59:59.999Z"},
        {INT64_MAX, "+292278994-08-17T07:12:55.807Z"},
        {INT64_MIN, "-292275055-05-16T16:47:04.192Z"},
    };
    struct mr_bson_writer w;
    begin(&w);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char expected[64];
        mr_bson_put_date_ms(&w, MR_STR("d"), rows[i].ms);
        snprintf(expected, sizeof expected, "{\"d\":\"%s\"}", rows[i].out);
        assert_document(&w, expected);
    }
    mr_bson_writer_fini(&w);
}

static void decimals_are_strings_as_the_bson_specification_spells_them(void **state)
{
    (void)state;
    static const struct {
        uint64_t high, low;
        const char *out;
    } rows[] = {
        {0x7c00000000000000, 0, "NaN"},
        {0xfc00000000000000, 0, "NaN"},
        {0x7800000000000000, 0, "Infinity"},
        {0xf800000000000000, 0, "-Infinity"},
        {0x3040000000000000, 0, "0"},
        {0xb040000000000000, 0, "-0"},
        {0x3040000000000000, 12345, "12345"},
        {0x303c000000000000, 150, "1.50"},
        {0x3036000000000000, 5, "0.00005"},
        {0x3034000000000000, 1, "0.000001"},
        {0x3032000000000000, 1, "1E-7"},
        {0x304c000000000000, 1, "1E+6"},
        {0x304c000000000000, 1234, "1.234E+9"},
        {0x5fffed09bead87c0, 0x378d8e63ffffffff, "9.999999999999999999999999999999999E+6144"},
        {0x3040ffffffffffff, 0xffffffffffffffff, "5192296858534827628530496329220095"},
        {0x3041ed09bead87c0, 0x378d8e63ffffffff, "9999999999999999999999999999999999"},
        {0x6c10000000000000, 0, "0"}, /* the form of significands that are too large: zero */
        {0x0000000000000000, 1, "1E-6176"},
    };
    struct mr_bson_writer w;
    begin(&w);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char expected[80];
        mr_bson_put_decimal128(&w, MR_STR("d"), rows[i].low, rows[i].high);
        snprintf(expected, sizeof expected, "{\"d\":\"%s\"}", rows[i].out);
        assert_document(&w, expected);
    }
    mr_bson_writer_fini(&w);
}

static void a_damaged_document_appends_nothing(void **state)
{
    (void)state;
    struct mr_json json = {0};
    mr_json_put_raw(&json, MR_STR("before"));
    static const char good[] = "\x13\0\0\0\3a\0\x0b\0\0\0\2b\0\1\0\0\0\0";
    assert_int_equal(mr_json_put_document(&json, MR_STR("\5\0\0\0\1")), MR_CORRUPT);
    assert_int_equal(mr_json_put_document(&json, (struct mr_str){NULL, 0}), MR_CORRUPT);
    assert_int_equal(mr_json_put_document(&json, (struct mr_str){good, sizeof good - 1}),
                     MR_CORRUPT);
    assert_json(&json, "before");
    mr_json_fini(&json);
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    for (uint32_t depth = MR_BSON_DEPTH_MAX - 1; depth <= MR_BSON_DEPTH_MAX; depth++) {
        uint8_t bytes[8 * MR_BSON_DEPTH_MAX + 16];
        size_t len = 5 + 7u * depth, at = 0;
        for (uint32_t i = 0; i < depth; i++) {
            uint32_t stated = (uint32_t)(len - 7 * i);
            /* length, then {3, "", document ...}, closed by one zero each */
            memcpy(bytes + at, &stated, 4);
            bytes[at + 4] = 3;
            bytes[at + 5] = 0;
            bytes[len - 1 - i] = 0;
            at += 6;
        }
        memcpy(bytes + at, "\5\0\0\0\0", 5);
        struct mr_json json = {0};
        assert_int_equal(mr_json_put_document(&json, (struct mr_str){(char *)bytes, len}),
                         depth < MR_BSON_DEPTH_MAX ? MR_OK : MR_CORRUPT);
        mr_json_fini(&json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_has_its_text),
        cmocka_unit_test(types_of_mongodb_have_their_text),
        cmocka_unit_test(keys_keep_their_order_and_levels_nest),
        cmocka_unit_test(strings_are_escaped_for_json_and_html),
        cmocka_unit_test(every_byte_is_told_apart_wherever_it_stands),
        cmocka_unit_test(doubles_have_the_shortest_text),
        cmocka_unit_test(many_doubles_read_back_the_same),
        cmocka_unit_test(dates_are_rfc_3339_in_utc),
        cmocka_unit_test(decimals_are_strings_as_the_bson_specification_spells_them),
        cmocka_unit_test(a_damaged_document_appends_nothing),
        cmocka_unit_test(nesting_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
