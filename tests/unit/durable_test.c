/* Durable subscriptions inside the pump: who speaks for them, what takes their place, what a
 * restart brings back. What their store has: durable_store_test.c */
#include "proto/protobuf.h"
#include "proto/streamer_fields.h"
#include "tests/pump/durable.h"

/* Its network has died: what is delivered from now on fills its queue. */
static void queue_is_full(mr_gateway_id id, struct mr_str subscription_id, uint64_t sequence)
{
    (void)id;
    (void)subscription_id;
    (void)sequence;
    test_sink.fill = 0.9;
}

static void a_stream_that_takes_over_in_a_catch_up_goes_on_from_its_own_marker(void **state)
{
    (void)state;
    start_with("memory", 2);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    append(60);
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", 0);
    test_sink.record = queue_is_full;
    for (int i = 0; i < 5000 && of(1, "x")->count == 0; i++)
        turns(1);
    turns(5);
    assert_int_equal(of(1, "x")->count, 1);
    gateway(MR_REQUEST_OPEN, 2);
    speak(2, "g1", 0);
    turns(5);
    gateway(MR_REQUEST_CLOSE, 1);
    test_sink.record = NULL;
    test_sink.fill = 0;
    append(20);
    check_all(2, "x", 0, 0);
    assert_int_equal(of(1, "x")->count, 1);
    stop();
}

static void what_shards_matched_for_a_dead_publisher_comes_from_the_log(void **state)
{
    (void)state;
    enum { SHARDS = 8 };
    static const char *const ids[BED_COLLECTIONS] = {"x0", "x1", "x2"};
    start_with("lmdb", SHARDS);
    for (uint32_t i = 0; i < BED_COLLECTIONS; i++)
        assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", ids[i], i), MR_CONTROL_OK);
    append(20);
    mr_pump_close(&pump);
    /* More than one batch of a catch-up: the last shard alone has not matched it. */
    bed_append(&bed, 6000);
    bed_feed(&bed, UINT64_MAX, true);
    for (uint32_t shard = 0; shard < SHARDS - 1; shard++)
        bed_match(&bed, shard, UINT32_MAX);
    open_pump();
    for (int i = 0; i < 100 && !pump->serving; i++) {
        for (uint32_t shard = 0; shard < SHARDS; shard++)
            bed_apply(&bed, shard);
        turn();
    }
    turns(2);
    assert_true(named("x0")->applied && named("x0")->active_after > pump->merged);
    test_sink.fill = 0.9;
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", 20);
    turns(10);
    gateway(MR_REQUEST_CLOSE, 1);
    gateway(MR_REQUEST_OPEN, 2);
    speak(2, "g1", 20);
    turns(1);
    test_sink.fill = 0;
    for (int i = 0; i < 5000 && !TAILQ_EMPTY(&pump->resume.all); i++)
        turns(1);
    append(20);
    for (uint32_t i = 0; i < BED_COLLECTIONS; i++)
        check_all(2, ids[i], i, 20);
    stop();
}

static void a_stream_that_takes_over_from_one_that_was_cut_gets_deliveries(void **state)
{
    (void)state;
    start_with("memory", 2);
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", UINT64_MAX);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    test_sink.cut = 1;
    append(20);
    gateway(MR_REQUEST_OPEN, 2); /* before the CLOSE of the first one */
    speak(2, "g1", 0);
    gateway(MR_REQUEST_CLOSE, 1);
    append(20);
    check_all(2, "x", 0, 0);
    stop();
}

