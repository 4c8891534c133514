#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/marker.h"
#include "publisher/pump_state.h"
#include "tests/pump/bed.h"
#include "tests/pump/test_sink.h"

static struct bed bed;
static struct mr_pump *pump;

static void turn(void)
{
    struct mr_err err = {0};
    uint64_t done = 0;
    enum mr_rc rc = mr_pump_turn(pump, mr_clock_ns(), &done, &err);
    if (rc != MR_OK)
        fail_msg("%s: %s", mr_rc_name(rc), err.text);
    (void)mr_pump_look(pump);
}

static void open_pump(void)
{
    struct mr_err err = {0};
    assert_int_equal(mr_pump_open(&pump, &bed.process, &test_sink_ops, &err), MR_OK);
}

/* Everyone in turn until nothing is left to do. */
static void settle(void)
{
    for (int i = 0; i < 20000; i++) {
        bed_feed(&bed, UINT64_MAX, true);
        for (uint32_t shard = 0; shard < bed.shard_count; shard++) {
            bed_apply(&bed, shard);
            bed_match(&bed, shard, UINT32_MAX);
        }
        turn();
        bool resuming = !TAILQ_EMPTY(&pump->resume.all);
        if (pump->serving && bed.fed == bed.count && pump->merged == bed.fed && !resuming &&
            TAILQ_EMPTY(&pump->announced) && TAILQ_EMPTY(&pump->waiting) &&
            test_sink.request_first == test_sink.request_count && !pump->has_request) {
            turn();
            return;
        }
        if (resuming)
            usleep(100);
    }
    fail_msg("does not settle: merged %" PRIu64 " of %" PRIu64 ", fed %" PRIu64, pump->merged,
             bed.count, bed.fed);
}

static void start(uint32_t shards, uint64_t seed)
{
    test_sink_reset();
    bed_open(&bed, shards, seed, 0);
    open_pump();
    settle();
}

static void stop(void)
{
    mr_pump_close(&pump);
    assert_int_equal(test_sink.encodes, test_sink.releases);
    assert_false(test_sink.open);
    bed_close(&bed);
}

static void gateway(enum mr_request_kind kind, mr_gateway_id id)
{
    test_sink_push(&(struct test_request){.kind = kind, .gateway = id, .value = -1});
}

static const char *marker_text(uint64_t log_id, uint64_t sequence)
{
    static char text[MR_MARKER_TEXT_MAX + 1];
    size_t len = mr_marker_format((struct mr_marker){log_id, sequence}, text);
    text[len] = 0;
    return text;
}

static void subscribe(mr_gateway_id id, const char *name, uint32_t collection, int64_t value,
                      const char *after)
{
    struct test_request request = {.kind = MR_REQUEST_SUBSCRIBE, .gateway = id, .value = value};
    snprintf(request.id, sizeof request.id, "%s", name);
    snprintf(request.collection, sizeof request.collection, "c%u", collection);
    snprintf(request.after, sizeof request.after, "%s", after);
    test_sink_push(&request);
}

static void unsubscribe(mr_gateway_id id, const char *name)
{
    struct test_request request = {.kind = MR_REQUEST_UNSUBSCRIBE, .gateway = id, .value = -1};
    snprintf(request.id, sizeof request.id, "%s", name);
    test_sink_push(&request);
}

static struct test_subscription *of(mr_gateway_id id, const char *name)
{
    return test_sink_of(id, mr_str_from(name));
}

/* What s got is what its filter says, behind its marker, in order; to the end when complete. */
static void check(const struct test_subscription *s, uint32_t collection, int64_t value,
                  bool complete)
{
    assert_int_equal(s->answers, 1);
    assert_true(s->success);
    assert_true(s->before_answer == 0);
    uint32_t n = 0;
    for (uint64_t sequence = s->marker + 1; sequence <= bed.count; sequence++) {
        if (!bed_concerns(&bed.history[sequence - 1], collection, value))
            continue;
        if (n == s->count && !complete)
            return;
        if (n == s->count || s->sequences[n] != sequence)
            fail_msg("gateway %" PRIu64 " subscription %s (c%u n==%d, marker %" PRIu64
                     "): delivery %u is %" PRIu64 ", expected %" PRIu64 " (seed %s)",
                     s->gateway, s->id, collection, (int)value, s->marker, n,
                     n < s->count ? s->sequences[n] : 0, sequence, getenv("PUMP_SEED"));
        n++;
    }
    assert_int_equal(n, s->count);
}

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

struct plan {
    mr_gateway_id gateway;
    char id[16];
    uint32_t collection;
    int64_t value;
    bool ended;
};

/* Gateways and subscriptions come, go and resume while events flow, matchers die and rings fill up.
 */
