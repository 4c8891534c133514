/* What is shown of an instance: liveness, ring numbers, Prometheus text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "shm/inspect.h"
#include "shm/ring.h"
#include "tests/leftovers.h"

struct fixture {
    char instance[MR_INSTANCE_MAX];
    struct mr_board board;
};

static void make_ring(const char *instance, char kind, uint32_t stages)
{
    char part[32];
    struct mr_err err = {0};
    mr_ring_part(part, kind, 0, 1);
    const struct mr_ring_options options = {.part = part, .capacity = 65536, .stage_count = stages};
    assert_int_equal(mr_ring_create(instance, 7, &options, &err), MR_OK);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct mr_err err = {0};
    remove_leftovers("inspect");
    snprintf(f->instance, sizeof f->instance, "inspect-%d", (int)getpid());
    assert_int_equal(mr_board_create(&f->board, f->instance, 7, &err), MR_OK);
    make_ring(f->instance, 'e', 2);
    make_ring(f->instance, 'm', 1);
    make_ring(f->instance, 's', 1);
    atomic_store(&f->board.shm->ring_set, mr_ring_set_pack(1, 1));
    mr_segment_seal(&f->board.segment);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mr_board_detach(&f->board);
    mr_segment_remove_all(f->instance);
    free(f);
    return 0;
}

static void live_in(struct fixture *f, uint32_t cell_index, enum mr_process_kind kind)
{
    struct mr_cell_shm *cell = &f->board.shm->cells[cell_index];
    atomic_store(&cell->pid, (uint32_t)getpid());
    atomic_store(&cell->kind, kind);
    atomic_store(&cell->state, MR_STATE_READY);
    atomic_store(&cell->heartbeat_ns, mr_clock_ns());
}

static char *prometheus_of(struct fixture *f)
{
    struct mr_inspect inspect;
    struct mr_err err = {0};
    char *text = NULL;
    size_t len = 0;
    assert_int_equal(mr_inspect_open(&inspect, f->instance, &err), MR_OK);
    FILE *out = open_memstream(&text, &len);
    mr_inspect_prometheus(&inspect, out);
    fclose(out);
    mr_inspect_close(&inspect);
    return text;
}

static void a_pid_and_its_beat_decide_how_alive_it_looks(void **state)
{
    (void)state;
    uint64_t now = mr_clock_ns();
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    siginfo_t info;
    waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
    assert_int_equal(mr_liveness_of((uint32_t)child, now, now), MR_LIVE_STALE); /* a zombie */
    waitpid(child, NULL, 0);
    assert_int_equal(mr_liveness_of(0, 0, now), MR_LIVE_NONE);
    assert_int_equal(mr_liveness_of((uint32_t)getpid(), now, now), MR_LIVE_ALIVE);
    assert_int_equal(mr_liveness_of((uint32_t)getpid(), now - 5 * MR_NS_PER_S, now), MR_LIVE_HUNG);
    assert_int_equal(mr_liveness_of((uint32_t)child, now, now), MR_LIVE_STALE);
}

static void an_instance_that_is_not_there_is_said_so(void **state)
{
    struct mr_inspect inspect;
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(mr_inspect_open(&inspect, "no-such-instance", &err), MR_AGAIN);
    assert_non_null(strstr(err.text, "no-such-instance"));
    assert_int_equal(mr_inspect_open(&inspect, "Not/A/Name", &err), MR_USAGE);
}

static void ring_numbers_count_what_is_published_and_not_yet_freed(void **state)
{
    struct fixture *f = *state;
    struct mr_ring_producer producer;
    struct mr_ring_numbers numbers;
    struct mr_inspect inspect;
    struct mr_err err = {0};
    uint64_t note;
    void *room = NULL;
    const struct mr_ring_options options = {.part = "e0.g1", .capacity = 65536, .stage_count = 2};
    assert_int_equal(mr_ring_attach_producer(&producer, f->instance, &options, &note, &err), MR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mr_ring_claim(&producer, 100, &room), MR_OK);
        memset(room, 'x', 100);
        mr_ring_commit(&producer, 100, 1, 0, 42);
    }
    mr_ring_publish(&producer, 42);
    mr_ring_set_through(&producer, 43);
    assert_int_equal(mr_inspect_open(&inspect, f->instance, &err), MR_OK);
    assert_int_equal(inspect.ring_count, 3);
    mr_ring_numbers(inspect.rings[0].shm, &numbers);
    assert_int_equal(numbers.published, 3);
    assert_int_equal(numbers.fill_records, 3);
    assert_int_equal(numbers.fill_bytes, 3 * 112);
    assert_int_equal(numbers.payload_bytes, 300);
    assert_int_equal(numbers.through, 43);
    assert_int_equal(numbers.producer_pid, getpid());
    mr_inspect_close(&inspect);
    mr_ring_detach_producer(&producer);
}

