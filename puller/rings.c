#include "puller/rings.h"

#include <inttypes.h>
#include <string.h>

#include "common/crash.h"
#include "common/log.h"
#include "proto/match.h"
#include "puller/stand_in.h"

/* The first record behind log_last in a ring. Walks what is not released; the last stage may go on
 * releasing meanwhile, which moves the start. */
static enum mr_rc find_identity(struct mr_ring_producer *ring, uint64_t log_last,
                                struct mr_rings_identity *out, struct mr_err *err)
{
    uint32_t last_stage = ring->shm->stage_count - 1;
    uint64_t position = mr_ring_stage_position(ring->shm, last_stage);
    while (position < ring->tail) {
        struct mr_event_head head;
        struct mr_ring_record record;
        enum mr_rc rc = mr_ring_copy(ring->shm, position, &head, sizeof head, &record);
        if (rc == MR_AGAIN) {
            uint64_t released = mr_ring_stage_position(ring->shm, last_stage);
            if (released <= position)
                return mr_reject(err, MR_CORRUPT, "ring %s: no record at position %" PRIu64,
                                 ring->shm->name, position);
            position = released;
            continue;
        }
        if (rc != MR_OK || record.type != MR_RECORD_EVENT || record.len < sizeof head)
            return mr_reject(err, MR_CORRUPT, "ring %s: no event at position %" PRIu64,
                             ring->shm->name, position);
        if (head.sequence > log_last) {
            *out = (struct mr_rings_identity){head.sequence, head.source_order, head.document_hash};
            return MR_OK;
        }
        position = record.end;
    }
    return MR_OK;
}

static enum mr_rc attach_one(struct mr_rings *rings, uint32_t shard, const struct mr_config *config,
                             uint64_t start, struct mr_err *err)
{
    char part[32];
    mr_ring_part(part, 'e', shard, rings->generation);
    const struct mr_ring_options options = {
        .part = part, .stage_count = 2, .publish_bytes = config->ring_publish_bytes};
    struct mr_ring_producer *ring = &rings->ring[shard];
    uint64_t note;
    enum mr_rc rc = mr_ring_attach_producer(ring, config->instance_name.text, &options, &note, err);
    if (rc != MR_OK)
        return rc == MR_AGAIN ? mr_reject(err, MR_RETRY, "ring %s: not there", part) : rc;
    rings->count = shard + 1;
    uint64_t through = mr_ring_through(ring->shm);
    uint64_t fed = note > through ? note : through;
    rings->fed[shard] = fed > start ? fed : start;
    if (rings->fed[shard] > rings->repeat_through)
        rings->repeat_through = rings->fed[shard];
    return MR_OK;
}

enum mr_rc mr_rings_attach(struct mr_rings *rings, struct mr_board_shm *board, uint64_t set,
                           const struct mr_config *config, uint64_t start, uint64_t log_last,
                           struct mr_err *err)
{
    uint32_t count = mr_ring_set_shards(set);
    *rings = (struct mr_rings){.generation = mr_ring_set_generation(set),
                               .publisher = &board->cells[MR_CELL_PUBLISHER].bell};
    if (count == 0 || count > MR_SHARDS_MAX)
        return mr_reject(err, MR_CORRUPT, "board: a ring set of %u shards, expected 1 to %d", count,
                         MR_SHARDS_MAX);
    enum mr_rc rc = MR_OK;
    for (uint32_t i = 0; i < count && rc == MR_OK; i++) {
        rings->matcher[i] = &board->cells[mr_cell_matcher(rings->generation, i)].bell;
        rc = attach_one(rings, i, config, start, err);
        if (rc == MR_OK && rings->fed[i] > log_last)
            rc = find_identity(&rings->ring[i], log_last, &rings->identity[i], err);
    }
    if (rc != MR_OK)
        mr_rings_detach(rings);
    return rc;
}

void mr_rings_detach(struct mr_rings *rings)
{
    for (uint32_t i = 0; i < rings->count; i++)
        mr_ring_detach_producer(&rings->ring[i]);
    rings->count = 0;
}

uint64_t mr_rings_fed(const struct mr_rings *rings)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < rings->count; i++)
        least = rings->fed[i] < least ? rings->fed[i] : least;
    return least;
}

uint64_t mr_rings_begin(const struct mr_rings *rings)
{
    uint64_t begin = mr_rings_fed(rings);
    for (uint32_t i = 0; i < rings->count; i++) {
        uint64_t first = rings->identity[i].sequence;
        if (first != 0 && first - 1 < begin)
            begin = first - 1;
    }
    return begin;
}

/* An event at or before what some ring held at attach. *skip: it is in its ring. The event that a
 * ring holds under a sequence must be the one that is offered for it now. */