static void a_replacement_never_takes_the_place_of_another_subscription(void **state)
{
    (void)state;
    start_with("memory", 2);
    static const char *const names[] = {"g2", "g1"};
    for (int i = 0; i < 2; i++) {
        struct ask put, removal, post;
        assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
        ask(&put, MR_CONTROL_REPLACE, "g1", "x", 1);
        ask(&removal, MR_CONTROL_REMOVE, NULL, "x", 0);
        ask(&post, MR_CONTROL_REGISTER, names[i], "x", 2);
        assert_int_equal(finish(&put), MR_CONTROL_SUBSCRIPTION_NOT_FOUND);
        assert_int_equal(finish(&removal), MR_CONTROL_OK);
        assert_int_equal(finish(&post), MR_CONTROL_OK);
        gateway(MR_REQUEST_OPEN, 1 + (mr_gateway_id)i);
        speak(1 + (mr_gateway_id)i, names[i], UINT64_MAX);
        settle();
        uint64_t after = bed.count;
        append(40);
        check_all(1 + (mr_gateway_id)i, "x", 2, after);
        assert_int_equal(asked(MR_CONTROL_REMOVE, NULL, "x", 0), MR_CONTROL_OK);
    }
    stop();
}

static void what_is_acknowledged_is_there_after_a_restart_whatever_its_marker(void **state)
{
    (void)state;
    start_with("lmdb", 1);
    append(20);
    static const char *const ids[] = {"x", "y"};
    for (int i = 0; i < 2; i++) {
        struct ask a;
        const char *after = i == 0 ? "latest" : marker_text(pump->deliverer.log_id, 3);
        ask(&a, MR_CONTROL_REGISTER, "g1", ids[i], 0);
        /* The pump looks at its queue in the next turn. */
        char spec[256];
        memcpy(spec, a.item.spec.data, a.item.spec.len);
        uint8_t *end = mr_pb_put_text((uint8_t *)spec + a.item.spec.len, MR_FIELD_SUBSCRIBE_AFTER,
                                      mr_str_from(after));
        struct mr_str without = a.item.spec;
        a.item.spec = (struct mr_str){spec, (size_t)(end - (uint8_t *)spec)};
        a.item.subscribe.after = mr_str_from(after);
        turn();
        a.item.spec = without;
        assert_int_equal(finish(&a), MR_CONTROL_OK);
    }
    restart();
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", UINT64_MAX);
    settle();
    for (int i = 0; i < 2; i++) {
        assert_non_null(named(ids[i]));
        assert_int_equal(of(0, ids[i])->answers, 0);
    }
    append(20);
    check_all(1, "x", 0, 20);
    check_all(1, "y", 0, 20);
    stop();
}

static void a_catch_up_gets_all_that_the_old_filters_matched_before_they_are_replaced(void **state)
{
    (void)state;
    start_with("memory", 2);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    append(60);
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", 0);
    test_sink.record = queue_is_full;
    turns(20);
    struct ask put;
    ask(&put, MR_CONTROL_REPLACE, "g1", "x", 1);
    turns(5);
    test_sink.record = NULL;
    test_sink.fill = 0;
    enum mr_control_code code = finish(&put);
    settle();
    check_all(1, "x", 0, 0);
    assert_int_equal(code, MR_CONTROL_SUBSCRIPTION_BUSY);
    assert_int_equal(asked(MR_CONTROL_REPLACE, "g1", "x", 1), MR_CONTROL_OK);
    stop();
}

static void a_gateway_that_comes_while_filters_are_replaced_keeps_the_old_ones(void **state)
{
    (void)state;
    static const char *const stores[] = {"memory", "lmdb"}; /* the shards, the store has it last */
    for (int i = 0; i < 2; i++) {
        struct ask put;
        start_with(stores[i], 2);
        assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
        append(60);
        ask(&put, MR_CONTROL_REPLACE, "g1", "x", 1);
        turn();
        assert_true(named("x")->lease->successor || named("x")->lease->replacing);
        test_sink.fill = 0.9; /* a disk may take longer than a catch-up */
        gateway(MR_REQUEST_OPEN, 1);
        speak(1, "g1", 0);
        for (int k = 0; k < 5000 && !put.answered; k++)
            turns(1);
        test_sink.fill = 0;
        enum mr_control_code code = finish(&put);
        append(20);
        check_all(1, "x", 0, 0);
        assert_int_equal(code, MR_CONTROL_SUBSCRIPTION_BUSY);
        assert_int_equal(pump->table.count, 1);
        if (i == 1) {
            test_sink.request_first = test_sink.request_count;
            restart();
            gateway(MR_REQUEST_OPEN, 2);
            speak(2, "g1", 0);
            settle();
            check_all(2, "x", 0, 0);
        }
        stop();
    }
}

