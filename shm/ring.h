/* shm/ring.h: byte ring in shared memory: one producer, one consumer or two in line (staged
 * release). Protocol, memory orders and crash proofs: docs/ring.md
 *
 * Records have any length and are contiguous (the data is mapped twice). The producer fills records
 * in place and publishes them in batches; stage 0 reads behind the producer, stage 1 behind stage
 * 0, and room is used again behind the last stage. Positions are bytes since the ring's creation,
 * 64 bits, and only grow. Handles are private to one process and to one thread. */
#ifndef MR_SHM_RING_H
#define MR_SHM_RING_H
#include <string.h>

#include "shm/doorbell.h"
#include "shm/ring_copy.h"
#include "shm/ring_shm.h"

/* One record, read in place; borrowed until the ring's last stage releases it. */
struct mr_ring_record {
    const void *data; /* 8-byte aligned */
    uint32_t len;
    uint8_t type;
    uint8_t flags;
    uint64_t position; /* where its head starts */
    uint64_t end;      /* where the next record starts */
};

struct mr_ring_options {
    const char *part;  /* the segment's name behind the instance: "e0.g1" */
    uint64_t capacity; /* bytes, power of two, 64 KiB to 1 GiB; to attach: 0 takes the ring's own */
    uint32_t stage_count;   /* 1 or 2; to attach: 0 takes the ring's own */
    uint64_t publish_bytes; /* a batch: commit publishes by itself behind so many bytes, and
                             * mr_ring_release_due asks for a release; 0: each record */
};

/* Producer's handle. Fields are private to ring.c and to the inlines below. */
struct mr_ring_producer {
    struct mr_ring_shm *shm;
    uint8_t *data;
    uint64_t mask;
    uint64_t tail;      /* next free byte, published or not */
    uint64_t published; /* what shm->tail holds */
    uint64_t released;  /* the last stage's position as last seen */
    uint64_t count;     /* records ever written */
    uint64_t note;
    uint64_t payload_bytes;
    uint32_t claimed; /* payload bytes of the open claim; 0 none */
    uint32_t record_bytes_max;
    uint64_t publish_bytes;
    struct mr_doorbell_shm *bell; /* of stage 0's process; NULL: nobody sleeps on it */
    uint32_t commit_index;
    struct mr_segment segment;
};

/* Consumer's handle for one stage. */
struct mr_ring_consumer {
    struct mr_ring_shm *shm;
    const uint8_t *data;
    uint64_t mask;
    uint64_t position; /* next byte to read */
    uint64_t released; /* what the stage's shm position holds */
    uint64_t limit;    /* the stage before, as last seen */
    uint64_t count;    /* records consumed */
    uint64_t publish_bytes;
    uint32_t stage;
    uint32_t record_bytes_max;
    struct mr_doorbell_shm *bell; /* of the process to wake after a release; may be NULL */
    struct mr_segment segment;
};

/* Supervisor: create the segment and seal it. Nothing stays mapped. */
MR_MUST_USE enum mr_rc mr_ring_create(const char *instance, uint64_t epoch,
                                      const struct mr_ring_options *options, struct mr_err *err);

/* Attach as the producer, behind the last publication; what a dead predecessor wrote but did not
 * publish is forgotten. *note_out: the note of the last publication, 0 on a fresh ring. Both attach
 * calls: MR_AGAIN as in mr_segment_attach; MR_CORRUPT when the ring's head or, for a consumer, a
 * record in front of it cannot be; MR_USAGE when capacity or stage_count are not the ring's. That
 * the predecessor is dead is the supervisor's promise. */
MR_MUST_USE enum mr_rc mr_ring_attach_producer(struct mr_ring_producer *ring, const char *instance,
                                               const struct mr_ring_options *options,
                                               uint64_t *note_out, struct mr_err *err);
/* Attach as the consumer of a stage, at the position that the stage released last. Walks the
 * records between there and the tail to know their count exactly. The data is mapped read-only. */
MR_MUST_USE enum mr_rc mr_ring_attach_consumer(struct mr_ring_consumer *ring, const char *instance,
                                               const struct mr_ring_options *options,
                                               uint32_t stage, struct mr_err *err);
void mr_ring_detach_producer(struct mr_ring_producer *ring);
void mr_ring_detach_consumer(struct mr_ring_consumer *ring);

/* Whom to wake after a publication or a release: the peer's doorbell on the board, or NULL. A cell
 * belongs to a role and not to a process, so it stays right when the peer is replaced. */
void mr_ring_producer_bells(struct mr_ring_producer *ring, struct mr_doorbell_shm *consumer_bell);
void mr_ring_consumer_bells(struct mr_ring_consumer *ring, struct mr_doorbell_shm *peer_bell);

/* Store what is committed with one release store and wake the consumer. note: the producer's own
 * word for this publication, read back after a restart (the last event's sequence; the position
 * through which matching is done). Stores the note alone, and wakes nobody, when nothing is new. */
