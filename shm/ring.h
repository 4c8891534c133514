/* shm/ring.h: byte ring in shared memory: one producer, one consumer or two in line (staged
 * release). Protocol, memory orders and crash proofs: docs/ring.md
 *
 * Records have any length and are contiguous (the data is mapped twice). The producer fills records
 * in place and publishes them in batches; stage 0 reads behind the producer, stage 1 behind stage 0,
 * and room is used again behind the last stage. Positions are bytes since the ring's creation, 64
 * bits, and only grow. Handles are private to one process and to one thread. */
#ifndef MR_SHM_RING_H
#define MR_SHM_RING_H
#include "shm/doorbell.h"
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
    const char *part; /* the segment's name behind the instance: "e0.g1" */
    uint64_t capacity; /* bytes, power of two, at least 64 KiB */
    uint32_t stage_count;
    uint64_t publish_bytes; /* publish and release by themselves after so many bytes; 0: each record */
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
 * publish is forgotten. *note_out: the note of the last publication, 0 on a fresh ring. */
MR_MUST_USE enum mr_rc mr_ring_attach_producer(struct mr_ring_producer *ring, const char *instance,
                                               const struct mr_ring_options *options,
                                               uint64_t *note_out, struct mr_err *err);
/* Attach as the consumer of a stage, at the position that the stage released last. */
MR_MUST_USE enum mr_rc mr_ring_attach_consumer(struct mr_ring_consumer *ring, const char *instance,
                                               const struct mr_ring_options *options,
                                               uint32_t stage, struct mr_err *err);
void mr_ring_detach_producer(struct mr_ring_producer *ring);
void mr_ring_detach_consumer(struct mr_ring_consumer *ring);

/* Whom to wake after a publication or a release: the peer's doorbell on the board, or NULL. A cell
 * belongs to a role and not to a process, so it stays right when the peer is replaced. */
void mr_ring_producer_bells(struct mr_ring_producer *ring, struct mr_doorbell_shm *consumer_bell);
void mr_ring_consumer_bells(struct mr_ring_consumer *ring, struct mr_doorbell_shm *peer_bell);

/* Store what is committed with one release store and wake the consumer. note: the producer's own word
 * for this publication, read back after a restart (the last event's sequence; the position through
 * which matching is done). Does nothing but store the note when nothing is new. */
void mr_ring_publish(struct mr_ring_producer *ring, uint64_t note);

/* "Every event of mine up to this one that belongs into this ring is in it", for mergers; also where
 * nothing was written. Publish first. Wakes nobody. */
static inline void mr_ring_set_through(struct mr_ring_producer *ring, uint64_t through)
{
    atomic_store_explicit(&ring->shm->through, through, memory_order_release);
}

/* The slow path of claim: look at the last stage's position again. */
MR_MUST_USE enum mr_rc mr_ring_claim_slow(struct mr_ring_producer *ring, uint32_t len);

/* Reserve room for one record, to be filled in place and then committed or aborted.
 *   len  payload bytes, 1 to record_bytes_max
 *   out  set on MR_OK only; 8-byte aligned; borrowed until commit or abort
 * Returns MR_OK; MR_FULL: nothing changed, everything committed so far has been published, try again
 * after the last stage moved; MR_USAGE: len can never fit.
 * Never blocks, never allocates. */
MR_MUST_USE static inline enum mr_rc mr_ring_claim(struct mr_ring_producer *ring, uint32_t len,
                                                   void **out)
{
    uint64_t need = (sizeof(struct mr_ring_record_shm) + (uint64_t)len + 7) & ~UINT64_C(7);
    MR_ASSERT_SLOW(ring->claimed == 0);
    if (__builtin_expect(ring->tail + need - ring->released > ring->mask + 1 ||
                             len - 1 >= ring->record_bytes_max, 0)) {
        enum mr_rc rc = mr_ring_claim_slow(ring, len);
        if (rc != MR_OK)
            return rc;
    }
    ring->claimed = len;
    *out = ring->data + (ring->tail & ring->mask) + sizeof(struct mr_ring_record_shm);
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
    struct mr_ring_record_shm *record = (void *)(ring->data + (ring->tail & ring->mask));
    ring->count++;
    *record = (struct mr_ring_record_shm){
        .len = len, .type = type, .flags = flags, .number = (uint16_t)ring->count};
    ring->tail += (sizeof *record + (uint64_t)len + 7) & ~UINT64_C(7);
    ring->payload_bytes += len;
    ring->claimed = 0;
    ring->note = note;
    if (ring->tail - ring->published > ring->publish_bytes)
        mr_ring_publish(ring, note);
}

