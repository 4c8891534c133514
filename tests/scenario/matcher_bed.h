/* A board, one shard's rings, a journal and a real millrace-matcher between them: the test plays
 * supervisor, puller and publisher. Every match record is compared with what an engine of the
 * test's own says of the same event. */
#ifndef MR_TESTS_MATCHER_BED_H
#define MR_TESTS_MATCHER_BED_H
#include <errno.h>
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
#include "matcher/engine/engine.h"
#include "proto/event.h"
#include "proto/match.h"
#include "shm/board.h"
#include "shm/journal.h"
#include "shm/process.h"
#include "shm/ring.h"
#include "tests/leftovers.h"

enum { BED_EVENTS_MAX = 2000000, BED_IDS_MAX = 1 << 17 };

struct bed {
    char instance[MR_INSTANCE_MAX];
    struct mr_board board;
    struct mr_cell_shm *cell;
    struct mr_config config;
    struct mr_ring_producer events, control;
    struct mr_ring_consumer released; /* stage 1 of the event ring */
    struct mr_ring_consumer matches;
    struct mr_journal journal[2];
    uint64_t generation;
    struct mr_engine *engine; /* what the current journal says */
    pid_t pid;
    uint64_t sequence;  /* of the last event fed */
    uint64_t fed, hits; /* events, and those that must give matches */
    uint64_t *expected; /* by sequence: digest of the ids; 0: none */
    uint8_t *seen;
    uint64_t last_seen, seen_count;
    uint64_t *parts; /* ids of the event whose records are being read */
    uint32_t part_count;
    uint64_t part_sequence;
};

#define bed_ok(call, err) bed_check((call), (err), #call)
static inline void bed_check(enum mr_rc rc, const struct mr_err *err, const char *what)
{
    if (rc != MR_OK)
        fail_msg("%s: %s: %s", what, mr_rc_name(rc), err->text);
}

static inline void bed_set(struct bed *bed, const char *key, const char *value)
{
    struct mr_err err = {0};
    bed_ok(mr_config_set(&bed->config, key, value, &err), &err);
}

static inline void bed_create_segments(struct bed *bed, uint64_t event_bytes, uint64_t match_bytes)
{
    struct mr_err err = {0};
    uint64_t note;
    struct mr_ring_options e = {.part = "e0.g1", .capacity = event_bytes, .stage_count = 2},
                           m = {.part = "m0.g1", .capacity = match_bytes, .stage_count = 1},
                           s = {.part = "s0.g1", .capacity = 65536, .stage_count = 1};
    bed_ok(mr_ring_create(bed->instance, 1, &e, &err), &err);
    bed_ok(mr_ring_create(bed->instance, 1, &m, &err), &err);
    bed_ok(mr_ring_create(bed->instance, 1, &s, &err), &err);
    bed_ok(mr_ring_attach_producer(&bed->events, bed->instance, &e, &note, &err), &err);
    bed_ok(mr_ring_attach_consumer(&bed->released, bed->instance, &e, 1, &err), &err);
    bed_ok(mr_ring_attach_consumer(&bed->matches, bed->instance, &m, 0, &err), &err);
    bed_ok(mr_ring_attach_producer(&bed->control, bed->instance, &s, &note, &err), &err);
    mr_ring_producer_bells(&bed->events, &bed->cell->bell);
    mr_ring_producer_bells(&bed->control, &bed->cell->bell);
    mr_ring_consumer_bells(&bed->matches, &bed->cell->bell);
    for (int i = 0; i < 2; i++) {
        const char *part = i == 0 ? "subs0" : "subs1";
        bed_ok(mr_journal_create(bed->instance, 1, part, 64 << 20, &err), &err);
        bed_ok(mr_journal_attach_writer(&bed->journal[i], bed->instance, part, &err), &err);
    }
}

/* Begin the next journal generation, empty. */
static inline void bed_generation(struct bed *bed)
{
    struct mr_err err = {0};
    bed->generation++;
    mr_journal_begin(&bed->journal[bed->generation & 1], bed->generation);
    mr_engine_destroy(&bed->engine);
    bed_ok(mr_engine_create(&bed->engine, &err), &err);
}