static void a_ring_that_is_gone_is_named_and_not_fatal(void **state)
{
    struct fixture *f = *state;
    struct mr_inspect inspect;
    struct mr_err err = {0};
    mr_segment_remove(f->instance, "m0.g1");
    assert_int_equal(mr_inspect_open(&inspect, f->instance, &err), MR_OK);
    assert_null(inspect.rings[1].shm);
    assert_non_null(strstr(inspect.rings[1].problem, "m0.g1"));
    mr_inspect_close(&inspect);
}

static void every_row_of_the_table_is_exposed_with_help_and_type(void **state)
{
    struct fixture *f = *state;
    char line[256];
    live_in(f, MR_CELL_PULLER, MR_PROCESS_PULLER);
    char *text = prometheus_of(f);
    for (uint32_t i = 0; i < MR_COUNTER_COUNT; i++) {
        snprintf(line, sizeof line, "# TYPE %s ", mr_counter_rows()[i].name);
        assert_non_null(strstr(text, line));
    }
    for (uint32_t i = 0; i < MR_HISTOGRAM_COUNT; i++) {
        snprintf(line, sizeof line, "# TYPE %s histogram\n", mr_histogram_rows()[i].name);
        assert_non_null(strstr(text, line));
    }
    free(text);
}

static void values_carry_process_and_shard_and_base_units(void **state)
{
    struct fixture *f = *state;
    live_in(f, MR_CELL_PULLER, MR_PROCESS_PULLER);
    live_in(f, mr_cell_matcher(1, 0), MR_PROCESS_MATCHER);
    mr_count(&f->board.shm->cells[mr_cell_matcher(1, 0)], MR_COUNTER_MATCH_EVENTS, 5);
    mr_gauge(&f->board.shm->cells[MR_CELL_PULLER], MR_COUNTER_SOURCE_EVENT_TIME, 1500000);
    char *text = prometheus_of(f);
    assert_non_null(
        strstr(text, "millrace_match_events_total{process=\"matcher\",shard=\"0\"} 5\n"));
    assert_non_null(strstr(
        text, "millrace_source_last_event_timestamp_seconds{process=\"puller\"} 1.500000\n"));
    assert_non_null(strstr(text, "millrace_process_up{process=\"puller\"} 1\n"));
    assert_non_null(strstr(text, "millrace_ring_capacity_bytes{ring=\"e0\"} 65536\n"));
    free(text);
}

static void histogram_buckets_are_cumulative_and_end_in_the_count(void **state)
{
    struct fixture *f = *state;
    live_in(f, MR_CELL_PULLER, MR_PROCESS_PULLER);
    struct mr_histogram_shm *h =
        &f->board.shm->cells[MR_CELL_PULLER].histograms[MR_HISTOGRAM_SOURCE_TO_RING];
    mr_histogram_add(h, 500);  /* under 1.024 us */
    mr_histogram_add(h, 1500); /* under 2.048 us */
    mr_histogram_add(h, UINT64_C(1) << 39);
    char *text = prometheus_of(f);
    const char *name = "millrace_source_to_ring_seconds_bucket{process=\"puller\",le=";
    char line[256];
    snprintf(line, sizeof line, "%s\"1.024e-06\"} 1\n", name);
    assert_non_null(strstr(text, line));
    snprintf(line, sizeof line, "%s\"2.048e-06\"} 2\n", name);
    assert_non_null(strstr(text, line));
    snprintf(line, sizeof line, "%s\"+Inf\"} 3\n", name);
    assert_non_null(strstr(text, line));
    assert_non_null(strstr(text, "millrace_source_to_ring_seconds_count{process=\"puller\"} 3\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pid_and_its_beat_decide_how_alive_it_looks),
        cmocka_unit_test(an_instance_that_is_not_there_is_said_so),
        cmocka_unit_test_setup_teardown(ring_numbers_count_what_is_published_and_not_yet_freed,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_ring_that_is_gone_is_named_and_not_fatal, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(every_row_of_the_table_is_exposed_with_help_and_type, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(values_carry_process_and_shard_and_base_units, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(histogram_buckets_are_cumulative_and_end_in_the_count,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