static void replacements_that_race_for_the_last_place_of_a_database_get_it_once(void **state)
{
    (void)state;
    enum { COUNT = 3 };
    static const char *const ids[COUNT] = {"x", "y", "z"};
    static const char *const stores[] = {"memory", "lmdb"};
    for (int i = 0; i < 2; i++) {
        struct ask puts[COUNT];
        uint32_t taken = 0;
        start_with(stores[i], 1);
        for (int k = 0; k < COUNT; k++)
            assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", ids[k], 0), MR_CONTROL_OK);
        bed.process.config.publisher_subscriptions_per_database_max = 1;
        for (int k = 0; k < COUNT; k++) {
            ask(&puts[k], MR_CONTROL_REPLACE, "g1", ids[k], 0);
            set_database(&puts[k], "other");
        }
        for (int k = 0; k < COUNT; k++) {
            enum mr_control_code code = finish(&puts[k]);
            taken += code == MR_CONTROL_OK;
            assert_true(code == MR_CONTROL_OK || code == MR_CONTROL_TENANT_QUOTA_EXCEEDED);
        }
        assert_int_equal(taken, 1);
        if (i == 1)
            restart();
        assert_int_equal(mr_tenant_count(&pump->table, MR_STR("other")), 1);
        assert_int_equal(mr_tenant_count(&pump->table, MR_STR("db")), COUNT - 1);
        stop();
    }
}

static void nobody_is_told_that_filters_are_replaced_by_a_publisher_that_stops_before(void **state)
{
    (void)state;
    static const char *const stores[] = {"memory", "lmdb"};
    for (int i = 0; i < 2; i++) {
        struct ask put;
        start_with(stores[i], 1);
        assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
        ask(&put, MR_CONTROL_REPLACE, "g1", "x", 1);
        turn();
        stop();
        assert_true(put.answered);
        assert_int_equal(finish(&put), MR_CONTROL_UNAVAILABLE);
    }
}

static void a_renewal_while_filters_are_replaced_leaves_the_new_ones_in_the_store(void **state)
{
    (void)state;
    for (int waits = 0; waits < 2; waits++) { /* for the store, for the shards */
        struct ask put, renewal;
        start_with("lmdb", 1);
        assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
        ask(&put, MR_CONTROL_REPLACE, "g1", "x", 1);
        for (int i = 0; i < 5000 && waits && !named("x")->lease->successor; i++)
            turns(1);
        const struct mr_subscription *successor = named("x")->lease->successor;
        uint64_t deadline_ns = successor ? successor->lease->deadline_ns : 0;
        ask(&renewal, MR_CONTROL_RENEW, NULL, "x", 0);
        turn();
        assert_true(!successor || successor->lease->deadline_ns > deadline_ns);
        assert_int_equal(finish(&renewal), MR_CONTROL_OK);
        assert_int_equal(finish(&put), MR_CONTROL_OK);
        restart();
        gateway(MR_REQUEST_OPEN, 1);
        speak(1, "g1", UINT64_MAX);
        settle();
        append(40);
        check_all(1, "x", 1, 0);
        stop();
    }
}

enum { LONG_ITEMS = 16 };

/* A registration of many subscriptions. */
struct long_ask {
    struct mr_control control; /* first */
    struct mr_control_item items[LONG_ITEMS];
    char ids[LONG_ITEMS][8];
    char cel[LONG_ITEMS][4096];
    uint32_t answers;
};

