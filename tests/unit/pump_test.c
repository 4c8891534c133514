#include "tests/pump/driver.h"

static void a_subscriber_gets_its_events_behind_its_marker_in_order(void **state)
{
    (void)state;
    start(3, 1);
    bed_append(&bed, 50);
    settle();
    gateway(MR_REQUEST_OPEN, 1);
    subscribe(1, "all", 0, -1, "");
    subscribe(1, "some", 1, 3, "");
    settle();
    assert_int_equal(of(1, "all")->marker, 50);
    bed_append(&bed, 500);
    settle();
    assert_true(of(1, "all")->count > 100);
    check(of(1, "all"), 0, -1, true);
    check(of(1, "some"), 1, 3, true);
    assert_int_equal(mr_counter_get(bed.process.cell, MR_COUNTER_SUBSCRIPTIONS), 2);
    assert_int_equal(mr_counter_get(bed.process.cell, MR_COUNTER_EVENTS_MERGED), 550);
    assert_int_equal(mr_counter_get(bed.process.cell, MR_COUNTER_DELIVERIES), test_sink.deliveries);
    stop();
}

static void subscriptions_that_come_and_go_get_exactly_their_events(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= lives(25); seed++)
        random_life(seed, false);
}

static void an_event_that_concerns_more_than_its_match_ring_holds_is_delivered(void **state)
{
    (void)state;
    enum { COUNT = 6000 }; /* three ids a record: four times the ring */
    for (int kill = 0; kill < 3; kill++) {
        start(2, 21);
        gateway(MR_REQUEST_OPEN, 1);
        for (int i = 0; i < COUNT; i++) {
            char id[16];
            snprintf(id, sizeof id, "s%d", i);
            subscribe(1, id, 0, -1, "");
        }
        settle();
        bed_append(&bed, 4);
        bed_feed(&bed, 4, true);
        for (int i = 0; kill > 0 && i < 3; i++) { /* the matcher dies between two pieces */
            bed_match(&bed, 0, 10);
            bed_match(&bed, 1, 10);
            turn();
            if (kill == 2) {
                bed_restart_matcher(&bed, 0);
                bed_restart_matcher(&bed, 1);
            }
        }
        settle();
        uint64_t concerned = 0;
        for (uint64_t n = 0; n < bed.count; n++)
            concerned += bed_concerns(&bed.history[n], 0, -1);
        assert_true(concerned > 0);
        assert_int_equal(test_sink.deliveries, concerned);
        check(of(1, "s0"), 0, -1, true);
        check(of(1, "s5999"), 0, -1, true);
        stop();
    }
}

static void a_silent_shard_holds_nobody_back(void **state)
{
    (void)state;
    start(3, 7);
    bed.idle_last = true;
    gateway(MR_REQUEST_OPEN, 1);
    subscribe(1, "a", 0, -1, "");
    settle();
    bed_append(&bed, 100);
    bed_feed(&bed, 100, true);
    bed_match(&bed, 0, 1000);
    bed_match(&bed, 1, 1000); /* the matcher of shard 2 never moves */
    turn();
    assert_int_equal(pump->merged, 100);
    check(of(1, "a"), 0, -1, true);
    for (uint32_t i = 0; i < 3; i++) {
        const struct mr_ring_shm *ring = bed.events[i].shm;
        assert_int_equal(mr_ring_stage_note(ring, 1), 100);
        assert_int_equal(mr_ring_stage_position(ring, 1), mr_ring_tail(ring));
    }
    stop();
}

static void one_event_is_one_delivery_with_all_subscriptions_of_a_gateway_in_order(void **state)
{
    (void)state;
    start(1, 3);
    gateway(MR_REQUEST_OPEN, 1);
    gateway(MR_REQUEST_OPEN, 2);
    for (int i = 0; i < 20; i++) { /* the slots of the first ones are used again by the last ones */
        char id[16];
        snprintf(id, sizeof id, "s%02d", i);
        subscribe(1 + (mr_gateway_id)(i % 2), id, 0, -1, "");
        settle();
        if (i == 10) {
            unsubscribe(1, "s00");
            unsubscribe(2, "s01");
        }
    }
    uint64_t encodes = test_sink.encodes;
    bed_append(&bed, 200);
    settle();
    assert_false(test_sink.unordered);
    uint64_t concerned = test_sink.encodes - encodes;
    assert_int_equal(test_sink.deliveries, 2 * concerned);
    assert_true(concerned > 0);
    stop();
}

