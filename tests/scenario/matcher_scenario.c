/* The real millrace-matcher between rings. */
#include "cel/normalise.h"
#include "tests/scenario/matcher_bed.h"

/* A collection-level subscription and one for each of ten users of twenty. */
static void subscribe_some(struct bed *bed)
{
    char user[16];
    bed_subscribe(bed, 7, NULL, NULL);
    for (uint64_t i = 0; i < 10; i++) {
        snprintf(user, sizeof user, "u%llu", (unsigned long long)i);
        bed_subscribe(bed, 100 - i, "user", user);
    }
    bed_publish_journal(bed);
}

static unsigned seed_once(void)
{
    const char *text = getenv("MILLRACE_TEST_SEED");
    unsigned seed = text ? (unsigned)atoi(text) : (unsigned)getpid();
    print_message("seed %u: rerun with MILLRACE_TEST_SEED=%u\n", seed, seed);
    srandom(seed);
    return seed;
}

static void every_event_is_matched_once_and_in_order(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1 << 18, 1 << 17);
    subscribe_some(&bed);
    bed_unsubscribe(&bed, 95);
    bed_publish_journal(&bed);
    bed_start(&bed);
    bed_ready(&bed);
    while (bed.fed < 50000) {
        bed_feed(&bed, 300);
        bed_pump(&bed, UINT32_MAX);
    }
    assert_true(bed_write(&bed, MR_OP_DELETE, "u1"));
    bed_publish(&bed);
    bed_settled(&bed);
    bed_wait(&bed, false, bed_counter(&bed, MR_COUNTER_MATCH_EVENTS) == bed.fed);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_MATCH_HITS), bed.hits);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_MATCH_SUBSCRIPTIONS), 10);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_MATCH_APPLIED), 12);
    assert_int_equal(atomic_load(&bed.cell->histograms[MR_HISTOGRAM_RING_TO_MATCH].count), bed.fed);
    assert_int_equal(atomic_load(&bed.cell->histograms[MR_HISTOGRAM_MATCH_TIME].count), bed.fed);
    /* Fed through, without an event for this shard. */
    mr_ring_set_through(&bed.events, bed.sequence + 1000);
    bed_wait(&bed, false, mr_ring_stage_note(bed.events.shm, 0) == bed.sequence + 1000);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void kills_at_random_moments_lose_and_repeat_nothing(void **state)
{
    (void)state;
    enum { KILLS = 300 };
    struct bed bed;
    bed_init(&bed, 1 << 17, 1 << 16);
    subscribe_some(&bed);
    seed_once();
    for (int i = 0; i < KILLS; i++) {
        bed_start(&bed);
        if (i % 4 != 0) /* every fourth dies while it starts */
            bed_ready(&bed);
        uint64_t until = mr_clock_ns() + (uint64_t)random() % (15 * MR_NS_PER_MS);
        while (mr_clock_ns() < until) {
            bed_feed(&bed, (uint32_t)random() % 400);
            if (random() % 3 != 0)
                bed_pump(&bed, (uint32_t)random() % 400);
            if (random() % 2 != 0)
                usleep((useconds_t)random() % 500);
        }
        assert_int_equal(bed_end(&bed, SIGKILL), -SIGKILL);
    }
    bed_start(&bed);
    bed_ready(&bed); /* there may be nothing left to settle: SIGTERM must find it prepared */
    bed_settled(&bed);
    print_message("%d kills, %llu events\n", KILLS, (unsigned long long)bed.fed);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

/* The moment between publishing matches and releasing events is too short to be hit by a signal:
 * the test leaves behind what a matcher that died there leaves behind. */
static void a_successor_skips_what_the_match_ring_says_is_done(void **state)
{
    (void)state;
    struct bed bed;
    struct mr_err err = {0};
    struct mr_ring_producer matches;
    uint64_t note;
    bed_init(&bed, 1 << 18, 1 << 17);
    bed_subscribe(&bed, 7, NULL, NULL);
    bed_publish_journal(&bed);
    const struct mr_ring_options options = {.part = "m0.g1", .publish_bytes = 1 << 16};
    bed_ok(mr_ring_attach_producer(&matches, bed.instance, &options, &note, &err), &err);
    for (int i = 0; i < 5; i++) {
        struct {
            struct mr_match_head head;
            uint64_t id;
        } record = {.head = {.position = bed.events.tail, .count = 1}, .id = 7};
        bed_feed(&bed, 1);
        record.head.sequence = bed.sequence;
        record.head.end = bed.events.tail;
        void *out = NULL;
        assert_int_equal(mr_ring_claim(&matches, sizeof record, &out), MR_OK);
        memcpy(out, &record, sizeof record);
        mr_ring_commit(&matches, sizeof record, MR_RECORD_MATCH, 0, record.head.end);
    }
    mr_ring_publish(&matches, bed.events.tail);
    mr_ring_detach_producer(&matches);
    bed_feed(&bed, 10);
    bed_start(&bed);
    bed_ready(&bed);
    bed_settled(&bed); /* fifteen, none of them twice */
    assert_int_equal(bed.seen_count, 15);
    bed_wait(&bed, false, bed_counter(&bed, MR_COUNTER_MATCH_EVENTS) == 10);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void subscriptions_change_while_events_flow(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1 << 17, 1 << 16);
    subscribe_some(&bed);
    bed_start(&bed);
    bed_ready(&bed);
    seed_once();
    bool on[20] = {false};
    for (int i = 0; i < 300; i++) {
        /* What is fed before the change may be matched by either set: let it be matched first. */
        bed_settled(&bed);
        uint32_t k = 10 + (uint32_t)random() % 10;
        char user[16];
        snprintf(user, sizeof user, "u%u", k);
        if (on[k])
            bed_unsubscribe(&bed, 1000 + k);
        else
            bed_subscribe(&bed, 1000 + k, "user", user);
        on[k] = !on[k];
        bed_applied(&bed);
        bed_feed(&bed, 100);
    }
    bed_settled(&bed);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void a_full_match_ring_stops_matching_and_loses_nothing(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1 << 20, 1 << 16);
    subscribe_some(&bed);
    bed_start(&bed);
    bed_ready(&bed);
    while (bed_feed(&bed, 100) == 100)
        ;
    bed_wait(&bed, false,
             atomic_load(&bed.matches.shm->stalls) > 0 ||
                 mr_ring_tail(bed.matches.shm) > (1 << 16) - 200);
    usleep(50000);
    uint64_t position = mr_ring_stage_position(bed.events.shm, 0);
    uint64_t note, count;
    assert_true(position < mr_ring_tail(bed.events.shm));
    mr_ring_last_commit(bed.matches.shm, &note, &count);
    assert_int_equal(note, position); /* not beyond what is written */
    usleep(50000);
    assert_int_equal(mr_ring_stage_position(bed.events.shm, 0), position);
    assert_int_equal(atomic_load(&bed.cell->state), MR_STATE_READY); /* it waits, it does not die */
    bed_settled(&bed);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

/* 20,000 matches of one event are five records and 160 KB, in a ring of 64 KiB. */
static void an_event_may_have_more_matches_than_the_ring_holds(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1 << 17, 1 << 16);
    for (uint64_t id = 1; id <= 20000; id++)
        bed_subscribe(&bed, id, NULL, NULL);
    bed_publish_journal(&bed);
    seed_once();
    for (int i = 0; i < 20; i++) {
        bed_start(&bed);
        bed_ready(&bed);
        bed_feed(&bed, 3);
        uint64_t until = mr_clock_ns() + (uint64_t)random() % (10 * MR_NS_PER_MS);
        while (mr_clock_ns() < until) {
            bed_pump(&bed, (uint32_t)random() % 2);
            usleep((useconds_t)random() % 1000);
        }
        assert_int_equal(bed_end(&bed, SIGKILL), -SIGKILL);
    }
    bed_start(&bed);
    bed_settled(&bed);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void a_new_generation_replaces_the_whole_set(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1 << 18, 1 << 17);
    subscribe_some(&bed);
    bed_start(&bed);
    bed_ready(&bed);
    for (int i = 0; i < 20; i++) {
        bed_feed(&bed, 200);
        bed_settled(&bed);
        bed_generation(&bed);
        bed_subscribe(&bed, 5000 + (uint64_t)i, "user", "u3");
        for (uint64_t k = 0; k < 3000; k++) /* more than one turn applies */
            bed_subscribe(&bed, 10000 + k, "user", k % 2 ? "u4" : "nobody");
        bed_applied(&bed);
    }
    bed_feed(&bed, 200);
    bed_settled(&bed);
    bed_wait(&bed, false, bed_counter(&bed, MR_COUNTER_MATCH_SUBSCRIPTIONS) == 3001);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void what_was_confirmed_before_the_first_event_is_matched_by_it(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1 << 18, 1 << 17);
    bed_publish_journal(&bed);
    bed_start(&bed);
    bed_ready(&bed);
    kill(bed.pid, SIGSTOP);
    for (uint64_t k = 0; k < 5000; k++) /* many turns apply; u3 comes last */
        bed_subscribe(&bed, 1000 + k, "user", k < 4990 ? "nobody" : "u3");
    bed_publish_journal(&bed);
    bed_feed(&bed, 100);
    kill(bed.pid, SIGCONT);
    bed_settled(&bed);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void an_idle_matcher_wakes_for_one_event(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1 << 18, 1 << 17);
    subscribe_some(&bed);
    bed_start(&bed);
    bed_ready(&bed);
    uint64_t worst = 0;
    for (int i = 0; i < 50; i++) {
        usleep(5000); /* long enough to fall asleep */
        uint64_t started = mr_clock_ns();
        bed_feed(&bed, 1);
        while (mr_ring_stage_position(bed.events.shm, 0) != bed.events.tail)
            assert_true(mr_clock_ns() - started < 10 * MR_NS_PER_S);
        uint64_t took = mr_clock_ns() - started;
        worst = took > worst ? took : worst;
        bed_pump(&bed, UINT32_MAX);
    }
    print_message("from publication to released: at most %llu us\n",
                  (unsigned long long)worst / 1000);
    bed_settled(&bed);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void what_is_no_event_ends_the_process_with_a_text(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1 << 18, 1 << 17);
    subscribe_some(&bed);
    bed_feed(&bed, 10);
    void *out = NULL;
    assert_int_equal(mr_ring_claim(&bed.events, 100, &out), MR_OK);
    memset(out, 0x55, 100);
    mr_ring_commit(&bed.events, 100, MR_RECORD_EVENT, 0, bed.sequence + 1);
    mr_ring_publish(&bed.events, bed.sequence + 1);
    bed_start(&bed);
    int code = bed_end(&bed, 0);
    assert_true(code != 0 && code != MR_EXIT_CONFIG && code != MR_EXIT_RETRY);
    if (!strstr(bed.cell->text, "event ring: no event at position"))
        fail_msg("the cell says \"%s\"", bed.cell->text);
    bed_fini(&bed);
}

static void a_subscription_that_is_no_program_stays_alone(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1 << 18, 1 << 17);
    uint8_t junk[40] = {1};
    assert_int_equal(mr_journal_append(&bed.journal[1], MR_RECORD_SUBSCRIBE, junk, sizeof junk),
                     MR_OK);
    subscribe_some(&bed);
    bed_start(&bed);
    bed_ready(&bed);
    bed_feed(&bed, 200);
    bed_settled(&bed);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_MATCH_SUBSCRIPTIONS), 11);
    assert_true(bed_counter(&bed, MR_COUNTER_MATCH_ERRORS) >= 1);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

