/* The log as its users see it: append, read, seek, positions, segments, retention. */
#include <poll.h>
#include <pthread.h>

#include "log/writer.h"
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

static void a_record_larger_than_a_batch_gets_one_of_its_own(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_reader *r;
    struct mr_log_record record;
    void *room;
    static const uint32_t sizes[] = {0, 1, 4064, 4096, 70000, 48 * 1024 * 1024, MR_LOG_RECORD_MAX};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    assert_ok(mr_log_writer_open(&w, &options, &err));
    assert_int_equal(mr_log_claim(w, MR_LOG_RECORD_MAX + 1, &room), MR_USAGE);
    for (size_t i = 0; i < COUNT; i++) {
        enum mr_rc rc = mr_log_claim(w, sizes[i], &room);
        if (rc == MR_FULL) {
            assert_ok(mr_log_seal(w, "x", 1, mr_clock_ns(), &err));
            rc = claim(w, sizes[i], &room, &err);
        }
        assert_int_equal(rc, MR_OK);
        assert_int_equal((uintptr_t)room % 8, 0);
        memset(room, (int)('a' + i), sizes[i]);
        assert_int_equal(mr_log_commit(w, sizes[i]), i + 1);
    }
    assert_ok(mr_log_seal(w, "y", 1, mr_clock_ns(), &err));
    assert_ok(mr_log_batch_record(w, COUNT, &record));
    assert_int_equal(record.len, sizes[COUNT - 1]);
    assert_ok(mr_log_reader_open(&r, options.dir, &err));
    for (size_t i = 0; i < COUNT; i++) {
        assert_ok(mr_log_next(r, &record, &err));
        assert_int_equal(record.sequence, i + 1);
        assert_int_equal(record.len, sizes[i]);
        assert_int_equal((uintptr_t)record.data % 8, 0);
        for (uint32_t at = 0; at < record.len; at += 997)
            assert_int_equal(((const uint8_t *)record.data)[at], 'a' + (int)i);
    }
    assert_int_equal(mr_log_next(r, &record, &err), MR_AGAIN);
    mr_log_reader_close(&r);
    assert_ok(mr_log_writer_close(&w, &err));
    assert_ok(mr_log_verify(options.dir, NULL, NULL, &err));
}