static void requests_over_a_limit_are_refused_and_the_limit_is_named(void **state)
{
    (void)state;
    test_sink_reset();
    bed_open(&bed, 1, 4, 0);
    struct mr_config *config = &bed.process.config;
    config->publisher_subscriptions_max = 4;
    config->publisher_subscriptions_per_gateway_max = 2;
    config->publisher_value_bytes_max = 16;
    config->publisher_gateways_max = 3;
    open_pump();
    settle();
    for (mr_gateway_id id = 1; id <= 4; id++)
        gateway(MR_REQUEST_OPEN, id);
    subscribe(1, "a", 0, -1, "");
    settle();
    subscribe(1, "a", 0, -1, "");
    settle();
    assert_int_equal(of(1, "a")->answers, 2);
    assert_string_equal(of(1, "a")->error, "subscription ID already exists");
    subscribe(1, "b", 0, -1, "");
    subscribe(1, "c", 0, -1, "");
    subscribe(2, "a", 0, -1, "");
    subscribe(2, "a-very-long-name-it-is", 0, -1, "");
    subscribe(2, "b", 0, -1, "no marker");
    subscribe(2, "d", 0, -1, "");
    subscribe(3, "e", 0, -1, "");
    subscribe(4, "f", 0, -1, "");
    settle();
    assert_true(of(1, "b")->success && of(2, "a")->success && of(2, "d")->success);
    assert_non_null(
        strstr(of(1, "c")->error, "at most 2 (publisher.subscriptions_per_gateway_max)"));
    assert_non_null(strstr(of(2, "a-very-long-name-it-is")->error,
                           "22 bytes, at most 16 (publisher.value_bytes_max)"));
    assert_non_null(strstr(of(2, "b")->error, "after: "));
    assert_non_null(strstr(of(3, "e")->error, "at most 4 (publisher.subscriptions_max)"));
    assert_non_null(strstr(of(4, "f")->error, "at most 3 (publisher.gateways_max)"));
    struct test_request bad = {.kind = MR_REQUEST_SUBSCRIBE,
                               .gateway = 2,
                               .id = "g",
                               .value = -1,
                               .problem = "filters[2].value: nothing"};
    test_sink_push(&bad);
    settle();
    assert_string_equal(of(2, "g")->error, "filters[2].value: nothing");
    stop();
}

static void a_sinks_own_gateway_takes_no_place_and_is_refused_for_no_other(void **state)
{
    (void)state;
    test_sink_reset();
    bed_open(&bed, 1, 4, 0);
    struct mr_config *config = &bed.process.config;
    config->publisher_subscriptions_max = 1;
    config->publisher_subscriptions_per_gateway_max = 2;
    config->publisher_gateways_max = 1;
    open_pump();
    settle();
    for (mr_gateway_id own = 10; own < 13; own++) { /* as it is cut, it comes back */
        test_sink_push(
            &(struct test_request){.kind = MR_REQUEST_OPEN, .gateway = own, .own = true});
        if (own == 10) {
            gateway(MR_REQUEST_OPEN, 1);
            subscribe(1, "a", 0, -1, "");
        }
        subscribe(own, "b", 0, -1, "");
        subscribe(own, "c", 0, -1, "");
        subscribe(own, "d", 0, -1, "");
        settle();
        assert_true(of(1, "a")->success && of(own, "b")->success && of(own, "c")->success);
        assert_non_null(strstr(of(own, "d")->error, "publisher.subscriptions_per_gateway_max"));
        assert_int_equal(pump->table.gateway_count, 1);
        gateway(MR_REQUEST_CLOSE, own);
        settle();
        assert_int_equal(pump->table.gateway_count, 1);
    }
    gateway(MR_REQUEST_OPEN, 2);
    subscribe(2, "b", 0, -1, "");
    settle();
    assert_non_null(strstr(of(2, "b")->error, "at most 1 (publisher.gateways_max)"));
    stop();
}

static void ids_are_free_again_when_their_stream_is_closed(void **state)
{
    (void)state;
    start(2, 5);
    gateway(MR_REQUEST_OPEN, 1);
    subscribe(1, "a", 0, -1, "");
    settle();
    gateway(MR_REQUEST_OPEN, 2);
    subscribe(2, "a", 0, -1, ""); /* the old stream is still there */
    settle();
    assert_true(of(2, "a")->success);
    gateway(MR_REQUEST_CLOSE, 1);
    bed_append(&bed, 30);
    settle();
    assert_int_equal(of(1, "a")->count, 0);
    check(of(2, "a"), 0, -1, true);
    subscribe(2, "", 0, -1, "");
    settle();
    assert_int_equal(mr_counter_get(bed.process.cell, MR_COUNTER_SUBSCRIPTIONS), 2);
    stop();
}

