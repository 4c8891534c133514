#include "shm/ring.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/crash.h"

#define CAPACITY_MIN (UINT64_C(64) << 10)
#define CAPACITY_MAX (UINT64_C(1) << 30)

static bool is_capacity(uint64_t capacity)
{
    return capacity >= CAPACITY_MIN && capacity <= CAPACITY_MAX && (capacity & (capacity - 1)) == 0;
}

enum mr_rc mr_ring_create(const char *instance, uint64_t epoch,
                          const struct mr_ring_options *options, struct mr_err *err)
{
    if (!is_capacity(options->capacity))
        return mr_reject(err, MR_USAGE,
                         "create ring %s: %" PRIu64 " bytes, expected a power of two from %" PRIu64
                         " to %" PRIu64,
                         options->part, options->capacity, CAPACITY_MIN, CAPACITY_MAX);
    MR_ASSERT(options->stage_count >= 1 && options->stage_count <= MR_RING_STAGES_MAX);
    struct mr_segment segment;
    enum mr_rc rc = mr_segment_create(&segment, instance, options->part, MR_SEGMENT_RING,
                                      MR_SEGMENT_DATA + options->capacity, epoch, MR_MAP_ONCE, err);
    if (rc != MR_OK)
        return rc;
    struct mr_ring_shm *shm = (struct mr_ring_shm *)segment.head;
    shm->capacity = options->capacity;
    shm->stage_count = options->stage_count;
    /* The largest record fills the ring alone. */
    shm->record_bytes_max = (uint32_t)(options->capacity - sizeof(struct mr_ring_record_shm));
    size_t len = strnlen(options->part, sizeof shm->name - 1);
    memcpy(shm->name, options->part, len); /* the rest is zero */
    mr_segment_seal(&segment);
    mr_segment_detach(&segment);
    return MR_OK;
}

/* Positions of a live ring, loaded from the last stage towards the producer, so that each is at or
 * behind the one loaded after it whatever moves meanwhile. Then the last stage once more: the tail
 * was at most a capacity ahead of where the last stage was at that time or is now. */
static bool positions_hold(const struct mr_ring_shm *shm)
{
    uint32_t last = shm->stage_count - 1;
    uint64_t behind = mr_ring_stage_position(shm, last);
    uint64_t front = last == 1 ? mr_ring_stage_position(shm, 0) : behind;
    uint64_t tail = mr_ring_tail(shm);
    uint64_t behind_now = mr_ring_stage_position(shm, last);
    if ((behind | front | tail | behind_now) & 7)
        return false;
    return behind <= front && front <= tail && behind <= behind_now &&
           (tail <= behind_now || tail - behind_now <= shm->capacity);
}

static enum mr_rc check_shm(const struct mr_segment *segment, struct mr_err *err)
{
    const struct mr_ring_shm *shm = (const struct mr_ring_shm *)segment->head;
    if (!is_capacity(shm->capacity) || segment->head->size != MR_SEGMENT_DATA + shm->capacity)
        return mr_reject(err, MR_CORRUPT,
                         "attach segment %s: %" PRIu64 " bytes cannot hold a ring of %" PRIu64,
                         segment->name, segment->head->size, shm->capacity);
    if (shm->stage_count < 1 || shm->stage_count > MR_RING_STAGES_MAX)
        return mr_reject(err, MR_CORRUPT, "attach segment %s: a ring with %u stages", segment->name,
                         shm->stage_count);
    if (shm->record_bytes_max != shm->capacity - sizeof(struct mr_ring_record_shm))
        return mr_reject(err, MR_CORRUPT,
                         "attach segment %s: records of %u bytes in a ring of %" PRIu64,
                         segment->name, shm->record_bytes_max, shm->capacity);
    if (!memchr(shm->name, 0, sizeof shm->name))
        return mr_reject(err, MR_CORRUPT, "attach segment %s: its name has no end", segment->name);
    if (!positions_hold(shm))
        return mr_reject(err, MR_CORRUPT,
                         "attach segment %s: tail %" PRIu64 " and stages at %" PRIu64 ", %" PRIu64
                         " cannot be",
                         segment->name, mr_ring_tail(shm), mr_ring_stage_position(shm, 0),
                         mr_ring_stage_position(shm, 1));
    return MR_OK;
}

