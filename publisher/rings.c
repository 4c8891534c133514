#include "publisher/rings.h"

#include <inttypes.h>

#include "common/clock.h"
#include "common/crash.h"
#include "proto/event.h"

static enum mr_rc attach_shard(struct mr_shard *shard, const char *instance,
                               struct mr_board_shm *board, uint64_t packed, uint32_t index,
                               struct mr_err *err)
{
    uint32_t generation = mr_ring_set_generation(packed);
    char part[32];
    *shard = (struct mr_shard){.puller = &board->cells[MR_CELL_PULLER].bell,
                               .matcher = &board->cells[mr_cell_matcher(generation, index)]};
    mr_ring_part(part, 'e', index, generation);
    enum mr_rc rc =
        mr_ring_attach_consumer(&shard->events, instance,
                                &(struct mr_ring_options){.part = part, .stage_count = 2}, 1, err);
    if (rc != MR_OK)
        return rc;
    mr_ring_part(part, 'm', index, generation);
    rc = mr_ring_attach_consumer(&shard->matches, instance,
                                 &(struct mr_ring_options){.part = part, .stage_count = 1}, 0, err);
    if (rc == MR_OK) {
        uint64_t note;
        mr_ring_part(part, 's', index, generation);
        rc = mr_ring_attach_producer(&shard->control, instance,
                                     &(struct mr_ring_options){.part = part, .stage_count = 1},
                                     &note, err);
        if (rc == MR_OK) {
            mr_ring_producer_bells(&shard->control, &shard->matcher->bell);
            shard->done = mr_ring_stage_note(shard->events.shm, 1);
            shard->matched = shard->done;
            shard->match_last = mr_ring_stage_note(shard->matches.shm, 0);
            shard->more = true; /* a predecessor may have consumed pieces of that event */
            return MR_OK;
        }
        mr_ring_detach_consumer(&shard->matches);
    }
    mr_ring_detach_consumer(&shard->events);
    return rc;
}

static void detach_shard(struct mr_shard *shard)
{
    mr_ring_detach_producer(&shard->control);
    mr_ring_detach_consumer(&shard->matches);
    mr_ring_detach_consumer(&shard->events);
}

enum mr_rc mr_shard_set_attach(struct mr_shard_set *set, const char *instance,
                               struct mr_board_shm *board, uint64_t packed, struct mr_err *err)
{
    MR_ASSERT(set->generation == 0);
    uint32_t count = mr_ring_set_shards(packed);
    if (count == 0 || count > MR_SHARDS_MAX || mr_ring_set_generation(packed) == 0)
        return mr_reject(err, MR_CORRUPT, "attach ring set %u: %u shards, expected 1 to %d",
                         mr_ring_set_generation(packed), count, MR_SHARDS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        enum mr_rc rc = attach_shard(&set->shards[i], instance, board, packed, i, err);
        if (rc != MR_OK) {
            while (i-- > 0)
                detach_shard(&set->shards[i]);
            return rc;
        }
    }
    set->shard_count = count;
    set->generation = mr_ring_set_generation(packed);
    return MR_OK;
}

void mr_shard_set_detach(struct mr_shard_set *set)
{
    if (set->generation == 0)
        return;
    for (uint32_t i = 0; i < set->shard_count; i++)
        detach_shard(&set->shards[i]);
    set->generation = 0;
    set->shard_count = 0;
}

static struct mr_mark *last_mark(struct mr_shard *shard)
{
    return &shard->marks[(shard->mark_first + shard->mark_count - 1) % MR_MARKS_MAX];
}

/* Marks that cannot be kept are replaced by the newest one: that only makes a release later. */
static void remember(struct mr_shard *shard, struct mr_mark mark)
{
    uint64_t last = shard->mark_count > 0 ? last_mark(shard)->position : shard->events.position;
    if (mark.position <= last)
        return;
    if (shard->mark_count < MR_MARKS_MAX)
        shard->mark_count++;
    *last_mark(shard) = mark;
}

static enum mr_rc corrupt(const struct mr_shard *shard, uint64_t position, const char *what,
                          struct mr_err *err)
{
    return mr_reject(err, MR_CORRUPT, "read %s at position %" PRIu64 ": %s",
                     shard->events.segment.name, position, what);
}

/* The event at the matcher's position is the next one of this shard: everything before its sequence
 * is matched, everything in front of it comes before its sequence. */