static void a_subscription_that_ends_before_its_confirmation_is_told_so(void **state)
{
    (void)state;
    start(1, 5);
    gateway(MR_REQUEST_OPEN, 1);
    subscribe(1, "a", 0, -1, "");
    unsubscribe(1, "a");
    subscribe(1, "a", 0, -1, "");
    settle();
    assert_int_equal(of(1, "a")->answers, 2);
    assert_true(of(1, "a")->success);
    stop();
}

static void a_gateway_that_is_cut_delays_nobody(void **state)
{
    (void)state;
    start(2, 11);
    gateway(MR_REQUEST_OPEN, 1);
    gateway(MR_REQUEST_OPEN, 2);
    subscribe(1, "a", 0, -1, "");
    subscribe(2, "a", 0, -1, "");
    settle();
    test_sink.cut = 1;
    bed_append(&bed, 100);
    settle();
    assert_int_equal(of(1, "a")->count, 0);
    check(of(2, "a"), 0, -1, true);
    gateway(MR_REQUEST_CLOSE, 1);
    settle();
    assert_int_equal(pump->table.count, 1);
    stop();
}

static void the_journal_begins_anew_when_it_is_full_of_the_past(void **state)
{
    (void)state;
    start(2, 12);
    gateway(MR_REQUEST_OPEN, 1);
    subscribe(1, "stays", 1, 2, "");
    settle();
    uint64_t generation = pump->reg.generation;
    for (int i = 0; i < 60000; i++) {
        subscribe(1, "x", 0, 1, "");
        unsubscribe(1, "x");
        if (i % 200 == 0) {
            bed_append(&bed, 1);
            settle();
        }
    }
    settle();
    assert_true(pump->reg.generation > generation);
    check(of(1, "stays"), 1, 2, true);
    subscribe(1, "new", 0, -1, "");
    settle();
    bed_append(&bed, 100);
    settle();
    check(of(1, "stays"), 1, 2, true);
    check(of(1, "new"), 0, -1, true);
    stop();
}

static void a_subscription_without_room_in_the_journal_may_be_asked_for_again(void **state)
{
    (void)state;
    bed_journal_bytes = 64 << 10;
    start(1, 14);
    bed_journal_bytes = BED_JOURNAL_BYTES;
    gateway(MR_REQUEST_OPEN, 1);
    test_sink_push(&(struct test_request){
        .kind = MR_REQUEST_SUBSCRIBE, .gateway = 1, .id = "wrong", .value = -1, .problem = "p"});
    char id[16];
    uint32_t count = 0;
    do {
        snprintf(id, sizeof id, "s%u", count++);
        subscribe(1, id, 0, 1, "");
        turn();
    } while (of(1, id)->answers == 0 || of(1, id)->success);
    assert_true(of(1, id)->later);
    assert_false(of(1, "wrong")->success || of(1, "wrong")->later);
    stop();
}

static void a_generation_waits_for_the_last_matcher_in_its_segment(void **state)
{
    (void)state;
    test_sink_reset();
    bed_open(&bed, 2, 13, 0);
    struct mr_cell_shm *cell = bed.matchers[1].cell;
    atomic_store(&cell->subs_generation, 3); /* generation 1 would use its segment */
    open_pump();
    for (int i = 0; i < 5; i++)
        turn();
    assert_int_equal(atomic_load(&bed.board.shm->subs_generation), 0);
    assert_false(test_sink.serving);
    atomic_store(&cell->state, MR_STATE_DEAD);
    turn();
    assert_int_equal(atomic_load(&bed.board.shm->subs_generation), 1);
    atomic_store(&cell->state, MR_STATE_READY);
    assert_false(test_sink.serving);
    settle();
    assert_true(test_sink.serving);
    stop();
}