static inline void bed_init(struct bed *bed, uint64_t event_bytes, uint64_t match_bytes)
{
    static uint32_t number;
    struct mr_err err = {0};
    *bed = (struct bed){0};
    remove_leftovers("t-matcher");
    snprintf(bed->instance, sizeof bed->instance, "t-matcher-%d-%u", getpid(), number++);
    mr_config_init(&bed->config);
    bed_set(bed, "instance.name", bed->instance);
    bed_set(bed, "logging.level", "error");
    bed_ok(mr_board_create(&bed->board, bed->instance, 1, &err), &err);
    bed->cell = &bed->board.shm->cells[mr_cell_matcher(1, 0)];
    atomic_store(&bed->board.shm->log_level, MR_LOG_ERROR);
    atomic_store(&bed->board.shm->ring_set, mr_ring_set_pack(1, 1));
    mr_segment_seal(&bed->board.segment);
    bed_create_segments(bed, event_bytes, match_bytes);
    bed->expected = calloc(BED_EVENTS_MAX, sizeof *bed->expected);
    bed->seen = calloc(BED_EVENTS_MAX, 1);
    bed->parts = calloc(BED_IDS_MAX, sizeof *bed->parts);
    assert_true(bed->expected && bed->seen && bed->parts);
    bed_generation(bed);
}

static inline void bed_publish_journal(struct bed *bed)
{
    struct mr_journal *journal = &bed->journal[bed->generation & 1];
    mr_journal_publish(journal);
    atomic_store_explicit(&bed->board.shm->subs_generation, bed->generation, memory_order_release);
    const struct mr_announce announce = {bed->generation, journal->count};
    void *out;
    if (mr_ring_claim(&bed->control, sizeof announce, &out) == MR_OK) {
        memcpy(out, &announce, sizeof announce);
        mr_ring_commit(&bed->control, sizeof announce, MR_RECORD_ANNOUNCE, 0, journal->count);
        mr_ring_publish(&bed->control, journal->count);
    }
}

static inline void bed_subscribe_program(struct bed *bed, uint64_t id, void *program, uint32_t len)
{
    uint8_t record[8192];
    const struct mr_subscribe_head head = {.subscription = id};
    assert_true(len + sizeof head <= sizeof record);
    memcpy(record, &head, sizeof head);
    memcpy(record + sizeof head, program, len);
    assert_int_equal(mr_journal_append(&bed->journal[bed->generation & 1], MR_RECORD_SUBSCRIBE,
                                       record, len + (uint32_t)sizeof head),
                     MR_OK);
    assert_int_equal(mr_engine_add(bed->engine, id, program, len), MR_OK);
    free(program);
}

/* Append a subscription "path == text" (path NULL: the whole collection). */
static inline void bed_subscribe(struct bed *bed, uint64_t id, const char *path, const char *text)
{
    struct mr_err err = {0};
    void *program;
    uint32_t len;
    const struct mr_predicate p = {.path = mr_str_from(path),
                                   .op = MR_PRED_EQ,
                                   .value = {.kind = MR_CONST_STRING, .string = mr_str_from(text)}};
    bed_ok(mr_program_build(MR_STR("db"), MR_STR("orders"), &p, path ? 1 : 0, &program, &len, &err),
           &err);
    bed_subscribe_program(bed, id, program, len);
}

static inline void bed_unsubscribe(struct bed *bed, uint64_t id)
{
    const struct mr_subscribe_head head = {.subscription = id};
    assert_int_equal(mr_journal_append(&bed->journal[bed->generation & 1], MR_RECORD_UNSUBSCRIBE,
                                       &head, sizeof head),
                     MR_OK);
    assert_int_equal(mr_engine_remove(bed->engine, id), MR_OK);
}