static enum mr_rc attach(struct mr_segment *segment, const char *instance,
                         const struct mr_ring_options *options, struct mr_err *err)
{
    enum mr_rc rc = mr_segment_attach(segment, instance, options->part, MR_SEGMENT_RING, false,
                                      MR_MAP_TWICE, err);
    if (rc != MR_OK)
        return rc;
    rc = check_shm(segment, err);
    const struct mr_ring_shm *shm = (const struct mr_ring_shm *)segment->head;
    if (rc == MR_OK && options->capacity != 0 && options->capacity != shm->capacity)
        rc = mr_reject(err, MR_USAGE,
                       "attach segment %s: a ring of %" PRIu64 " bytes, expected %" PRIu64,
                       segment->name, shm->capacity, options->capacity);
    if (rc == MR_OK && options->stage_count != 0 && options->stage_count != shm->stage_count)
        rc = mr_reject(err, MR_USAGE, "attach segment %s: a ring with %u stages, expected %u",
                       segment->name, shm->stage_count, options->stage_count);
    if (rc != MR_OK)
        mr_segment_detach(segment);
    return rc;
}

/* The tail and the commit slot that belongs to it, as one state, while the producer runs. The slot
 * of a tail is written again only after the tail has moved on, and every store to it is a release:
 * whoever sees a word of the later publication also sees the later tail, and tries again. False:
 * the slots belong to no tail, or the producer outran eight tries. */
static bool commit_load(const struct mr_ring_shm *shm, uint64_t *tail, uint32_t *index,
                        struct mr_ring_commit_shm *out)
{
    for (int attempt = 0; attempt < 8; attempt++) {
        *tail = atomic_load_explicit(&shm->tail, memory_order_acquire);
        for (*index = 0; *index < 2; (*index)++) {
            const struct mr_ring_commit_shm *slot = &shm->commit[*index];
            if (atomic_load_explicit(&slot->tail, memory_order_acquire) != *tail)
                continue;
            atomic_init(&out->tail, *tail);
            atomic_init(&out->note, atomic_load_explicit(&slot->note, memory_order_acquire));
            atomic_init(&out->count, atomic_load_explicit(&slot->count, memory_order_acquire));
            if (atomic_load_explicit(&shm->tail, memory_order_relaxed) == *tail)
                return true;
            break;
        }
    }
    return false;
}

enum mr_rc mr_ring_attach_producer(struct mr_ring_producer *ring, const char *instance,
                                   const struct mr_ring_options *options, uint64_t *note_out,
                                   struct mr_err *err)
{
    *ring = (struct mr_ring_producer){.publish_bytes = options->publish_bytes};
    enum mr_rc rc = attach(&ring->segment, instance, options, err);
    if (rc != MR_OK)
        return rc;
    struct mr_ring_shm *shm = (struct mr_ring_shm *)ring->segment.head;
    struct mr_ring_commit_shm commit;
    if (!commit_load(shm, &ring->tail, &ring->commit_index, &commit)) {
        rc = mr_reject(err, MR_CORRUPT, "attach segment %s: no commit belongs to tail %" PRIu64,
                       ring->segment.name, ring->tail);
        mr_segment_detach(&ring->segment);
        return rc;
    }
    ring->shm = shm;
    ring->data = (uint8_t *)shm + MR_SEGMENT_DATA;
    ring->mask = shm->capacity - 1;
    ring->published = ring->tail;
    ring->released = mr_ring_stage_position(shm, shm->stage_count - 1);
    ring->count = atomic_load_explicit(&commit.count, memory_order_relaxed);
    ring->note = atomic_load_explicit(&commit.note, memory_order_relaxed);
    ring->payload_bytes = atomic_load_explicit(&shm->payload_bytes, memory_order_relaxed);
    ring->record_bytes_max = shm->record_bytes_max;
    *note_out = ring->note;
    atomic_store_explicit(&shm->pid, (uint32_t)getpid(), memory_order_relaxed);
    return MR_OK;
}

