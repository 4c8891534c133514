/* publisher/merge.h: the match records of all shards in order of sequence. A silent shard is waited
 * for only through its frontier (rings.h), never by its records. */
#ifndef MR_PUBLISHER_MERGE_H
#define MR_PUBLISHER_MERGE_H
#include "publisher/rings.h"

/* One match record. An event with flag MR_MATCH_MORE goes on with the next call. ids live until the
 * match ring is released, the event in shard->events too. Anything but MR_OK ends the merge. */
typedef enum mr_rc mr_merge_visit(void *context, const struct mr_shard *shard,
                                  const struct mr_match_head *head, const uint64_t *ids,
                                  struct mr_err *err);

struct mr_merge {
    struct mr_shard_set *set;
    mr_merge_visit *visit;
    void *context;
    uint32_t records_max; /* a call ends behind the event with which so many are reached */
    uint32_t records;     /* out: visited */
};

/* Visit every record with a sequence at or before through, ascending, and consume it (the release
 * is mr_shard_set_release). *merged: the sequence through which everything is visited. Records
 * whose event lies in front of the event ring's stage 1 were handled by a predecessor and are
 * skipped. MR_CORRUPT: a match ring does not hold what it must. */
MR_MUST_USE enum mr_rc mr_merge_through(struct mr_merge *merge, uint64_t through, uint64_t *merged,
                                        struct mr_err *err);

/* Behind everything through merged: visit the first records of the event merged + 1, which is too
 * large for its match ring, so that the matcher gets room for the rest. merge->records: how many.
 */
MR_MUST_USE enum mr_rc mr_merge_pieces(struct mr_merge *merge, uint64_t merged, struct mr_err *err);
/* For the last look before sleeping: is there a record that nobody has looked at, or such a piece?
 */
bool mr_merge_has_piece(const struct mr_shard_set *set, uint64_t merged);
#endif
