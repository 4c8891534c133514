/* A peer that writes anything: the input is a ring's head and data, or a journal's, as a consumer
 * finds them. Nothing may be read outside of the mapping, every record handed out lies inside, and
 * a walk ends. The first input byte chooses ring or journal. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/journal.h"
#include "shm/ring.h"

enum { CAPACITY = 65536 };

struct targets {
    char instance[MR_INSTANCE_MAX];
    struct mr_segment ring, journal; /* writable views, through which the input gets in */
};

static void check(enum mr_rc rc, const struct mr_err *err)
{
    if (rc == MR_OK)
        return;
    fprintf(stderr, "ring_fuzz: %s\n", err->text);
    abort();
}

static struct targets targets;

static void remove_targets(void)
{
    mr_segment_remove_all(targets.instance);
}

static void create_targets(void)
{
    struct mr_err err = {0};
    snprintf(targets.instance, sizeof targets.instance, "fuzz-%d", (int)getpid());
    atexit(remove_targets);
    struct mr_ring_options options = {.part = "r", .capacity = CAPACITY, .stage_count = 2};
    check(mr_ring_create(targets.instance, 1, &options, &err), &err);
    check(mr_journal_create(targets.instance, 1, "j", CAPACITY, &err), &err);
    check(mr_segment_attach(&targets.ring, targets.instance, "r", MR_SEGMENT_RING, false,
                            MR_MAP_ONCE, &err),
          &err);
    check(mr_segment_attach(&targets.journal, targets.instance, "j", MR_SEGMENT_JOURNAL, false,
                            MR_MAP_ONCE, &err),
          &err);
}

/* A field from the input, small values and multiples of 8 more often than chance would have them.
 */
static uint64_t field(const uint8_t **data, size_t *size)
{
    uint64_t value = 0;
    if (*size < 4)
        return 0;
    memcpy(&value, *data, 3);
    uint8_t shape = (*data)[3];
    *data += 4;
    *size -= 4;
    value = shape & 1 ? value : value & ~UINT64_C(7);
    value = shape & 2 ? value : value % (2 * CAPACITY);
    return shape & 4 ? value + (UINT64_C(1) << (shape >> 2)) : shape & 8 ? 0 - value : value;
}

static uint64_t touch(const void *data, uint32_t len)
{
    const uint8_t *bytes = data;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < len; i++)
        sum += bytes[i];
    return sum;
}

static void walk_stage(uint32_t stage)
{
    struct mr_ring_consumer ring;
    struct mr_ring_record record;
    struct mr_err err;
    struct mr_ring_options options = {.part = "r"};
    if (mr_ring_attach_consumer(&ring, targets.instance, &options, stage, &err) != MR_OK)
        return;
    uint64_t bytes = 0, sum = 0;
    while (mr_ring_peek(&ring, &record) == MR_OK) {
        const uint8_t *at = record.data;
        MR_ASSERT(at >= ring.data && at + record.len <= ring.data + 2 * CAPACITY);
        bytes += record.end - record.position;
        MR_ASSERT(bytes <= CAPACITY);
        sum += touch(record.data, record.len);
        mr_ring_advance(&ring, &record);
    }
    for (uint64_t position = 0; position < 4096; position += 8)
        if (mr_ring_at(&ring, ring.released + position, &record) == MR_OK)
            sum += touch(record.data, record.len);
    __asm__ volatile("" : : "r"(sum));
    mr_ring_release(&ring, ring.position, 1);
    mr_ring_detach_consumer(&ring);
}

static void look_as_inspector(void)
{
    struct mr_segment segment;
    struct mr_err err;
    uint8_t buffer[256];
    struct mr_ring_record record;
    if (mr_ring_inspect(&segment, targets.instance, "r", &err) != MR_OK)
        return;
    const struct mr_ring_shm *shm = (const struct mr_ring_shm *)segment.head;
    uint64_t position = mr_ring_stage_position(shm, shm->stage_count - 1);
    while (mr_ring_copy(shm, position, buffer, sizeof buffer, &record) == MR_OK)
        position = record.end;
    mr_segment_detach(&segment);
}

static void write_as_producer(void)
{
    struct mr_ring_producer ring;
    struct mr_err err;
    uint64_t note;
    struct mr_ring_options options = {.part = "r"};
    uint8_t payload[300] = {0};
    if (mr_ring_attach_producer(&ring, targets.instance, &options, &note, &err) != MR_OK)
        return;
    while (mr_ring_write(&ring, payload, sizeof payload, 1, 1) == MR_OK)
        ;
    mr_ring_detach_producer(&ring);
}

static void fuzz_ring(const uint8_t *data, size_t size)
{
    struct mr_ring_shm *shm = (struct mr_ring_shm *)targets.ring.head;
    uint64_t tail = field(&data, &size);
    atomic_store(&shm->tail, tail);
    atomic_store(&shm->commit[0].tail, tail);
    atomic_store(&shm->commit[0].count, field(&data, &size));
    atomic_store(&shm->stage[1].position, field(&data, &size));
    atomic_store(&shm->stage[0].position, field(&data, &size));
    uint64_t offset = atomic_load(&shm->stage[1].position) % CAPACITY & ~UINT64_C(7);
    uint8_t *bytes = (uint8_t *)shm + MR_SEGMENT_DATA;
    memset(bytes, 0, CAPACITY);
    for (size_t i = 0; i < size && i < CAPACITY; i++)
        bytes[(offset + i) % CAPACITY] = data[i];
    look_as_inspector();
    walk_stage(0);
    walk_stage(1);
    write_as_producer();
}

static void fuzz_journal(const uint8_t *data, size_t size)
{
    struct mr_journal_shm *shm = (struct mr_journal_shm *)targets.journal.head;
    atomic_store(&shm->tail, field(&data, &size));
    atomic_store(&shm->generation, 2);
    uint8_t *bytes = (uint8_t *)shm + MR_SEGMENT_DATA;
    memset(bytes, 0, CAPACITY);
    memcpy(bytes, data, size < CAPACITY ? size : CAPACITY);
    struct mr_journal journal;
    struct mr_err err;
    if (mr_journal_attach_reader(&journal, targets.instance, "j", &err) != MR_OK)
        return;
    MR_ASSERT(mr_journal_rewind(&journal, 2) == MR_OK);
    uint8_t type;
    const void *record;
    uint32_t len;
    uint64_t sum = 0;
    while (mr_journal_next(&journal, &type, &record, &len) == MR_OK) {
        const uint8_t *at = record;
        MR_ASSERT(at >= journal.data && at + len <= journal.data + CAPACITY);
        sum += touch(record, len);
    }
    __asm__ volatile("" : : "r"(sum));
    mr_journal_detach(&journal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!targets.ring.head)
        create_targets();
    if (size == 0)
        return 0;
    if (data[0] & 1)
        fuzz_journal(data + 1, size - 1);
    else
        fuzz_ring(data + 1, size - 1);
    return 0;
}
