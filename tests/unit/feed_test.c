/* The puller's way from an event to the rings, step by step: intake, log, feed, rings, confirm, and
 * the board that directs it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "puller/confirm.h"
#include "puller/control.h"
#include "puller/intake.h"

enum { SHARDS = 2, RING_BYTES = 65536 };

struct bench {
    char instance[MR_INSTANCE_MAX], dir[64], log_dir[80];
    struct mr_process process;
    struct mr_log_writer *log;
    struct mr_intake intake;
    struct mr_control control;
    struct mr_feed feed;
    struct mr_err err;
};

#define ok(bench, call) check((call), &(bench)->err, #call)
static void check(enum mr_rc rc, const struct mr_err *err, const char *what)
{
    if (rc != MR_OK)
        fail_msg("%s: %s: %s", what, mr_rc_name(rc), err->text);
}

static void make_rings(struct bench *b, uint32_t generation, uint32_t shards)
{
    for (uint32_t i = 0; i < shards; i++) {
        char part[32];
        mr_ring_part(part, 'e', i, generation);
        const struct mr_ring_options options = {
            .part = part, .capacity = RING_BYTES, .stage_count = 2};
        ok(b, mr_ring_create(b->instance, 1, &options, &b->err));
    }
}

static void open_log(struct bench *b, const char *name)
{
    snprintf(b->log_dir, sizeof b->log_dir, "%s/%s", b->dir, name);
    const struct mr_log_options options = {.dir = b->log_dir,
                                           .segment_bytes = 1 << 20,
                                           .batch_bytes = 1 << 18,
                                           .retention_bytes = UINT64_MAX,
                                           .retention_age_ns = UINT64_MAX};
    ok(b, mr_log_writer_open(&b->log, &options, &b->err));
    mr_intake_init(&b->intake, b->log, b->process.cell, &b->process.config);
    mr_intake_begin(&b->intake, mr_clock_ns());
}

/* As a puller does at its start; the log says how far it reaches. */
static enum mr_rc start(struct bench *b)
{
    struct mr_log_state state;
    mr_log_writer_state(b->log, &state);
    enum mr_rc rc = mr_control_open(&b->control, &b->process, &state, &b->err);
    mr_feed_init(&b->feed, mr_control_rings(&b->control), b->log, b->log_dir, b->process.cell);
    b->control.feed = &b->feed;
    return rc;
}

static void end(struct bench *b)
{
    mr_feed_fini(&b->feed);
    mr_control_close(&b->control);
}

static void close_log(struct bench *b)
{
    ok(b, mr_log_writer_close(&b->log, &b->err));
}

static int set_up(void **state)
{
    static unsigned number;
    struct bench *b = calloc(1, sizeof *b);
    *state = b;
    snprintf(b->instance, sizeof b->instance, "t-feed-%d-%u", (int)getpid(), number++);
    snprintf(b->dir, sizeof b->dir, "/tmp/mr-feed-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    mr_config_init(&b->process.config);
    b->process.config.ring_event_size = RING_BYTES;
    snprintf(b->process.config.instance_name.text, MR_CONFIG_TEXT_MAX, "%s", b->instance);
    ok(b, mr_board_create(&b->process.board, b->instance, 1, &b->err));
    mr_segment_seal(&b->process.board.segment);
    b->process.cell = &b->process.board.shm->cells[MR_CELL_PULLER];
    make_rings(b, 1, SHARDS);
    atomic_store(&b->process.board.shm->ring_set, mr_ring_set_pack(1, SHARDS));
    open_log(b, "log");
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    char command[128];
    close_log(b);
    mr_board_detach(&b->process.board);
    mr_segment_remove_all(b->instance);
    snprintf(command, sizeof command, "rm -rf %s", b->dir);
    int status = system(command);
    free(b);
    return status;
}

static struct mr_event event_of(const char *id, uint64_t order)
{
    return (struct mr_event){.head = {.op = MR_OP_INSERT, .source_order = order},
                             .database = MR_STR("d"),
                             .collection = MR_STR("c"),
                             .document_id = mr_str_from(id)};
}

static void take(struct bench *b, const char *id, uint64_t order)
{
    struct mr_event event = event_of(id, order);
    ok(b, mr_intake_emit(&b->intake, &event, &b->err));
}

static void seal(struct bench *b)
{
    ok(b, mr_intake_seal(&b->intake, mr_clock_ns(), &b->err));
}

static enum mr_rc feed_all(struct bench *b, uint32_t *fed)
{
    return mr_feed_turn(&b->feed, mr_log_next_sequence(b->log) - 1, UINT32_MAX, fed, &b->err);
}

static uint64_t bytes_in_rings(const struct bench *b)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < SHARDS; i++)
        bytes += b->control.sets[0].ring[i].tail;
    return bytes;
}