/* The records between the consumer's position and the tail, every head checked, their number known
 * by the producer's count: what the consumer has behind it is the difference. */
static enum mr_rc count_records(struct mr_ring_consumer *ring, struct mr_err *err)
{
    uint64_t tail;
    uint32_t index;
    struct mr_ring_commit_shm commit;
    if (!commit_load(ring->shm, &tail, &index, &commit))
        return mr_reject(err, MR_CORRUPT, "attach segment %s: no commit belongs to tail %" PRIu64,
                         ring->segment.name, tail);
    uint64_t count = 0;
    uint16_t first = 0;
    for (uint64_t position = ring->position; position != tail; count++) {
        struct mr_ring_record record;
        uint16_t number;
        if (!mr_ring_record_load(ring->data, ring->mask, position, tail, &record, &number) ||
            (count > 0 && number != (uint16_t)(first + count)))
            return mr_reject(err, MR_CORRUPT, "attach segment %s: no record at position %" PRIu64,
                             ring->segment.name, position);
        first = count == 0 ? number : first;
        position = record.end;
    }
    uint64_t total = atomic_load_explicit(&commit.count, memory_order_relaxed);
    ring->count = total - count;
    if (count > total || (count > 0 && first != (uint16_t)(ring->count + 1)))
        return mr_reject(err, MR_CORRUPT,
                         "attach segment %s: %" PRIu64 " records, the producer counts %" PRIu64,
                         ring->segment.name, count, total);
    return MR_OK;
}

enum mr_rc mr_ring_attach_consumer(struct mr_ring_consumer *ring, const char *instance,
                                   const struct mr_ring_options *options, uint32_t stage,
                                   struct mr_err *err)
{
    *ring = (struct mr_ring_consumer){.publish_bytes = options->publish_bytes, .stage = stage};
    enum mr_rc rc = attach(&ring->segment, instance, options, err);
    if (rc != MR_OK)
        return rc;
    struct mr_ring_shm *shm = (struct mr_ring_shm *)ring->segment.head;
    MR_ASSERT(stage < shm->stage_count);
    ring->shm = shm;
    ring->data = (const uint8_t *)shm + MR_SEGMENT_DATA;
    ring->mask = shm->capacity - 1;
    ring->position = mr_ring_stage_position(shm, stage);
    ring->released = ring->position;
    ring->limit = ring->position;
    ring->record_bytes_max = shm->record_bytes_max;
    /* A consumer writes its own line of the head and nothing else. */
    if (mprotect((uint8_t *)shm + MR_SEGMENT_DATA, 2 * shm->capacity, PROT_READ) != 0)
        rc = mr_fail(err, MR_FATAL, "protect segment %s", ring->segment.name);
    else
        rc = count_records(ring, err);
    if (rc != MR_OK) {
        mr_segment_detach(&ring->segment);
        return rc;
    }
    atomic_store_explicit(&shm->stage[stage].pid, (uint32_t)getpid(), memory_order_relaxed);
    return MR_OK;
}

void mr_ring_detach_producer(struct mr_ring_producer *ring)
{
    mr_segment_detach(&ring->segment);
    *ring = (struct mr_ring_producer){.shm = NULL};
}

void mr_ring_detach_consumer(struct mr_ring_consumer *ring)
{
    mr_segment_detach(&ring->segment);
    *ring = (struct mr_ring_consumer){.shm = NULL};
}

void mr_ring_producer_bells(struct mr_ring_producer *ring, struct mr_doorbell_shm *consumer_bell)
{
    ring->bell = consumer_bell;
}

