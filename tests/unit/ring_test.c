/* The ring as one process sees it from all sides: what fits, what is seen when, what a successor
 * finds, and what is refused. Races and deaths: tests/stress/ring_stress.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/ring.h"

enum { CAPACITY = 65536, BATCH = 4096 };

struct fixture {
    char instance[MR_INSTANCE_MAX];
    struct mr_ring_options options;
    struct mr_ring_producer producer;
    struct mr_ring_consumer stages[2];
    struct mr_err err;
};

static void attach_producer(struct fixture *f, uint64_t note_expected)
{
    uint64_t note = 0;
    assert_int_equal(
        mr_ring_attach_producer(&f->producer, f->instance, &f->options, &note, &f->err), MR_OK);
    assert_int_equal(note, note_expected);
}

static void attach_stage(struct fixture *f, uint32_t stage)
{
    assert_int_equal(
        mr_ring_attach_consumer(&f->stages[stage], f->instance, &f->options, stage, &f->err),
        MR_OK);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->instance, sizeof f->instance, "ring-%d", (int)getpid());
    f->options = (struct mr_ring_options){
        .part = "e0.g1", .capacity = CAPACITY, .stage_count = 2, .publish_bytes = BATCH};
    assert_int_equal(mr_ring_create(f->instance, 1, &f->options, &f->err), MR_OK);
    attach_producer(f, 0);
    attach_stage(f, 0);
    attach_stage(f, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mr_ring_detach_producer(&f->producer);
    mr_ring_detach_consumer(&f->stages[0]);
    mr_ring_detach_consumer(&f->stages[1]);
    mr_segment_remove_all(f->instance);
    free(f);
    return 0;
}

/* A record whose every byte follows from its number. */
static enum mr_rc write_record(struct fixture *f, uint64_t number, uint32_t len)
{
    void *out = NULL;
    enum mr_rc rc = mr_ring_claim(&f->producer, len, &out);
    if (rc != MR_OK)
        return rc;
    memset(out, (int)(number & 0xff), len);
    mr_ring_commit(&f->producer, len, 1, (uint8_t)number, number);
    return MR_OK;
}

static void read_record(struct mr_ring_consumer *ring, uint64_t number, uint32_t len)
{
    struct mr_ring_record record = {0};
    assert_int_equal(mr_ring_peek(ring, &record), MR_OK);
    assert_int_equal(record.len, len);
    assert_int_equal(record.type, 1);
    assert_int_equal(record.flags, (uint8_t)number);
    assert_int_equal((uintptr_t)record.data % 8, 0);
    const uint8_t *data = record.data;
    assert_int_equal(data[0], number & 0xff);
    assert_memory_equal(data, data + 1, len - 1); /* all bytes are alike */
    mr_ring_advance(ring, &record);
}

static void expect_dry(struct mr_ring_consumer *ring)
{
    struct mr_ring_record record = {0};
    assert_int_equal(mr_ring_peek(ring, &record), MR_AGAIN);
}

static void nothing_is_seen_before_publish_and_all_of_it_after(void **state)
{
    struct fixture *f = *state;
    for (uint64_t n = 1; n <= 3; n++)
        assert_int_equal(write_record(f, n, 100), MR_OK);
    expect_dry(&f->stages[0]);
    mr_ring_publish(&f->producer, 3);
    for (uint64_t n = 1; n <= 3; n++)
        read_record(&f->stages[0], n, 100);
    expect_dry(&f->stages[0]);
}

static void a_batch_publishes_by_itself_once_it_is_full(void **state)
{
    struct fixture *f = *state;
    uint64_t n = 0;
    while (mr_ring_tail(f->producer.shm) == 0)
        assert_int_equal(write_record(f, ++n, 1000), MR_OK);
    assert_true(n * 1008 > BATCH && (n - 1) * 1008 <= BATCH);
    uint64_t note, count;
    mr_ring_last_commit(f->producer.shm, &note, &count);
    assert_int_equal(note, n);
    assert_int_equal(count, n);
}

