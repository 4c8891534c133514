/* The real millrace-puller between a board and rings. */
#include "tests/scenario/puller_bed.h"

#include "common/log.h"

static void every_event_reaches_its_ring_once_and_in_order(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 3, 1 << 20);
    bed_set(&bed, "generator.rate", "0");
    bed_set(&bed, "generator.count", "50000");
    bed_start(&bed);
    bed_wait(&bed, true, bed_through(&bed) == 50000);
    bed_check_all(&bed, 50000);
    bed_wait(&bed, false, strcmp(bed.cell->text, "source ended") == 0);
    assert_int_equal(atomic_load(&bed.cell->state), MR_STATE_READY);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_SOURCE_EVENTS), 50000);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_FEED_EVENTS), 50000);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_FEED_SEQUENCE), 50000);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_SOURCE_BYTES),
                     bed_counter(&bed, MR_COUNTER_FEED_BYTES));
    bed_wait(&bed, false, bed_counter(&bed, MR_COUNTER_LOG_DURABLE) == 50000);
    assert_int_equal(atomic_load(&bed.board.shm->log_written), 50000);
    assert_int_not_equal(atomic_load(&bed.board.shm->log_id), 0);
    assert_int_equal(atomic_load(&bed.cell->histograms[MR_HISTOGRAM_SOURCE_TO_RING].count), 50000);
    bed_wait(&bed, false,
             atomic_load(&bed.cell->histograms[MR_HISTOGRAM_SOURCE_TO_DURABLE].count) == 50000);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

/* Kills at random moments, while rings are full, empty, and in between. MILLRACE_TEST_KILLS makes
 * it longer. */
static void nothing_is_lost_or_doubled_when_it_is_killed(void **state)
{
    (void)state;
    enum { KILLS = 60, COUNT = 400000 };
    const char *kills_text = getenv("MILLRACE_TEST_KILLS");
    int kills = kills_text ? atoi(kills_text) : KILLS;
    struct bed bed;
    bed_init(&bed, 2, 1 << 17);
    bed_set(&bed, "generator.rate", "100000");
    bed_set(&bed, "generator.document_bytes", "64B");
    char count[16];
    snprintf(count, sizeof count, "%d", COUNT);
    bed_set(&bed, "generator.count", count);
    const char *seed_text = getenv("MILLRACE_TEST_SEED");
    unsigned seed = seed_text ? (unsigned)atoi(seed_text) : (unsigned)getpid();
    print_message("seed %u: rerun with MILLRACE_TEST_SEED=%u\n", seed, seed);
    srandom(seed);
    for (int i = 0; i < kills; i++) {
        bed_start(&bed);
        if (i % 4 != 0) /* every fourth dies while it starts */
            bed_ready(&bed);
        uint64_t until = mr_clock_ns() + (uint64_t)random() % (25 * MR_NS_PER_MS);
        while (mr_clock_ns() < until) {
            bed_pump(&bed, (uint64_t)random() % 400);
            usleep((useconds_t)random() % 2000);
        }
        assert_int_equal(bed_end(&bed, SIGKILL), -SIGKILL);
    }
    print_message("%d kills, %llu events until then\n", kills, (unsigned long long)bed.count);
    bed_set(&bed, "generator.rate", "0");
    bed_start(&bed);
    bed_wait(&bed, true, bed_through(&bed) == COUNT);
    bed_check_all(&bed, COUNT);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void a_full_ring_lets_the_log_grow_and_is_caught_up_from_disk(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 2, 1 << 16);
    bed_set(&bed, "generator.rate", "0");
    bed_set(&bed, "generator.count", "60000");
    bed_start(&bed);
    bed_wait(&bed, false, bed_counter(&bed, MR_COUNTER_LOG_LAST) == 60000);
    assert_true(bed_counter(&bed, MR_COUNTER_FEED_SEQUENCE) < 1000);
    assert_true(bed_counter(&bed, MR_COUNTER_FEED_STALLS) > 0);
    usleep(100000);
    uint64_t beat = atomic_load(&bed.cell->heartbeat_ns);
    assert_true(mr_clock_ns() - beat < MR_BEAT_NS);
    assert_string_equal(bed.cell->text, "feeding from disk");
    bed_wait(&bed, true, bed_through(&bed) == 60000);
    bed_check_all(&bed, 60000);
    assert_true(bed_counter(&bed, MR_COUNTER_FEED_FROM_DISK) > 50000);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void direct(struct bed *bed, enum mr_directive directive, uint64_t number)
{
    atomic_store(&bed->board.shm->directive, directive);
    atomic_store(&bed->board.shm->directive_number, number);
}

/* As the supervisor changes the number of shards; the puller may be killed at each step. */
static void change_shards(struct bed *bed, uint32_t shards, uint64_t number, int kill_at)
{
    struct mr_board_shm *board = bed->board.shm;
    uint32_t generation = bed->generation + 1;
    bed_create_rings(bed, generation, shards);
    atomic_store(&board->ring_set_next, mr_ring_set_pack(generation, shards));
    for (int step = 0; step < 3; step++) {
        if (step == 0)
            bed_wait(bed, true, atomic_load(&bed->cell->rings_attached) == generation);
        if (step == 1) {
            direct(bed, MR_DIRECTIVE_QUIESCE, number);
            bed_wait(bed, true, atomic_load(&bed->cell->feed_paused) == 1 + number);
        }
        if (kill_at == step) {
            bed_end(bed, SIGKILL);
            bed_start(bed);
            bed_ready(bed);
        }
        if (step == 1) {
            bed_wait(bed, false, atomic_load(&bed->cell->feed_paused) == 1 + number);
            while (bed_pump(bed, UINT64_MAX) > 0)
                ;
            assert_int_equal(bed_through(bed), bed->count); /* nothing came after the pause */
            bed_attach(bed, generation, shards);
            atomic_store(&board->ring_set, mr_ring_set_pack(generation, shards));
            atomic_store(&board->ring_set_next, 0);
        }
    }
    direct(bed, MR_DIRECTIVE_RUN, number + 1);
    bed_wait(bed, true, atomic_load(&bed->cell->feed_paused) == 0);
}

static void the_ring_set_changes_under_load_and_kills(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1, 1 << 18);
    bed_set(&bed, "generator.rate", "20000");
    bed_start(&bed);
    bed_ready(&bed);
    static const uint32_t shards[] = {4, 2, 3, 1, 16, 2};
    for (uint32_t i = 0; i < 6; i++) {
        bed_wait(&bed, true, bed.count > 500 * (i + 1));
        change_shards(&bed, shards[i], 1 + 2 * i, (int)i % 4 - 1);
    }
    direct(&bed, MR_DIRECTIVE_DRAIN, 100);
    bed_wait(&bed, true, atomic_load(&bed.cell->state) == MR_STATE_DRAINED);
    bed_check_all(&bed, bed_counter(&bed, MR_COUNTER_LOG_LAST));
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void drained_means_fed_durable_and_no_longer_reading(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 2, 1 << 16);
    bed_set(&bed, "generator.rate", "0");
    bed_start(&bed);
    bed_wait(&bed, false, bed_counter(&bed, MR_COUNTER_LOG_LAST) > 20000);
    direct(&bed, MR_DIRECTIVE_DRAIN, 1);
    bed_wait(&bed, false, strcmp(bed.cell->text, "draining") == 0);
    uint64_t last = bed_counter(&bed, MR_COUNTER_LOG_LAST);
    assert_int_equal(atomic_load(&bed.cell->state), MR_STATE_READY);
    bed_wait(&bed, true, atomic_load(&bed.cell->state) == MR_STATE_DRAINED);
    assert_int_equal(bed_through(&bed), last);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_LOG_LAST), last);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_LOG_DURABLE), last);
    bed_check_all(&bed, last);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