void mr_ring_consumer_bells(struct mr_ring_consumer *ring, struct mr_doorbell_shm *peer_bell)
{
    ring->bell = peer_bell;
}

void mr_ring_publish(struct mr_ring_producer *ring, uint64_t note)
{
    struct mr_ring_shm *shm = ring->shm;
    MR_ASSERT(ring->tail - ring->published <= ring->mask + 1);
    ring->note = note;
    if (ring->tail == ring->published) {
        atomic_store_explicit(&shm->commit[ring->commit_index].note, note, memory_order_release);
        return;
    }
    /* The slot that is not in force; releases, for commit_load. Half written it belongs to no tail.
     */
    ring->commit_index ^= 1;
    struct mr_ring_commit_shm *slot = &shm->commit[ring->commit_index];
    atomic_store_explicit(&slot->tail, ring->tail, memory_order_release);
    atomic_store_explicit(&slot->note, note, memory_order_release);
    atomic_store_explicit(&slot->count, ring->count, memory_order_release);
    MR_CRASH("ring.slot");
    atomic_store_explicit(&shm->payload_bytes, ring->payload_bytes, memory_order_relaxed);
    /* Records and slot first; the acquire is in mr_ring_peek_slow. */
    atomic_store_explicit(&shm->tail, ring->tail, memory_order_release);
    MR_CRASH("ring.tail");
    ring->published = ring->tail;
    mr_doorbell_ring(ring->bell);
}

enum mr_rc mr_ring_claim_slow(struct mr_ring_producer *ring, uint32_t len)
{
    if (len == 0 || len > ring->record_bytes_max)
        return MR_USAGE;
    struct mr_ring_shm *shm = ring->shm;
    /* Acquire: the last stage has read what it released before we write over it. */
    uint64_t released = mr_ring_stage_position(shm, shm->stage_count - 1);
    if (released < ring->released || released > ring->published || (released & 7) != 0)
        return MR_CORRUPT;
    ring->released = released;
    if (ring->tail + mr_ring_record_bytes(len) - released <= ring->mask + 1)
        return MR_OK;
    uint64_t stalls = atomic_load_explicit(&shm->stalls, memory_order_relaxed);
    atomic_store_explicit(&shm->stalls, stalls + 1, memory_order_relaxed);
    if (ring->tail != ring->published) /* nobody makes room by waiting for what nobody sees */
        mr_ring_publish(ring, ring->note);
    return MR_FULL;
}

/* How far a stage may read: to the tail, or to where the stage before it is. Acquire: the records
 * before there are visible, through the stage before it if there is one. */
static uint64_t stage_limit(const struct mr_ring_shm *shm, uint32_t stage)
{
    return stage == 0 ? mr_ring_tail(shm) : mr_ring_stage_position(shm, stage - 1);
}

enum mr_rc mr_ring_peek_slow(struct mr_ring_consumer *ring)
{
    uint64_t limit = stage_limit(ring->shm, ring->stage);
    if (limit == ring->limit)
        return MR_AGAIN;
    if (limit < ring->limit || limit - ring->released > ring->mask + 1 || (limit & 7) != 0)
        return MR_CORRUPT;
    ring->limit = limit;
    return MR_OK;
}

void mr_ring_release(struct mr_ring_consumer *ring, uint64_t position, uint64_t note)
{
    MR_ASSERT(position <= ring->position && (position & 7) == 0);
    struct mr_ring_stage_shm *stage = &ring->shm->stage[ring->stage];
    if (position > ring->released) {
        atomic_store_explicit(&stage->count, ring->count, memory_order_relaxed);
        /* Our reads first; the acquire is in mr_ring_claim_slow or the next stage's peek. */
        atomic_store_explicit(&stage->position, position, memory_order_release);
        MR_CRASH("ring.position");
        ring->released = position;
    }
    /* After position: a note seen is never ahead of the position seen after it. */
    atomic_store_explicit(&stage->note, note, memory_order_release);
    MR_CRASH("ring.note");
    mr_doorbell_ring(ring->bell);
}