static void an_aborted_claim_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    void *out = NULL;
    assert_int_equal(mr_ring_claim(&f->producer, 500, &out), MR_OK);
    memset(out, 0xee, 500);
    mr_ring_abort(&f->producer);
    assert_int_equal(write_record(f, 1, 8), MR_OK);
    mr_ring_publish(&f->producer, 1);
    read_record(&f->stages[0], 1, 8);
    expect_dry(&f->stages[0]);
}

static void a_commit_may_be_shorter_than_its_claim(void **state)
{
    struct fixture *f = *state;
    void *out = NULL;
    assert_int_equal(mr_ring_claim(&f->producer, 500, &out), MR_OK);
    memset(out, 1, 500);
    mr_ring_commit(&f->producer, 9, 1, 1, 1);
    assert_int_equal(write_record(f, 2, 16), MR_OK);
    mr_ring_publish(&f->producer, 2);
    read_record(&f->stages[0], 1, 9);
    read_record(&f->stages[0], 2, 16);
}

static void the_second_stage_sees_only_what_the_first_released(void **state)
{
    struct fixture *f = *state;
    for (uint64_t n = 1; n <= 4; n++)
        assert_int_equal(write_record(f, n, 40), MR_OK);
    mr_ring_publish(&f->producer, 4);
    expect_dry(&f->stages[1]);
    read_record(&f->stages[0], 1, 40);
    read_record(&f->stages[0], 2, 40);
    uint64_t two = f->stages[0].position;
    read_record(&f->stages[0], 3, 40);
    expect_dry(&f->stages[1]);
    mr_ring_release(&f->stages[0], two, 2);
    assert_int_equal(mr_ring_stage_note(f->producer.shm, 0), 2);
    read_record(&f->stages[1], 1, 40);
    read_record(&f->stages[1], 2, 40);
    expect_dry(&f->stages[1]);
}

static void a_full_ring_refuses_a_claim_and_changes_nothing_but_publishes(void **state)
{
    struct fixture *f = *state;
    uint64_t n = 0;
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK)
        rc = write_record(f, ++n, 1016);
    assert_int_equal(rc, MR_FULL);
    assert_int_equal(n - 1, CAPACITY / 1024);
    assert_int_equal(mr_ring_tail(f->producer.shm), CAPACITY);
    assert_int_equal(write_record(f, n, 1), MR_FULL);
    assert_int_equal(atomic_load(&f->producer.shm->stalls), 2);
    read_record(&f->stages[0], 1, 1016);
    mr_ring_release(&f->stages[0], f->stages[0].position, 1);
    assert_int_equal(write_record(f, n, 1016), MR_FULL); /* stage 1 still has it */
    read_record(&f->stages[1], 1, 1016);
    mr_ring_release(&f->stages[1], f->stages[1].position, 1);
    assert_int_equal(write_record(f, n, 1016), MR_OK);
    mr_ring_publish(&f->producer, n);
    for (uint64_t i = 2; i <= n; i++)
        read_record(&f->stages[0], i, 1016);
}

static void records_of_no_length_and_of_too_much_are_refused(void **state)
{
    struct fixture *f = *state;
    void *out = NULL;
    assert_int_equal(mr_ring_claim(&f->producer, 0, &out), MR_USAGE);
    assert_int_equal(mr_ring_claim(&f->producer, CAPACITY - 7, &out), MR_USAGE);
    assert_int_equal(mr_ring_claim(&f->producer, UINT32_MAX, &out), MR_USAGE);
    assert_int_equal(write_record(f, 1, CAPACITY - 8),
                     MR_OK); /* the largest fills the ring alone */
    mr_ring_publish(&f->producer, 1);
    read_record(&f->stages[0], 1, CAPACITY - 8);
}

