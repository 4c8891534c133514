/* publisher/rings.h: the rings of one ring set as the publisher uses them: stage 1 of the event
 * rings, the match rings, and the control rings as producer. What is matched and what may be
 * released is learned from positions and sequences, without a look at events that concern nobody.
 * One thread. */
#ifndef MR_PUBLISHER_RINGS_H
#define MR_PUBLISHER_RINGS_H
#include "proto/match.h"
#include "shm/board.h"
#include "shm/ring.h"

/* Every event in front of position has a sequence at or before through. */
struct mr_mark {
    uint64_t through;
    uint64_t position; /* in the event ring */
    uint64_t count;    /* records in front of it since the ring's creation */
};
enum { MR_MARKS_MAX = 64 };

struct mr_shard {
    struct mr_ring_consumer events; /* position: through which this publisher is done */
    struct mr_ring_consumer matches;
    struct mr_ring_producer control;
    struct mr_cell_shm *matcher;         /* its cell */
    struct mr_doorbell_shm *puller;      /* rung after a release when the ring had been full */
    uint64_t event_stalls, match_stalls; /* of the producers, as last seen */
    uint64_t done;                       /* sequence through which a predecessor was done */
    uint64_t matched; /* sequence through which every event of this shard is matched */
    uint64_t announced_generation, announced_count;
    struct mr_mark marks[MR_MARKS_MAX]; /* oldest first, in a circle */
    uint32_t mark_first, mark_count;
    /* The match record at the ring's head. */
    struct mr_ring_record record;
    struct mr_match_head head;
    bool has_head;
    bool more;           /* the record before it belongs to the same event */
    uint64_t match_last; /* sequence of the last match record consumed */
};

struct mr_shard_set {
    uint32_t generation; /* 0: not attached */
    uint32_t shard_count;
    struct mr_shard shards[MR_SHARDS_MAX];
};

/* Attach to all rings of a packed ring set (board.ring_set). MR_AGAIN: some are not there yet,
 * nothing is attached. publish_bytes: of the configuration. */
MR_MUST_USE enum mr_rc mr_shard_set_attach(struct mr_shard_set *set, const char *instance,
                                           struct mr_board_shm *board, uint64_t packed,
                                           struct mr_err *err);
void mr_shard_set_detach(struct mr_shard_set *set);

/* Look at every shard's progress and remember what it allows to release. MR_CORRUPT: a ring does
 * not hold what it must. */
MR_MUST_USE enum mr_rc mr_shard_set_observe(struct mr_shard_set *set, struct mr_err *err);

/* The sequence through which every event of every shard is matched, as observed. */
uint64_t mr_shard_set_frontier(const struct mr_shard_set *set);

/* The last sequence that was fed to any ring of the set: what a matcher can have seen by now.
 * False: the puller is writing too fast to tell; ask again next turn. */
MR_MUST_USE bool mr_shard_set_fed(const struct mr_shard_set *set, uint64_t *out);

/* Release event rings (stage 1) through what lies at or before merged, then the match rings' heads;
 * note merged in all of them. Records how long the released events took in histogram. */
void mr_shard_set_release(struct mr_shard_set *set, uint64_t merged, uint64_t now_ns,
                          struct mr_histogram_shm *histogram);

/* Tell every matcher that the journal has grown; a control ring that is full is tried again by the
 * next call. False: some matcher still has to be told. */
bool mr_shard_set_announce(struct mr_shard_set *set, uint64_t generation, uint64_t count);

/* Journal records that every matcher of the set has applied; 0 while one is in another generation.
 * ready_only: leave out matchers that are not READY (a set that is being prepared: who starts later
 * applies the whole journal first). */
uint64_t mr_shard_set_applied(const struct mr_shard_set *set, uint64_t generation, bool ready_only);

/* Is every matcher of the set in this generation of the journal? */
bool mr_shard_set_in_generation(const struct mr_shard_set *set, uint64_t generation);

/* For the last look before sleeping: is there anything behind what was observed? */
bool mr_shard_set_moved(const struct mr_shard_set *set, uint64_t merged);
#endif
