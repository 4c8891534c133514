/* Answers of JetStream, as its servers write them and as none should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "jetstream/ack.h"

static void an_acknowledgement_has_its_sequence(void **state)
{
    (void)state;
    struct mr_js_ack ack;
    assert_int_equal(mr_js_ack_parse(MR_STR("{\"stream\":\"A\",\"seq\":17}"), &ack), MR_OK);
    assert_int_equal(ack.stream_sequence, 17);
    assert_false(ack.duplicate);
    assert_int_equal(mr_js_ack_parse(MR_STR(" { \"seq\" : 18446744073709551615 , \"x\" : null, "
                                            "\"stream\":\"a\\\"}\" , \"duplicate\": true } "),
                                     &ack),
                     MR_OK);
    assert_true(ack.stream_sequence == UINT64_MAX);
    assert_true(ack.duplicate);
}

static void an_error_has_its_finer_code_and_its_text(void **state)
{
    (void)state;
    struct mr_js_ack ack;
    assert_int_equal(
        mr_js_ack_parse(MR_STR("{\"error\":{\"code\":400,\"err_code\":10071,\"description\":"
                               "\"wrong last sequence: 5\"},\"stream\":\"A\",\"seq\":0}"),
                        &ack),
        MR_OK);
    assert_int_equal(ack.error_code, 10071);
    assert_int_equal(ack.stream_sequence, 0);
    assert_true(mr_str_equal(ack.error, MR_STR("wrong last sequence: 5")));
    assert_int_equal(mr_js_ack_parse(MR_STR("{\"error\":{\"code\":503}}"), &ack), MR_OK);
    assert_int_equal(ack.error_code, 503);
}

static void what_is_no_answer_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "{",
                                        "{}",
                                        "null",
                                        "{\"seq\":}",
                                        "{\"seq\":1",
                                        "{\"seq\":0}",
                                        "{\"seq\":-1}",
                                        &"{\"seq\":1}}x"[10],
                                        "{\"error\":{}}",
                                        "{\"error\":{\"code\":1}",
                                        "{\"seq\":18446744073709551616}",
                                        "{\"stream\":\"",
                                        "{\"a\\"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct mr_js_ack ack;
        assert_int_equal(mr_js_ack_parse(mr_str_from(texts[i]), &ack), MR_CORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_acknowledgement_has_its_sequence),
        cmocka_unit_test(an_error_has_its_finer_code_and_its_text),
        cmocka_unit_test(what_is_no_answer_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