static void records_wrap_whole_at_every_offset(void **state)
{
    struct fixture *f = *state;
    uint64_t number = 0;
    for (uint32_t shift = 0; shift < 4096; shift += 8) {
        /* Up to shift bytes before the end, then a record over it. */
        uint64_t left = CAPACITY - f->producer.tail % CAPACITY;
        while (left > shift + 16) {
            uint32_t len = (uint32_t)(left - shift - 16 > 30000 ? 30000 : left - shift - 16);
            assert_int_equal(write_record(f, ++number, len), MR_OK);
            mr_ring_publish(&f->producer, number);
            for (uint32_t s = 0; s < 2; s++) {
                read_record(&f->stages[s], number, len);
                mr_ring_release(&f->stages[s], f->stages[s].position, number);
            }
            left = CAPACITY - f->producer.tail % CAPACITY;
        }
        assert_int_equal(write_record(f, ++number, 4093), MR_OK);
        mr_ring_publish(&f->producer, number);
        for (uint32_t s = 0; s < 2; s++) {
            read_record(&f->stages[s], number, 4093);
            mr_ring_release(&f->stages[s], f->stages[s].position, number);
        }
    }
    assert_true(f->producer.tail > 100 * (uint64_t)CAPACITY);
}

static void write_copies_every_length_exactly_and_touches_nothing_else(void **state)
{
    struct fixture *f = *state;
    uint8_t source[700];
    for (uint32_t i = 0; i < sizeof source; i++)
        source[i] = (uint8_t)(i * 7 + 1);
    for (uint32_t len = 1; len <= sizeof source; len++) {
        uint8_t *behind =
            f->producer.data + ((f->producer.tail + mr_ring_record_bytes(len)) % CAPACITY);
        memset(behind, 0xa5, 64);
        assert_int_equal(mr_ring_write(&f->producer, source, len, 9, len), MR_OK);
        for (uint32_t i = 0; i < 64; i++)
            assert_int_equal(behind[i], 0xa5);
        mr_ring_publish(&f->producer, len);
        for (uint32_t s = 0; s < 2; s++) {
            struct mr_ring_record record = {0};
            assert_int_equal(mr_ring_peek(&f->stages[s], &record), MR_OK);
            assert_int_equal(record.len, len);
            assert_int_equal(record.type, 9);
            assert_memory_equal(record.data, source, len);
            mr_ring_advance(&f->stages[s], &record);
            mr_ring_release(&f->stages[s], record.end, len);
        }
    }
}

static void a_new_producer_forgets_what_was_not_published(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(write_record(f, 1, 64), MR_OK);
    mr_ring_publish(&f->producer, 41);
    assert_int_equal(write_record(f, 2, 64), MR_OK);
    assert_int_equal(write_record(f, 3, 64), MR_OK);
    mr_ring_detach_producer(&f->producer); /* as a death would: no publish */
    attach_producer(f, 41);
    assert_int_equal(f->producer.count, 1);
    assert_int_equal(write_record(f, 7, 32), MR_OK);
    mr_ring_publish(&f->producer, 42);
    read_record(&f->stages[0], 1, 64);
    read_record(&f->stages[0], 7, 32);
    expect_dry(&f->stages[0]);
}

static void a_note_alone_is_kept_and_found_by_the_successor(void **state)
{
    struct fixture *f = *state;
    mr_ring_publish(&f->producer, 17);
    mr_ring_set_through(&f->producer, 77);
    assert_int_equal(mr_ring_through(f->stages[1].shm), 77);
    mr_ring_detach_producer(&f->producer);
    attach_producer(f, 17);
    assert_int_equal(write_record(f, 1, 64), MR_OK);
    mr_ring_publish(&f->producer, 18);
    mr_ring_publish(&f->producer, 19);
    mr_ring_detach_producer(&f->producer);
    attach_producer(f, 19);
}