/* The rings hold three events; then the puller dies, and the log with it. */
static void feed_three_and_lose_the_log(struct bench *b)
{
    uint32_t fed;
    ok(b, start(b));
    take(b, "a", 10);
    take(b, "b", 11);
    take(b, "c", 12);
    seal(b);
    ok(b, feed_all(b, &fed));
    assert_int_equal(fed, 3);
    end(b);
    close_log(b);
    open_log(b, "other");
    ok(b, start(b));
}

static void what_the_rings_hold_is_not_fed_again(void **state)
{
    struct bench *b = *state;
    uint32_t fed;
    feed_three_and_lose_the_log(b);
    assert_int_equal(b->feed.sequence, 0); /* all of it is looked at again */
    assert_int_equal(mr_counter_get(b->process.cell, MR_COUNTER_FEED_SEQUENCE), 3);
    uint64_t before = bytes_in_rings(b);
    take(b, "a", 10);
    take(b, "b", 11);
    take(b, "c", 12);
    seal(b);
    ok(b, feed_all(b, &fed));
    assert_int_equal(bytes_in_rings(b), before);
    take(b, "d", 13);
    seal(b);
    ok(b, feed_all(b, &fed));
    assert_int_equal(fed, 1);
    assert_true(bytes_in_rings(b) > before);
    assert_int_equal(mr_counter_get(b->process.cell, MR_COUNTER_FEED_SEQUENCE), 4);
    end(b);
}

static void rings_that_change_before_the_repeat_get_nothing_twice(void **state)
{
    struct bench *b = *state;
    struct mr_board_shm *board = b->process.board.shm;
    uint32_t fed;
    feed_three_and_lose_the_log(b);
    make_rings(b, 2, 1);
    atomic_store(&board->ring_set, mr_ring_set_pack(2, 1));
    ok(b, mr_control_turn(&b->control, &b->err));
    take(b, "a", 10);
    take(b, "b", 11);
    take(b, "c", 12);
    seal(b);
    ok(b, feed_all(b, &fed));
    assert_int_equal(mr_control_rings(&b->control)->ring[0].tail, 0);
    assert_int_equal(mr_rings_fed(mr_control_rings(&b->control)), 3);
    end(b);
}

static void another_event_under_a_sequence_of_a_ring_is_corruption(void **state)
{
    static const struct {
        const char *id;
        uint64_t order;
    } rows[] = {{"a", 99}, {"z", 10}};
    struct bench *b = *state;
    feed_three_and_lose_the_log(b);
    for (size_t i = 0; i < 2; i++) {
        struct mr_event event = event_of(rows[i].id, rows[i].order);
        uint32_t fed;
        ok(b, mr_intake_emit(&b->intake, &event, &b->err));
        seal(b);
        assert_int_equal(mr_feed_turn(&b->feed, 1, 1, &fed, &b->err), MR_CORRUPT);
        assert_non_null(strstr(b->err.text, "event 1 has source order 10"));
        assert_int_equal(fed, 0);
        end(b);
        close_log(b);
        open_log(b, i == 0 ? "third" : "fourth");
        ok(b, start(b));
    }
    end(b);
}

static void an_event_larger_than_a_ring_becomes_a_gap_of_its_collection(void **state)
{
    struct bench *b = *state;
    static uint8_t big[RING_BYTES];
    const uint32_t len = sizeof big;
    memcpy(big, &len, sizeof len);
    struct mr_event event = event_of("a", 10);
    event.document = (struct mr_str){(const char *)big, sizeof big};
    ok(b, mr_intake_emit(&b->intake, &event, &b->err));
    seal(b);
    struct mr_log_record record;
    struct mr_event got;
    assert_int_equal(mr_log_batch_record(b->log, 1, &record), MR_OK);
    assert_int_equal(mr_event_decode(record.data, record.len, &got), MR_OK);
    assert_int_equal(got.head.op, MR_OP_GAP);
    assert_int_equal(got.head.source_order, 10);
    assert_memory_equal(got.collection.data, "c", 1);
    assert_int_equal(mr_counter_get(b->process.cell, MR_COUNTER_SOURCE_GAPS), 1);
    assert_int_equal(event.head.op, MR_OP_INSERT); /* the source's own event is as it was */
}