enum mr_rc mr_ring_at(const struct mr_ring_consumer *ring, uint64_t position,
                      struct mr_ring_record *out)
{
    uint64_t limit = stage_limit(ring->shm, ring->stage);
    if (position < ring->released || position >= limit || (position & 7) != 0 ||
        limit - ring->released > ring->mask + 1)
        return MR_CORRUPT;
    uint16_t number;
    return mr_ring_record_load(ring->data, ring->mask, position, limit, out, &number) ? MR_OK
                                                                                      : MR_CORRUPT;
}

enum mr_rc mr_ring_skip_to(struct mr_ring_consumer *ring, uint64_t position)
{
    while (ring->position < position) {
        struct mr_ring_record record;
        enum mr_rc rc = mr_ring_peek(ring, &record);
        if (rc != MR_OK || record.end > position)
            return MR_CORRUPT;
        mr_ring_advance(ring, &record);
    }
    return MR_OK;
}

uint64_t mr_ring_tail(const struct mr_ring_shm *shm)
{
    return atomic_load_explicit(&shm->tail, memory_order_acquire);
}

uint64_t mr_ring_through(const struct mr_ring_shm *shm)
{
    return atomic_load_explicit(&shm->through, memory_order_acquire);
}

uint64_t mr_ring_stage_position(const struct mr_ring_shm *shm, uint32_t stage)
{
    MR_ASSERT(stage < MR_RING_STAGES_MAX);
    return atomic_load_explicit(&shm->stage[stage].position, memory_order_acquire);
}

uint64_t mr_ring_stage_note(const struct mr_ring_shm *shm, uint32_t stage)
{
    MR_ASSERT(stage < MR_RING_STAGES_MAX);
    return atomic_load_explicit(&shm->stage[stage].note, memory_order_acquire);
}

void mr_ring_last_commit(const struct mr_ring_shm *shm, uint64_t *note, uint64_t *count)
{
    uint64_t tail;
    uint32_t index;
    struct mr_ring_commit_shm commit = {0};
    *note = 0;
    *count = 0;
    if (!commit_load(shm, &tail, &index, &commit))
        return;
    *note = atomic_load_explicit(&commit.note, memory_order_relaxed);
    *count = atomic_load_explicit(&commit.count, memory_order_relaxed);
}

enum mr_rc mr_ring_inspect(struct mr_segment *segment, const char *instance, const char *part,
                           struct mr_err *err)
{
    enum mr_rc rc =
        mr_segment_attach(segment, instance, part, MR_SEGMENT_RING, true, MR_MAP_TWICE, err);
    if (rc != MR_OK)
        return rc;
    rc = check_shm(segment, err);
    if (rc != MR_OK)
        mr_segment_detach(segment);
    return rc;
}

enum mr_rc mr_ring_copy(const struct mr_ring_shm *shm, uint64_t position, void *buffer,
                        uint32_t size, struct mr_ring_record *out)
{
    uint32_t last = shm->stage_count - 1;
    uint64_t tail = mr_ring_tail(shm);
    if (position == tail || position < mr_ring_stage_position(shm, last))
        return MR_AGAIN;
    if (position > tail || (position & 7) != 0)
        return MR_CORRUPT;
    const uint8_t *data = (const uint8_t *)shm + MR_SEGMENT_DATA;
    uint16_t number;
    bool good = tail - position <= shm->capacity &&
                mr_ring_record_load(data, shm->capacity - 1, position, tail, out, &number);
    if (good)
        memcpy(buffer, out->data, out->len < size ? out->len : size);
    out->data = buffer;
    if (mr_ring_stage_position(shm, last) > position)
        return MR_AGAIN;
    return good ? MR_OK : MR_CORRUPT;
}