static void a_half_written_commit_slot_belongs_to_no_tail(void **state)
{
    struct fixture *f = *state;
    for (uint64_t n = 1; n <= 5; n++) {
        assert_int_equal(write_record(f, n, 64), MR_OK);
        mr_ring_publish(&f->producer, n);
        /* Die between the slot's stores and the tail's: every prefix of the next publication. */
        struct mr_ring_commit_shm *next = &f->producer.shm->commit[f->producer.commit_index ^ 1];
        atomic_store(&next->tail, f->producer.tail + 72);
        attach_producer(f, n);
        atomic_store(&next->note, n + 1);
        attach_producer(f, n);
        atomic_store(&next->count, n + 1);
        attach_producer(f, n);
        assert_int_equal(f->producer.count, n);
    }
}

static void the_publication_before_stays_whole_beside_the_last(void **state)
{
    struct fixture *f = *state;
    const struct mr_ring_commit_shm *slots = f->producer.shm->commit;
    for (uint64_t n = 1; n <= 5; n++) {
        assert_int_equal(write_record(f, n, 64), MR_OK);
        mr_ring_publish(&f->producer, 10 * n);
        uint32_t last = f->producer.commit_index;
        assert_int_equal(atomic_load(&slots[last].tail), 72 * n);
        assert_int_equal(atomic_load(&slots[last].note), 10 * n);
        assert_int_equal(atomic_load(&slots[last ^ 1].tail), 72 * (n - 1));
        assert_int_equal(atomic_load(&slots[last ^ 1].note), 10 * (n - 1));
        assert_int_equal(atomic_load(&slots[last ^ 1].count), n - 1);
    }
}

static void room_for_half_a_record_is_no_room(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(write_record(f, 1, CAPACITY - 16), MR_OK); /* leaves 8 bytes */
    assert_int_equal(write_record(f, 2, 1), MR_FULL);           /* needs 16 */
    assert_int_equal(f->producer.tail, CAPACITY - 8);
}

static void a_new_consumer_continues_behind_what_was_released(void **state)
{
    struct fixture *f = *state;
    for (uint64_t n = 1; n <= 10; n++)
        assert_int_equal(write_record(f, n, 64), MR_OK);
    mr_ring_publish(&f->producer, 10);
    for (uint64_t n = 1; n <= 6; n++)
        read_record(&f->stages[0], n, 64);
    mr_ring_release(&f->stages[0], f->stages[0].position, 6);
    read_record(&f->stages[0], 7, 64);
    mr_ring_detach_consumer(&f->stages[0]);
    attach_stage(f, 0);
    assert_int_equal(f->stages[0].count, 6);
    for (uint64_t n = 7; n <= 10; n++)
        read_record(&f->stages[0], n, 64);
    expect_dry(&f->stages[0]);
    mr_ring_release(&f->stages[0], f->stages[0].position, 10);
    mr_ring_detach_consumer(&f->stages[0]);
    attach_stage(f, 0); /* dry: the count is the producer's */
    assert_int_equal(f->stages[0].count, 10);
}

static void skip_to_stops_at_boundaries_only(void **state)
{
    struct fixture *f = *state;
    uint64_t ends[5] = {0};
    for (uint64_t n = 1; n <= 4; n++) {
        assert_int_equal(write_record(f, n, 64), MR_OK);
        ends[n] = f->producer.tail;
    }
    mr_ring_publish(&f->producer, 4);
    assert_int_equal(mr_ring_skip_to(&f->stages[0], ends[2]), MR_OK);
    read_record(&f->stages[0], 3, 64);
    assert_int_equal(mr_ring_skip_to(&f->stages[0], ends[1]), MR_OK); /* behind: nothing happens */
    assert_int_equal(f->stages[0].position, ends[3]);
    assert_int_equal(mr_ring_skip_to(&f->stages[0], ends[3] + 8), MR_CORRUPT);
    assert_int_equal(mr_ring_skip_to(&f->stages[0], ends[4] + 8), MR_CORRUPT);
}