static void the_publisher_follows_to_another_number_of_shards(void **state)
{
    (void)state;
    start(2, 14);
    gateway(MR_REQUEST_OPEN, 1);
    subscribe(1, "a", 0, -1, "");
    bed_append(&bed, 100);
    settle();
    const uint32_t counts[] = {4, 1, 3};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t generation = 2 + i;
        bed_create_rings(&bed, generation, counts[i]);
        atomic_store(&bed.board.shm->ring_set_next, mr_ring_set_pack(generation, counts[i]));
        turn();
        assert_int_equal(atomic_load(&bed.process.cell->rings_attached), generation);
        settle();
        bed_detach_matchers(&bed);
        for (uint32_t shard = 0; shard < bed.shard_count; shard++)
            mr_ring_detach_producer(&bed.events[shard]);
        bed.generation = generation;
        bed.shard_count = counts[i];
        for (uint32_t shard = 0; shard < bed.shard_count; shard++) {
            char part[32];
            uint64_t note;
            struct mr_err err;
            mr_ring_part(part, 'e', shard, generation);
            struct mr_ring_options options = {.part = part, .publish_bytes = UINT64_MAX / 2};
            assert_int_equal(
                mr_ring_attach_producer(&bed.events[shard], bed.instance, &options, &note, &err),
                MR_OK);
        }
        atomic_store(&bed.board.shm->ring_set, mr_ring_set_pack(generation, counts[i]));
        atomic_store(&bed.board.shm->ring_set_next, 0);
        bed_attach_matchers(&bed);
        for (uint32_t shard = 0; shard < bed.shard_count; shard++)
            bed_restart_matcher(&bed, shard);
        char id[8];
        snprintf(id, sizeof id, "b%u", i);
        subscribe(1, id, 1, -1, "");
        bed_append(&bed, 200);
        settle();
    }
    check(of(1, "a"), 0, -1, true);
    check(of(1, "b0"), 1, -1, true);
    check(of(1, "b2"), 1, -1, true);
    stop();
}

static void what_is_matched_is_delivered_before_a_graceful_end(void **state)
{
    (void)state;
    start(2, 15);
    gateway(MR_REQUEST_OPEN, 1);
    subscribe(1, "a", 0, -1, "");
    settle();
    bed_append(&bed, 100);
    bed_feed(&bed, UINT64_MAX, true);
    bed_match(&bed, 0, UINT32_MAX);
    bed_match(&bed, 1, UINT32_MAX);
    bed.process.stopping = true;
    mr_pump_close(&pump);
    check(of(1, "a"), 0, -1, true);
    assert_false(test_sink.serving);
    bed_close(&bed);
}

static void damaged_rings_end_the_publisher_with_their_name(void **state)
{
    (void)state;
    start(1, 16);
    gateway(MR_REQUEST_OPEN, 1);
    subscribe(1, "a", 0, -1, "");
    settle();
    struct bed_matcher *m = &bed.matchers[0];
    void *out;
    bed_append(&bed, 1);
    bed_feed(&bed, 1, true);
    uint32_t len = sizeof(struct mr_match_head) + sizeof(uint64_t);
    assert_int_equal(mr_ring_claim(&m->matches, len, &out), MR_OK);
    *(struct mr_match_head *)out =
        (struct mr_match_head){.sequence = 1, .position = 0, .end = 8, .count = 77};
    mr_ring_commit(&m->matches, len, MR_RECORD_MATCH, 0, 0);
    mr_ring_publish(&m->matches, 0);
    bed_match(&bed, 0, 10);
    struct mr_err err = {0};
    uint64_t done = 0;
    assert_int_equal(mr_pump_turn(pump, mr_clock_ns(), &done, &err), MR_CORRUPT);
    assert_non_null(strstr(err.text, "m0.g1"));
    stop();
}

int main(void)
{
    mr_log_setup(MR_LOG_ERROR, MR_LOG_TEXT, "test");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_subscriber_gets_its_events_behind_its_marker_in_order),
        cmocka_unit_test(subscriptions_that_come_and_go_get_exactly_their_events),
        cmocka_unit_test(an_event_that_concerns_more_than_its_match_ring_holds_is_delivered),
        cmocka_unit_test(a_silent_shard_holds_nobody_back),
        cmocka_unit_test(one_event_is_one_delivery_with_all_subscriptions_of_a_gateway_in_order),
        cmocka_unit_test(requests_over_a_limit_are_refused_and_the_limit_is_named),
        cmocka_unit_test(a_sinks_own_gateway_takes_no_place_and_is_refused_for_no_other),
        cmocka_unit_test(ids_are_free_again_when_their_stream_is_closed),
        cmocka_unit_test(a_subscription_that_ends_before_its_confirmation_is_told_so),
        cmocka_unit_test(a_gateway_that_is_cut_delays_nobody),
        cmocka_unit_test(the_journal_begins_anew_when_it_is_full_of_the_past),
        cmocka_unit_test(a_subscription_without_room_in_the_journal_may_be_asked_for_again),
        cmocka_unit_test(a_generation_waits_for_the_last_matcher_in_its_segment),
        cmocka_unit_test(the_publisher_follows_to_another_number_of_shards),
        cmocka_unit_test(what_is_matched_is_delivered_before_a_graceful_end),
        cmocka_unit_test(damaged_rings_end_the_publisher_with_their_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
