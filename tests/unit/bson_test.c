#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/bson.h"

static const struct mr_str no_key = {"", 0};

static struct mr_str sample(struct mr_bson_writer *w)
{
    mr_bson_writer_init(w);
    mr_bson_begin(w);
    mr_bson_put_string(w, MR_STR("name"), MR_STR("Zo\xc3\xab"));
    mr_bson_put_int32(w, MR_STR("small"), -7);
    mr_bson_put_int64(w, MR_STR("large"), INT64_C(1) << 60);
    mr_bson_put_double(w, MR_STR("half"), 0.5);
    mr_bson_put_bool(w, MR_STR("yes"), true);
    mr_bson_put_null(w, MR_STR("nothing"));
    mr_bson_put_date_ms(w, MR_STR("when"), 1700000000000);
    mr_bson_put_binary(w, MR_STR("raw"), 4, MR_STR("\0\1\2"));
    mr_bson_put_decimal128(w, MR_STR("money"), 1, 0x3040000000000000);
    mr_bson_begin_array(w, MR_STR("items"));
    for (int i = 0; i < 2; i++) {
        mr_bson_begin_document(w, mr_str_from(i == 0 ? "0" : "1"));
        mr_bson_put_string(w, MR_STR("sku"), mr_str_from(i == 0 ? "first" : "second"));
        mr_bson_end(w);
    }
    mr_bson_end(w);
    mr_bson_end(w);
    return mr_bson_bytes(w);
}

static void what_is_written_is_read_back_with_its_types(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    struct mr_str doc = sample(&w);
    assert_true(doc.len > 0);
    assert_int_equal(mr_bson_validate(doc.data, doc.len), MR_OK);
    static const struct {
        const char *key;
        uint8_t type;
    } expected[] = {{"name", MR_BSON_STRING},      {"small", MR_BSON_INT32},
                    {"large", MR_BSON_INT64},      {"half", MR_BSON_DOUBLE},
                    {"yes", MR_BSON_BOOL},         {"nothing", MR_BSON_NULL},
                    {"when", MR_BSON_DATE},        {"raw", MR_BSON_BINARY},
                    {"money", MR_BSON_DECIMAL128}, {"items", MR_BSON_ARRAY}};
    struct mr_bson_iter iter;
    struct mr_bson_element e;
    assert_int_equal(mr_bson_iter_init(&iter, doc.data, doc.len), MR_OK);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_int_equal(mr_bson_iter_next(&iter, &e), MR_OK);
        assert_true(mr_str_equal(e.key, mr_str_from(expected[i].key)));
        assert_int_equal(e.value.type, expected[i].type);
    }
    assert_int_equal(mr_bson_iter_next(&iter, &e), MR_AGAIN);
    assert_int_equal(mr_bson_iter_next(&iter, &e), MR_AGAIN);
    mr_bson_writer_fini(&w);
}

static void values_are_found_by_dotted_path_through_arrays(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    struct mr_str doc = sample(&w);
    struct mr_bson_value v;
    assert_true(mr_bson_find(doc.data, doc.len, MR_STR("items.1.sku"), &v));
    assert_true(mr_str_equal(mr_bson_string(&v), MR_STR("second")));
    assert_true(mr_bson_find(doc.data, doc.len, MR_STR("small"), &v));
    assert_int_equal(mr_bson_int32(&v), -7);
    assert_true(mr_bson_find(doc.data, doc.len, MR_STR("large"), &v));
    assert_int_equal(mr_bson_int64(&v), INT64_C(1) << 60);
    assert_true(mr_bson_find(doc.data, doc.len, MR_STR("when"), &v));
    assert_int_equal(mr_bson_int64(&v), 1700000000000);
    assert_true(mr_bson_find(doc.data, doc.len, MR_STR("half"), &v));
    assert_true(mr_bson_double(&v) == 0.5);
    assert_true(mr_bson_find(doc.data, doc.len, MR_STR("yes"), &v));
    assert_true(mr_bson_bool(&v));
    static const char *const missing[] = {"items.2.sku", "name.x", "items.1.sku.x", "",
                                          ".",           "items.", "items..sku",    "Name",
                                          "nam",         "small.0"};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++)
        assert_false(mr_bson_find(doc.data, doc.len, mr_str_from(missing[i]), &v));
    assert_false(mr_bson_find(NULL, 0, MR_STR("a"), &v));
    mr_bson_writer_fini(&w);
}