static void a_record_can_be_read_again_until_its_stage_releases_it(void **state)
{
    struct fixture *f = *state;
    struct mr_ring_record record = {0};
    for (uint64_t n = 1; n <= 3; n++)
        assert_int_equal(write_record(f, n, 64), MR_OK);
    mr_ring_publish(&f->producer, 3);
    assert_int_equal(mr_ring_at(&f->stages[0], 72, &record), MR_OK);
    assert_int_equal(record.flags, 2);
    assert_int_equal(mr_ring_at(&f->stages[1], 72, &record), MR_CORRUPT); /* stage 0 is at 0 */
    assert_int_equal(mr_ring_at(&f->stages[0], 73, &record), MR_CORRUPT);
    assert_int_equal(mr_ring_at(&f->stages[0], 216, &record), MR_CORRUPT);
    assert_int_equal(mr_ring_skip_to(&f->stages[0], 144), MR_OK);
    mr_ring_release(&f->stages[0], 144, 2);
    assert_int_equal(mr_ring_at(&f->stages[0], 72, &record), MR_CORRUPT);
    assert_int_equal(mr_ring_at(&f->stages[1], 72, &record), MR_OK);
}

static void damaged_records_are_corrupt_and_never_read_beyond_the_tail(void **state)
{
    struct fixture *f = *state;
    struct mr_ring_record record = {0};
    assert_int_equal(write_record(f, 1, 64), MR_OK);
    mr_ring_publish(&f->producer, 1);
    struct mr_ring_record_shm good;
    memcpy(&good, f->producer.data, sizeof good);
    const struct mr_ring_record_shm bad[] = {{.len = 0, .type = 1, .number = 1},
                                             {.len = 64, .type = 0, .number = 1},
                                             {.len = 64, .type = 1, .number = 2},
                                             {.len = 65, .type = 1, .number = 1},
                                             {.len = UINT32_MAX, .type = 1, .number = 1},
                                             {.len = UINT32_MAX - 7, .type = 1, .number = 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memcpy(f->producer.data, &bad[i], sizeof bad[i]);
        assert_int_equal(mr_ring_peek(&f->stages[0], &record), MR_CORRUPT);
        struct mr_ring_consumer late;
        assert_int_equal(mr_ring_attach_consumer(&late, f->instance, &f->options, 0, &f->err),
                         MR_CORRUPT);
        assert_non_null(strstr(f->err.text, "e0.g1"));
    }
    memcpy(f->producer.data, &good, sizeof good);
    read_record(&f->stages[0], 1, 64);
}

static void a_record_that_would_end_beyond_2_to_64_is_corrupt(void **state)
{
    struct fixture *f = *state;
    struct mr_ring_shm *shm = f->producer.shm;
    struct mr_ring_record record = {0};
    uint64_t tail = UINT64_MAX & ~UINT64_C(7);
    struct mr_ring_record_shm bad = {.len = UINT32_MAX, .type = 1, .number = 1};
    memcpy(f->producer.data + (tail - 64) % CAPACITY, &bad, sizeof bad);
    f->stages[0].position = f->stages[0].released = f->stages[0].limit = tail - 64;
    atomic_store(&shm->tail, tail);
    assert_int_equal(mr_ring_peek(&f->stages[0], &record), MR_CORRUPT);
    assert_int_equal(mr_ring_at(&f->stages[0], tail - 64, &record), MR_CORRUPT);
}

static void impossible_positions_are_corrupt_on_every_side(void **state)
{
    struct fixture *f = *state;
    struct mr_ring_record record = {0};
    struct mr_ring_shm *shm = f->producer.shm;
    const uint64_t bad[] = {CAPACITY + 8, 12, UINT64_MAX & ~UINT64_C(7)};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        atomic_store(&shm->tail, bad[i]);
        assert_int_equal(mr_ring_peek(&f->stages[0], &record), MR_CORRUPT);
        atomic_store(&shm->tail, 0);
        atomic_store(&shm->stage[0].position, bad[i]);
        assert_int_equal(mr_ring_peek(&f->stages[1], &record), MR_CORRUPT);
        struct mr_ring_producer late;
        uint64_t note;
        assert_int_equal(mr_ring_attach_producer(&late, f->instance, &f->options, &note, &f->err),
                         MR_CORRUPT);
        atomic_store(&shm->stage[0].position, 0);
        atomic_store(&shm->stage[1].position, bad[i]);
        void *out = NULL;
        assert_int_equal(mr_ring_claim(&f->producer, CAPACITY - 8, &out), MR_OK);
        f->producer.released = 0;
        assert_int_equal(mr_ring_claim_slow(&f->producer, 8), MR_CORRUPT);
        mr_ring_abort(&f->producer);
        atomic_store(&shm->stage[1].position, 0);
    }
}

