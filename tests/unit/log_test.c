/* The log as its users see it: append, read, seek, positions, segments, retention. */
#include "tests/unit/log_util.h"

static void a_new_log_begins_with_sequence_one_and_a_random_id(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(mr_log_next_sequence(w), 1);
    assert_int_equal(log.last, 0);
    assert_int_equal(log.floor, 1);
    assert_int_equal(log.segments, 1);
    assert_int_not_equal(log.log_id, 0);
    assert_ok(mr_log_writer_close(&w, &err));
    assert_null(w);
    uint64_t id = log.log_id;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(log.log_id, id);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void a_reader_sees_a_sealed_batch_at_once_and_an_open_one_never(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_reader *r;
    struct mr_log_record record;
    enum mr_rc end;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    assert_ok(mr_log_reader_open(&r, options.dir, &err));
    assert_int_equal(mr_log_next(r, &record, &err), MR_AGAIN);
    assert_ok(append_batch(w, 3, &err));
    assert_int_equal(read_all(r, 1, &end, &err), 3);
    assert_int_equal(end, MR_AGAIN);
    void *room;
    assert_ok(mr_log_claim(w, record_len(4), &room));
    record_fill(room, record_len(4), 4);
    assert_int_equal(mr_log_commit(w, record_len(4)), 4);
    assert_int_equal(mr_log_next(r, &record, &err), MR_AGAIN);
    assert_ok(mr_log_seal(w, "p", 1, mr_clock_ns(), &err));
    assert_int_equal(read_all(r, 4, &end, &err), 4);
    mr_log_reader_close(&r);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void many_segments_read_back_whole_and_survive_reopening(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    enum mr_rc end;
    for (int round = 0; round < 3; round++) {
        assert_ok(mr_log_writer_open(&w, &options, &err));
        for (int i = 0; i < 200; i++)
            assert_ok(append_batch(w, (uint32_t)(1 + i % 20), &err));
        assert_ok(mr_log_sync(w, &err));
        mr_log_writer_state(w, &log);
        assert_int_equal(log.durable, log.last);
        assert_int_equal(log.written, log.last);
        assert_ok(mr_log_writer_close(&w, &err));
        assert_int_equal(read_log(options.dir, &end, &err), log.last);
        assert_int_equal(end, MR_AGAIN);
    }
    assert_true(log.segments > 5);
    assert_int_equal(log.position_len, 8);
    assert_memory_equal(log.position, &log.last, 8);
}

static void a_second_writer_is_refused_and_told_who_holds_the_log(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w, *second;
    char pid[32];
    assert_ok(mr_log_writer_open(&w, &options, &err));
    assert_int_equal(mr_log_writer_open(&second, &options, &err), MR_RETRY);
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(err.text, pid));
    assert_ok(mr_log_writer_close(&w, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, drop_dir)
        LOG_TEST(a_new_log_begins_with_sequence_one_and_a_random_id),
        LOG_TEST(a_reader_sees_a_sealed_batch_at_once_and_an_open_one_never),
        LOG_TEST(many_segments_read_back_whole_and_survive_reopening),
        LOG_TEST(a_second_writer_is_refused_and_told_who_holds_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
