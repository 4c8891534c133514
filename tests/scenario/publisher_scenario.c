/* The pump in a process of its own, real matchers, and a test that feeds, kills and compares. What
 * a subscriber has seen is what came through its pipe before the publisher died. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/marker.h"
#include "publisher/pump.h"
#include "tests/pump/bed.h"
#include "tests/pump/test_sink.h"

enum { SHARDS = 2, SUBSCRIPTIONS = 3 };
static const struct {
    const char *id;
    uint32_t collection;
    int64_t value;
} wanted[SUBSCRIPTIONS] = {{"all", 0, -1}, {"some", 1, 3}, {"more", 2, -1}};

/* One delivery, as it goes through the pipe. */
struct seen {
    uint32_t subscription;
    uint64_t sequence;
};

static struct bed bed;
static pid_t matchers[SHARDS], publisher;
static int deliveries = -1; /* read end */
static uint64_t last_seen[SUBSCRIPTIONS];
static struct mr_pump *pump;

static void spawn_matcher(uint32_t shard)
{
    char path[1024], fd_text[16], cell_text[16], shard_text[16], generation[16];
    const char *build = getenv("MILLRACE_TEST_BUILD");
    assert_non_null(build);
    snprintf(path, sizeof path, "%s/matcher/millrace-matcher", build);
    int fd = memfd_create("config", 0);
    struct mr_err err;
    assert_int_equal(mr_config_write_flat(&bed.process.config, fd, &err), MR_OK);
    lseek(fd, 0, SEEK_SET);
    uint32_t cell = mr_cell_matcher(bed.generation, shard);
    snprintf(fd_text, sizeof fd_text, "%d", fd);
    snprintf(cell_text, sizeof cell_text, "%u", cell);
    snprintf(shard_text, sizeof shard_text, "%u", shard);
    snprintf(generation, sizeof generation, "%u", bed.generation);
    atomic_store(&bed.board.shm->cells[cell].state, MR_STATE_STARTING);
    matchers[shard] = fork();
    assert_true(matchers[shard] >= 0);
    if (matchers[shard] == 0) {
        execl(path, "millrace-matcher", "--config-fd", fd_text, "--cell", cell_text, "--shard",
              shard_text, "--ring-generation", generation, (char *)NULL);
        _exit(127);
    }
    close(fd);
}

static void kill_and_reap(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status)); /* and not by an error of its own */
}

static int pipe_out = -1;

static void write_seen(mr_gateway_id gateway, struct mr_str id, uint64_t sequence)
{
    (void)gateway;
    for (uint32_t i = 0; i < SUBSCRIPTIONS; i++) {
        if (!mr_str_equal(id, mr_str_from(wanted[i].id)))
            continue;
        struct seen seen = {.subscription = i, .sequence = sequence};
        if (write(pipe_out, &seen, sizeof seen) != (ssize_t)sizeof seen)
            _exit(3);
    }
}

/* The child: a publisher whose only gateway subscribes as it did before, behind what it has seen.
 */
static void run_publisher(void)
{
    struct mr_err err = {0};
    test_sink_reset();
    test_sink.record = write_seen;
    enum mr_rc rc = mr_pump_open(&pump, &bed.process, &test_sink_ops, &err);
    test_sink_push(&(struct test_request){.kind = MR_REQUEST_OPEN, .gateway = 1, .value = -1});
    for (uint32_t i = 0; i < SUBSCRIPTIONS; i++) {
        struct test_request request = {
            .kind = MR_REQUEST_SUBSCRIBE, .gateway = 1, .value = wanted[i].value};
        snprintf(request.id, sizeof request.id, "%s", wanted[i].id);
        snprintf(request.collection, sizeof request.collection, "c%u", wanted[i].collection);
        struct mr_marker marker = {atomic_load(&bed.board.shm->log_id), last_seen[i]};
        mr_marker_format(marker, request.after);
        test_sink_push(&request);
    }
    while (rc == MR_OK) {
        uint64_t done = 0;
        rc = mr_pump_turn(pump, mr_clock_ns(), &done, &err);
        if (rc == MR_OK)
            mr_process_idle(&bed.process, done, mr_pump_timeout_ns(pump), mr_pump_look, pump);
    }
    fprintf(stderr, "publisher: %s\n", err.text);
    _exit(4);
}

static void spawn_publisher(void)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    (void)fcntl(ends[1], F_SETFL, 0);
    publisher = fork();
    assert_true(publisher >= 0);
    if (publisher == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nobody behind */
        close(ends[0]);
        pipe_out = ends[1];
        run_publisher();
    }
    close(ends[1]);
    deliveries = ends[0];
}

