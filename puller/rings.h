/* puller/rings.h: the event rings of one ring set, as their producer holds them. Knows what a ring
 * already contains, so that a puller that restarts feeds exactly what is missing. */
#ifndef MR_PULLER_RINGS_H
#define MR_PULLER_RINGS_H
#include "common/config.h"
#include "log/log.h"
#include "proto/event.h"
#include "shm/board.h"
#include "shm/ring.h"

/* What a ring holds of an event that the log has lost and the source will give again. */
struct mr_rings_identity {
    uint64_t sequence, source_order, document_hash; /* sequence 0: nothing to compare */
};

struct mr_rings {
    uint32_t generation, count; /* count 0: not attached */
    struct mr_ring_producer ring[MR_SHARDS_MAX];
    uint64_t fed[MR_SHARDS_MAX]; /* every event of the ring through this one is in it */
    uint64_t repeat_through;     /* greatest of fed at attach: behind it nothing can repeat */
    struct mr_rings_identity identity[MR_SHARDS_MAX];
    uint32_t touched;                  /* bit i: ring i got an event since the last publication */
    struct mr_doorbell_shm *publisher; /* wants to know of progress in rings that got nothing */
    struct mr_doorbell_shm *matcher[MR_SHARDS_MAX];
};

/* Attach to every ring of a set (mr_ring_set_pack).
 *   start     sequence behind which a ring that was never fed begins
 *   log_last  last sequence of the log: what a ring holds behind it is remembered for comparison */
MR_MUST_USE enum mr_rc mr_rings_attach(struct mr_rings *rings, struct mr_board_shm *board,
                                       uint64_t set, const struct mr_config *config, uint64_t start,
                                       uint64_t log_last, struct mr_err *err);
void mr_rings_detach(struct mr_rings *rings);
uint64_t mr_rings_fed(const struct mr_rings *rings); /* through which all are fed: least of fed */
/* Behind which event the feed goes on: what the log has lost is offered again, to be compared. */
uint64_t mr_rings_begin(const struct mr_rings *rings);

/* Copy one event into its ring, unless it is there already; a gap when it is larger than the ring.
 * MR_FULL: nothing changed; MR_CORRUPT:
 * the ring holds another event under this sequence, or the record is none. */
MR_MUST_USE enum mr_rc mr_rings_put(struct mr_rings *rings, const struct mr_log_record *record,
                                    struct mr_err *err);
/* Publish every ring, state that all is fed through, ring the bells. */
void mr_rings_publish(struct mr_rings *rings, uint64_t through);
#endif
