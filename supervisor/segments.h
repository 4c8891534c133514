/* supervisor/segments.h: all shared memory of an instance: made before the first process starts,
 * gone when the last one has left. */
#ifndef MR_SUPERVISOR_SEGMENTS_H
#define MR_SUPERVISOR_SEGMENTS_H
#include "common/config.h"
#include "shm/board.h"
#include "shm/ring_shm.h"

/* Remove what a dead instance of this name left, then create the board (not yet attachable: the
 * caller fills it and calls mr_segment_seal), the rings of ring_set and the journals, under a new
 * epoch. Nothing is left behind on failure. */
MR_MUST_USE enum mr_rc mr_segments_create(struct mr_board *board, const struct mr_config *config,
                                          uint64_t ring_set, struct mr_err *err);
/* The rings of one more set. On failure none of them is left. */
MR_MUST_USE enum mr_rc mr_segments_create_rings(const struct mr_config *config, uint64_t epoch,
                                                uint64_t ring_set, struct mr_err *err);
void mr_segments_remove_rings(const char *instance, uint64_t ring_set);
/* The capacity that this configuration needs of each journal. They keep what they were made with.
 */
uint64_t mr_segments_journal_bytes(const struct mr_config *config);

/* A look at the rings of a set, mapped read-only. */
struct mr_rings {
    uint64_t ring_set; /* 0: not open */
    struct mr_segment event[MR_SHARDS_MAX], match[MR_SHARDS_MAX];
};
MR_MUST_USE enum mr_rc mr_rings_open(struct mr_rings *rings, const char *instance,
                                     uint64_t ring_set, struct mr_err *err);
void mr_rings_close(struct mr_rings *rings);
/* Whether everything that was published has been released by the last stage. */
bool mr_rings_empty(const struct mr_rings *rings);
/* Through which sequence all shards have released. */
uint64_t mr_rings_released_through(const struct mr_rings *rings);
#endif
