/* The file of subscriptions that are delivered through JetStream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "publisher/sinks/jetstream_file.h"

static struct mr_js_wanted_list list;
static struct mr_err err;

static int fini(void **state)
{
    (void)state;
    mr_js_wanted_fini(&list);
    return 0;
}

static void a_line_becomes_a_subscription_with_typed_values(void **state)
{
    (void)state;
    assert_int_equal(
        mr_js_wanted_parse(
            MR_STR("{\"gatewayId\":\"g.1\",\"subscriptionId\":\"s\",\"tenant\":\"shop\","
                   "\"collection\":\"orders\",\"filters\":["
                   "{\"field\":\"a.b\",\"op\":\"==\",\"value\":5},"
                   "{\"field\":\"c\",\"op\":\"in\",\"value\":[\"x\",2,true]},"
                   "{\"field\":\"d\",\"op\":\">=\",\"value\":1.5}]}"),
            &list, &err),
        MR_OK);
    const struct mr_js_wanted *w = &list.items[0];
    assert_true(mr_str_equal(w->gateway_id, MR_STR("g.1")));
    assert_true(mr_str_equal(w->database, MR_STR("shop")));
    assert_int_equal(w->predicate_count, 3);
    assert_true(mr_str_equal(w->predicates[0].path, MR_STR("a.b")));
    assert_int_equal(w->predicates[0].value.kind, MR_CONST_INT);
    assert_int_equal(w->predicates[1].value.list.count, 3);
    assert_int_equal(w->predicates[1].value.list.items[2].kind, MR_CONST_BOOL);
    assert_true(w->predicates[2].value.number == 1.5);
}

static void filters_may_be_missing(void **state)
{
    (void)state;
    assert_int_equal(
        mr_js_wanted_parse(MR_STR("{\"gatewayId\":\"g\",\"subscriptionId\":\"s\"}"), &list, &err),
        MR_OK);
    assert_int_equal(list.items[0].predicate_count, 0);
}

static void what_is_no_subscription_is_refused_with_the_place(void **state)
{
    (void)state;
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"{", "no JSON"},
        {"{\"gatewayId\":\"g\"}", "both are needed"},
        {"{\"gatewayId\":5,\"subscriptionId\":\"s\"}", "\"gatewayId\": expected a text"},
        {"{\"gateway\":\"g\"}", "\"gateway\": unknown"},
        {"{\"gatewayId\":\"g\",\"subscriptionId\":\"s\",\"filters\":5}", "expected a list"},
        {"{\"gatewayId\":\"g\",\"subscriptionId\":\"s\",\"filters\":[5]}", "filters[0]"},
        {"{\"gatewayId\":\"g\",\"subscriptionId\":\"s\",\"filters\":[{\"field\":\"a\",\"op\":"
         "\"==\",\"value\":1},{\"field\":\"a\",\"op\":\"like\",\"value\":1}]}",
         "filters[1]: \"op\": unsupported operator: like"},
        {"{\"gatewayId\":\"g\",\"subscriptionId\":\"s\",\"filters\":[{\"field\":\"a\",\"op\":"
         "\"==\",\"value\":{}}]}",
         "\"value\": expected"},
        {"{\"gatewayId\":\"g\",\"subscriptionId\":\"s\",\"filters\":[{\"field\":\"a\",\"op\":"
         "\"in\",\"value\":[[1]]}]}",
         "\"value\": expected a list of"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(mr_js_wanted_parse(mr_str_from(cases[i].line), &list, &err), MR_USAGE);
        assert_non_null(strstr(err.text, cases[i].why));
    }
    assert_int_equal(list.count, 0);
}

static void a_file_names_the_line_that_is_wrong(void **state)
{
    (void)state;
    char path[] = "/tmp/millrace-subs-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "{\"gatewayId\":\"g\",\"subscriptionId\":\"s\"}\n\n{}\n") > 0);
    close(fd);
    assert_int_equal(mr_js_wanted_read(path, &list, &err), MR_USAGE);
    assert_non_null(strstr(err.text, ":3: "));
    assert_int_equal(list.count, 0);
    assert_int_equal(truncate(path, 40), 0);
    assert_int_equal(mr_js_wanted_read(path, &list, &err), MR_OK);
    assert_int_equal(list.count, 1);
    unlink(path);
    mr_js_wanted_fini(&list);
    assert_int_equal(mr_js_wanted_read(path, &list, &err), MR_USAGE);
    assert_non_null(strstr(err.text, "No such file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_line_becomes_a_subscription_with_typed_values, fini),
        cmocka_unit_test_teardown(filters_may_be_missing, fini),
        cmocka_unit_test_teardown(what_is_no_subscription_is_refused_with_the_place, fini),
        cmocka_unit_test_teardown(a_file_names_the_line_that_is_wrong, fini),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