static void long_answered(struct mr_control *control)
{
    ((struct long_ask *)control)->answers++;
}

/* Patterns that take milliseconds to compile. */
static void slow_to_compile(char *cel, size_t size, uint32_t number)
{
    for (uint32_t i = 0; i < 16; i++)
        snprintf(cel + strlen(cel), size - strlen(cel),
                 "%sdoc.s.matches('(a|b%u){1,100}(x|y){1,200}c%u')", i ? " || " : "", i, number);
}

/* True, and takes most of the steps that it may. */
static void slow_to_run(char *cel, size_t size, uint32_t number)
{
    char list[512] = "[0";
    for (int i = 1; i < 70; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), ",%d", i);
    snprintf(cel, size, "%s].all(x, %s].all(y, x + y + %u != doc.n))", list, list, 1000 + number);
}

static struct long_ask *ask_long(void write_cel(char *cel, size_t size, uint32_t number))
{
    struct long_ask *a = calloc(1, sizeof *a);
    assert_non_null(a);
    for (uint32_t i = 0; i < LONG_ITEMS; i++) {
        struct mr_control_item *item = &a->items[i];
        char *cel = a->cel[i];
        size_t len;
        snprintf(a->ids[i], sizeof a->ids[i], "l%u", i);
        write_cel(cel, sizeof a->cel[i], i);
        item->subscribe = (struct mr_request){.kind = MR_REQUEST_SUBSCRIBE,
                                              .subscription_id = mr_str_from(a->ids[i]),
                                              .database = MR_STR("db"),
                                              .collection = MR_STR("c0"),
                                              .cel = mr_str_from(cel)};
        item->spec.data = mr_spec_encode(&item->subscribe, &len);
        item->spec.len = len;
    }
    a->control =
        (struct mr_control){.kind = MR_CONTROL_REGISTER,
                            .gateway = MR_STR("g1"),
                            .ttl_s = 3600, /* under valgrind it takes more than one minute */
                            .items = a->items,
                            .item_count = LONG_ITEMS,
                            .done = long_answered};
    mr_control_put(mr_pump_controls(pump), &a->control);
    return a;
}

static void free_long(struct long_ask *a)
{
    for (uint32_t i = 0; i < LONG_ITEMS; i++)
        free((char *)(uintptr_t)a->items[i].spec.data);
    mr_control_fini(&a->control);
    free(a);
}

static void a_long_registration_goes_on_turn_by_turn(void **state)
{
    (void)state;
    start_with("memory", 2);
    struct long_ask *a = ask_long(slow_to_compile);
    struct ask behind;
    ask(&behind, MR_CONTROL_REGISTER, "g1", "behind", 0);
    uint32_t begun = 0, rounds = 0;
    for (; begun < LONG_ITEMS; rounds++) {
        turn();
        assert_true(a->control.begun > begun && a->control.begun - begun < LONG_ITEMS);
        assert_int_equal(a->answers, 0);
        begun = a->control.begun;
        assert_true(begun == LONG_ITEMS || !named("behind"));
    }
    assert_true(rounds > 2);
    assert_int_equal(finish(&behind), MR_CONTROL_OK);
    assert_int_equal(a->answers, 1);
    for (uint32_t i = 0; i < LONG_ITEMS; i++)
        assert_int_equal(a->items[i].code, MR_CONTROL_OK);
    free_long(a);
    stop();
}

static void a_long_registration_is_answered_when_the_publisher_stops(void **state)
{
    (void)state;
    start_with("memory", 2);
    struct long_ask *a = ask_long(slow_to_compile);
    turn();
    assert_in_range(a->control.begun, 1, LONG_ITEMS - 1);
    stop();
    assert_int_equal(a->answers, 1);
    for (uint32_t i = 0; i < LONG_ITEMS; i++)
        assert_int_equal(a->items[i].code, MR_CONTROL_UNAVAILABLE);
    free_long(a);
}