void mr_ring_publish(struct mr_ring_producer *ring, uint64_t note);

/* "Every event of mine up to this one that belongs into this ring is in it", for mergers; also
 * where nothing was written. Publish first. Wakes nobody. */
static inline void mr_ring_set_through(struct mr_ring_producer *ring, uint64_t through)
{
    atomic_store_explicit(&ring->shm->through, through, memory_order_release);
}

/* Ring bytes of a record with a payload of len. */
static inline uint64_t mr_ring_record_bytes(uint32_t len)
{
    return (sizeof(struct mr_ring_record_shm) + (uint64_t)len + 7) & ~UINT64_C(7);
}

/* The slow path of claim: look at the last stage's position again. */
MR_MUST_USE enum mr_rc mr_ring_claim_slow(struct mr_ring_producer *ring, uint32_t len);

/* Reserve room for one record, to be filled in place and then committed or aborted.
 *   len  payload bytes, 1 to record_bytes_max
 *   out  set on MR_OK only; 8-byte aligned; borrowed until commit or abort
 * Returns MR_OK; MR_FULL: nothing changed, everything committed so far has been published, try
 * again after the last stage moved; MR_USAGE: len can never fit; MR_CORRUPT: the last stage's
 * position cannot be.
 * Never blocks, never allocates. */
MR_MUST_USE static inline enum mr_rc mr_ring_claim(struct mr_ring_producer *ring, uint32_t len,
                                                   void **out)
{
    uint64_t need = mr_ring_record_bytes(len);
    MR_ASSERT_SLOW(ring->claimed == 0);
    if (__builtin_expect(ring->tail + need - ring->released > ring->mask + 1 ||
                             len - 1 >= ring->record_bytes_max,
                         0)) {
        enum mr_rc rc = mr_ring_claim_slow(ring, len);
        if (rc != MR_OK)
            return rc;
    }
    ring->claimed = len;
    uint8_t *at = ring->data + (ring->tail & ring->mask);
    if (len > MR_RING_PREFETCH_MIN &&
        (ring->tail & ring->mask) + MR_RING_PREFETCH_WRITE < ring->mask)
        mr_prefetch_write_range(at + MR_RING_PREFETCH_WRITE, need);
    *out = at + sizeof(struct mr_ring_record_shm);
    return MR_OK;
}

static inline void mr_ring_abort(struct mr_ring_producer *ring)
{
    ring->claimed = 0;
}

/* Commit the open claim; len may be less than was claimed. Visible only once published, which
 * happens here when publish_bytes are waiting. note: as in mr_ring_publish. */
static inline void mr_ring_commit(struct mr_ring_producer *ring, uint32_t len, uint8_t type,
                                  uint8_t flags, uint64_t note)
{
    MR_ASSERT_SLOW(len > 0 && len <= ring->claimed && type != 0);
    ring->count++;
    struct mr_ring_record_shm record = {
        .len = len, .type = type, .flags = flags, .number = (uint16_t)ring->count};
    memcpy(ring->data + (ring->tail & ring->mask), &record, sizeof record);
    ring->tail += mr_ring_record_bytes(len);
    ring->payload_bytes += len;
    ring->claimed = 0;
    ring->note = note;
    if (ring->tail - ring->published > ring->publish_bytes)
        mr_ring_publish(ring, note);
}

/* Claim, copy and commit in one, with flags 0: the way in for a record that lies elsewhere already.
 * Copies in whole lines. Returns as mr_ring_claim. */
MR_MUST_USE static inline enum mr_rc mr_ring_write(struct mr_ring_producer *ring, const void *data,
                                                   uint32_t len, uint8_t type, uint64_t note)
{
    void *to;
    enum mr_rc rc = mr_ring_claim(ring, len, &to);
    if (__builtin_expect(rc != MR_OK, 0))
        return rc;
    mr_copy_record(to, data, len);
    mr_ring_commit(ring, len, type, 0, note);
    return MR_OK;
}

/* The record at position, which is before limit and must end there at the latest. False: no record
 * can be there. The head is loaded once, so that a peer that writes meanwhile cannot change it
 * between check and use.
 */
static inline bool mr_ring_record_load(const uint8_t *data, uint64_t mask, uint64_t position,
                                       uint64_t limit, struct mr_ring_record *out,
                                       uint16_t *number_out)
{
    const uint8_t *at = data + (position & mask);
    uint64_t word = __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
    struct mr_ring_record_shm record;
    memcpy(&record, &word, sizeof record);
    uint64_t need = mr_ring_record_bytes(record.len); /* not added yet: a sum could pass 2^64 */
    *number_out = record.number;
    *out = (struct mr_ring_record){.data = at + sizeof record,
                                   .len = record.len,
                                   .type = record.type,
                                   .flags = record.flags,
                                   .position = position,
                                   .end = position + need};
    return need <= limit - position && record.type != 0 && record.len != 0;
}

