#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/doc_hash.h"

static void the_hash_is_xxh3_over_the_names_each_with_a_zero_behind_it(void **state)
{
    (void)state;
    /* printf 'db\0coll\0id\0' | xxhsum -H3 */
    assert_int_equal(mr_doc_hash(MR_STR("db"), MR_STR("coll"), MR_STR("id")),
                     UINT64_C(0x945a5b8ec3043339));
}

static void moving_a_byte_between_names_changes_the_hash(void **state)
{
    (void)state;
    assert_int_not_equal(mr_doc_hash(MR_STR("ab"), MR_STR("c"), MR_STR("d")),
                         mr_doc_hash(MR_STR("a"), MR_STR("bc"), MR_STR("d")));
    assert_int_not_equal(mr_doc_hash(MR_STR(""), MR_STR("a"), MR_STR("")),
                         mr_doc_hash(MR_STR("a"), MR_STR(""), MR_STR("")));
}

static void long_names_hash_as_short_ones_do(void **state)
{
    (void)state;
    /* Around the length at which another code path takes over, one byte more is one more 'x'. */
    static char text[2048];
    memset(text, 'x', sizeof text);
    /* head -c N /dev/zero | tr '\0' x, between 'a\0' and '\0b\0', through xxhsum -H3 */
    assert_int_equal(mr_doc_hash(MR_STR("a"), (struct mr_str){text, 507}, MR_STR("b")),
                     UINT64_C(0xea8cdb2a2be7c0ea));
    assert_int_equal(mr_doc_hash(MR_STR("a"), (struct mr_str){text, 508}, MR_STR("b")),
                     UINT64_C(0x4c833982c9769693));
    assert_int_equal(mr_doc_hash(MR_STR("a"), (struct mr_str){text, 2000}, MR_STR("b")),
                     UINT64_C(0x0edac11ba9a8cbeb));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hash_is_xxh3_over_the_names_each_with_a_zero_behind_it),
        cmocka_unit_test(moving_a_byte_between_names_changes_the_hash),
        cmocka_unit_test(long_names_hash_as_short_ones_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
