/* What the JetStream sink keeps of its subscriptions: who waits for which place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "publisher/sinks/jetstream_durables.h"
#include "publisher/spec.h"

enum { LOG = 7 };

static struct mr_config config;
static struct mr_js_durables all;

static uint32_t begin(const char *id, uint64_t log_id, uint64_t after, uint32_t replaces)
{
    struct mr_err err;
    const struct mr_request request = {
        .subscription_id = mr_str_from(id), .database = MR_STR("db"), .collection = MR_STR("c")};
    struct mr_sink_durable durable = {.gateway = MR_STR("g"),
                                      .subscription_id = request.subscription_id,
                                      .after = {log_id, after},
                                      .replaces = replaces};
    durable.spec.data = mr_spec_encode(&request, &durable.spec.len);
    uint32_t handle = 0;
    assert_int_equal(mr_js_durables_begin(&all, &durable, &handle, &err), MR_OK);
    free((char *)(uintptr_t)durable.spec.data);
    return handle;
}

/* As it comes from the store: what it replaced at a place, and it behind that. */
static uint32_t begin_replacement(const char *id, uint64_t log_id, uint64_t after)
{
    return begin(id, log_id, after, begin(id, log_id, 0, 0));
}

/* Everything that the pump is told at a place; of the last SUBSCRIBE its marker. */
static uint32_t told(uint64_t handed, uint64_t *after)
{
    struct mr_request request;
    struct mr_marker marker;
    uint32_t subscribed = 0;
    while (mr_js_durables_poll(&all, (struct mr_marker){LOG, handed}, &request) == MR_OK) {
        if (request.kind != MR_REQUEST_SUBSCRIBE)
            continue;
        subscribed++;
        assert_int_equal(mr_marker_parse(request.after, &marker, NULL), MR_OK);
        *after = marker.sequence;
    }
    return subscribed;
}

static int setup(void **state)
{
    (void)state;
    struct mr_err err;
    mr_config_init(&config);
    all = (struct mr_js_durables){0};
    return mr_js_durables_init(&all, &config, NULL, &err) == MR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    mr_js_durables_fini(&all);
    return 0;
}

static void progress_stops_at_each_place_where_somebody_begins(void **state)
{
    (void)state;
    uint64_t after = 0;
    begin_replacement("a", LOG, 500); /* the store's order is that of the ids */
    begin_replacement("b", LOG, 300);
    begin_replacement("c", LOG, 400);
    assert_int_equal(told(100, &after), 3);
    static const uint64_t places[] = {300, 400, 500};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mr_js_durables_limit(&all, 1000), places[i]);
        assert_int_equal(told(places[i] - 1, &after), 0);
        assert_int_equal(told(places[i], &after), 1);
        assert_int_equal(after, places[i]);
    }
    assert_int_equal(mr_js_durables_limit(&all, 1000), 1000);
}

static void who_ends_while_it_waits_holds_nobody_back(void **state)
{
    (void)state;
    uint64_t after = 0;
    begin_replacement("a", LOG, 500);
    mr_js_durables_end(&all, begin_replacement("b", LOG, 300));
    assert_int_equal(told(100, &after), 1);
    assert_int_equal(mr_js_durables_limit(&all, 1000), 500);
}

static void places_of_another_log_are_taken_at_once(void **state)
{
    (void)state;
    uint64_t after = 0;
    begin_replacement("a", LOG, 500);
    begin_replacement("b", LOG + 1, 900);
    begin_replacement("c", LOG + 1, 90);
    assert_int_equal(told(100, &after), 3); /* what a replaced, and b and c */
    assert_int_equal(after, 100);
    assert_int_equal(mr_js_durables_limit(&all, 1000), 500);
    assert_int_equal(told(500, &after), 1);
}

static void what_had_no_room_is_told_again_and_holds_progress_back(void **state)
{
    (void)state;
    uint64_t after = 0;
    struct mr_request request;
    uint32_t handle = begin("a", LOG, 0, 0);
    uint32_t other = begin("b", LOG, 0, 0);
    struct mr_js_durable *a = all.items[handle - 1], *b = all.items[other - 1];
    assert_int_equal(told(100, &after), 2);
    assert_false(mr_js_durables_behind(&all));
    a->through = 170; /* queued before the sink was cut */
    mr_js_durables_refused(&all, a);
    mr_js_durables_refused(&all, b);
    assert_int_equal(told(100, &after), 0);
    assert_true(mr_js_durables_behind(&all));
    mr_js_durables_end(&all, other);
    mr_js_durables_again(&all);
    assert_int_equal(told(100, &after), 0);
    mr_js_durables_retry(&all);
    assert_int_equal(mr_js_durables_poll(&all, (struct mr_marker){LOG, 120}, &request), MR_OK);
    assert_ptr_equal(mr_js_durables_find(&all, request.subscription_id), a);
    assert_int_equal(a->through, 170);
    assert_int_equal(told(120, &after), 0);
    assert_false(mr_js_durables_behind(&all));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(progress_stops_at_each_place_where_somebody_begins, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(who_ends_while_it_waits_holds_nobody_back, setup, teardown),
        cmocka_unit_test_setup_teardown(what_had_no_room_is_told_again_and_holds_progress_back,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(places_of_another_log_are_taken_at_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