static void random_life(uint64_t seed, bool resume)
{
    static struct plan plans[400];
    uint32_t count = 0;
    mr_gateway_id first = 1, last = 1;
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, seed);
    setenv("PUMP_SEED", text, 1);
    start(1 + (uint32_t)(seed % 5), seed);
    gateway(MR_REQUEST_OPEN, 1);
    for (int i = 0; i < 3000; i++) {
        if (pump->resume.worker && !TAILQ_EMPTY(&pump->resume.all) && i % 50 == 0)
            usleep(200);
        bed_step(&bed);
        if (bed_random(&bed, 3) == 0)
            turn();
        uint64_t dice = bed_random(&bed, 100);
        if (dice < 6 && count < 400) {
            struct plan *p = &plans[count++];
            *p = (struct plan){.gateway = first + bed_random(&bed, last - first + 1),
                               .collection = (uint32_t)bed_random(&bed, BED_COLLECTIONS),
                               .value = (int64_t)bed_random(&bed, BED_VALUES + 1) - 1};
            snprintf(p->id, sizeof p->id, "s%u", count);
            bool back = resume && bed_random(&bed, 2) == 0;
            subscribe(p->gateway, p->id, p->collection, p->value,
                      back ? marker_text(pump->deliverer.log_id, bed_random(&bed, bed.fed + 1))
                           : "");
        } else if (dice == 6 && count > 0) {
            struct plan *p = &plans[bed_random(&bed, count)];
            unsubscribe(p->gateway, p->id);
            p->ended = true;
        } else if (dice == 7 && bed_random(&bed, 4) == 0) {
            gateway(MR_REQUEST_OPEN, ++last);
        } else if (dice == 8 && first < last && bed_random(&bed, 4) == 0) {
            for (uint32_t k = 0; k < count; k++)
                plans[k].ended |= plans[k].gateway == first;
            gateway(MR_REQUEST_CLOSE, first++);
        } else if (dice == 9) {
            test_sink.fill = (double)bed_random(&bed, 100) / 100;
        }
    }
    test_sink.fill = 0;
    settle();
    for (uint32_t k = 0; k < count; k++) {
        struct test_subscription *s = test_sink_of(plans[k].gateway, mr_str_from(plans[k].id));
        if (plans[k].ended && (s->answers == 0 || !s->success))
            continue;
        check(s, plans[k].collection, plans[k].value, !plans[k].ended);
        if (!resume)
            assert_true(s->at_answer <= s->marker);
    }
    stop();
}

static void subscriptions_that_come_and_go_get_exactly_their_events(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 25; seed++)
        random_life(seed, false);
}

static void subscriptions_that_resume_get_exactly_their_events(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed <= 125; seed++)
        random_life(seed, true);
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

static void a_heartbeat_is_answered_with_what_the_whole_stream_has(void **state)
{
    (void)state;
    start(2, 6);
    gateway(MR_REQUEST_OPEN, 1);
    bed_append(&bed, 40);
    settle();
    struct test_request beat = {
        .kind = MR_REQUEST_HEARTBEAT, .gateway = 1, .timestamp_ms = 77, .value = -1};
    test_sink_push(&beat);
    turn();
    assert_int_equal(test_sink.ack_timestamp_ms, 77);
    assert_int_equal(test_sink.ack_marker, 40);
    test_sink.fill = 0.9;
    subscribe(1, "a", 0, -1, marker_text(pump->deliverer.log_id, 9));
    for (int i = 0; i < 50; i++) {
        turn();
        usleep(1000);
    }
    test_sink_push(&beat);
    turn();
    assert_int_equal(test_sink.acknowledged, 2);
    assert_int_equal(test_sink.ack_marker, 9);
    test_sink.fill = 0;
    settle();
    check(of(1, "a"), 0, -1, true);
    stop();
}

static void markers_that_lead_nowhere_are_answered_with_resync(void **state)
{
    (void)state;
    start(2, 8);
    gateway(MR_REQUEST_OPEN, 1);
    bed_append(&bed, 40);
    settle();
    atomic_store(&bed.board.shm->log_floor, 20);
    uint64_t log_id = pump->deliverer.log_id;
    subscribe(1, "other", 0, -1, marker_text(log_id + 1, 30));
    subscribe(1, "trimmed", 0, -1, marker_text(log_id, 18));
    subscribe(1, "beyond", 0, -1, marker_text(log_id, 41));
    subscribe(1, "oldest", 0, -1, marker_text(log_id, 19));
    settle();
    const char *lost[] = {"other", "trimmed", "beyond"};
    for (int i = 0; i < 3; i++) {
        assert_true(of(1, lost[i])->resync);
        assert_int_equal(of(1, lost[i])->marker, 40);
    }
    assert_false(of(1, "oldest")->resync);
    bed_append(&bed, 40);
    settle();
    for (int i = 0; i < 3; i++)
        check(of(1, lost[i]), 0, -1, true);
    check(of(1, "oldest"), 0, -1, true);
    stop();
}