static enum mr_rc observe_next(struct mr_shard *shard, uint64_t position, uint64_t tail,
                               struct mr_err *err)
{
    struct mr_ring_record record;
    uint16_t number;
    if (!mr_ring_record_load(shard->events.data, shard->events.mask, position, tail, &record,
                             &number) ||
        record.type != MR_RECORD_EVENT || record.len < sizeof(struct mr_event_head))
        return corrupt(shard, position, "there is no event", err);
    uint64_t sequence = ((const struct mr_event_head *)record.data)->sequence;
    if (sequence <= shard->matched)
        return corrupt(shard, position, "the event's sequence is not behind the one before", err);
    shard->matched = sequence - 1;
    uint64_t count = shard->mark_count > 0 ? last_mark(shard)->count : shard->events.count;
    count += (uint16_t)(number - 1 - (uint16_t)count);
    remember(shard,
             (struct mr_mark){.through = sequence - 1, .position = position, .count = count});
    return MR_OK;
}

static enum mr_rc observe_shard(struct mr_shard *shard, struct mr_err *err)
{
    const struct mr_ring_shm *shm = shard->events.shm;
    /* The order is relied on: what was fed through is in front of the tail, and a matcher that is
     * at the tail has matched it. */
    uint64_t through = mr_ring_through(shm);
    uint64_t tail = mr_ring_tail(shm);
    uint64_t position = mr_ring_stage_position(shm, 0);
    if (position < shard->events.position || (position & 7) != 0)
        return corrupt(shard, position, "the matcher went back", err);
    if (position < tail)
        return observe_next(shard, position, tail, err);
    uint64_t note = mr_ring_stage_note(shm, 0);
    through = note > through ? note : through;
    if (through > shard->matched)
        shard->matched = through;
    if (position > tail)
        return MR_OK; /* the tail moved on while we looked; next time */
    if (position == shard->events.position && shard->mark_count == 0)
        return MR_OK;
    /* The last publication's note and count belong to this tail if the tail is still there. */
    uint64_t last, count;
    mr_ring_last_commit(shm, &last, &count);
    if (count != 0 && mr_ring_tail(shm) == tail)
        remember(shard, (struct mr_mark){.through = last, .position = tail, .count = count});
    return MR_OK;
}

enum mr_rc mr_shard_set_observe(struct mr_shard_set *set, struct mr_err *err)
{
    for (uint32_t i = 0; i < set->shard_count; i++) {
        enum mr_rc rc = observe_shard(&set->shards[i], err);
        if (rc != MR_OK)
            return rc;
    }
    return MR_OK;
}

uint64_t mr_shard_set_frontier(const struct mr_shard_set *set)
{
    uint64_t frontier = UINT64_MAX;
    for (uint32_t i = 0; i < set->shard_count; i++)
        if (set->shards[i].matched < frontier)
            frontier = set->shards[i].matched;
    return set->shard_count > 0 ? frontier : 0;
}

bool mr_shard_set_fed(const struct mr_shard_set *set, uint64_t *out)
{
    *out = 0;
    for (uint32_t i = 0; i < set->shard_count; i++) {
        const struct mr_ring_shm *shm = set->shards[i].events.shm;
        uint64_t through = mr_ring_through(shm);
        uint64_t note, count;
        mr_ring_last_commit(shm, &note, &count);
        if (count == 0 && mr_ring_tail(shm) != 0)
            return false;
        through = note > through ? note : through;
        *out = through > *out ? through : *out;
    }
    return set->shard_count > 0;
}

/* Wake a producer only when it has found its ring full since we looked last: a wake costs more than
 * all the rest of a release. */
static void wake_if_stalled(const struct mr_ring_shm *shm, uint64_t *seen,
                            struct mr_doorbell_shm *bell)
{
    uint64_t stalls = atomic_load_explicit(&shm->stalls, memory_order_relaxed);
    if (stalls == *seen)
        return;
    *seen = stalls;
    mr_doorbell_ring(bell);
}

/* The oldest event of a batch stands for all of it: reading each one's head would cost more than
 * merging it. */
static void record_latency(struct mr_shard *shard, uint64_t count, uint64_t now_ns,
                           struct mr_histogram_shm *histogram)
{
    struct mr_ring_record record;
    if (mr_ring_at(&shard->events, shard->events.position, &record) != MR_OK ||
        record.len < sizeof(struct mr_event_head))
        return;
    uint64_t ingest_ns = ((const struct mr_event_head *)record.data)->ingest_ns;
    if (ingest_ns != 0 && ingest_ns <= now_ns)
        mr_histogram_add_n(histogram, now_ns - ingest_ns, count - shard->events.count);
}