/* With the generator a position is the number of events before it: what is confirmed can be
 * compared with the checkpoint. */
static void the_source_is_confirmed_through_the_checkpoint_and_no_further(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 2, 1 << 20);
    bed_set(&bed, "generator.rate", "50000");
    bed_set(&bed, "generator.count", "30000");
    bed_set(&bed, "generator.document_bytes", "64B");
    bed_start(&bed);
    bed_wait(&bed, true, bed.count > 5000);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_SOURCE_CONFIRMED), 0);
    for (uint64_t checkpoint = 100; checkpoint < 28000; checkpoint += 997) {
        bed_wait(&bed, true, bed_counter(&bed, MR_COUNTER_LOG_DURABLE) >= checkpoint);
        atomic_store(&bed.board.shm->checkpoint, checkpoint);
        if (checkpoint / 997 % 5 == 4) { /* a successor finds in the log what to confirm */
            bed_end(&bed, SIGKILL);
            mr_gauge(bed.cell, MR_COUNTER_SOURCE_CONFIRMED, 0);
            bed_start(&bed);
            bed_ready(&bed);
            checkpoint += 997;
            bed_wait(&bed, true, bed_counter(&bed, MR_COUNTER_LOG_DURABLE) >= checkpoint);
            atomic_store(&bed.board.shm->checkpoint, checkpoint);
        }
        bed_wait(&bed, true, bed_counter(&bed, MR_COUNTER_SOURCE_CONFIRMED) + 900 >= checkpoint);
        for (int i = 0; i < 10; i++) {
            assert_true(bed_counter(&bed, MR_COUNTER_SOURCE_CONFIRMED) <= checkpoint);
            usleep(100);
        }
    }
    bed_wait(&bed, true, bed_through(&bed) == 30000);
    atomic_store(&bed.board.shm->checkpoint, 30000);
    bed_wait(&bed, false, bed_counter(&bed, MR_COUNTER_SOURCE_CONFIRMED) == 30000);
    bed_end(&bed, SIGKILL);
    mr_gauge(bed.cell, MR_COUNTER_SOURCE_CONFIRMED, 0);
    bed_start(&bed); /* everything is confirmed: said again, so that an idle slot advances */
    bed_wait(&bed, false, bed_counter(&bed, MR_COUNTER_SOURCE_CONFIRMED) == 30000);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void a_wrong_configuration_ends_with_100(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, 1, 1 << 16);
    bed.board.shm->start_sequence = 77; /* a checkpoint, and no log that goes with it */
    bed_start(&bed);
    assert_int_equal(bed_end(&bed, 0), 100);
    assert_non_null(strstr(bed.cell->text, "before the checkpoint 77"));
    bed_fini(&bed);
}

int main(void)
{
    mr_log_setup(MR_LOG_WARN, MR_LOG_TEXT, "test");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_reaches_its_ring_once_and_in_order),
        cmocka_unit_test(nothing_is_lost_or_doubled_when_it_is_killed),
        cmocka_unit_test(a_full_ring_lets_the_log_grow_and_is_caught_up_from_disk),
        cmocka_unit_test(the_ring_set_changes_under_load_and_kills),
        cmocka_unit_test(drained_means_fed_durable_and_no_longer_reading),
        cmocka_unit_test(the_source_is_confirmed_through_the_checkpoint_and_no_further),
        cmocka_unit_test(a_wrong_configuration_ends_with_100),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