static void a_log_that_is_lost_under_a_catch_up_is_told_with_a_second_answer(void **state)
{
    (void)state;
    start(2, 9);
    gateway(MR_REQUEST_OPEN, 1);
    for (int i = 0; i < 8; i++) {
        bed_append(&bed, 5);
        settle();
    }
    char command[256];
    struct mr_err err;
    assert_int_equal(mr_log_sync(bed.log, &err), MR_OK);
    snprintf(command, sizeof command,
             "for f in %s/log/*.mrlog; do dd if=/dev/urandom of=$f bs=1 seek=4996 count=64 "
             "conv=notrunc 2>/dev/null; done",
             bed.dir);
    assert_int_equal(system(command), 0);
    subscribe(1, "a", 0, -1, marker_text(pump->deliverer.log_id, 3));
    settle();
    assert_int_equal(of(1, "a")->answers, 2);
    assert_true(of(1, "a")->success && of(1, "a")->resync);
    assert_int_equal(of(1, "a")->marker, 40);
    stop();
}

static void a_slow_gateway_catches_up_as_it_reads_and_is_never_cut(void **state)
{
    (void)state;
    test_sink_reset();
    bed_open(&bed, 2, 10, 0);
    bed.process.config.publisher_gateway_queue_size = 4096; /* the hold overflows at once */
    open_pump();
    settle();
    gateway(MR_REQUEST_OPEN, 1);
    bed_append(&bed, 2000);
    settle();
    subscribe(1, "a", 0, -1, marker_text(pump->deliverer.log_id, 0));
    for (int i = 0; i < 3000; i++) {
        test_sink.fill = i % 10 == 0 ? 0.2 : 0.8;
        if (i % 3 == 0)
            bed_append(&bed, 5);
        bed_feed(&bed, UINT64_MAX, true);
        for (uint32_t shard = 0; shard < 2; shard++) {
            bed_apply(&bed, shard);
            bed_match(&bed, shard, UINT32_MAX);
        }
        turn();
    }
    test_sink.fill = 0;
    settle();
    check(of(1, "a"), 0, -1, true);
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

/* The publisher dies at any moment; its gateway comes back with the last marker that it has. */
static void a_killed_publisher_loses_nothing_for_those_who_resume(void **state)
{
    (void)state;
    for (uint64_t seed = 200; seed < 215; seed++) {
        start(1 + (uint32_t)(seed % 4), seed);
        mr_gateway_id id = 1;
        uint64_t seen = 0, total = 0;
        for (int life = 0; life < 6; life++) {
            gateway(MR_REQUEST_OPEN, id);
            subscribe(id, "a", 1, -1, marker_text(atomic_load(&bed.board.shm->log_id), seen));
            uint64_t steps = bed_random(&bed, 400);
            for (uint64_t i = 0; i < steps; i++) {
                bed_step(&bed);
                if (bed_random(&bed, 3) == 0)
                    turn();
                if (i % 100 == 0)
                    usleep(500);
            }
            bool last = life == 5;
            if (last)
                settle();
            const struct test_subscription *s = of(id, "a");
            for (uint32_t i = 0; i < s->count; i++) {
                for (uint64_t n = seen + 1; n < s->sequences[i]; n++)
                    assert_false(bed_concerns(&bed.history[n - 1], 1, -1));
                assert_true(s->sequences[i] > seen);
                seen = s->sequences[i];
                total++;
            }
            id++;
            test_sink.request_first = test_sink.request_count; /* their connections are gone */
            if (!last) {
                mr_pump_close(&pump); /* not stopping: nothing is finished */
                open_pump();
            }
        }
        uint64_t expected = 0;
        for (uint64_t n = 1; n <= bed.count; n++)
            expected += bed_concerns(&bed.history[n - 1], 1, -1);
        assert_int_equal(total, expected);
        stop();
    }
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
    uint64_t done;
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
        cmocka_unit_test(subscriptions_that_resume_get_exactly_their_events),
        cmocka_unit_test(an_event_that_concerns_more_than_its_match_ring_holds_is_delivered),
        cmocka_unit_test(a_silent_shard_holds_nobody_back),
        cmocka_unit_test(one_event_is_one_delivery_with_all_subscriptions_of_a_gateway_in_order),
        cmocka_unit_test(requests_over_a_limit_are_refused_and_the_limit_is_named),
        cmocka_unit_test(ids_are_free_again_when_their_stream_is_closed),
        cmocka_unit_test(a_subscription_that_ends_before_its_confirmation_is_told_so),
        cmocka_unit_test(a_heartbeat_is_answered_with_what_the_whole_stream_has),
        cmocka_unit_test(markers_that_lead_nowhere_are_answered_with_resync),
        cmocka_unit_test(a_log_that_is_lost_under_a_catch_up_is_told_with_a_second_answer),
        cmocka_unit_test(a_slow_gateway_catches_up_as_it_reads_and_is_never_cut),
        cmocka_unit_test(a_gateway_that_is_cut_delays_nobody),
        cmocka_unit_test(the_journal_begins_anew_when_it_is_full_of_the_past),
        cmocka_unit_test(a_generation_waits_for_the_last_matcher_in_its_segment),
        cmocka_unit_test(a_killed_publisher_loses_nothing_for_those_who_resume),
        cmocka_unit_test(the_publisher_follows_to_another_number_of_shards),
        cmocka_unit_test(what_is_matched_is_delivered_before_a_graceful_end),
        cmocka_unit_test(damaged_rings_end_the_publisher_with_their_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