static void an_event_of_the_log_that_is_larger_than_a_ring_is_fed_as_a_gap(void **state)
{
    struct bench *b = *state;
    static uint8_t big[RING_BYTES];
    uint32_t fed, len = sizeof big;
    memcpy(big, &len, sizeof len);
    struct mr_event event = event_of("a", 10);
    event.document = (struct mr_str){(const char *)big, sizeof big};
    b->process.config.ring_event_size = 4 * RING_BYTES; /* it was, when the event was taken */
    mr_intake_init(&b->intake, b->log, b->process.cell, &b->process.config);
    ok(b, mr_intake_emit(&b->intake, &event, &b->err));
    take(b, "a", 11);
    seal(b);
    ok(b, start(b));
    ok(b, feed_all(b, &fed));
    assert_int_equal(fed, 2);
    struct mr_ring_producer *ring = &b->control.sets[0].ring[0];
    ring = ring->tail > 0 ? ring : ring + 1;
    static _Alignas(8) uint8_t bytes[4096];
    struct mr_ring_record record;
    struct mr_event got;
    assert_int_equal(mr_ring_copy(ring->shm, 0, bytes, sizeof bytes, &record), MR_OK);
    assert_int_equal(mr_event_decode(bytes, record.len, &got), MR_OK);
    assert_int_equal(got.head.op, MR_OP_GAP);
    assert_int_equal(got.head.sequence, 1);
    assert_int_equal(got.head.source_order, 10);
    assert_memory_equal(got.document_id.data, "a", 1);
    end(b);
    ok(b, start(b)); /* what is in the ring is that event, also for one who compares */
    ok(b, feed_all(b, &fed));
    assert_int_equal(b->feed.sequence, 2);
    end(b);
}

static void names_over_their_limit_are_refused_and_nothing_is_taken(void **state)
{
    struct bench *b = *state;
    static char longer[MR_EVENT_NAME_MAX + 2];
    memset(longer, 'x', MR_EVENT_NAME_MAX + 1);
    struct mr_event event = event_of(longer, 10);
    assert_int_equal(mr_intake_emit(&b->intake, &event, &b->err), MR_USAGE);
    assert_non_null(strstr(b->err.text, "1, 1, 1025"));
    assert_int_equal(mr_log_next_sequence(b->log), 1);
    assert_int_equal(mr_counter_get(b->process.cell, MR_COUNTER_SOURCE_EVENTS), 0);
}

static void full_rings_stall_the_feed_which_goes_on_from_disk(void **state)
{
    struct bench *b = *state;
    struct mr_ring_consumer readers[SHARDS][2];
    uint32_t fed, total = 0, count = 0;
    ok(b, start(b));
    for (uint32_t i = 0; i < SHARDS; i++)
        for (uint32_t stage = 0; stage < 2; stage++) {
            char part[32];
            mr_ring_part(part, 'e', i, 1);
            const struct mr_ring_options options = {.part = part};
            ok(b,
               mr_ring_attach_consumer(&readers[i][stage], b->instance, &options, stage, &b->err));
        }
    for (; count < 3000; count++) {
        char id[16];
        snprintf(id, sizeof id, "%u", count);
        take(b, id, count + 1);
        if (count % 500 == 499)
            seal(b);
    }
    for (int turn = 0; turn < 100 && total < count; turn++) {
        ok(b, feed_all(b, &fed));
        total += fed;
        struct mr_ring_record record;
        for (uint32_t i = 0; i < SHARDS; i++)
            for (uint32_t stage = 0; stage < 2; stage++) {
                while (mr_ring_peek(&readers[i][stage], &record) == MR_OK)
                    mr_ring_advance(&readers[i][stage], &record);
                mr_ring_release(&readers[i][stage], readers[i][stage].position, 0);
            }
    }
    assert_int_equal(total, count);
    assert_true(mr_counter_get(b->process.cell, MR_COUNTER_FEED_STALLS) > 0);
    assert_true(mr_counter_get(b->process.cell, MR_COUNTER_FEED_FROM_DISK) >= 2500);
    for (uint32_t i = 0; i < SHARDS * 2; i++)
        mr_ring_detach_consumer(&readers[i / 2][i % 2]);
    end(b);
}