static void every_cut_and_every_flipped_length_is_refused_or_harmless(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    struct mr_str doc = sample(&w);
    for (size_t len = 0; len < doc.len; len++) {
        uint8_t *cut =
            malloc(len ? len : 1); /* of the exact size, so that a sanitizer sees an overrun */
        assert_non_null(cut);
        memcpy(cut, doc.data, len);
        assert_int_equal(mr_bson_validate(cut, len), MR_CORRUPT);
        free(cut);
    }
    uint8_t *copy = malloc(doc.len);
    assert_non_null(copy);
    for (size_t i = 0; i < doc.len * 256; i++) {
        memcpy(copy, doc.data, doc.len);
        copy[i / 256] = (uint8_t)i;
        struct mr_bson_value v;
        if (mr_bson_validate(copy, doc.len) == MR_OK)
            mr_bson_find(copy, doc.len, MR_STR("items.1.sku"), &v);
    }
    free(copy);
    mr_bson_writer_fini(&w);
}

static void text_that_is_no_utf8_is_corrupt(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x80",         "\xc0\xaf",         "\xe0\x80\xaf",
                                      "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
                                      "\xc3",         "longer text \xff"};
    static const char *const good[] = {"",
                                       "plain ascii text",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "12345678\xf4\x8f\xbf\xbf"};
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    for (size_t i = 0; i < sizeof bad / sizeof *bad + sizeof good / sizeof *good; i++) {
        bool is_bad = i < sizeof bad / sizeof *bad;
        struct mr_str text = mr_str_from(is_bad ? bad[i] : good[i - sizeof bad / sizeof *bad]);
        for (int as_key = 0; as_key < 2; as_key++) {
            mr_bson_writer_reset(&w);
            mr_bson_begin(&w);
            if (as_key)
                mr_bson_put_null(&w, text);
            else
                mr_bson_put_string(&w, MR_STR("k"), text);
            mr_bson_end(&w);
            struct mr_str doc = mr_bson_bytes(&w);
            assert_int_equal(mr_bson_validate(doc.data, doc.len), is_bad ? MR_CORRUPT : MR_OK);
        }
    }
    mr_bson_writer_fini(&w);
}

static void depth_is_limited_on_both_sides(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    for (uint32_t depth = MR_BSON_DEPTH_MAX - 1; depth <= MR_BSON_DEPTH_MAX + 1; depth++) {
        mr_bson_writer_reset(&w);
        mr_bson_begin(&w);
        for (uint32_t i = 1; i < depth; i++)
            mr_bson_begin_array(&w, MR_STR("0"));
        for (uint32_t i = 0; i < depth; i++)
            mr_bson_end(&w);
        struct mr_str doc = mr_bson_bytes(&w);
        assert_int_equal(doc.len > 0, depth <= MR_BSON_DEPTH_MAX);
        if (doc.len)
            assert_int_equal(mr_bson_validate(doc.data, doc.len), MR_OK);
    }
    mr_bson_writer_fini(&w);

    /* One level more than the writer would write: length, type, empty key going in, NULs coming
     * out. */
    enum { LEVELS = MR_BSON_DEPTH_MAX + 1, TOTAL = LEVELS * 5 + (LEVELS - 1) * 2 };
    uint8_t deep[TOTAL];
    size_t at = 0, end = TOTAL;
    for (uint32_t i = 0; i < LEVELS; i++) {
        uint32_t own = (uint32_t)(end - at);
        memcpy(deep + at, &own, sizeof own);
        at += sizeof own;
        deep[--end] = 0;
        if (i + 1 < LEVELS) {
            deep[at++] = MR_BSON_DOCUMENT;
            deep[at++] = 0;
        }
    }
    assert_int_equal(mr_bson_validate(deep + 6, TOTAL - 7), MR_OK);
    assert_int_equal(mr_bson_validate(deep, TOTAL), MR_CORRUPT);
}

static void a_full_fixed_writer_refuses_and_stays_refused(void **state)
{
    (void)state;
    uint8_t buffer[32];
    struct mr_bson_writer w;
    mr_bson_writer_init_fixed(&w, buffer, sizeof buffer);
    mr_bson_begin(&w);
    mr_bson_put_string(&w, MR_STR("k"), MR_STR("this is longer than the buffer has room for"));
    assert_false(w.ok);
    mr_bson_put_null(&w, MR_STR("k"));
    mr_bson_end(&w);
    assert_int_equal(mr_bson_bytes(&w).len, 0);
    mr_bson_writer_reset(&w);
    mr_bson_begin(&w);
    mr_bson_put_int32(&w, no_key, 1);
    mr_bson_end(&w);
    assert_int_equal(mr_bson_bytes(&w).len, 11);
    mr_bson_writer_fini(&w);
}

