/* The writer against a real nats-server: every message once and in order, whoever else writes,
 * whatever is lost. How many are under way, and where, is up to the machine: what is checked holds
 * at every moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "jetstream/writer.h"

enum { SKIPPED = 77, BURST_MAX = 256, SECONDS_MAX = 30 };

static const struct mr_js_stream stream = {.name = "W",
                                           .subject = "w.>",
                                           .retention_ns = 3600 * MR_NS_PER_S,
                                           .replicas = 1,
                                           .create = true};
static struct {
    char dir[64], url[64], port[16];
    pid_t pid;
    struct mr_js_link *link; /* the test's own */
} server;

/* Somebody who writes: messages NAME-1, NAME-2, ... */
struct side {
    const char *name;
    struct mr_js_outbox outbox;
    struct mr_js_writer *writer;
    uint64_t put;
};
static struct side ours, stranger;

/* The server. */

static const struct mr_js_options options = {
    .url = server.url, .credentials = "", .ca = "", .name = "test"};

static void start_server(void)
{
    server.pid = fork();
    assert_true(server.pid >= 0);
    if (server.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
        execlp("nats-server", "nats-server", "-js", "-sd", server.dir, "-a", "127.0.0.1", "-p",
               server.port, (char *)NULL);
        _exit(127);
    }
    uint64_t last, end_ns = mr_clock_ns() + SECONDS_MAX * MR_NS_PER_S;
    enum mr_rc rc = MR_RETRY;
    while (rc != MR_OK) {
        assert_true(mr_clock_ns() < end_ns);
        mr_js_link_close(&server.link);
        usleep(10 * 1000);
        rc = mr_js_link_open(&server.link, &options, NULL);
        if (rc == MR_OK)
            rc = mr_js_stream_open(server.link, &stream, &last, NULL);
    }
}

static void kill_server(void)
{
    kill(server.pid, SIGKILL);
    waitpid(server.pid, NULL, 0);
    mr_js_link_close(&server.link);
}

static void lose_disk(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s/jetstream", server.dir);
    assert_int_equal(system(command), 0);
}

static uint64_t last_stored(void)
{
    uint64_t last;
    assert_int_equal(mr_js_stream_open(server.link, &stream, &last, NULL), MR_OK);
    return last;
}

/* The sides. */

static void open_side(struct side *s, const char *name, uint32_t in_flight_max)
{
    uint32_t lane;
    const struct mr_js_writer_options with = {.link = options,
                                              .in_flight_max = in_flight_max,
                                              .ack_timeout_ns = MR_NS_PER_S,
                                              .breaker_failures = 3,
                                              .breaker_open_ns = 50 * MR_NS_PER_MS};
    *s = (struct side){.name = name};
    assert_int_equal(mr_js_outbox_init(&s->outbox, 1 << 20, NULL), MR_OK);
    assert_int_equal(mr_js_writer_create(&s->writer, &with, &s->outbox, NULL), MR_OK);
    assert_int_equal(mr_js_writer_add(s->writer, &stream, &lane, NULL), MR_OK);
}

static void put(struct side *s, uint64_t count)
{
    char id[32];
    for (uint64_t end = s->put + count; s->put < end;) {
        int len = snprintf(id, sizeof id, "%s-%" PRIu64, s->name, ++s->put);
        const struct mr_js_message message = {.tag = s->put,
                                              .queued_ns = mr_clock_ns(),
                                              .subject = MR_STR("w.x"),
                                              .id = {id, (size_t)len},
                                              .payload = MR_STR("payload")};
        assert_int_equal(mr_js_outbox_put(&s->outbox, &message), MR_OK);
    }
}

/* How many were sent and acknowledged. What fails is tried again. */
static uint64_t work(struct side *s, uint64_t timeout_ns)
{
    uint64_t done;
    struct mr_err err;
    (void)mr_js_writer_work(s->writer, timeout_ns, &done, &err);
    return done;
}

static uint64_t acknowledged(const struct side *s)
{
    return atomic_load(&s->outbox.head);
}

static void work_off(struct side *s)
{
    uint64_t end_ns = mr_clock_ns() + SECONDS_MAX * MR_NS_PER_S;
    while (acknowledged(s) < s->put) {
        assert_true(mr_clock_ns() < end_ns);
        work(s, MR_NS_PER_MS);
    }
}

