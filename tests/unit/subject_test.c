/* Names as tokens of subjects: nothing in a name can add a level or a wildcard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "jetstream/subject.h"

static const char *token(struct mr_str name)
{
    static char out[1024];
    size_t len = 0;
    assert_true(mr_js_token_append(out, sizeof out, &len, name));
    assert_int_equal(strlen(out), len);
    return out;
}

static void plain_names_stay_as_they_are(void **state)
{
    (void)state;
    assert_string_equal(token(MR_STR("orders-2_A")), "orders-2_A");
}

static void every_other_byte_is_escaped(void **state)
{
    (void)state;
    assert_string_equal(token(MR_STR("public.orders")), "public%2Eorders");
    assert_string_equal(token(MR_STR("a*>b c%d/\\")), "a%2A%3Eb%20c%25d%2F%5C");
    assert_string_equal(token(MR_STR("\r\n\0$\xc3\xa9")), "%0D%0A%00%24%C3%A9");
    assert_string_equal(token(MR_STR("")), "%");
}

static void long_names_are_cut_and_stay_different(void **state)
{
    (void)state;
    char name[1024], first[1024];
    memset(name, '.', sizeof name);
    strcpy(first, token((struct mr_str){name, sizeof name}));
    assert_true(strlen(first) <= MR_JS_TOKEN_MAX);
    name[1023] = 'x';
    assert_string_not_equal(first, token((struct mr_str){name, sizeof name}));
    memset(name, 'a', sizeof name);
    assert_int_equal(strlen(token((struct mr_str){name, MR_JS_TOKEN_MAX})), MR_JS_TOKEN_MAX);
    assert_int_equal(strlen(token((struct mr_str){name, MR_JS_TOKEN_MAX + 1})), MR_JS_TOKEN_MAX);
}

static void a_streams_name_has_no_percent_and_is_cut_to_the_room_there_is(void **state)
{
    (void)state;
    char out[64], other[64], name[] = "\xd0\xb7\xd0\xb0\xd0\xba\xd0\xb0\xd0\xb7\xd1\x8b";
    size_t len = 0;
    assert_true(mr_js_text_append(out, sizeof out, &len, MR_STR("S_")));
    assert_true(mr_js_stream_append(out, sizeof out, &len, mr_str_from(name)));
    assert_string_equal(out, "S_=D0=B7=D0=B0=D0=BA=D0=B0=D0=B7=D1=8B");
    len = 2;
    assert_true(mr_js_stream_append(out, 32, &len, mr_str_from(name)));
    assert_int_equal(len, 31 - 2); /* 11 bytes in front of the hash: three escapes */
    assert_memory_equal(out, "S_=D0=B7=D0==", 13);
    strcpy(other, out);
    name[11] = '\x8c';
    len = 2;
    assert_true(mr_js_stream_append(out, 32, &len, mr_str_from(name)));
    assert_string_not_equal(out, other);
    len = 2;
    assert_false(mr_js_stream_append(out, 20, &len, mr_str_from(name)));
}

static void what_has_no_room_changes_nothing(void **state)
{
    (void)state;
    char out[8] = "ab.";
    size_t len = 3;
    assert_false(mr_js_token_append(out, sizeof out, &len, MR_STR("12345")));
    assert_string_equal(out, "ab.");
    assert_true(mr_js_token_append(out, sizeof out, &len, MR_STR("1.")));
    assert_string_equal(out, "ab.1%2E");
}

/* Ids on servers are made of it: draft-eastlake-fnv, test vectors of 64-bit FNV-1a. */
static void the_hash_of_a_name_is_fnv_1a(void **state)
{
    (void)state;
    assert_true(mr_js_hash(MR_STR("")) == UINT64_C(0xcbf29ce484222325));
    assert_true(mr_js_hash(MR_STR("a")) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(mr_js_hash(MR_STR("foobar")) == UINT64_C(0x85944171f73967e8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_names_stay_as_they_are),
        cmocka_unit_test(every_other_byte_is_escaped),
        cmocka_unit_test(long_names_are_cut_and_stay_different),
        cmocka_unit_test(a_streams_name_has_no_percent_and_is_cut_to_the_room_there_is),
        cmocka_unit_test(what_has_no_room_changes_nothing),
        cmocka_unit_test(the_hash_of_a_name_is_fnv_1a),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
