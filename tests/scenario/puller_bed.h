/* A board, rings and a real millrace-puller between them: the test plays supervisor, matchers and
 * publisher. Everything read from the rings is checked: order, shard, exactly once. */
#ifndef MR_TESTS_PULLER_BED_H
#define MR_TESTS_PULLER_BED_H
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "log/log.h"
#include "proto/event.h"
#include "proto/match.h"
#include "shm/board.h"
#include "shm/process.h"
#include "shm/ring.h"
#include "tests/leftovers.h"

enum { BED_EVENTS_MAX = 4000000 };

struct bed_ring {
    struct mr_ring_consumer matcher, publisher;
    uint64_t last; /* sequence of the last event taken */
};

struct bed {
    char instance[MR_INSTANCE_MAX], dir[64];
    struct mr_board board;
    struct mr_cell_shm *cell;
    struct mr_config config;
    uint64_t ring_bytes;
    struct bed_ring rings[MR_SHARDS_MAX];
    uint32_t shards, generation;
    pid_t pid;
    uint8_t *seen;    /* by sequence: how often an event came */
    uint64_t *orders; /* by sequence: its source order */
    uint64_t count;
};

#define bed_ok(call, err) bed_check((call), (err), #call)
static inline void bed_check(enum mr_rc rc, const struct mr_err *err, const char *what)
{
    if (rc != MR_OK)
        fail_msg("%s: %s: %s", what, mr_rc_name(rc), err->text);
}

static inline void bed_create_rings(struct bed *bed, uint32_t generation, uint32_t shards)
{
    struct mr_err err = {0};
    for (uint32_t i = 0; i < shards; i++) {
        char part[32];
        mr_ring_part(part, 'e', i, generation);
        const struct mr_ring_options options = {
            .part = part, .capacity = bed->ring_bytes, .stage_count = 2};
        bed_ok(mr_ring_create(bed->instance, 1, &options, &err), &err);
    }
}

/* Become the consumers of a ring set, and leave the one before. */
static inline void bed_attach(struct bed *bed, uint32_t generation, uint32_t shards)
{
    struct mr_err err = {0};
    for (uint32_t i = 0; i < bed->shards; i++) {
        mr_ring_detach_consumer(&bed->rings[i].matcher);
        mr_ring_detach_consumer(&bed->rings[i].publisher);
    }
    bed->generation = generation;
    bed->shards = shards;
    for (uint32_t i = 0; i < shards; i++) {
        char part[32];
        mr_ring_part(part, 'e', i, generation);
        const struct mr_ring_options options = {.part = part};
        bed_ok(mr_ring_attach_consumer(&bed->rings[i].matcher, bed->instance, &options, 0, &err),
               &err);
        bed_ok(mr_ring_attach_consumer(&bed->rings[i].publisher, bed->instance, &options, 1, &err),
               &err);
        bed->rings[i].last = 0;
    }
}

static inline void bed_set(struct bed *bed, const char *key, const char *value)
{
    struct mr_err err = {0};
    bed_ok(mr_config_set(&bed->config, key, value, &err), &err);
}

static inline void bed_init(struct bed *bed, uint32_t shards, uint64_t ring_bytes)
{
    static uint32_t number;
    struct mr_err err = {0};
    *bed = (struct bed){.ring_bytes = ring_bytes};
    remove_leftovers("t-puller");
    snprintf(bed->instance, sizeof bed->instance, "t-puller-%d-%u", getpid(), number++);
    snprintf(bed->dir, sizeof bed->dir, "/tmp/mr-puller-XXXXXX");
    assert_non_null(mkdtemp(bed->dir));
    mr_config_init(&bed->config);
    bed_set(bed, "instance.name", bed->instance);
    bed_set(bed, "instance.data_dir", bed->dir);
    bed_set(bed, "logging.level", "warn");
    bed_set(bed, "log.segment_size", "2MiB"); /* a start reads the last one to its end */
    char size[32];
    snprintf(size, sizeof size, "%lluB", (unsigned long long)ring_bytes);
    bed_set(bed, "ring.event_size", size);
    bed_ok(mr_board_create(&bed->board, bed->instance, 1, &err), &err);
    bed->cell = &bed->board.shm->cells[MR_CELL_PULLER];
    atomic_store(&bed->board.shm->log_level, MR_LOG_WARN);
    atomic_store(&bed->board.shm->ring_set, mr_ring_set_pack(1, shards));
    mr_segment_seal(&bed->board.segment);
    bed_create_rings(bed, 1, shards);
    bed_attach(bed, 1, shards);
    bed->seen = calloc(BED_EVENTS_MAX, 1);
    bed->orders = calloc(BED_EVENTS_MAX, sizeof *bed->orders);
    assert_true(bed->seen && bed->orders);
}

static inline void bed_start(struct bed *bed)
{
    struct mr_err err = {0};
    const char *build = getenv("MILLRACE_TEST_BUILD");
    assert_non_null(build);
    char path[512], fd_text[16];
    snprintf(path, sizeof path, "%s/puller/millrace-puller", build);
    int fd = memfd_create("config", 0);
    assert_true(fd >= 0);
    bed_ok(mr_config_write_flat(&bed->config, fd, &err), &err);
    snprintf(fd_text, sizeof fd_text, "%d", fd);
    atomic_store(&bed->cell->state, MR_STATE_EMPTY);
    bed->pid = fork();
    assert_true(bed->pid >= 0);
    if (bed->pid == 0) {
        execl(path, path, "--config-fd", fd_text, "--cell", "1", (char *)NULL);
        _exit(127);
    }
    close(fd);
}

