/* A writer that is killed at any moment, hundreds of times, while a reader follows: what was
 * written stays, in order, once, with its position.   log_stress [rounds] [seed] */
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/unit/log_util.h"

/* What the writer has promised so far; survives it. */
struct promises {
    _Atomic uint64_t written, durable;
    _Atomic uint64_t read; /* by the follower */
};
static struct promises *promises;
static uint64_t seed;
static long rounds = 300;

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

static _Noreturn void write_until_killed(const struct mr_log_options *options)
{
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    enum mr_rc rc = mr_log_writer_open(&w, options, &err);
    while (rc == MR_OK) {
        rc = append_batch(w, (uint32_t)draw(12), &err); /* 0: a position alone */
        mr_log_writer_state(w, &log);
        atomic_store(&promises->written, log.written);
        if (rc == MR_OK)
            rc = mr_log_poll(w, 0, mr_clock_ns(), &err);
        mr_log_writer_state(w, &log);
        atomic_store(&promises->durable, log.durable);
    }
    fprintf(stderr, "writer: %s\n", err.text);
    _exit(1);
}

static _Noreturn void follow_until_killed(const char *dir)
{
    struct mr_err err;
    struct mr_log_reader *r;
    struct mr_log_record record;
    uint64_t sequence = 0;
    enum mr_rc rc;
    while ((rc = mr_log_reader_open(&r, dir, &err)) == MR_AGAIN)
        usleep(1000);
    while (rc == MR_OK || rc == MR_AGAIN) {
        rc = mr_log_next(r, &record, &err);
        if (rc == MR_OK && !record_is(&record, ++sequence)) {
            fprintf(stderr, "reader: record %" PRIu64 " is wrong\n", sequence);
            _exit(1);
        }
        atomic_store(&promises->read, sequence);
    }
    fprintf(stderr, "reader: %s: %s\n", mr_rc_name(rc), err.text);
    _exit(1);
}

static pid_t start_writer(struct mr_log_options *options, long round)
{
    options->commit_interval_ns = draw(3) * MR_NS_PER_MS;
    options->no_uring = round % 3 == 2;
    uint64_t writer_seed = draw(UINT64_MAX) | 1;
    pid_t pid = fork();
    if (pid == 0) {
        seed = writer_seed;
        write_until_killed(options);
    }
    return pid;
}

static void check_after_kill(const struct mr_log_options *options, uint64_t *last)
{
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_reader *r;
    struct mr_log_state log;
    enum mr_rc end;
    uint64_t written = atomic_load(&promises->written), floor, found = 0;
    enum mr_rc opened = mr_log_reader_open(&r, options->dir, &err);
    if (opened == MR_OK) {
        assert_ok(mr_log_seek(r, *last, &floor, &err));
        found = read_all(r, *last + 1, &end, &err);
        assert_int_equal(end, MR_AGAIN);
        mr_log_reader_close(&r);
    } else {
        assert_int_equal(opened, MR_AGAIN); /* killed before there was a log */
    }
    assert_true(found >= written);
    assert_ok(mr_log_writer_open(&w, options, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(log.last, found);
    assert_true(log.durable == found && atomic_load(&promises->durable) <= found);
    if (found > 0) {
        assert_int_equal(log.position_len, 8);
        assert_memory_equal(log.position, &found, 8);
    }
    assert_ok(mr_log_writer_close(&w, &err));
    *last = found;
}

static void a_writer_killed_at_any_moment_loses_nothing_that_was_written(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    uint64_t last = 0, grown = 0;
    int status;
    options.segment_bytes = 256 * 1024;
    pid_t follower = fork();
    if (follower == 0)
        follow_until_killed(options.dir);
    for (long round = 0; round < rounds; round++) {
        pid_t writer = start_writer(&options, round);
        if (round % 2 == 0) /* in mid writing; else at any moment, opening included */
            for (int i = 0; i < 50000 && atomic_load(&promises->written) <= last; i++)
                usleep(100);
        usleep((useconds_t)draw(round % 2 == 0 ? 3000 : 12000));
        kill(writer, SIGKILL);
        assert_int_equal(waitpid(writer, &status, 0), writer);
        assert_true(WIFSIGNALED(status)); /* it did not end by itself */
        uint64_t before = last;
        check_after_kill(&options, &last);
        grown += last > before;
    }
    assert_true(grown >= (uint64_t)rounds / 2); /* the kills came in mid work */
    assert_ok(mr_log_verify(options.dir, NULL, NULL, &err));
    for (int i = 0; i < 10000 && atomic_load(&promises->read) < last; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&promises->read), last);
    kill(follower, SIGKILL);
    assert_int_equal(waitpid(follower, &status, 0), follower);
    assert_true(WIFSIGNALED(status));
    print_message("%ld kills, %" PRIu64 " records, %" PRIu64 " rounds grew the log\n", rounds, last,
                  grown);
}

int main(int argc, char **argv)
{
    rounds = argc > 1 ? atol(argv[1]) : 300;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : mr_clock_ns() | 1;
    print_message("rerun: %s %ld %" PRIu64 "\n", argv[0], rounds, seed);
    promises =
        mmap(NULL, sizeof *promises, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (promises == MAP_FAILED)
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
        a_writer_killed_at_any_moment_loses_nothing_that_was_written, make_dir, drop_dir)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