static void a_record_that_is_no_event_is_corruption_and_not_fed(void **state)
{
    struct bench *b = *state;
    void *room;
    uint32_t fed;
    ok(b, start(b));
    assert_int_equal(mr_log_claim(b->log, 200, &room), MR_OK);
    memset(room, 7, 200); /* long enough, but it says another sequence */
    mr_log_commit(b->log, 200);
    seal(b);
    assert_int_equal(feed_all(b, &fed), MR_CORRUPT);
    assert_non_null(strstr(b->err.text, "record 1 is no event"));
    assert_int_equal(bytes_in_rings(b), 0);
    end(b);
}

static void a_board_that_makes_no_sense_is_refused(void **state)
{
    struct bench *b = *state;
    struct mr_board_shm *board = b->process.board.shm;
    atomic_store(&board->ring_set, mr_ring_set_pack(2, 1)); /* nobody has made it */
    assert_int_equal(start(b), MR_RETRY);
    end(b);
    atomic_store(&board->ring_set, 0);
    assert_int_equal(start(b), MR_CORRUPT);
    end(b);
    atomic_store(&board->ring_set, mr_ring_set_pack(1, SHARDS));
    ok(b, start(b));
    atomic_store(&board->directive, MR_DIRECTIVE_DRAIN + 1);
    atomic_store(&board->directive_number, 1);
    assert_int_equal(mr_control_turn(&b->control, &b->err), MR_CORRUPT);
    assert_non_null(strstr(b->err.text, "directive"));
    atomic_store(&board->ring_set_next, mr_ring_set_pack(2, MR_SHARDS_MAX + 1));
    assert_int_equal(mr_control_turn(&b->control, &b->err), MR_CORRUPT);
    end(b);
}

static void a_change_of_rings_that_is_given_up_leaves_the_old_ones_in_force(void **state)
{
    struct bench *b = *state;
    struct mr_board_shm *board = b->process.board.shm;
    uint32_t fed;
    ok(b, start(b));
    make_rings(b, 2, 3);
    atomic_store(&board->ring_set_next, mr_ring_set_pack(2, 3));
    ok(b, mr_control_turn(&b->control, &b->err));
    assert_int_equal(atomic_load(&b->process.cell->rings_attached), 2);
    atomic_store(&board->directive, MR_DIRECTIVE_QUIESCE);
    atomic_store(&board->directive_number, 1);
    ok(b, mr_control_turn(&b->control, &b->err));
    assert_int_equal(atomic_load(&b->process.cell->feed_paused), 2);
    atomic_store(&board->ring_set_next, 0);
    atomic_store(&board->directive, MR_DIRECTIVE_RUN);
    atomic_store(&board->directive_number, 2);
    ok(b, mr_control_turn(&b->control, &b->err));
    assert_int_equal(atomic_load(&b->process.cell->feed_paused), 0);
    assert_int_equal(mr_control_rings(&b->control)->generation, 1);
    take(b, "a", 10);
    seal(b);
    ok(b, feed_all(b, &fed));
    assert_true(bytes_in_rings(b) > 0);
    end(b);
}

static void after_a_death_between_two_rings_it_stands_still_only_when_they_are_even(void **state)
{
    struct bench *b = *state;
    struct mr_board_shm *board = b->process.board.shm;
    uint32_t fed;
    ok(b, start(b));
    for (uint32_t i = 1; i <= 20; i++)
        take(b, (char[]){(char)('a' + i), '\0'}, i);
    seal(b);
    struct mr_rings *rings = mr_control_rings(&b->control);
    for (uint64_t i = 1; i <= 20; i++) {
        struct mr_log_record record;
        assert_int_equal(mr_log_batch_record(b->log, i, &record), MR_OK);
        ok(b, mr_rings_put(rings, &record, &b->err));
    }
    mr_ring_publish(&rings->ring[0], rings->ring[0].note);
    end(b);
    atomic_store(&board->directive, MR_DIRECTIVE_QUIESCE);
    atomic_store(&board->directive_number, 1);
    ok(b, start(b));
    ok(b, mr_control_turn(&b->control, &b->err));
    assert_int_equal(atomic_load(&b->process.cell->feed_paused), 0);
    ok(b, feed_all(b, &fed));
    ok(b, mr_control_turn(&b->control, &b->err));
    assert_int_equal(atomic_load(&b->process.cell->feed_paused), 2);
    rings = mr_control_rings(&b->control);
    for (uint32_t i = 0; i < SHARDS; i++)
        assert_int_equal(rings->fed[i], 20);
    end(b);
}