static enum mr_rc check_repeat(struct mr_rings *rings, const struct mr_event_head *head,
                               uint32_t shard, bool *skip, struct mr_err *err)
{
    *skip = head->sequence <= rings->fed[shard];
    for (uint32_t i = 0; i < rings->count; i++) {
        struct mr_rings_identity *held = &rings->identity[i];
        if (held->sequence != head->sequence)
            continue;
        if (i != shard || held->source_order != head->source_order ||
            held->document_hash != head->document_hash)
            return mr_reject(err, MR_CORRUPT,
                             "ring %s: event %" PRIu64 " has source order %" PRIu64
                             " and hash %" PRIx64 ", but the source now gives %" PRIu64
                             " and %" PRIx64,
                             rings->ring[i].shm->name, head->sequence, held->source_order,
                             held->document_hash, head->source_order, head->document_hash);
        held->sequence = 0;
    }
    return MR_OK;
}

static enum mr_rc put_bytes(struct mr_ring_producer *ring, const struct mr_log_record *record)
{
    void *room;
    enum mr_rc rc = mr_ring_claim(ring, record->len, &room);
    if (rc != MR_OK)
        return rc;
    memcpy(room, record->data, record->len);
    mr_ring_commit(ring, record->len, MR_RECORD_EVENT, 0, record->sequence);
    return MR_OK;
}

/* The log holds what the intake took for larger rings: they were made smaller since. */
static enum mr_rc put_stand_in(struct mr_ring_producer *ring, const struct mr_log_record *record)
{
    struct mr_event event;
    uint8_t gap[MR_STAND_IN_BYTES];
    void *room;
    if (mr_event_decode(record->data, record->len, &event) != MR_OK)
        return MR_CORRUPT;
    uint32_t len = (uint32_t)mr_stand_in_make(&event, gap);
    enum mr_rc rc = mr_ring_claim(ring, len, &room);
    if (rc != MR_OK)
        return rc;
    mr_event_encode(&event, room);
    mr_ring_commit(ring, len, MR_RECORD_EVENT, 0, record->sequence);
    mr_log_warn("rings", "event_too_large", "ring=%s limit=%u sequence=%" PRIu64, ring->shm->name,
                ring->record_bytes_max, record->sequence);
    return MR_OK;
}

enum mr_rc mr_rings_put(struct mr_rings *rings, const struct mr_log_record *record,
                        struct mr_err *err)
{
    const struct mr_event_head *head = record->data;
    if (record->len < sizeof *head || head->sequence != record->sequence)
        return mr_reject(err, MR_CORRUPT, "log: record %" PRIu64 " is no event", record->sequence);
    uint32_t shard = (uint32_t)(head->document_hash % rings->count);
    if (head->sequence <= rings->repeat_through) {
        bool skip;
        enum mr_rc rc = check_repeat(rings, head, shard, &skip, err);
        if (rc != MR_OK || skip)
            return rc;
    }
    struct mr_ring_producer *ring = &rings->ring[shard];
    enum mr_rc rc = record->len <= ring->record_bytes_max ? put_bytes(ring, record)
                                                          : put_stand_in(ring, record);
    if (rc == MR_FULL)
        return rc;
    if (rc != MR_OK)
        return mr_reject(err, rc == MR_USAGE ? MR_FATAL : rc,
                         "ring %s: no place for event %" PRIu64 " of %u bytes", ring->shm->name,
                         head->sequence, record->len);
    MR_CRASH("feed.put");
    rings->touched |= 1u << shard;
    if (ring->published ==
        ring->tail) /* a batch is full; smaller ones are announced when complete */
        mr_doorbell_ring(rings->matcher[shard]);
    return MR_OK;
}

void mr_rings_publish(struct mr_rings *rings, uint64_t through)
{
    for (uint32_t i = 0; i < rings->count; i++) {
        mr_ring_publish(&rings->ring[i], rings->ring[i].note);
        MR_CRASH("feed.published");
    }
    /* Never back: after a restart some rings are ahead of the feed. */
    for (uint32_t i = 0; i < rings->count; i++) {
        if (through <= rings->fed[i])
            continue;
        rings->fed[i] = through;
        mr_ring_set_through(&rings->ring[i], through);
        MR_CRASH("feed.through");
    }
    /* A matcher that has not yet come to the tail will have news of its own for the publisher, and
     * through is older than these. */
    bool matched = rings->touched == 0;
    for (uint32_t i = 0; i < rings->count; i++) {
        const struct mr_ring_producer *ring = &rings->ring[i];
        if ((rings->touched & 1u << i) == 0)
            continue;
        matched |= mr_ring_stage_position(ring->shm, 0) == ring->tail;
        mr_doorbell_ring(rings->matcher[i]);
    }
    rings->touched = 0;
    if (matched)
        (void)mr_doorbell_nudge(rings->publisher);
}