/* Subscriptions whose expressions use most of what one may: none of them is quarantined. */
static void subscribe_costly(struct bed *bed, uint64_t from, uint64_t count)
{
    struct mr_err err = {0};
    struct mr_program_compiler *compiler;
    char list[1024] = "[0", cel[4096];
    for (int i = 1; i < 70; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), ",%d", i);
    bed_ok(mr_program_compiler_create(&compiler, &err), &err);
    for (uint64_t i = 0; i < count; i++) {
        void *program;
        uint32_t len;
        snprintf(cel, sizeof cel, "%s].all(x, %s].all(y, x + y + %llu != int(doc.n)))", list, list,
                 (unsigned long long)(from + i) << 32);
        const struct mr_program_source source = {
            .database = MR_STR("db"), .collection = MR_STR("orders"), .cel = mr_str_from(cel)};
        bed_ok(mr_program_compile(compiler, &source, &program, &len, &err), &err);
        bed_subscribe_program(bed, from + i, program, len);
    }
    mr_program_compiler_destroy(&compiler);
}

/* Feed events all at once. How long is the process silent at most, and how often does it hand over,
 * until it is done with them? */
static void watch_work(struct bed *bed, uint32_t count, uint64_t *silent_ns, uint32_t *steps)
{
    kill(bed->pid, SIGSTOP);
    assert_int_equal(bed_feed(bed, count), count);
    kill(bed->pid, SIGCONT);
    uint64_t beat = 0, note = mr_ring_stage_note(bed->events.shm, 0);
    uint64_t beaten_ns = mr_clock_ns(), until_ns = beaten_ns + 60 * MR_NS_PER_S;
    *silent_ns = 0;
    *steps = 0;
    while (note < bed->sequence) {
        uint64_t now_ns = mr_clock_ns(), next = mr_ring_stage_note(bed->events.shm, 0);
        uint64_t heard = atomic_load(&bed->cell->heartbeat_ns);
        assert_true(now_ns < until_ns);
        if (heard != beat)
            beaten_ns = now_ns;
        if (now_ns - beaten_ns > *silent_ns)
            *silent_ns = now_ns - beaten_ns;
        *steps += next != note;
        beat = heard;
        note = next;
        bed_pump(bed, UINT32_MAX);
        usleep(1000);
    }
}