/* The slow path of peek: look at the stage before again; MR_AGAIN when it has not moved. */
MR_MUST_USE enum mr_rc mr_ring_peek_slow(struct mr_ring_consumer *ring);

/* The next record, without consuming it. Returns MR_OK; MR_AGAIN: nothing there (whatever was
 * consumed has been released, so the producer never waits for an idle reader); MR_CORRUPT: the bytes
 * there are no record. */
MR_MUST_USE static inline enum mr_rc mr_ring_peek(struct mr_ring_consumer *ring,
                                                  struct mr_ring_record *out)
{
    if (__builtin_expect(ring->position == ring->limit, 0)) {
        enum mr_rc rc = mr_ring_peek_slow(ring);
        if (rc != MR_OK)
            return rc;
    }
    const struct mr_ring_record_shm *record = (const void *)(ring->data + (ring->position & ring->mask));
    uint64_t end = ring->position + ((sizeof *record + (uint64_t)record->len + 7) & ~UINT64_C(7));
    if (__builtin_expect(end > ring->limit || record->type == 0 || record->len == 0 ||
                             record->number != (uint16_t)(ring->count + 1), 0))
        return MR_CORRUPT;
    *out = (struct mr_ring_record){.data = record + 1, .len = record->len, .type = record->type,
                                   .flags = record->flags, .position = ring->position, .end = end};
    return MR_OK;
}

/* Consume the record that peek showed. Its bytes stay valid until this stage releases them. */
static inline void mr_ring_advance(struct mr_ring_consumer *ring, const struct mr_ring_record *record)
{
    MR_ASSERT_SLOW(record->position == ring->position);
    ring->position = record->end;
    ring->count++;
}

/* Release everything consumed up to position (at most the consumer's own), then store note, and wake
 * the peer. Positions never move back: a smaller one changes only the note. */
void mr_ring_release(struct mr_ring_consumer *ring, uint64_t position, uint64_t note);

/* Bytes consumed and not yet released. */
static inline uint64_t mr_ring_unreleased(const struct mr_ring_consumer *ring)
{
    return ring->position - ring->released;
}

/* Read one record in place at a position between this stage's released and the stage before it.
 * MR_CORRUPT when no record can be there. */
MR_MUST_USE enum mr_rc mr_ring_at(const struct mr_ring_consumer *ring, uint64_t position,
                                  struct mr_ring_record *out);

/* Start reading somewhere else (a matcher that restarts behind its last match record): skips whole
 * records up to position. MR_CORRUPT when position is no record boundary. */
MR_MUST_USE enum mr_rc mr_ring_skip_to(struct mr_ring_consumer *ring, uint64_t position);

/* What mergers and inspectors look at. All acquire loads. */
uint64_t mr_ring_tail(const struct mr_ring_shm *shm);
uint64_t mr_ring_through(const struct mr_ring_shm *shm);
uint64_t mr_ring_stage_position(const struct mr_ring_shm *shm, uint32_t stage);
uint64_t mr_ring_stage_note(const struct mr_ring_shm *shm, uint32_t stage);
/* Count and note of the last publication (what a restarting producer gets). */
void mr_ring_last_commit(const struct mr_ring_shm *shm, uint64_t *note, uint64_t *count);
/* Map read-only for inspection. */
MR_MUST_USE enum mr_rc mr_ring_inspect(struct mr_segment *segment, const char *instance,
                                       const char *part, struct mr_err *err);
#endif