/* A source that notes what it is told. */
static struct {
    uint32_t calls, last;
    enum mr_rc answer;
} told;

static enum mr_rc note_confirm(struct mr_source *source, const struct mr_position *position,
                               struct mr_err *err)
{
    (void)source;
    told.calls++;
    assert_int_equal(position->len, sizeof told.last);
    memcpy(&told.last, position->bytes, sizeof told.last);
    return told.answer == MR_OK ? MR_OK : mr_reject(err, told.answer, "the source is gone");
}

static void the_queue_of_positions_is_thinned_and_never_runs_ahead(void **state)
{
    struct bench *b = *state;
    const struct mr_source_ops ops = {.name = "noting", .confirm = note_confirm};
    struct mr_source source = {.ops = &ops};
    struct mr_confirm confirm;
    struct mr_log_state log;
    told.calls = told.last = 0;
    told.answer = MR_OK;
    mr_log_writer_state(b->log, &log);
    ok(b, mr_confirm_init(&confirm, b->log_dir, 0, &log, &b->err));
    for (uint32_t i = 1; i <= 4 * MR_CONFIRM_QUEUE; i++) {
        struct mr_position position = {.len = sizeof i};
        memcpy(position.bytes, &i, sizeof i);
        mr_confirm_add(&confirm, i, i, &position);
        assert_true(confirm.count <= MR_CONFIRM_QUEUE);
    }
    uint64_t now_ns = 10 * MR_NS_PER_S;
    for (uint32_t checkpoint = 0; checkpoint <= 4 * MR_CONFIRM_QUEUE; checkpoint += 61) {
        ok(b, mr_confirm_turn(&confirm, &source, checkpoint, UINT64_MAX, now_ns++, &b->err));
        assert_true(told.last <= checkpoint);
        assert_true(checkpoint < 64 || told.last + 64 >= checkpoint);
    }
    ok(b, mr_confirm_turn(&confirm, &source, 4 * MR_CONFIRM_QUEUE, UINT64_MAX, now_ns, &b->err));
    assert_int_equal(told.last, 4 * MR_CONFIRM_QUEUE); /* the newest is never thinned out */
    uint32_t calls = told.calls;
    ok(b, mr_confirm_turn(&confirm, &source, 4 * MR_CONFIRM_QUEUE, UINT64_MAX, now_ns, &b->err));
    assert_int_equal(told.calls, calls); /* nothing new, and said less than a second ago */
    told.answer = MR_FATAL;
    now_ns += MR_NS_PER_S;
    assert_int_equal(
        mr_confirm_turn(&confirm, &source, 4 * MR_CONFIRM_QUEUE, UINT64_MAX, now_ns, &b->err),
        MR_FATAL);
    assert_string_equal(b->err.text, "the source is gone");
    mr_confirm_fini(&confirm);
}

/* A record of 4 KiB in a batch of its own, whose position is its number. */
static void append(struct mr_log_writer *log, uint32_t number, struct bench *b)
{
    void *room;
    enum mr_rc rc;
    while ((rc = mr_log_claim(log, 4096, &room)) == MR_FULL) {
        ok(b, mr_log_poll(log, 0, mr_clock_ns(), &b->err));
        usleep(1000);
    }
    assert_int_equal(rc, MR_OK);
    memset(room, 0, 4096);
    assert_int_equal(mr_log_commit(log, 4096), number);
    ok(b, mr_log_seal(log, &number, sizeof number, mr_clock_ns(), &b->err));
}