/* The slow path of peek: look at the stage before again. MR_AGAIN when it has not moved, MR_CORRUPT
 * when it is where it cannot be. */
MR_MUST_USE enum mr_rc mr_ring_peek_slow(struct mr_ring_consumer *ring);

/* The next record, without consuming it. Returns MR_OK; MR_AGAIN: nothing there; MR_CORRUPT: the
 * bytes there are no record. Never releases: only the caller knows what a release promises, so a
 * consumer that finds nothing more releases what it is done with before it sleeps. */
MR_MUST_USE static inline enum mr_rc mr_ring_peek(struct mr_ring_consumer *ring,
                                                  struct mr_ring_record *out)
{
    if (__builtin_expect(ring->position == ring->limit, 0)) {
        enum mr_rc rc = mr_ring_peek_slow(ring);
        if (rc != MR_OK)
            return rc;
    }
    uint16_t number;
    bool good =
        mr_ring_record_load(ring->data, ring->mask, ring->position, ring->limit, out, &number);
    if (__builtin_expect(!good || number != (uint16_t)(ring->count + 1), 0))
        return MR_CORRUPT;
    if (out->len > MR_RING_PREFETCH_MIN && out->end + MR_RING_PREFETCH_READ <= ring->limit)
        mr_prefetch_read_range((const uint8_t *)out->data + MR_RING_PREFETCH_READ, out->len);
    return MR_OK;
}

/* Consume the record that peek showed. Its bytes stay valid until this stage releases them. */
static inline void mr_ring_advance(struct mr_ring_consumer *ring,
                                   const struct mr_ring_record *record)
{
    MR_ASSERT_SLOW(record->position == ring->position);
    ring->position = record->end;
    ring->count++;
}

/* Consume everything before position without looking at it, for a stage that knows from elsewhere
 * that a record ends there, at or before the stage in front of it. count: records that end there
 * since the ring's creation. */
static inline void mr_ring_jump(struct mr_ring_consumer *ring, uint64_t position, uint64_t count)
{
    MR_ASSERT_SLOW(position >= ring->position && (position & 7) == 0);
    ring->position = position;
    ring->count = count;
    if (ring->limit < position)
        ring->limit = position;
}

/* Release everything consumed up to position (a record's end, at most the consumer's own position),
 * then store note, and wake the peer. Positions never move back: a smaller one changes only the
 * note. */
void mr_ring_release(struct mr_ring_consumer *ring, uint64_t position, uint64_t note);

/* Bytes consumed and not yet released. */
static inline uint64_t mr_ring_unreleased(const struct mr_ring_consumer *ring)
{
    return ring->position - ring->released;
}

/* A batch's worth is consumed and not yet released: time for mr_ring_release. */
static inline bool mr_ring_release_due(const struct mr_ring_consumer *ring)
{
    return mr_ring_unreleased(ring) > ring->publish_bytes;
}

/* Read one record in place at a position between this stage's released and the stage before it, as
 * it is now. MR_CORRUPT when no record can be there. */
MR_MUST_USE enum mr_rc mr_ring_at(const struct mr_ring_consumer *ring, uint64_t position,
                                  struct mr_ring_record *out);

/* Start reading somewhere else (a matcher that restarts behind its last match record): skips whole
 * records up to position; one that is already behind changes nothing. MR_CORRUPT when position is
 * no record boundary or not published yet. */
MR_MUST_USE enum mr_rc mr_ring_skip_to(struct mr_ring_consumer *ring, uint64_t position);

/* What mergers and inspectors look at. All acquire loads. */
uint64_t mr_ring_tail(const struct mr_ring_shm *shm);
uint64_t mr_ring_through(const struct mr_ring_shm *shm);
uint64_t mr_ring_stage_position(const struct mr_ring_shm *shm, uint32_t stage);
uint64_t mr_ring_stage_note(const struct mr_ring_shm *shm, uint32_t stage);
/* Count and note of the last publication (what a restarting producer gets). */
void mr_ring_last_commit(const struct mr_ring_shm *shm, uint64_t *note, uint64_t *count);
/* Map read-only for inspection; segment->head is the struct mr_ring_shm. */
MR_MUST_USE enum mr_rc mr_ring_inspect(struct mr_segment *segment, const char *instance,
                                       const char *part, struct mr_err *err);
/* Copy the record at position, and at most size bytes of its payload, into buffer; out->data is
 * buffer. Works while the others run: MR_AGAIN when position is the tail, or has been released and
 * may have been overwritten during the copy; MR_CORRUPT when no record can be there. Mapped twice
 * only. */
MR_MUST_USE enum mr_rc mr_ring_copy(const struct mr_ring_shm *shm, uint64_t position, void *buffer,
                                    uint32_t size, struct mr_ring_record *out);
#endif