static void costly_expressions_do_not_make_a_turn_long(void **state)
{
    (void)state;
    struct bed bed;
    uint64_t silent_ns;
    uint32_t steps;
    bed_init(&bed, 1 << 18, 1 << 17);
    subscribe_costly(&bed, 1000, 30);
    subscribe_some(&bed);
    bed_start(&bed);
    bed_ready(&bed);
    watch_work(&bed, 40, &silent_ns, &steps);
    print_message("40 events: silent for %llu ms, handed over %u times\n",
                  (unsigned long long)(silent_ns / MR_NS_PER_MS), steps);
    assert_true(silent_ns < 200 * MR_NS_PER_MS);
    assert_true(steps >= 10);
    subscribe_costly(&bed, 2000, 2000);
    bed_applied(&bed);
    watch_work(&bed, 2, &silent_ns, &steps);
    print_message("2 events: silent for %llu ms\n", (unsigned long long)(silent_ns / MR_NS_PER_MS));
    assert_true(silent_ns < 200 * MR_NS_PER_MS);
    bed_settled(&bed);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_MATCH_QUARANTINED), 0);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_is_matched_once_and_in_order),
        cmocka_unit_test(kills_at_random_moments_lose_and_repeat_nothing),
        cmocka_unit_test(a_successor_skips_what_the_match_ring_says_is_done),
        cmocka_unit_test(subscriptions_change_while_events_flow),
        cmocka_unit_test(a_full_match_ring_stops_matching_and_loses_nothing),
        cmocka_unit_test(an_event_may_have_more_matches_than_the_ring_holds),
        cmocka_unit_test(a_new_generation_replaces_the_whole_set),
        cmocka_unit_test(what_was_confirmed_before_the_first_event_is_matched_by_it),
        cmocka_unit_test(an_idle_matcher_wakes_for_one_event),
        cmocka_unit_test(what_is_no_event_ends_the_process_with_a_text),
        cmocka_unit_test(a_subscription_that_is_no_program_stays_alone),
        cmocka_unit_test(costly_expressions_do_not_make_a_turn_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