static inline void bed_start(struct bed *bed)
{
    struct mr_err err = {0};
    const char *build = getenv("MILLRACE_TEST_BUILD");
    assert_non_null(build);
    char path[512], fd_text[16], cell_text[16];
    snprintf(path, sizeof path, "%s/matcher/millrace-matcher", build);
    int fd = memfd_create("config", 0);
    assert_true(fd >= 0);
    bed_ok(mr_config_write_flat(&bed->config, fd, &err), &err);
    snprintf(fd_text, sizeof fd_text, "%d", fd);
    snprintf(cell_text, sizeof cell_text, "%u", mr_cell_matcher(1, 0));
    atomic_store(&bed->cell->state, MR_STATE_EMPTY);
    bed->pid = fork();
    assert_true(bed->pid >= 0);
    if (bed->pid == 0) {
        execl(path, path, "--config-fd", fd_text, "--cell", cell_text, "--shard", "0",
              "--ring-generation", "1", (char *)NULL);
        _exit(127);
    }
    close(fd);
}

/* Ends the process and returns its exit code, or minus the signal that ended it. */
static inline int bed_end(struct bed *bed, int signal)
{
    int status;
    if (signal)
        kill(bed->pid, signal);
    assert_int_equal(waitpid(bed->pid, &status, 0), bed->pid);
    bed->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline void bed_fini(struct bed *bed)
{
    if (bed->pid)
        (void)bed_end(bed, SIGKILL);
    mr_segment_remove_all(bed->instance);
    mr_ring_detach_producer(&bed->events);
    mr_ring_detach_producer(&bed->control);
    mr_ring_detach_consumer(&bed->released);
    mr_ring_detach_consumer(&bed->matches);
    mr_journal_detach(&bed->journal[0]);
    mr_journal_detach(&bed->journal[1]);
    mr_board_detach(&bed->board);
    mr_engine_destroy(&bed->engine);
    free(bed->expected);
    free(bed->seen);
    free(bed->parts);
}

static inline uint64_t bed_digest(const uint64_t *ids, uint32_t count)
{
    uint64_t digest = count;
    for (uint32_t i = 0; i < count; i++)
        digest = (digest ^ ids[i]) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    return count ? digest | 1 : 0;
}

/* Write one event with a user; false: the ring is full. Not published. */
static inline bool bed_write(struct bed *bed, enum mr_operation op, const char *user)
{
    uint8_t buffer[256];
    struct mr_bson_writer w;
    mr_bson_writer_init_fixed(&w, buffer, sizeof buffer);
    mr_bson_begin(&w);
    mr_bson_put_string(&w, MR_STR("user"), mr_str_from(user));
    mr_bson_put_int64(&w, MR_STR("n"), (int64_t)bed->sequence);
    mr_bson_end(&w);
    struct mr_event event = {.head = {.sequence = bed->sequence + 1 + bed->sequence % 3,
                                      .op = (uint8_t)op,
                                      .ingest_ns = mr_clock_ns()},
                             .database = MR_STR("db"),
                             .collection = MR_STR("orders"),
                             .document_id = MR_STR("o-1"),
                             .document = mr_bson_bytes(&w)};
    if (op == MR_OP_TRUNCATE || op == MR_OP_DELETE)
        event.document = (struct mr_str){NULL, 0};
    if (op == MR_OP_TRUNCATE)
        event.document_id = event.document;
    void *out;
    size_t size = mr_event_size(&event);
    if (mr_ring_claim(&bed->events, (uint32_t)size, &out) != MR_OK)
        return false;
    mr_event_encode(&event, out);
    bed->sequence = event.head.sequence;
    assert_true(bed->sequence < BED_EVENTS_MAX);
    mr_ring_commit(&bed->events, (uint32_t)size, MR_RECORD_EVENT, 0, bed->sequence);
    const struct mr_engine_event wanted = {.database = event.database,
                                           .collection = event.collection,
                                           .document_id = event.document_id,
                                           .document = event.document,
                                           .everyone = op == MR_OP_TRUNCATE};
    const uint64_t *ids;
    uint32_t count = mr_engine_match(bed->engine, &wanted, &ids);
    bed->expected[bed->sequence] = bed_digest(ids, count);
    bed->fed++;
    bed->hits += count > 0;
    return true;
}

static inline void bed_publish(struct bed *bed)
{
    mr_ring_publish(&bed->events, bed->sequence);
    mr_ring_set_through(&bed->events, bed->sequence);
}

static inline uint32_t bed_feed(struct bed *bed, uint32_t count)
{
    uint32_t done = 0;
    char user[16];
    for (; done < count; done++) {
        snprintf(user, sizeof user, "u%llu", (unsigned long long)(bed->fed % 20));
        if (!bed_write(bed, bed->fed % 50 == 0 ? MR_OP_TRUNCATE : MR_OP_UPDATE, user))
            break;
    }
    bed_publish(bed);
    return done;
}

static inline void bed_take(struct bed *bed, const struct mr_ring_record *record)
{
    struct mr_match_head head;
    assert_int_equal(record->type, MR_RECORD_MATCH);
    memcpy(&head, record->data, sizeof head);
    assert_int_equal(record->len, sizeof head + head.count * sizeof(uint64_t));
    assert_true(head.count > 0 && head.count <= MR_MATCH_IDS_MAX && head.end > head.position);
    if (bed->part_sequence != head.sequence)
        bed->part_count = 0;
    bed->part_sequence = head.sequence;
    const uint8_t *ids = (const uint8_t *)record->data + sizeof head;
    for (uint32_t i = 0; i < head.count; i++) {
        uint64_t id;
        memcpy(&id, ids + i * sizeof id, sizeof id);
        /* What a successor repeats of an event that is larger than the ring. */
        if (bed->part_count > 0 && id <= bed->parts[bed->part_count - 1])
            continue;
        assert_true(bed->part_count < BED_IDS_MAX);
        bed->parts[bed->part_count++] = id;
    }
    if (head.flags & MR_MATCH_MORE)
        return;
    assert_true(head.sequence < BED_EVENTS_MAX && head.sequence > bed->last_seen);
    assert_int_equal(bed->seen[head.sequence], 0);
    assert_true(bed->expected[head.sequence] == bed_digest(bed->parts, bed->part_count));
    bed->seen[head.sequence] = 1;
    bed->last_seen = head.sequence;
    bed->seen_count++;
}

/* Take at most count match records, and release what they and the matcher are done with. */
static inline void bed_pump(struct bed *bed, uint32_t count)
{
    struct mr_ring_record record;
    while (count-- > 0 && mr_ring_peek(&bed->matches, &record) == MR_OK) {
        bed_take(bed, &record);
        mr_ring_advance(&bed->matches, &record);
    }
    while (mr_ring_peek(&bed->released, &record) == MR_OK)
        mr_ring_advance(&bed->released, &record);
    mr_ring_release(&bed->released, bed->released.position, 0);
    mr_ring_release(&bed->matches, bed->matches.position, bed->last_seen);
}

/* Wait, pumping if told so, until a condition holds. */
#define bed_wait(bed, pump, condition)                                               \
    do {                                                                             \
        uint64_t until_ns = mr_clock_ns() + 20 * MR_NS_PER_S;                        \
        while (!(condition)) {                                                       \
            if (pump)                                                                \
                bed_pump((bed), UINT32_MAX);                                         \
            if (mr_clock_ns() > until_ns)                                            \
                fail_msg("waited 20 s for: %s; the matcher says \"%s\"", #condition, \
                         (bed)->cell->text);                                         \
            usleep(200);                                                             \
        }                                                                            \
    } while (0)

static inline void bed_ready(struct bed *bed)
{
    bed_wait(bed, false, atomic_load(&bed->cell->state) == MR_STATE_READY);
}

static inline void bed_applied(struct bed *bed)
{
    bed_publish_journal(bed);
    uint64_t count = bed->journal[bed->generation & 1].count;
    bed_wait(bed, true,
             atomic_load(&bed->cell->subs_generation) == bed->generation &&
                 atomic_load(&bed->cell->subs_applied) >= count);
}

/* Everything fed has been matched, and every match has been seen once. */
static inline void bed_settled(struct bed *bed)
{
    bed_wait(bed, true,
             mr_ring_stage_note(bed->events.shm, 0) >= bed->sequence &&
                 mr_ring_stage_position(bed->events.shm, 0) == bed->events.tail);
    bed_pump(bed, UINT32_MAX);
    assert_int_equal(bed->seen_count, bed->hits);
}

static inline uint64_t bed_counter(const struct bed *bed, enum mr_counter counter)
{
    return mr_counter_get(bed->cell, counter);
}
#endif