static void gauges_of_a_publisher_that_died_do_not_stay(void **state)
{
    (void)state;
    static const enum mr_counter gauges[] = {MR_COUNTER_SUBSCRIPTIONS, MR_COUNTER_DURABLE,
                                             MR_COUNTER_QUARANTINED, MR_COUNTER_SNAPSHOTS_WAITING};
    start_with("memory", 1);
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        mr_gauge(pump->cell, gauges[i], 7);
    restart();
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        assert_int_equal(mr_counter_get(pump->cell, gauges[i]), 0);
    stop();
}

/* How often a text is in another. */
static uint32_t count_of(struct mr_str text, const char *what)
{
    uint32_t count = 0;
    const char *at = text.data, *end = text.data + text.len;
    while ((at = memmem(at, (size_t)(end - at), what, strlen(what))) != NULL) {
        at += strlen(what);
        count++;
    }
    return count;
}

/* Its time is up now, and a moment from now the wheel comes round to it. */
static void let_run_out(const char *id)
{
    struct mr_lease *lease = named(id)->lease;
    lease->deadline_ns = mr_clock_ns();
    mr_wheel_put(&pump->durable.wheel, lease);
    usleep(MR_WHEEL_TICK_NS / MR_NS_PER_US + 1000);
}

static void a_renewal_behind_a_long_registration_comes_in_time_all_the_same(void **state)
{
    (void)state;
    start_with("memory", 2);
    struct ask renewal, late;
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "y", 0), MR_CONTROL_OK);
    struct long_ask *a = ask_long(slow_to_compile);
    a->control.item_count = LONG_ITEMS / 4;
    turn();
    assert_in_range(a->control.begun, 1, LONG_ITEMS / 4 - 1);
    ask(&renewal, MR_CONTROL_RENEW, NULL, "x", 0);
    let_run_out("x");
    let_run_out("y");
    ask(&late, MR_CONTROL_RENEW, NULL, "y", 0);
    turn();
    assert_false(renewal.answered || late.answered);
    assert_int_equal(finish(&renewal), MR_CONTROL_OK);
    assert_int_not_equal(finish(&late), MR_CONTROL_OK);
    assert_int_equal(a->answers, 1);
    assert_non_null(named("x"));
    turns(1);
    assert_null(named("y"));
    free_long(a);
    stop();
}

static void what_takes_the_place_of_one_that_runs_out_meanwhile_is_there(void **state)
{
    (void)state;
    start_with("memory", 2);
    struct ask put, post;
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "y", 0), MR_CONTROL_OK);
    struct long_ask *a = ask_long(slow_to_compile);
    a->control.item_count = LONG_ITEMS / 4;
    turn();
    assert_in_range(a->control.begun, 1, LONG_ITEMS / 4 - 1);
    ask(&put, MR_CONTROL_REPLACE, "g1", "x", 1);
    ask(&post, MR_CONTROL_REGISTER, "g1", "y", 1);
    let_run_out("x");
    let_run_out("y");
    turn();
    assert_false(put.answered || post.answered);
    assert_int_equal(finish(&put), MR_CONTROL_OK);
    assert_int_equal(finish(&post), MR_CONTROL_OK);
    turns(2);
    assert_non_null(named("x"));
    assert_non_null(named("y"));
    free_long(a);
    stop();
}

/* Why does an event match those of a long registration, or not? */
static void explain(struct ask *e)
{
    static uint8_t document[64];
    struct mr_bson_writer w;
    mr_bson_writer_init_fixed(&w, document, sizeof document);
    mr_bson_begin(&w);
    mr_bson_put_int64(&w, MR_STR("n"), -1);
    mr_bson_end(&w);
    ask(e, MR_CONTROL_EXPLAIN, "", "", 0);
    e->control.page.limit = 1000;
    e->control.event = (struct mr_control_event){.database = MR_STR("db"),
                                                 .collection = MR_STR("c0"),
                                                 .event = {.database = MR_STR("db"),
                                                           .collection = MR_STR("c0"),
                                                           .document = mr_bson_bytes(&w)}};
}