static void release_shard(struct mr_shard *shard, uint64_t merged, uint64_t now_ns,
                          struct mr_histogram_shm *histogram)
{
    struct mr_mark done = {0};
    while (shard->mark_count > 0 && shard->marks[shard->mark_first].through <= merged) {
        done = shard->marks[shard->mark_first];
        shard->mark_first = (shard->mark_first + 1) % MR_MARKS_MAX;
        shard->mark_count--;
    }
    if (done.position > shard->events.position) {
        record_latency(shard, done.count, now_ns, histogram);
        mr_ring_jump(&shard->events, done.position, done.count);
    }
    /* Events first: no match record is gone whose event is still to be handled. */
    if (mr_ring_unreleased(&shard->events) > 0 || mr_ring_stage_note(shard->events.shm, 1) < merged)
        mr_ring_release(&shard->events, shard->events.position, merged);
    MR_CRASH("publisher.events_released");
    wake_if_stalled(shard->events.shm, &shard->event_stalls, shard->puller);
    if (mr_ring_unreleased(&shard->matches) > 0)
        mr_ring_release(&shard->matches, shard->matches.position, shard->match_last);
    MR_CRASH("publisher.matches_released");
    wake_if_stalled(shard->matches.shm, &shard->match_stalls, &shard->matcher->bell);
}

void mr_shard_set_release(struct mr_shard_set *set, uint64_t merged, uint64_t now_ns,
                          struct mr_histogram_shm *histogram)
{
    for (uint32_t i = 0; i < set->shard_count; i++)
        release_shard(&set->shards[i], merged, now_ns, histogram);
}

bool mr_shard_set_announce(struct mr_shard_set *set, uint64_t generation, uint64_t count)
{
    bool all = true;
    for (uint32_t i = 0; i < set->shard_count; i++) {
        struct mr_shard *shard = &set->shards[i];
        if (shard->announced_generation == generation && shard->announced_count == count)
            continue;
        void *out;
        if (mr_ring_claim(&shard->control, sizeof(struct mr_announce), &out) != MR_OK) {
            all = false;
            continue;
        }
        *(struct mr_announce *)out = (struct mr_announce){.generation = generation, .count = count};
        mr_ring_commit(&shard->control, sizeof(struct mr_announce), MR_RECORD_ANNOUNCE, 0, count);
        mr_ring_publish(&shard->control, count);
        MR_CRASH("publisher.announced");
        shard->announced_generation = generation;
        shard->announced_count = count;
    }
    return all;
}

uint64_t mr_shard_set_applied(const struct mr_shard_set *set, uint64_t generation, bool ready_only)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < set->shard_count; i++) {
        const struct mr_cell_shm *cell = set->shards[i].matcher;
        if (ready_only &&
            atomic_load_explicit(&cell->state, memory_order_acquire) != MR_STATE_READY)
            continue;
        /* In this order: the matcher takes the count back before it names a new generation. */
        bool same =
            atomic_load_explicit(&cell->subs_generation, memory_order_acquire) == generation;
        uint64_t applied =
            same ? atomic_load_explicit(&cell->subs_applied, memory_order_acquire) : 0;
        least = applied < least ? applied : least;
    }
    return least;
}

bool mr_shard_set_in_generation(const struct mr_shard_set *set, uint64_t generation)
{
    for (uint32_t i = 0; i < set->shard_count; i++)
        if (atomic_load_explicit(&set->shards[i].matcher->subs_generation, memory_order_acquire) !=
            generation)
            return false;
    return true;
}

bool mr_shard_set_moved(const struct mr_shard_set *set, uint64_t merged)
{
    uint64_t frontier = UINT64_MAX;
    for (uint32_t i = 0; i < set->shard_count; i++) {
        const struct mr_ring_shm *shm = set->shards[i].events.shm;
        uint64_t through = mr_ring_through(shm);
        uint64_t tail = mr_ring_tail(shm);
        uint64_t position = mr_ring_stage_position(shm, 0);
        uint64_t note = mr_ring_stage_note(shm, 0);
        if (position < tail || through < note)
            through = note;
        frontier = through < frontier ? through : frontier;
    }
    return set->shard_count > 0 && frontier > merged;
}