static void a_tail_that_no_commit_slot_knows_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(write_record(f, 1, 64), MR_OK);
    mr_ring_publish(&f->producer, 1);
    atomic_store(&f->producer.shm->commit[f->producer.commit_index].tail, 80);
    atomic_store(&f->producer.shm->commit[f->producer.commit_index ^ 1].tail, 88);
    struct mr_ring_producer late;
    uint64_t note;
    assert_int_equal(mr_ring_attach_producer(&late, f->instance, &f->options, &note, &f->err),
                     MR_CORRUPT);
    assert_non_null(strstr(f->err.text, "tail 72"));
}

static void a_ring_of_another_shape_is_refused_with_both_numbers(void **state)
{
    struct fixture *f = *state;
    struct mr_ring_options options = f->options;
    struct mr_ring_consumer late;
    options.capacity *= 2;
    assert_int_equal(mr_ring_attach_consumer(&late, f->instance, &options, 0, &f->err), MR_USAGE);
    assert_non_null(strstr(f->err.text, "65536"));
    assert_non_null(strstr(f->err.text, "131072"));
    options = f->options;
    options.stage_count = 1;
    assert_int_equal(mr_ring_attach_consumer(&late, f->instance, &options, 0, &f->err), MR_USAGE);
    options.part = "x";
    options.capacity = 100000;
    assert_int_equal(mr_ring_create(f->instance, 1, &options, &f->err), MR_USAGE);
}

static void heads_that_lie_are_refused(void **state)
{
    struct fixture *f = *state;
    struct mr_ring_shm *shm = f->producer.shm;
    struct mr_segment segment;
    shm->capacity = CAPACITY * 2;
    assert_int_equal(mr_ring_inspect(&segment, f->instance, "e0.g1", &f->err), MR_CORRUPT);
    shm->capacity = CAPACITY;
    shm->stage_count = 3;
    assert_int_equal(mr_ring_inspect(&segment, f->instance, "e0.g1", &f->err), MR_CORRUPT);
    shm->stage_count = 2;
    shm->record_bytes_max = CAPACITY;
    assert_int_equal(mr_ring_inspect(&segment, f->instance, "e0.g1", &f->err), MR_CORRUPT);
    shm->record_bytes_max = CAPACITY - 8;
    memset(shm->name, 'x', sizeof shm->name);
    assert_int_equal(mr_ring_inspect(&segment, f->instance, "e0.g1", &f->err), MR_CORRUPT);
    memset(shm->name, 0, sizeof shm->name);
    assert_int_equal(mr_ring_inspect(&segment, f->instance, "e0.g1", &f->err), MR_OK);
    mr_segment_detach(&segment);
}

