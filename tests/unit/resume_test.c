#include <dirent.h>
#include <sys/resource.h>

#include "tests/pump/driver.h"

static void subscriptions_that_resume_get_exactly_their_events(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 100 + lives(25); seed++)
        random_life(seed, true);
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

static void a_killed_publisher_loses_nothing_for_those_who_resume(void **state)
{
    (void)state;
    for (uint64_t seed = 200; seed < 200 + lives(15); seed++) {
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

static uint32_t catch_ups(void)
{
    uint32_t count = 0;
    const struct mr_catchup *c;
    TAILQ_FOREACH(c, &pump->resume.all, all)
    count++;
    assert_int_equal(count, pump->resume.count);
    return count;
}

static void a_gateway_that_resumes_its_subscriptions_one_by_one_reads_the_log_once_or_twice(
    void **state)
{
    enum { COUNT = 60 };
    (void)state;
    char id[16];
    start(2, 12);
    gateway(MR_REQUEST_OPEN, 1);
    bed_append(&bed, 400);
    settle();
    test_sink.fill = 0.9;
    for (int i = 0; i < COUNT; i++) {
        snprintf(id, sizeof id, "s%d", i);
        subscribe(1, id, 0, -1, marker_text(pump->deliverer.log_id, (uint64_t)i));
        for (int k = 0; k < 3; k++) {
            turn();
            usleep(2000);
        }
        assert_in_range(catch_ups(), 1, 2);
    }
    bed_append(&bed, 40);
    test_sink.fill = 0;
    settle();
    for (int i = 0; i < COUNT; i++) {
        snprintf(id, sizeof id, "s%d", i);
        check(of(1, id), 0, -1, true);
    }
    stop();
}

/* How many of the catch-ups have not begun to read. */
static uint32_t forming(void)
{
    uint32_t count = 0;
    const struct mr_catchup *c;
    TAILQ_FOREACH(c, &pump->resume.all, all)
    count += c->pump.phase == MR_CATCHUP_FORMING;
    return count;
}

static void who_resumes_far_from_another_does_not_wait_for_it(void **state)
{
    (void)state;
    start(1, 13);
    gateway(MR_REQUEST_OPEN, 1);
    bed_append(&bed, 66000);
    settle();
    test_sink.fill = 0.9;
    subscribe(1, "old", 0, -1, marker_text(pump->deliverer.log_id, 0));
    for (int i = 0; i < 40; i++) {
        turn();
        usleep(1000);
    }
    subscribe(1, "older", 0, -1, marker_text(pump->deliverer.log_id, 20));
    subscribe(1, "new", 0, -1, marker_text(pump->deliverer.log_id, 65990));
    for (int i = 0; i < 40; i++) {
        turn();
        usleep(1000);
    }
    assert_int_equal(catch_ups(), 3);
    assert_int_equal(forming(), 1);
    test_sink.fill = 0;
    settle();
    check(of(1, "old"), 0, -1, true);
    check(of(1, "older"), 0, -1, true);
    check(of(1, "new"), 0, -1, true);
    stop();
}

static void who_resumes_near_the_head_does_not_wait_for_as_many_as_may_read(void **state)
{
    enum { OLDS = 4, APART = 65600, EVENTS = OLDS * APART };
    (void)state;
    char id[16];
    start(1, 16);
    bed_append(&bed, EVENTS);
    settle();
    gateway(MR_REQUEST_OPEN, 1);
    test_sink.fill = 0.9;
    for (uint64_t i = 0; i < OLDS; i++) {
        snprintf(id, sizeof id, "old%" PRIu64, i);
        subscribe(1, id, 0, 0, marker_text(pump->deliverer.log_id, i * APART));
    }
    for (int i = 0; i < 1000 && (catch_ups() < OLDS || forming() > 0); i++) {
        turn();
        usleep(1000);
    }
    assert_int_equal(catch_ups(), OLDS);
    subscribe(1, "older", 0, 0, marker_text(pump->deliverer.log_id, 20));
    subscribe(1, "new", 0, 0, marker_text(pump->deliverer.log_id, EVENTS - 10));
    for (int i = 0; i < 1000 && (catch_ups() < OLDS + 2 || forming() > 1); i++) {
        turn();
        usleep(1000);
    }
    assert_int_equal(forming(), 1);
    const struct mr_catchup *last = TAILQ_LAST(&pump->resume.all, mr_catchup_list);
    assert_true(last->from == EVENTS - 10 && last->pump.phase != MR_CATCHUP_FORMING);
    stop();
}

static void who_leaves_while_a_catch_up_forms_leaves_nothing_in_it(void **state)
{
    enum { TIMES = 2000 };
    (void)state;
    start(1, 17);
    gateway(MR_REQUEST_OPEN, 1);
    bed_append(&bed, 400);
    settle();
    test_sink.fill = 0.9;
    subscribe(1, "reads", 0, -1, marker_text(pump->deliverer.log_id, 0));
    for (int i = 0; i < 1000 && (catch_ups() == 0 || forming() > 0); i++) {
        turn();
        usleep(1000);
    }
    subscribe(1, "stays", 0, -1, marker_text(pump->deliverer.log_id, 0));
    turn();
    for (int i = 0; i < TIMES; i++) {
        subscribe(1, "leaves", 0, -1, marker_text(pump->deliverer.log_id, 0));
        turn();
        assert_int_equal(catch_ups(), 2);
        assert_int_equal(forming(), 1);
        assert_in_range(TAILQ_LAST(&pump->resume.all, mr_catchup_list)->member_count, 1, 3);
        unsubscribe(1, "leaves");
        turn();
        bed_apply(&bed, 0);
    }
    test_sink.fill = 0;
    settle();
    check(of(1, "reads"), 0, -1, true);
    check(of(1, "stays"), 0, -1, true);
    stop();
}

static uint32_t open_files(void)
{
    uint32_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static void many_gateways_that_resume_at_once_need_few_descriptors(void **state)
{
    enum { GATEWAYS = 90, DESCRIPTORS = 2 * 64 + 16 };
    (void)state;
    start(2, 14);
    bed_append(&bed, 400);
    settle();
    uint32_t before = open_files();
    test_sink.fill = 0.9;
    for (mr_gateway_id id = 1; id <= GATEWAYS; id++) {
        gateway(MR_REQUEST_OPEN, id);
        subscribe(id, "a", 0, -1, marker_text(pump->deliverer.log_id, id));
    }
    for (int i = 0; i < 200; i++) {
        turn();
        usleep(1000);
    }
    assert_int_equal(catch_ups(), GATEWAYS);
    assert_in_range(open_files(), before, before + DESCRIPTORS);
    bed_append(&bed, 40);
    test_sink.fill = 0;
    settle();
    for (mr_gateway_id id = 1; id <= GATEWAYS; id++)
        check(of(id, "a"), 0, -1, true);
    stop();
}

static void no_descriptors_for_a_while_is_no_loss(void **state)
{
    (void)state;
    struct rlimit limit, none;
    start(2, 15);
    gateway(MR_REQUEST_OPEN, 1);
    bed_append(&bed, 40);
    settle();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    subscribe(1, "a", 0, -1, marker_text(pump->deliverer.log_id, 3));
    for (int i = 0; i < 300; i++) {
        turn();
        usleep(1000);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(of(1, "a")->answers, 1);
    assert_int_equal(catch_ups(), 1);
    settle();
    assert_false(of(1, "a")->resync);
    check(of(1, "a"), 0, -1, true);
    stop();
}

static void want_snapshot(mr_gateway_id id, const char *name)
{
    struct test_request request = {
        .kind = MR_REQUEST_SUBSCRIBE, .gateway = id, .value = -1, .snapshot = true};
    snprintf(request.id, sizeof request.id, "%s", name);
    snprintf(request.collection, sizeof request.collection, "c0");
    test_sink_push(&request);
}

/* How many snapshots of a gateway, or of all (0), have begun and are not told. */
static uint32_t on_their_way(mr_gateway_id id)
{
    uint32_t count = 0;
    const struct mr_catchup *c;
    TAILQ_FOREACH(c, &pump->resume.all, all)
    count += c->snapshot && c->pump.phase != MR_CATCHUP_FORMING && !c->pump.told &&
             (id == 0 || (c->pump.gateway && c->pump.gateway->id == id));
    return count;
}

static void snapshots_begin_a_few_at_once_and_who_does_not_read_holds_up_its_own_only(void **state)
{
    enum { GATEWAYS = 7 };
    (void)state;
    start(2, 11);
    bed_append(&bed, 400);
    settle();
    for (mr_gateway_id id = 1; id <= GATEWAYS; id++) {
        gateway(MR_REQUEST_OPEN, id);
        want_snapshot(id, "a");
        want_snapshot(id, "b");
    }
    test_sink.fill = 0.9; /* nobody reads */
    turn();
    if (test_sink.request_first ==
        test_sink.request_count) { /* a slow machine takes fewer a turn */
        assert_int_equal(on_their_way(0), MR_RESUME_SURVEYS_MAX);
        assert_int_equal(pump->resume.waiting, 2 * GATEWAYS - MR_RESUME_SURVEYS_MAX);
    }
    for (int i = 0; i < 5000 && on_their_way(0) < GATEWAYS; i++) {
        turn();
        usleep(100);
        assert_true(pump->resume.surveys <= MR_RESUME_SURVEYS_MAX);
        for (mr_gateway_id id = 1; id <= GATEWAYS; id++)
            assert_true(on_their_way(id) <= 1);
    }
    assert_int_equal(on_their_way(0), GATEWAYS); /* and each has its first */
    gateway(MR_REQUEST_CLOSE, 1); /* one leaves, with one under way and one to come */
    unsubscribe(2, "a");          /* another waits no longer for its first */
    test_sink.fill = 0;
    settle();
    for (mr_gateway_id id = 2; id <= GATEWAYS; id++) {
        assert_true(id == 2 || of(id, "a")->success);
        assert_true(of(id, "b")->success && !of(id, "b")->resync);
        assert_true(of(id, "b")->before_answer > 0);
    }
    assert_int_equal(pump->resume.surveys + pump->resume.waiting, 0);
    stop();
}

int main(void)
{
    mr_log_setup(MR_LOG_ERROR, MR_LOG_TEXT, "test");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subscriptions_that_resume_get_exactly_their_events),
        cmocka_unit_test(a_heartbeat_is_answered_with_what_the_whole_stream_has),
        cmocka_unit_test(markers_that_lead_nowhere_are_answered_with_resync),
        cmocka_unit_test(a_log_that_is_lost_under_a_catch_up_is_told_with_a_second_answer),
        cmocka_unit_test(a_slow_gateway_catches_up_as_it_reads_and_is_never_cut),
        cmocka_unit_test(a_killed_publisher_loses_nothing_for_those_who_resume),
        cmocka_unit_test(
            a_gateway_that_resumes_its_subscriptions_one_by_one_reads_the_log_once_or_twice),
        cmocka_unit_test(who_resumes_far_from_another_does_not_wait_for_it),
        cmocka_unit_test(who_resumes_near_the_head_does_not_wait_for_as_many_as_may_read),
        cmocka_unit_test(who_leaves_while_a_catch_up_forms_leaves_nothing_in_it),
        cmocka_unit_test(many_gateways_that_resume_at_once_need_few_descriptors),
        cmocka_unit_test(no_descriptors_for_a_while_is_no_loss),
        cmocka_unit_test(snapshots_begin_a_few_at_once_and_who_does_not_read_holds_up_its_own_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