static void the_batch_sealed_last_stays_readable_in_memory_until_the_next_claim(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_record record;
    void *room;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    assert_int_equal(mr_log_batch_record(w, 1, &record), MR_AGAIN);
    assert_ok(append_batch(w, 5, &err));
    assert_ok(append_batch(w, 7, &err));
    assert_ok(mr_log_poll(w, 0, mr_clock_ns(), &err));
    for (uint64_t sequence = 6; sequence <= 12; sequence++) {
        assert_ok(mr_log_batch_record(w, sequence, &record));
        assert_true(record_is(&record, sequence));
    }
    assert_int_equal(mr_log_batch_record(w, 5, &record), MR_AGAIN);
    assert_int_equal(mr_log_batch_record(w, 13, &record), MR_AGAIN);
    assert_ok(mr_log_claim(w, 8, &room));
    assert_int_equal(mr_log_batch_record(w, 12, &record), MR_AGAIN);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void seeking_finds_every_sequence_and_waits_behind_the_end(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_reader *r;
    struct mr_log_record record;
    uint64_t floor, last = 0;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    for (int i = 0; i < 300; i++) {
        assert_ok(append_batch(w, (uint32_t)(1 + i % 9), &err));
        last = mr_log_next_sequence(w) - 1;
    }
    assert_ok(mr_log_reader_open(&r, options.dir, &err));
    for (uint64_t i = 0; i < last; i++) {
        uint64_t after = i * 7919 % last;
        assert_ok(mr_log_seek(r, after, &floor, &err));
        assert_int_equal(floor, 1);
        assert_ok(mr_log_next(r, &record, &err));
        assert_true(record_is(&record, after + 1));
    }
    assert_ok(mr_log_seek(r, last + 5, &floor, &err));
    assert_int_equal(mr_log_next(r, &record, &err), MR_AGAIN);
    assert_ok(append_batch(w, 8, &err));
    assert_ok(mr_log_next(r, &record, &err));
    assert_true(record_is(&record, last + 6));
    assert_int_equal(mr_log_seek(r, UINT64_MAX, &floor, &err), MR_USAGE);
    mr_log_reader_close(&r);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void the_position_of_any_sequence_is_found_while_reading_goes_on(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_reader *r;
    struct mr_log_record record;
    uint8_t position[MR_LOG_POSITION_MAX];
    uint32_t len;
    uint64_t value;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    for (int i = 0; i < 400; i++)
        assert_ok(append_batch(w, 4, &err));
    assert_ok(mr_log_reader_open(&r, options.dir, &err));
    for (uint64_t sequence = 1; sequence <= 1600; sequence++) {
        assert_ok(mr_log_next(r, &record, &err));
        assert_true(record_is(&record, sequence));
        uint64_t other = sequence % 3 ? sequence * 31 % 1600 + 1 : sequence;
        assert_ok(mr_log_position_at(r, other, position, &len, &err));
        assert_int_equal(len, 8);
        memcpy(&value, position, 8);
        assert_int_equal(value, (other + 3) / 4 * 4); /* the last sequence of its batch */
        assert_true(record_is(&record, sequence));
    }
    assert_int_equal(mr_log_position_at(r, 1601, position, &len, &err), MR_AGAIN);
    assert_ok(append_batch(w, 4, &err));
    assert_ok(mr_log_position_at(r, 1601, position, &len, &err));
    assert_int_equal(mr_log_position_at(r, 0, position, &len, &err), MR_USAGE);
    mr_log_reader_close(&r);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void positions_without_records_are_kept_and_do_not_fill_the_disk(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_reader *r;
    struct mr_log_state log;
    struct mr_log_record record;
    enum mr_rc end;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    assert_ok(mr_log_reader_open(&r, options.dir, &err));
    for (uint64_t i = 1; i <= 20000; i++) { /* a megabyte of them */
        assert_ok(mr_log_seal(w, &i, sizeof i, mr_clock_ns(), &err));
        assert_ok(mr_log_poll(w, 0, mr_clock_ns(), &err));
        if (i % 1000 == 0)
            assert_int_equal(mr_log_next(r, &record, &err), MR_AGAIN);
    }
    mr_log_writer_state(w, &log);
    assert_int_equal(log.segments, 1);
    assert_int_equal(log.last, 0);
    assert_int_equal(log.seals, 20000);
    assert_true(log.size_bytes < 8 * options.segment_bytes);
    usleep(50000);
    assert_ok(append_batch(w, 3, &err));
    assert_int_equal(read_all(r, 1, &end, &err), 3);
    mr_log_reader_close(&r);
    uint64_t position = 77;
    assert_ok(mr_log_seal(w, &position, sizeof position, mr_clock_ns(), &err));
    assert_ok(mr_log_sync(w, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(log.seals, 20002);
    assert_int_equal(log.durable_seals, 20002);
    assert_ok(mr_log_writer_close(&w, &err));
    assert_ok(mr_log_writer_open(&w, &options, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(log.last, 3);
    assert_memory_equal(log.position, &position, 8);
    assert_ok(mr_log_writer_close(&w, &err));
    assert_ok(mr_log_verify(options.dir, NULL, NULL, &err));
}

/* In place of libc's: the disk, for which nobody who writes to the log may wait. */
static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;
static pthread_t caller;
static uint32_t waits; /* of the caller */
int fdatasync(int fd)
{
    if (pthread_equal(pthread_self(), caller)) {
        waits++;
        return 0;
    }
    pthread_mutex_lock(&disk);
    pthread_mutex_unlock(&disk);
    return fsync(fd);
}

static uint64_t first_file(const char *dir)
{
    char path[300];
    struct stat file;
    snprintf(path, sizeof path, "%s/00000000000000000001.mrlog", dir);
    assert_int_equal(stat(path, &file), 0);
    return file.st_ino;
}

static void poll_until(struct mr_log_writer *w, enum mr_log_spare_state wanted)
{
    struct mr_err err;
    for (int i = 0; i < 50000 && w->spare_state != wanted; i++, usleep(100))
        assert_ok(mr_log_poll(w, 0, 0, &err));
    assert_int_equal(w->spare_state, wanted);
}

static void a_segment_full_of_positions_is_replaced_and_nobody_waits_for_the_disk(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    void *room;
    uint64_t position = 0;
    options.no_uring = true;
    options.commit_interval_ns = 3600 * MR_NS_PER_S; /* no other fsync comes between */
    caller = pthread_self();
    waits = 0;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    poll_until(w, MR_LOG_SPARE_READY);
    uint64_t before = first_file(options.dir);
    pthread_mutex_lock(&disk);
    for (int more = 3; more > 0; more -= w->spare_state != MR_LOG_SPARE_READY) {
        position++;
        assert_ok(mr_log_seal(w, &position, sizeof position, 0, &err));
        assert_ok(mr_log_poll(w, 0, 0, &err));
    }
    assert_int_equal(mr_log_claim(w, 8, &room), MR_FULL);
    assert_int_equal(w->spare_state, MR_LOG_SPARE_FILLING);
    assert_int_equal(first_file(options.dir), before);
    pthread_mutex_unlock(&disk);
    poll_until(w, MR_LOG_SPARE_READY); /* the next one again */
    assert_int_equal(waits, 0);
    assert_int_not_equal(first_file(options.dir), before);
    assert_ok(append_batch(w, 3, &err));
    assert_ok(mr_log_writer_close(&w, &err));
    assert_ok(mr_log_verify(options.dir, NULL, NULL, &err));
    assert_ok(mr_log_writer_open(&w, &options, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(log.last, 3);
    assert_int_equal(log.segments, 1);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void what_was_written_while_a_segment_was_replaced_is_the_position_after_a_restart(
    void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    uint64_t position = 0;
    options.no_uring = true;
    options.commit_interval_ns = 3600 * MR_NS_PER_S;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    poll_until(w, MR_LOG_SPARE_READY);
    pthread_mutex_lock(&disk);
    for (int more = 3; more > 0; more -= w->spare_state != MR_LOG_SPARE_READY) {
        position++;
        assert_ok(mr_log_seal(w, &position, sizeof position, 0, &err));
    }
    pthread_mutex_unlock(&disk);
    poll_until(w, MR_LOG_SPARE_READY);
    assert_ok(mr_log_writer_close(&w, &err));
    assert_ok(mr_log_writer_open(&w, &options, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(log.position_len, sizeof position);
    assert_memory_equal(log.position, &position, sizeof position);
    assert_int_equal(log.torn_bytes, 0);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void retention_removes_by_size_only_what_is_releasable(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    struct mr_log_reader *r;
    uint64_t floor;
    enum mr_rc end;
    options.retention_bytes = 3 * options.segment_bytes;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    for (int i = 0; i < 400; i++)
        assert_ok(append_batch(w, 10, &err));
    for (int i = 0; i < 50; i++) {
        assert_ok(mr_log_poll(w, 100, mr_clock_ns(), &err));
        usleep(1000);
    }
    mr_log_writer_state(w, &log);
    assert_int_equal(log.floor, 1); /* 100 lies within the first segment */
    assert_true(log.size_bytes > options.retention_bytes);
    for (int i = 0; i < 3000 && log.size_bytes > options.retention_bytes; i++) {
        assert_ok(mr_log_poll(w, log.last, mr_clock_ns(), &err));
        usleep(1000);
        mr_log_writer_state(w, &log);
    }
    assert_true(log.size_bytes <= options.retention_bytes);
    assert_true(log.floor > 1);
    assert_ok(mr_log_reader_open(&r, options.dir, &err));
    assert_int_equal(mr_log_seek(r, 0, &floor, &err), MR_USAGE);
    assert_int_equal(floor, log.floor);
    assert_ok(mr_log_seek(r, floor - 1, &floor, &err));
    assert_int_equal(read_all(r, floor, &end, &err), log.last);
    mr_log_reader_close(&r);
    assert_ok(mr_log_writer_close(&w, &err));
    assert_ok(mr_log_writer_open(&w, &options, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(log.floor, floor);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void retention_waits_until_the_removal_before_is_on_disk(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    for (int i = 0; i < 100; i++)
        assert_ok(append_batch(w, 10, &err));
    assert_ok(mr_log_sync(w, &err));
    w->options.retention_bytes = options.segment_bytes;
    /* The directory's fsync has begun and takes its time. */
    w->op_sync.kind = MR_LOG_OP_SYNC;
    w->op_sync.busy = true;
    assert_ok(mr_log_poll(w, w->state.last, mr_clock_ns(), &err));
    assert_false(w->op_unlink.busy);
    assert_int_equal(w->state.floor, 1);
    w->op_sync.busy = false;
    assert_ok(mr_log_poll(w, w->state.last, mr_clock_ns(), &err));
    assert_true(w->state.floor > 1);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void retention_removes_what_is_old_and_never_the_last_segment(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    options.retention_age_ns = MR_NS_PER_MS;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    for (int i = 0; i < 400; i++)
        assert_ok(append_batch(w, 10, &err));
    for (int i = 0; i < 3000; i++) {
        assert_ok(mr_log_poll(w, UINT64_MAX, mr_clock_ns(), &err));
        mr_log_writer_state(w, &log);
        if (log.segments == 1)
            break;
        usleep(1000);
    }
    assert_int_equal(log.segments, 1);
    assert_true(log.floor > 1 && log.floor <= log.last + 1);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void a_reader_that_retention_overtakes_is_told_and_can_seek_again(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_reader *r;
    struct mr_log_record record;
    struct mr_log_state log;
    enum mr_rc end;
    options.retention_bytes = 3 * options.segment_bytes;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    assert_ok(append_batch(w, 10, &err));
    assert_ok(mr_log_reader_open(&r, options.dir, &err));
    assert_ok(mr_log_next(r, &record, &err));
    do {
        assert_ok(append_batch(w, 10, &err));
        assert_ok(mr_log_poll(w, UINT64_MAX, mr_clock_ns(), &err));
        mr_log_writer_state(w, &log);
    } while (log.floor < 3000);
    assert_ok(mr_log_sync(w, &err));
    uint64_t last = read_all(r, 2, &end, &err); /* what it has open stays readable */
    assert_int_equal(end, MR_USAGE);
    assert_true(last < log.floor);
    assert_int_equal(mr_log_next(r, &record, &err), MR_USAGE);
    uint64_t floor;
    assert_int_equal(mr_log_seek(r, last, &floor, &err), MR_USAGE);
    assert_ok(mr_log_seek(r, floor - 1, &floor, &err));
    assert_int_equal(read_all(r, floor, &end, &err), mr_log_next_sequence(w) - 1);
    assert_int_equal(end, MR_AGAIN);
    mr_log_reader_close(&r);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void waits_for_durability_by_descriptor(struct mr_log_options options)
{
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    for (int i = 0; i < 20; i++) {
        assert_ok(append_batch(w, 10, &err));
        do { /* nothing but the descriptor wakes us: 5 s without a wake is a failure */
            struct pollfd ready = {.fd = mr_log_fd(w), .events = POLLIN};
            assert_int_equal(poll(&ready, 1, 5000), 1);
            assert_ok(mr_log_poll(w, 0, mr_clock_ns(), &err));
            mr_log_writer_state(w, &log);
        } while (log.durable < log.last);
    }
    assert_int_equal(log.durable, 200);
    assert_int_equal(log.durable_seals, 20);
    assert_true(log.syncs >= 1 && log.syncs <= 20);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void the_descriptor_wakes_the_owner_until_all_is_durable(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    waits_for_durability_by_descriptor(options);
    remove_tree(options.dir);
    options.no_uring = true;
    waits_for_durability_by_descriptor(options);
    remove_tree(options.dir);
    options.commit_interval_ns = 0;
    waits_for_durability_by_descriptor(options);
}

static void closing_drops_a_batch_whose_position_is_unknown(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    enum mr_rc end;
    void *room;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    assert_ok(append_batch(w, 2, &err));
    assert_ok(mr_log_claim(w, record_len(3), &room));
    record_fill(room, record_len(3), 3);
    assert_int_equal(mr_log_commit(w, record_len(3)), 3);
    assert_ok(mr_log_writer_close(&w, &err));
    assert_int_equal(read_log(options.dir, &end, &err), 2);
    struct mr_log_state log;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    mr_log_writer_state(w, &log);
    uint64_t two = 2;
    assert_int_equal(log.last, 2);
    assert_memory_equal(log.position, &two, 8);
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
        LOG_TEST(a_record_larger_than_a_batch_gets_one_of_its_own),
        LOG_TEST(the_batch_sealed_last_stays_readable_in_memory_until_the_next_claim),
        LOG_TEST(seeking_finds_every_sequence_and_waits_behind_the_end),
        LOG_TEST(the_position_of_any_sequence_is_found_while_reading_goes_on),
        LOG_TEST(positions_without_records_are_kept_and_do_not_fill_the_disk),
        LOG_TEST(a_segment_full_of_positions_is_replaced_and_nobody_waits_for_the_disk),
        LOG_TEST(what_was_written_while_a_segment_was_replaced_is_the_position_after_a_restart),
        LOG_TEST(retention_removes_by_size_only_what_is_releasable),
        LOG_TEST(retention_waits_until_the_removal_before_is_on_disk),
        LOG_TEST(retention_removes_what_is_old_and_never_the_last_segment),
        LOG_TEST(a_reader_that_retention_overtakes_is_told_and_can_seek_again),
        LOG_TEST(the_descriptor_wakes_the_owner_until_all_is_durable),
        LOG_TEST(closing_drops_a_batch_whose_position_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