static void an_inspector_copies_what_is_there_and_nothing_that_is_gone(void **state)
{
    struct fixture *f = *state;
    struct mr_segment segment;
    struct mr_ring_record record = {0};
    uint8_t buffer[16];
    assert_int_equal(mr_ring_inspect(&segment, f->instance, "e0.g1", &f->err), MR_OK);
    const struct mr_ring_shm *shm = (const struct mr_ring_shm *)segment.head;
    assert_int_equal(mr_ring_copy(shm, 0, buffer, sizeof buffer, &record), MR_AGAIN);
    assert_int_equal(write_record(f, 5, 64), MR_OK);
    mr_ring_publish(&f->producer, 5);
    assert_int_equal(mr_ring_copy(shm, 0, buffer, sizeof buffer, &record), MR_OK);
    assert_int_equal(record.len, 64);
    assert_int_equal(buffer[15], 5);
    assert_int_equal(mr_ring_copy(shm, record.end, buffer, sizeof buffer, &record), MR_AGAIN);
    assert_int_equal(mr_ring_copy(shm, 4, buffer, sizeof buffer, &record), MR_CORRUPT);
    for (uint32_t s = 0; s < 2; s++) {
        read_record(&f->stages[s], 5, 64);
        mr_ring_release(&f->stages[s], f->stages[s].position, 5);
    }
    assert_int_equal(mr_ring_copy(shm, 0, buffer, sizeof buffer, &record), MR_AGAIN);
    mr_segment_detach(&segment);
}

static void publication_and_release_wake_who_sleeps(void **state)
{
    struct fixture *f = *state;
    struct mr_doorbell_shm bells[2] = {0};
    mr_ring_producer_bells(&f->producer, &bells[0]);
    mr_ring_consumer_bells(&f->stages[0], &bells[1]);
    mr_doorbell_announce(&bells[0]);
    mr_doorbell_announce(&bells[1]);
    mr_ring_publish(&f->producer, 1); /* a note alone wakes nobody */
    assert_int_equal(atomic_load(&bells[0].wakes), 0);
    assert_int_equal(write_record(f, 1, 64), MR_OK);
    mr_ring_publish(&f->producer, 1);
    assert_int_equal(atomic_load(&bells[0].wakes), 1);
    read_record(&f->stages[0], 1, 64);
    mr_ring_release(&f->stages[0], f->stages[0].position, 1);
    assert_int_equal(atomic_load(&bells[1].wakes), 1);
    mr_ring_release(&f->stages[0], 0, 2); /* moves nothing back, stores the note */
    assert_int_equal(mr_ring_stage_position(f->producer.shm, 0), 72);
    assert_int_equal(mr_ring_stage_note(f->producer.shm, 0), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_seen_before_publish_and_all_of_it_after, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_batch_publishes_by_itself_once_it_is_full, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_aborted_claim_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_commit_may_be_shorter_than_its_claim, setup, teardown),
        cmocka_unit_test_setup_teardown(the_second_stage_sees_only_what_the_first_released, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            a_full_ring_refuses_a_claim_and_changes_nothing_but_publishes, setup, teardown),
        cmocka_unit_test_setup_teardown(records_of_no_length_and_of_too_much_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(records_wrap_whole_at_every_offset, setup, teardown),
        cmocka_unit_test_setup_teardown(write_copies_every_length_exactly_and_touches_nothing_else,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_producer_forgets_what_was_not_published, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_note_alone_is_kept_and_found_by_the_successor, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_half_written_commit_slot_belongs_to_no_tail, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_publication_before_stays_whole_beside_the_last, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(room_for_half_a_record_is_no_room, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_consumer_continues_behind_what_was_released, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(skip_to_stops_at_boundaries_only, setup, teardown),
        cmocka_unit_test_setup_teardown(a_record_can_be_read_again_until_its_stage_releases_it,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_records_are_corrupt_and_never_read_beyond_the_tail,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_record_that_would_end_beyond_2_to_64_is_corrupt, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(impossible_positions_are_corrupt_on_every_side, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_tail_that_no_commit_slot_knows_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_ring_of_another_shape_is_refused_with_both_numbers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(heads_that_lie_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(an_inspector_copies_what_is_there_and_nothing_that_is_gone,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(publication_and_release_wake_who_sleeps, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
