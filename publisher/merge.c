#include "publisher/merge.h"

#include <inttypes.h>

static enum mr_rc corrupt(const struct mr_shard *shard, const char *what, struct mr_err *err)
{
    return mr_reject(err, MR_CORRUPT, "read %s at position %" PRIu64 ": %s",
                     shard->matches.segment.name, shard->matches.position, what);
}

static enum mr_rc check_head(const struct mr_shard *shard, struct mr_err *err)
{
    const struct mr_match_head *head = &shard->head;
    if (head->count == 0 || head->count > MR_MATCH_IDS_MAX ||
        shard->record.len != sizeof *head + (uint64_t)head->count * sizeof(uint64_t))
        return corrupt(shard, "the match record's length and count disagree", err);
    if (head->position >= head->end)
        return corrupt(shard, "the match record names no event", err);
    if (head->sequence < shard->match_last + (shard->more ? 0 : 1))
        return corrupt(shard, "the match record's sequence went back", err);
    return MR_OK;
}

/* Have the next record of a shard at hand. MR_AGAIN: there is none. */
static enum mr_rc load_head(struct mr_shard *shard, struct mr_err *err)
{
    while (!shard->has_head) {
        enum mr_rc rc = mr_ring_peek(&shard->matches, &shard->record);
        if (rc == MR_AGAIN)
            return MR_AGAIN;
        if (rc != MR_OK || shard->record.type != MR_RECORD_MATCH ||
            shard->record.len < sizeof shard->head)
            return corrupt(shard, "there is no match record", err);
        shard->head = *(const struct mr_match_head *)shard->record.data;
        if (shard->head.end <= shard->events.position || shard->head.sequence <= shard->done) {
            mr_ring_advance(&shard->matches, &shard->record);
            if (shard->head.sequence > shard->match_last)
                shard->match_last = shard->head.sequence;
            continue;
        }
        rc = check_head(shard, err);
        if (rc != MR_OK)
            return rc;
        shard->has_head = true;
    }
    return MR_OK;
}

/* The shard with the lowest sequence, and the lowest one of the others. NULL: no shard has a
 * record. */
static enum mr_rc pick(struct mr_shard_set *set, struct mr_shard **lowest, uint64_t *others,
                       struct mr_err *err)
{
    *lowest = NULL;
    *others = UINT64_MAX;
    for (uint32_t i = 0; i < set->shard_count; i++) {
        struct mr_shard *shard = &set->shards[i];
        enum mr_rc rc = load_head(shard, err);
        if (rc == MR_AGAIN)
            continue;
        if (rc != MR_OK)
            return rc;
        uint64_t sequence = shard->head.sequence;
        if (*lowest && sequence == (*lowest)->head.sequence)
            return corrupt(shard, "another shard has matched the same event", err);
        if (!*lowest || sequence < (*lowest)->head.sequence) {
            if (*lowest)
                *others = (*lowest)->head.sequence;
            *lowest = shard;
        } else if (sequence < *others) {
            *others = sequence;
        }
    }
    return MR_OK;
}

static enum mr_rc consume(struct mr_merge *merge, struct mr_shard *shard, struct mr_err *err)
{
    const uint64_t *ids = (const void *)((const struct mr_match_head *)shard->record.data + 1);
    enum mr_rc rc = merge->visit(merge->context, shard, &shard->head, ids, err);
    if (rc != MR_OK)
        return rc;
    merge->records++;
    shard->match_last = shard->head.sequence;
    shard->more = (shard->head.flags & MR_MATCH_MORE) != 0;
    shard->has_head = false;
    mr_ring_advance(&shard->matches, &shard->record);
    return load_head(shard, err);
}

/* Visit one shard's records while they are the lowest. MR_AGAIN: it has no more. */
static enum mr_rc run(struct mr_merge *merge, struct mr_shard *shard, uint64_t before,
                      struct mr_err *err)
{
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK && shard->head.sequence < before &&
           (merge->records < merge->records_max || shard->more))
        rc = consume(merge, shard, err);
    return rc;
}

enum mr_rc mr_merge_through(struct mr_merge *merge, uint64_t through, uint64_t *merged,
                            struct mr_err *err)
{
    MR_ASSERT(merge->records_max > 0);
    merge->records = 0;
    for (;;) {
        struct mr_shard *shard;
        uint64_t others;
        enum mr_rc rc = pick(merge->set, &shard, &others, err);
        if (rc != MR_OK)
            return rc;
        if (!shard || shard->head.sequence > through) {
            *merged = through;
            return MR_OK;
        }
        if (merge->records >= merge->records_max) {
            *merged = shard->head.sequence - 1;
            return MR_OK;
        }
        uint64_t before = others <= through ? others : through + 1;
        rc = run(merge, shard, before, err);
        if (rc != MR_OK && rc != MR_AGAIN)
            return rc;
        if (shard->more)
            return corrupt(shard, "an event's last match record is missing", err);
    }
}

static bool is_piece(const struct mr_shard *shard, uint64_t merged)
{
    return shard->has_head && shard->head.sequence == merged + 1 &&
           (shard->head.flags & MR_MATCH_MORE) != 0;
}

enum mr_rc mr_merge_pieces(struct mr_merge *merge, uint64_t merged, struct mr_err *err)
{
    merge->records = 0;
    for (uint32_t i = 0; i < merge->set->shard_count; i++) {
        struct mr_shard *shard = &merge->set->shards[i];
        enum mr_rc rc = load_head(shard, err);
        while (rc == MR_OK && is_piece(shard, merged))
            rc = consume(merge, shard, err);
        if (rc != MR_OK && rc != MR_AGAIN)
            return rc;
    }
    return MR_OK;
}

bool mr_merge_has_piece(const struct mr_shard_set *set, uint64_t merged)
{
    for (uint32_t i = 0; i < set->shard_count; i++) {
        const struct mr_shard *shard = &set->shards[i];
        if (shard->has_head ? is_piece(shard, merged)
                            : mr_ring_tail(shard->matches.shm) != shard->matches.position)
            return true;
    }
    return false;
}