/* Ends the process; returns its exit code, or -signal. */
static inline int bed_end(struct bed *bed, int signal_number)
{
    int status;
    if (signal_number != 0)
        kill(bed->pid, signal_number);
    assert_int_equal(waitpid(bed->pid, &status, 0), bed->pid);
    bed->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline void bed_fini(struct bed *bed)
{
    if (bed->pid > 0)
        bed_end(bed, SIGKILL);
    for (uint32_t i = 0; i < bed->shards; i++) {
        mr_ring_detach_consumer(&bed->rings[i].matcher);
        mr_ring_detach_consumer(&bed->rings[i].publisher);
    }
    mr_board_detach(&bed->board);
    mr_segment_remove_all(bed->instance);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", bed->dir);
    assert_int_equal(system(command), 0);
    free(bed->seen);
    free(bed->orders);
}

static inline void bed_take(struct bed *bed, uint32_t shard, const struct mr_ring_record *record)
{
    struct mr_event event;
    assert_int_equal(record->type, MR_RECORD_EVENT);
    assert_int_equal(mr_event_decode(record->data, record->len, &event), MR_OK);
    assert_int_equal(event.head.document_hash % bed->shards, shard);
    assert_true(event.head.sequence > bed->rings[shard].last);
    assert_true(event.head.sequence < BED_EVENTS_MAX);
    bed->rings[shard].last = event.head.sequence;
    if (bed->seen[event.head.sequence]++ != 0)
        fail_msg("event %llu came twice", (unsigned long long)event.head.sequence);
    bed->orders[event.head.sequence] = event.head.source_order;
    bed->count++;
}

/* Take at most max events from each ring, as matcher and publisher. */
static inline uint64_t bed_pump(struct bed *bed, uint64_t max)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < bed->shards; i++) {
        struct bed_ring *ring = &bed->rings[i];
        struct mr_ring_record record;
        enum mr_rc rc = MR_OK;
        uint64_t taken = 0;
        while (taken < max && (rc = mr_ring_peek(&ring->matcher, &record)) == MR_OK) {
            bed_take(bed, i, &record);
            mr_ring_advance(&ring->matcher, &record);
            taken++;
        }
        assert_true(rc == MR_OK || rc == MR_AGAIN);
        mr_ring_release(&ring->matcher, ring->matcher.position, ring->last);
        while (mr_ring_peek(&ring->publisher, &record) == MR_OK)
            mr_ring_advance(&ring->publisher, &record);
        mr_ring_release(&ring->publisher, ring->publisher.position, ring->last);
        total += taken;
    }
    return total;
}

static inline uint64_t bed_through(const struct bed *bed)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < bed->shards; i++) {
        uint64_t through = mr_ring_through(bed->rings[i].matcher.shm);
        least = through < least ? through : least;
    }
    return least;
}

static inline uint64_t bed_counter(const struct bed *bed, enum mr_counter counter)
{
    return mr_counter_get(bed->cell, counter);
}

/* Wait for a condition, pumping or not; fails after ten seconds, or when the process has ended. */
#define bed_wait(bed, pump, condition)                                                       \
    do {                                                                                     \
        uint64_t bed_until = mr_clock_ns() + 20 * MR_NS_PER_S;                               \
        while (!(condition)) {                                                               \
            if (pump)                                                                        \
                bed_pump((bed), UINT64_MAX);                                                 \
            if (mr_clock_ns() > bed_until)                                                   \
                fail_msg("line %d: waited in vain for %s; the puller says \"%s\"", __LINE__, \
                         #condition, (bed)->cell->text);                                     \
            usleep(200);                                                                     \
        }                                                                                    \
    } while (0)

static inline void bed_ready(struct bed *bed)
{
    bed_wait(bed, false, atomic_load(&bed->cell->state) == MR_STATE_READY);
}

/* Everything through count was taken exactly once, and is in the log as it was in the rings. */
static inline void bed_check_all(struct bed *bed, uint64_t count)
{
    bed_pump(bed, UINT64_MAX);
    assert_int_equal(bed->count, count);
    struct mr_log_reader *reader;
    struct mr_err err = {0};
    char dir[80];
    snprintf(dir, sizeof dir, "%s/log", bed->dir);
    bed_ok(mr_log_reader_open(&reader, dir, &err), &err);
    uint64_t floor, sequence = 0;
    bed_ok(mr_log_seek(reader, 0, &floor, &err), &err);
    struct mr_log_record record;
    enum mr_rc rc;
    while ((rc = mr_log_next(reader, &record, &err)) == MR_OK) {
        struct mr_event event;
        assert_int_equal(record.sequence, ++sequence);
        assert_int_equal(mr_event_decode(record.data, record.len, &event), MR_OK);
        assert_int_equal(event.head.sequence, sequence);
        if (sequence <= count) {
            assert_int_equal(bed->seen[sequence], 1);
            assert_int_equal(bed->orders[sequence], event.head.source_order);
        }
    }
    assert_int_equal(rc, MR_AGAIN);
    assert_true(sequence >= count);
    mr_log_reader_close(&reader);
}
#endif