static void what_retention_removes_first_holds_up_no_confirmation(void **state)
{
    enum { RECORDS = 80, READ = 5, RELEASED = 70 };
    struct bench *b = *state;
    const struct mr_source_ops ops = {.name = "noting", .confirm = note_confirm};
    struct mr_source source = {.ops = &ops};
    struct mr_confirm confirm;
    struct mr_log_writer *log;
    struct mr_log_state at;
    char dir[96];
    snprintf(dir, sizeof dir, "%s/retired", b->dir);
    struct mr_log_options options = {.dir = dir,
                                     .segment_bytes = 1 << 16,
                                     .batch_bytes = 1 << 13,
                                     .retention_bytes = UINT64_MAX,
                                     .retention_age_ns = UINT64_MAX};
    told.calls = told.last = 0;
    told.answer = MR_OK;
    ok(b, mr_log_writer_open(&log, &options, &b->err));
    for (uint32_t i = 1; i <= RECORDS; i++)
        append(log, i, b);
    ok(b, mr_log_writer_close(&log, &b->err));
    options.retention_bytes = 1;
    ok(b, mr_log_writer_open(&log, &options, &b->err));
    mr_log_writer_state(log, &at);
    ok(b, mr_confirm_init(&confirm, dir, 0, &at, &b->err));
    ok(b, mr_confirm_turn(&confirm, &source, READ, 0, mr_clock_ns(), &b->err));
    assert_int_equal(told.last, READ);
    for (int i = 0; i < 5000 && at.floor <= 3 * RECORDS / 5; i++) {
        ok(b, mr_log_poll(log, RELEASED, mr_clock_ns(), &b->err));
        mr_log_writer_state(log, &at);
        usleep(1000);
    }
    assert_true(at.floor > 3 * RECORDS / 5); /* what is read next is gone */
    for (int i = 0; i < 5 && told.last < RELEASED; i++)
        ok(b, mr_confirm_turn(&confirm, &source, RELEASED, 0, mr_clock_ns(), &b->err));
    assert_int_equal(told.last, RELEASED);
    mr_confirm_fini(&confirm);
    ok(b, mr_log_writer_close(&log, &b->err));
}

static uint32_t told_at(struct bench *b, struct mr_confirm *confirm, uint64_t durable_seals)
{
    const struct mr_source_ops ops = {.name = "noting", .confirm = note_confirm};
    struct mr_source source = {.ops = &ops};
    told.last = 0;
    ok(b, mr_confirm_turn(confirm, &source, 7, durable_seals, mr_clock_ns(), &b->err));
    return told.last;
}

static void a_position_is_confirmed_once_it_is_on_disk_itself(void **state)
{
    struct bench *b = *state;
    struct mr_confirm confirm;
    struct mr_log_state log;
    told.answer = MR_OK;
    mr_log_writer_state(b->log, &log);
    assert_int_equal(log.seals, 0);
    ok(b, mr_confirm_init(&confirm, b->log_dir, 0, &log, &b->err));
    /* One batch with event 7, then positions without an event, a few more each time than get to
     * the disk. */
    for (uint32_t i = 1; i <= 9; i++) {
        struct mr_position position = {.len = sizeof i};
        memcpy(position.bytes, &i, sizeof i);
        mr_confirm_add(&confirm, 7, i, &position);
    }
    assert_int_equal(told_at(b, &confirm, 0), 0);
    assert_int_equal(told_at(b, &confirm, 1), 1);
    assert_int_equal(told_at(b, &confirm, 8), 0); /* nothing new */
    assert_int_equal(told_at(b, &confirm, 9), 9);
    mr_confirm_fini(&confirm);
}

#define with_bench(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    mr_log_setup(MR_LOG_ERROR, MR_LOG_TEXT, "test");
    const struct CMUnitTest tests[] = {
        with_bench(what_the_rings_hold_is_not_fed_again),
        with_bench(rings_that_change_before_the_repeat_get_nothing_twice),
        with_bench(another_event_under_a_sequence_of_a_ring_is_corruption),
        with_bench(an_event_larger_than_a_ring_becomes_a_gap_of_its_collection),
        with_bench(an_event_of_the_log_that_is_larger_than_a_ring_is_fed_as_a_gap),
        with_bench(names_over_their_limit_are_refused_and_nothing_is_taken),
        with_bench(full_rings_stall_the_feed_which_goes_on_from_disk),
        with_bench(a_record_that_is_no_event_is_corruption_and_not_fed),
        with_bench(a_board_that_makes_no_sense_is_refused),
        with_bench(a_change_of_rings_that_is_given_up_leaves_the_old_ones_in_force),
        with_bench(after_a_death_between_two_rings_it_stands_still_only_when_they_are_even),
        with_bench(the_queue_of_positions_is_thinned_and_never_runs_ahead),
        with_bench(what_retention_removes_first_holds_up_no_confirmation),
        with_bench(a_position_is_confirmed_once_it_is_on_disk_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