static void a_writer_refuses_what_is_longer_than_it_may_be(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    for (size_t len_max = 10; len_max <= 11; len_max++) {
        w.len_max = len_max;
        mr_bson_writer_reset(&w);
        mr_bson_begin(&w);
        mr_bson_put_int32(&w, no_key, 1);
        mr_bson_end(&w);
        assert_int_equal(w.ok, len_max == 11);
    }
    mr_bson_writer_fini(&w);
}

static void misuse_of_the_writer_gives_no_document(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    mr_bson_put_null(&w, MR_STR("k")); /* outside of any document */
    assert_false(w.ok);
    mr_bson_writer_reset(&w);
    mr_bson_end(&w);
    assert_false(w.ok);
    mr_bson_writer_reset(&w);
    mr_bson_begin(&w);
    assert_int_equal(mr_bson_bytes(&w).len, 0); /* still open */
    mr_bson_put_null(&w, MR_STR("a\0b"));
    assert_false(w.ok);
    mr_bson_writer_reset(&w);
    mr_bson_begin(&w);
    mr_bson_end(&w);
    mr_bson_begin(&w);
    assert_false(w.ok);
    mr_bson_writer_fini(&w);
}

static void types_with_a_length_of_their_own_are_checked(void **state)
{
    (void)state;
    /* regex "a", "i"; dbpointer; code; code with scope; min and max key; timestamp; oid; undefined
     */
    static const uint8_t doc[] = "\x6d\0\0\0"
                                 "\x0b"
                                 "r\0"
                                 "a\0"
                                 "i\0"
                                 "\x0c"
                                 "p\0"
                                 "\2\0\0\0x\0"
                                 "0123456789ab"
                                 "\x0d"
                                 "c\0"
                                 "\2\0\0\0x\0"
                                 "\x0f"
                                 "s\0"
                                 "\x0f\0\0\0"
                                 "\2\0\0\0x\0"
                                 "\5\0\0\0\0"
                                 "\xff"
                                 "m\0"
                                 "\x7f"
                                 "M\0"
                                 "\x11"
                                 "t\0"
                                 "01234567"
                                 "\x07"
                                 "o\0"
                                 "0123456789ab"
                                 "\x06"
                                 "u\0"
                                 "\x0e"
                                 "y\0"
                                 "\2\0\0\0x\0";
    uint8_t copy[sizeof doc];
    memcpy(copy, doc, sizeof doc);
    copy[0] = (uint8_t)sizeof doc;
    assert_int_equal(mr_bson_validate(copy, sizeof doc), MR_OK);
    for (size_t i = 4; i < sizeof doc; i++) {
        memcpy(copy, doc, sizeof doc);
        copy[0] = (uint8_t)sizeof doc;
        copy[i] = 0x55;
        (void)!mr_bson_validate(copy, sizeof doc);
    }
    memcpy(copy, doc, sizeof doc);
    copy[0] = (uint8_t)sizeof doc;
    struct mr_bson_value v;
    assert_true(mr_bson_find(copy, sizeof doc, MR_STR("y"), &v));
    assert_true(mr_str_equal(mr_bson_string(&v), MR_STR("x")));
    assert_true(mr_bson_find(copy, sizeof doc, MR_STR("M"), &v));
    assert_int_equal(v.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back_with_its_types),
        cmocka_unit_test(values_are_found_by_dotted_path_through_arrays),
        cmocka_unit_test(every_cut_and_every_flipped_length_is_refused_or_harmless),
        cmocka_unit_test(text_that_is_no_utf8_is_corrupt),
        cmocka_unit_test(depth_is_limited_on_both_sides),
        cmocka_unit_test(a_full_fixed_writer_refuses_and_stays_refused),
        cmocka_unit_test(a_writer_refuses_what_is_longer_than_it_may_be),
        cmocka_unit_test(misuse_of_the_writer_gives_no_document),
        cmocka_unit_test(types_with_a_length_of_their_own_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