static struct mr_js_stored stored;

static uint64_t number_of(uint64_t sequence)
{
    assert_int_equal(mr_js_stream_message(server.link, stream.name, sequence, &stored, NULL),
                     MR_OK);
    return strtoull(stored.id + 2, NULL, 10);
}

/* The stream holds each message of each side once, in order: of ours those behind `lost`. */
static void check(uint64_t lost)
{
    uint64_t last = last_stored(), of_ours = lost, of_stranger = 0;
    for (uint64_t sequence = 1; sequence <= last; sequence++) {
        uint64_t number = number_of(sequence);
        assert_int_equal(number, stored.id[0] == *ours.name ? ++of_ours : ++of_stranger);
    }
    assert_int_equal(of_ours, ours.put);
    assert_int_equal(of_stranger, stranger.put);
}

static int setup(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        return -1;
    close(fd);
    snprintf(server.port, sizeof server.port, "%u", ntohs(address.sin_port));
    snprintf(server.url, sizeof server.url, "nats://127.0.0.1:%s", server.port);
    snprintf(server.dir, sizeof server.dir, "/tmp/millrace-writer-XXXXXX");
    if (!mkdtemp(server.dir))
        return -1;
    start_server();
    open_side(&ours, "o", 512);
    open_side(&stranger, "s", 8);
    return 0;
}

static void close_side(struct side *s)
{
    mr_js_writer_destroy(&s->writer);
    mr_js_outbox_fini(&s->outbox);
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    close_side(&ours);
    close_side(&stranger);
    kill_server();
    snprintf(command, sizeof command, "rm -rf %s", server.dir);
    return system(command);
}

static void each_message_is_stored_once_and_in_order(void **state)
{
    (void)state;
    put(&ours, 2000);
    work_off(&ours);
    check(0);
    assert_int_equal(mr_js_writer_stats(ours.writer)->published, 2000);
    assert_int_equal(mr_js_writer_stats(ours.writer)->failures, 0);
}

static void a_strangers_message_between_ours_is_kept_and_costs_none(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        put(&ours, 10);
        work_off(&ours);
        put(&stranger, 1);
        work_off(&stranger);
    }
    put(&ours, 10);
    work_off(&ours);
    check(0);
    assert_true(mr_js_writer_stats(ours.writer)->failures >= 5); /* each was refused once */
}

static void connections_lost_in_mid_burst_cost_nothing(void **state)
{
    (void)state;
    srand(5);
    for (int round = 0; round < 24; round++) {
        put(&ours, 1 + (uint64_t)rand() % (2 * BURST_MAX));
        for (int turns = rand() % 8; turns > 0; turns--)
            work(&ours, (uint64_t)(rand() % 2) * MR_NS_PER_MS / 4);
        if (round % 8 == 7) {
            kill_server();
            start_server();
        } else {
            mr_js_writer_failed(ours.writer);
        }
        if (round % 4 == 1) {
            put(&stranger, 1);
            work_off(&stranger);
        }
        if (acknowledged(&ours) + 3 * BURST_MAX < ours.put)
            work_off(&ours);
    }
    work_off(&ours);
    check(0);
}

/* The server knows the ids for two seconds: then the stream alone says what arrived. */
static void a_pause_longer_than_ids_are_kept_adds_nothing(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        put(&ours, BURST_MAX);
        while (work(&ours, 0) == 0)
            ;
        usleep(100 * 1000); /* what was sent is in, and of its answers few were read */
        mr_js_writer_failed(ours.writer);
        put(&stranger, (uint64_t)round);
        work_off(&stranger);
        usleep(2200 * 1000);
        work_off(&ours);
    }
    check(0);
}

static void a_stream_that_went_back_gets_what_was_not_acknowledged(void **state)
{
    (void)state;
    put(&ours, 10);
    work_off(&ours);
    put(&ours, 300);
    work(&ours, 0);
    uint64_t before = acknowledged(&ours);
    kill_server();
    lose_disk();
    start_server();
    work_off(&ours);
    uint64_t lost = number_of(1) - 1; /* of what lay in the socket, answers may have been read */
    assert_true(lost >= before && lost <= 10 + BURST_MAX);
    check(lost);
}