/* Take what has come. Every delivery is the next one of its subscription: none lost, none repeated,
 * in order. False: the publisher's end is closed and empty. */
static bool read_deliveries(void)
{
    struct seen seen;
    ssize_t n;
    while ((n = read(deliveries, &seen, sizeof seen)) == (ssize_t)sizeof seen) {
        assert_true(seen.subscription < SUBSCRIPTIONS);
        uint64_t *last = &last_seen[seen.subscription];
        for (uint64_t s = *last + 1; s < seen.sequence; s++)
            if (bed_concerns(&bed.history[s - 1], wanted[seen.subscription].collection,
                             wanted[seen.subscription].value))
                fail_msg("%s: event %" PRIu64 " is missing before %" PRIu64,
                         wanted[seen.subscription].id, s, seen.sequence);
        assert_true(seen.sequence > *last);
        assert_true(bed_concerns(&bed.history[seen.sequence - 1],
                                 wanted[seen.subscription].collection,
                                 wanted[seen.subscription].value));
        *last = seen.sequence;
    }
    assert_true(n <= 0);
    return n < 0;
}

static void replace_publisher(void)
{
    kill_and_reap(publisher);
    while (read_deliveries()) {
    }
    close(deliveries);
    spawn_publisher();
}

static void feed(void)
{
    if (bed.count - bed.fed < 2000)
        bed_append(&bed, (uint32_t)bed_random(&bed, 40));
    bed_feed(&bed, 100, true);
    mr_doorbell_ring(&bed.process.cell->bell);
    for (uint32_t i = 0; i < SHARDS; i++)
        mr_doorbell_ring(&bed.matchers[i].cell->bell);
}

static bool all_seen(void)
{
    for (uint32_t i = 0; i < SUBSCRIPTIONS; i++) {
        uint64_t s = bed.count;
        while (s > 0 && !bed_concerns(&bed.history[s - 1], wanted[i].collection, wanted[i].value))
            s--;
        if (last_seen[i] < s)
            return false;
    }
    return true;
}

static void nothing_is_lost_and_order_is_kept_whoever_is_killed(void **state)
{
    (void)state;
    bed_open(&bed, SHARDS, 77, 0);
    bed_detach_matchers(&bed);
    for (uint32_t i = 0; i < SHARDS; i++)
        spawn_matcher(i);
    spawn_publisher();
    uint64_t end_ns = mr_clock_ns() + 6 * MR_NS_PER_S;
    uint64_t kill_ns = 0, kills[2] = {0};
    while (mr_clock_ns() < end_ns) {
        feed();
        read_deliveries();
        usleep(200);
        if (mr_clock_ns() < kill_ns)
            continue;
        kill_ns = mr_clock_ns() + (5 + bed_random(&bed, 120)) * MR_NS_PER_MS;
        if (bed_random(&bed, 3) > 0) {
            replace_publisher();
            kills[0]++;
        } else {
            uint32_t shard = (uint32_t)bed_random(&bed, SHARDS);
            kill_and_reap(matchers[shard]);
            atomic_store(&bed.board.shm->cells[mr_cell_matcher(1, shard)].state, MR_STATE_DEAD);
            spawn_matcher(shard);
            kills[1]++;
        }
    }
    uint64_t deadline_ns = mr_clock_ns() + 20 * MR_NS_PER_S;
    while (!all_seen() || bed.fed < bed.count) {
        bed_feed(&bed, 100, true);
        mr_doorbell_ring(&bed.process.cell->bell);
        for (uint32_t i = 0; i < SHARDS; i++)
            mr_doorbell_ring(&bed.matchers[i].cell->bell);
        read_deliveries();
        usleep(200);
        if (mr_clock_ns() > deadline_ns)
            fail_msg("after 20 s: seen %" PRIu64 ", %" PRIu64 ", %" PRIu64 " of %" PRIu64
                     ", fed %" PRIu64,
                     last_seen[0], last_seen[1], last_seen[2], bed.count, bed.fed);
    }
    print_message("%" PRIu64 " events, publisher killed %" PRIu64 " times, matchers %" PRIu64 "\n",
                  bed.count, kills[0], kills[1]);
    assert_true(kills[0] > 10 && kills[1] > 5);
    kill_and_reap(publisher);
    for (uint32_t i = 0; i < SHARDS; i++)
        kill_and_reap(matchers[i]);
    close(deliveries);
    bed_close(&bed);
}

int main(void)
{
    mr_log_setup(MR_LOG_ERROR, MR_LOG_TEXT, "test");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_and_order_is_kept_whoever_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