static void nobody_waits_for_an_explanation(void **state)
{
    (void)state;
    start_with("memory", 2);
    struct ask e, second, renewal;
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    struct long_ask *a = ask_long(slow_to_run);
    for (int i = 0; i < 5000 && a->answers == 0; i++)
        settle();
    explain(&e);
    explain(&second);
    turn();
    assert_false(e.answered || second.answered);
    ask(&renewal, MR_CONTROL_RENEW, NULL, "x", 0);
    turn();
    assert_true(renewal.answered && !e.answered && !second.answered);
    assert_int_equal(finish(&renewal), MR_CONTROL_OK);
    stop();
    assert_int_equal(finish(&e), MR_CONTROL_UNAVAILABLE);
    assert_int_equal(finish(&second), MR_CONTROL_UNAVAILABLE);
    free_long(a);
}

static void an_explanation_takes_no_turn_for_itself(void **state)
{
    (void)state;
    start_with("memory", 2);
    struct long_ask *a = ask_long(slow_to_run);
    for (int i = 0; i < 5000 && a->answers == 0; i++)
        settle();
    assert_int_equal(a->answers, 1);
    struct ask e;
    explain(&e);
    uint32_t rounds = 0;
    for (; !e.answered && rounds < 1000; rounds++) {
        uint32_t found = e.control.found;
        turn();
        assert_in_range(e.control.found - found, 0, LONG_ITEMS - 1);
    }
    assert_true(e.answered && rounds > 2);
    const struct mr_str body = {e.control.body.data, e.control.body.len};
    assert_int_equal(e.control.found, LONG_ITEMS);
    assert_int_equal(count_of(body, "\"subscriptionId\""), LONG_ITEMS);
    assert_int_equal(count_of(body, "\"matches\":true"), LONG_ITEMS);
    assert_int_equal(count_of(body, "\"celHolds\":true"), LONG_ITEMS);
    assert_int_equal(count_of(body, "nextCursor"), 0);
    mr_control_fini(&e.control);
    free_long(a);
    stop();
}

int main(void)
{
    mr_log_setup(MR_LOG_ERROR, MR_LOG_TEXT, "test");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_that_takes_over_in_a_catch_up_goes_on_from_its_own_marker),
        cmocka_unit_test(what_shards_matched_for_a_dead_publisher_comes_from_the_log),
        cmocka_unit_test(a_stream_that_takes_over_from_one_that_was_cut_gets_deliveries),
        cmocka_unit_test(a_replacement_never_takes_the_place_of_another_subscription),
        cmocka_unit_test(what_is_acknowledged_is_there_after_a_restart_whatever_its_marker),
        cmocka_unit_test(a_catch_up_gets_all_that_the_old_filters_matched_before_they_are_replaced),
        cmocka_unit_test(a_gateway_that_comes_while_filters_are_replaced_keeps_the_old_ones),
        cmocka_unit_test(replacements_that_race_for_the_last_place_of_a_database_get_it_once),
        cmocka_unit_test(nobody_is_told_that_filters_are_replaced_by_a_publisher_that_stops_before),
        cmocka_unit_test(a_renewal_while_filters_are_replaced_leaves_the_new_ones_in_the_store),
        cmocka_unit_test(gauges_of_a_publisher_that_died_do_not_stay),
        cmocka_unit_test(a_long_registration_goes_on_turn_by_turn),
        cmocka_unit_test(a_long_registration_is_answered_when_the_publisher_stops),
        cmocka_unit_test(a_renewal_behind_a_long_registration_comes_in_time_all_the_same),
        cmocka_unit_test(what_takes_the_place_of_one_that_runs_out_meanwhile_is_there),
        cmocka_unit_test(nobody_waits_for_an_explanation),
        cmocka_unit_test(an_explanation_takes_no_turn_for_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