static void nothing_counts_as_acknowledged_because_it_was_in_a_stream_that_is_gone(void **state)
{
    (void)state;
    put(&ours, 300);
    work_off(&ours);
    kill_server();
    lose_disk();
    start_server();
    uint64_t failures = mr_js_writer_stats(ours.writer)->failures;
    while (mr_js_writer_stats(ours.writer)->failures == failures ||
           !mr_js_writer_connected(ours.writer))
        work(&ours, MR_NS_PER_MS);
    kill(server.pid, SIGSTOP);
    assert_int_equal(waitpid(server.pid, NULL, WUNTRACED), server.pid);
    put(&ours, 10);
    for (int turns = 0; turns < 20; turns++)
        work(&ours, MR_NS_PER_MS);
    assert_int_equal(acknowledged(&ours), 300);
    kill(server.pid, SIGCONT);
    work_off(&ours);
    check(300);
}

static void no_more_is_under_way_than_the_window_allows(void **state)
{
    (void)state;
    close_side(&ours);
    open_side(&ours, "o", 8);
    put(&ours, 100);
    uint64_t end_ns = mr_clock_ns() + SECONDS_MAX * MR_NS_PER_S;
    while (acknowledged(&ours) < ours.put) {
        assert_true(mr_clock_ns() < end_ns);
        work(&ours, 0);
        assert_true(last_stored() <= acknowledged(&ours) + 8);
    }
    check(0);
}

static void a_breaker_that_was_open_lets_one_message_through_first(void **state)
{
    (void)state;
    const struct mr_breaker *breaker = mr_js_writer_breaker(ours.writer);
    put(&ours, 10);
    work_off(&ours);
    kill_server();
    put(&ours, 100);
    uint64_t end_ns = mr_clock_ns() + SECONDS_MAX * MR_NS_PER_S;
    while (breaker->state != MR_BREAKER_OPEN) {
        assert_true(mr_clock_ns() < end_ns);
        work(&ours, MR_NS_PER_MS);
    }
    start_server();
    while (!mr_js_writer_connected(ours.writer)) {
        assert_true(mr_clock_ns() < end_ns);
        work(&ours, 0);
    }
    usleep(50 * 1000);
    assert_true(last_stored() <= 11);
    work_off(&ours);
    assert_int_equal(breaker->state, MR_BREAKER_CLOSED);
    check(0);
}

/* False: the machine was too slow to see it. */
static bool see_the_second_held(void)
{
    usleep(2000);
    put(&ours, 1);
    uint64_t begin_ns = mr_clock_ns();
    assert_true(work(&ours, 0) >= 1);
    put(&ours, 1);
    work(&ours, 0);
    bool in_time = mr_clock_ns() - begin_ns < 400 * MR_NS_PER_US;
    assert_true(!in_time || last_stored() < ours.put);
    work_off(&ours);
    return in_time;
}

static void behind_a_silence_messages_go_at_once_and_the_next_ones_gather(void **state)
{
    (void)state;
    put(&ours, 1);
    work_off(&ours);
    int seen = 0;
    for (int i = 0; i < 1000 && seen < 20; i++)
        seen += see_the_second_held();
    assert_int_equal(seen, 20);
    check(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            behind_a_silence_messages_go_at_once_and_the_next_ones_gather, setup, teardown),
        cmocka_unit_test_setup_teardown(each_message_is_stored_once_and_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_strangers_message_between_ours_is_kept_and_costs_none,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(connections_lost_in_mid_burst_cost_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_stream_that_went_back_gets_what_was_not_acknowledged,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_pause_longer_than_ids_are_kept_adds_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            nothing_counts_as_acknowledged_because_it_was_in_a_stream_that_is_gone, setup,
            teardown),
        cmocka_unit_test_setup_teardown(no_more_is_under_way_than_the_window_allows, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_breaker_that_was_open_lets_one_message_through_first,
                                        setup, teardown),
    };
    if (system("nats-server --version >/dev/null 2>&1") != 0) {
        puts("nats-server is not installed: skipped");
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
