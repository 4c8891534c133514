#include "matcher/matcher.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "matcher/subscriptions.h"
#include "proto/event.h"
#include "proto/match.h"

enum {
    BATCH_EVENTS_MAX = 256,
    BATCH_MS = 2,         /* and so long: publisher, supervisor and new subscriptions wait for it */
    CLOCK_EVENTS = 16,    /* events between two looks at the clock */
    COUNT_EVERY_MS = 10,  /* counters are for people */
    BLOCKED_SLEEP_MS = 1, /* while the match ring is full */
    TELL_MS = 5,          /* progress without a match may wait so long for the publisher's look */
    TELL_MATCH_US = 100,  /* and a match, while there is more input */
    QUIET_SHARE = 4,      /* both while less than this part of the event ring waits for it */
};

/* The event at hand, when its matches did not fit into the match ring. Its ids belong to the
 * engine, so nothing else is matched and no subscription changes until they are written. */
struct waiting {
    bool active;
    struct mr_ring_record record;
    uint64_t sequence, ingest_ns;
    const uint64_t *ids;
    uint32_t count, written;
};

struct mr_matcher {
    struct mr_process *process;
    struct mr_ring_consumer events;
    struct mr_ring_producer matches;
    struct mr_subscriptions subs;
    bool begun; /* an event has been looked at */
    struct waiting waiting;
    uint64_t sequence; /* of the last event matched, or fed without one for this shard */
    uint64_t note;     /* what stage 0 says of it */
    struct mr_doorbell_shm *publisher;
    uint64_t told_tail; /* of the match ring when the publisher was rung last */
    uint64_t untold_ns; /* since when there has been progress that it may not know; 0: none */
    uint64_t counted_ns;
    bool uncounted; /* the engine has counted since */
    uint64_t publish_bytes;
    uint32_t batch_count;
    uint64_t batch_ingest_ns[BATCH_EVENTS_MAX];
};

/* ---- open and close ---- */

static enum mr_rc attach_rings(struct mr_matcher *matcher, uint64_t *done_through,
                               struct mr_err *err)
{
    struct mr_process *process = matcher->process;
    char events[32], matches[32];
    mr_ring_part(events, 'e', process->shard, process->ring_generation);
    mr_ring_part(matches, 'm', process->shard, process->ring_generation);
    struct mr_ring_options options = {.part = events, .stage_count = 2};
    enum mr_rc rc = mr_ring_attach_consumer(&matcher->events, process->instance, &options, 0, err);
    if (rc != MR_OK)
        return rc;
    /* Never by itself: a publication in the middle of an event's records would say that it is done.
     */
    options = (struct mr_ring_options){
        .part = matches, .stage_count = 1, .publish_bytes = UINT64_MAX / 2};
    rc = mr_ring_attach_producer(&matcher->matches, process->instance, &options, done_through, err);
    if (rc != MR_OK)
        return rc;
    matcher->publisher = &process->board.shm->cells[MR_CELL_PUBLISHER].bell;
    matcher->told_tail = matcher->matches.tail;
    return MR_OK;
}

/* Decode the event of a record. Sequences only rise within a ring. */
static enum mr_rc decode(struct mr_matcher *matcher, const struct mr_ring_record *record,
                         struct mr_event *event, struct mr_err *err)
{
    if (record->type != MR_RECORD_EVENT ||
        mr_event_decode(record->data, record->len, event) != MR_OK)
        return mr_reject(err, MR_CORRUPT, "event ring: no event at position %llu",
                         (unsigned long long)record->position);
    if (event->head.sequence <= matcher->sequence)
        return mr_reject(
            err, MR_CORRUPT, "event ring: sequence %llu at position %llu, behind sequence %llu",
            (unsigned long long)event->head.sequence, (unsigned long long)record->position,
            (unsigned long long)matcher->sequence);
    return MR_OK;
}

static enum mr_rc peek(struct mr_matcher *matcher, struct mr_ring_record *record,
                       struct mr_err *err)
{
    enum mr_rc rc = mr_ring_peek(&matcher->events, record);
    if (rc != MR_OK && rc != MR_AGAIN)
        return mr_reject(err, rc, "event ring: no record at position %llu",
                         (unsigned long long)matcher->events.position);
    return rc;
}

/* Go on behind what a predecessor matched: the later of what stage 0 released and what the match
 * ring says is done. */
static enum mr_rc resume(struct mr_matcher *matcher, uint64_t done_through, struct mr_err *err)
{
    struct mr_ring_record record = {0};
    struct mr_event event;
    matcher->sequence = mr_ring_stage_note(matcher->events.shm, 0);
    while (matcher->events.position < done_through) {
        enum mr_rc rc = peek(matcher, &record, err);
        if (rc == MR_OK)
            rc = decode(matcher, &record, &event, err);
        if (rc == MR_AGAIN || (rc == MR_OK && record.end > done_through))
            return mr_reject(err, MR_CORRUPT,
                             "match ring: says done through position %llu of the "
                             "event ring, which is no record's end",
                             (unsigned long long)done_through);
        if (rc != MR_OK)
            return rc;
        matcher->sequence = event.head.sequence;
        mr_ring_advance(&matcher->events, &record);
    }
    matcher->note = matcher->sequence;
    mr_ring_release(&matcher->events, matcher->events.position, matcher->note);
    return MR_OK;
}

static enum mr_rc load_subscriptions(struct mr_matcher *matcher, struct mr_err *err)
{
    enum mr_rc rc = mr_subscriptions_open(&matcher->subs, matcher->process, err);
    while (rc == MR_OK && !mr_subscriptions_ready(&matcher->subs)) {
        uint64_t done = 0;
        if (!mr_process_running(matcher->process, mr_clock_ns()))
            return MR_CLOSED;
        rc = mr_subscriptions_work(&matcher->subs, &done, err);
        if (done == 0 && rc == MR_OK) { /* the journal is being begun */
            mr_doorbell_announce(&matcher->process->cell->bell);
            mr_doorbell_wait(&matcher->process->cell->bell, BLOCKED_SLEEP_MS * MR_NS_PER_MS);
        }
    }
    return rc;
}

enum mr_rc mr_matcher_open(struct mr_matcher **out, struct mr_process *process, struct mr_err *err)
{
    uint64_t done_through;
    struct mr_matcher *matcher = calloc(1, sizeof *matcher);
    if (!matcher)
        return mr_fail(err, MR_FATAL, "allocate a matcher");
    matcher->process = process;
    matcher->publish_bytes = process->config.ring_publish_bytes;
    enum mr_rc rc = attach_rings(matcher, &done_through, err);
    if (rc == MR_OK)
        rc = load_subscriptions(matcher, err);
    if (rc == MR_OK)
        rc = resume(matcher, done_through, err);
    if (rc != MR_OK) {
        mr_matcher_close(&matcher);
        return rc;
    }
    mr_subscriptions_count(&matcher->subs);
    mr_log_info("matcher", "resumed", "shard=%u position=%llu sequence=%llu", process->shard,
                (unsigned long long)matcher->events.position,
                (unsigned long long)matcher->sequence);
    *out = matcher;
    return MR_OK;
}

void mr_matcher_close(struct mr_matcher **out)
{
    struct mr_matcher *matcher = *out;
    if (!matcher)
        return;
    if (matcher->subs.current.engine)
        mr_subscriptions_count(&matcher->subs);
    mr_subscriptions_close(&matcher->subs);
    if (matcher->matches.shm)
        mr_ring_detach_producer(&matcher->matches);
    if (matcher->events.shm)
        mr_ring_detach_consumer(&matcher->events);
    free(matcher);
    *out = NULL;
}

/* ---- one event ---- */

static uint64_t record_bytes(uint32_t id_count)
{
    return mr_ring_record_bytes(
        (uint32_t)(sizeof(struct mr_match_head) + id_count * sizeof(uint64_t)));
}

/* Ring bytes that all records of an event with so many ids take. */
static uint64_t event_bytes(uint32_t id_count)
{
    uint64_t full = id_count / MR_MATCH_IDS_MAX;
    uint32_t rest = id_count % MR_MATCH_IDS_MAX;
    return full * record_bytes(MR_MATCH_IDS_MAX) + (rest ? record_bytes(rest) : 0);
}

/* Would so many bytes fit now? False for ever when they are more than the ring. */
static bool has_room(const struct mr_ring_producer *ring, uint64_t bytes)
{
    uint64_t capacity = ring->mask + 1;
    if (ring->tail - ring->released + bytes <= capacity)
        return true;
    return ring->tail - mr_ring_stage_position(ring->shm, 0) + bytes <= capacity;
}

/* One record of the event that waits. MR_FULL: no room. */
static enum mr_rc write_record(struct mr_matcher *matcher, struct mr_err *err)
{
    struct waiting *event = &matcher->waiting;
    uint32_t count = event->count - event->written;
    bool more = count > MR_MATCH_IDS_MAX;
    count = more ? MR_MATCH_IDS_MAX : count;
    uint32_t len = (uint32_t)(sizeof(struct mr_match_head) + count * sizeof(uint64_t));
    void *out;
    enum mr_rc rc = mr_ring_claim(&matcher->matches, len, &out);
    if (rc == MR_FULL)
        return rc;
    if (rc != MR_OK)
        return mr_reject(err, rc, "match ring: claim %u bytes at position %llu", len,
                         (unsigned long long)matcher->matches.tail);
    struct mr_match_head head = {.sequence = event->sequence,
                                 .position = event->record.position,
                                 .end = event->record.end,
                                 .count = count,
                                 .flags = more ? MR_MATCH_MORE : 0};
    memcpy(out, &head, sizeof head);
    memcpy((uint8_t *)out + sizeof head, event->ids + event->written, count * sizeof(uint64_t));
    mr_ring_commit(&matcher->matches, len, MR_RECORD_MATCH, 0,
                   more ? event->record.position : event->record.end);
    MR_CRASH("matcher.written");
    event->written += count;
    return MR_OK;
}

/* Write the records of the event that waits: all at once, so that a restart finds all or none; an
 * event that is larger than the ring in pieces, as room comes. MR_FULL: wait. */
static enum mr_rc write_waiting(struct mr_matcher *matcher, struct mr_err *err)
{
    struct waiting *event = &matcher->waiting;
    uint64_t bytes = event_bytes(event->count);
    if (bytes <= matcher->matches.mask + 1 && !has_room(&matcher->matches, bytes))
        return MR_FULL;
    while (event->written < event->count) {
        enum mr_rc rc = write_record(matcher, err);
        if (rc != MR_OK)
            return rc;
    }
    matcher->sequence = event->sequence;
    mr_ring_advance(&matcher->events, &event->record);
    matcher->batch_ingest_ns[matcher->batch_count++] = event->ingest_ns;
    event->active = false;
    return MR_OK;
}

static void match(struct mr_matcher *matcher, const struct mr_ring_record *record,
                  const struct mr_event *event)
{
    struct waiting *waiting = &matcher->waiting;
    *waiting = (struct waiting){.active = true,
                                .record = *record,
                                .sequence = event->head.sequence,
                                .ingest_ns = event->head.ingest_ns};
    waiting->count = mr_watch_match(matcher->subs.current.engine, event, &waiting->ids);
}

/* ---- one turn ---- */

/* Is there no room for another event in this batch, or no time? The engine beats when an event
 * takes long, so the clock was looked at then. */
static bool batch_is_over(struct mr_matcher *matcher, uint64_t started_ns)
{
    struct mr_process *process = matcher->process;
    uint32_t count = matcher->batch_count;
    if (count > 0 && count % CLOCK_EVENTS == 0)
        mr_process_beat(process, mr_clock_ns());
    return count >= BATCH_EVENTS_MAX ||
           (count > 0 && process->beat_ns - started_ns >= BATCH_MS * MR_NS_PER_MS) ||
           matcher->matches.tail - matcher->matches.published > matcher->publish_bytes;
}

/* Match until the batch is over, the ring is dry (MR_AGAIN) or the match ring is full (MR_FULL). */
static enum mr_rc match_batch(struct mr_matcher *matcher, uint64_t started_ns, struct mr_err *err)
{
    uint64_t from = matcher->events.position;
    struct mr_ring_record record = {0};
    while (!batch_is_over(matcher, started_ns) &&
           matcher->events.position - from <= matcher->publish_bytes) {
        struct mr_event event;
        enum mr_rc rc = peek(matcher, &record, err);
        if (rc == MR_OK)
            rc = decode(matcher, &record, &event, err);
        if (rc != MR_OK)
            return rc;
        match(matcher, &record, &event);
        rc = write_waiting(matcher, err);
        if (rc != MR_OK)
            return rc;
    }
    return MR_OK;
}

/* A ring that fills is urgent, and so are matches once the input is dry: before that a wake for
 * each batch would take the core from the matching itself. Progress alone is not, unless the
 * publisher waits for it: then it does not doze. */
static void tell_publisher(struct mr_matcher *matcher, bool progress, bool dry, uint64_t now_ns)
{
    const struct mr_ring_consumer *events = &matcher->events;
    bool matches = matcher->matches.tail != matcher->told_tail;
    bool urgent = matcher->waiting.active || (matches && dry);
    if (progress && !urgent)
        urgent = events->position - mr_ring_stage_position(events->shm, 1) >
                 (events->mask + 1) / QUIET_SHARE;
    uint64_t patience_ns = matches ? TELL_MATCH_US * MR_NS_PER_US : TELL_MS * MR_NS_PER_MS;
    if (matcher->untold_ns != 0 && now_ns - matcher->untold_ns >= patience_ns)
        urgent = true;
    if (urgent) {
        mr_doorbell_ring(matcher->publisher);
        matcher->told_tail = matcher->matches.tail;
        matcher->untold_ns = 0;
    } else if (matcher->untold_ns == 0 &&
               (matches || (progress && !mr_doorbell_nudge(matcher->publisher)))) {
        matcher->untold_ns = now_ns;
    }
}

/* Publish what was matched, then say so on the event ring. In this order: who dies in between
 * leaves the match ring ahead, and its successor skips what that has. */
static void hand_over(struct mr_matcher *matcher, uint64_t note, bool dry, uint64_t now_ns)
{
    uint64_t position = matcher->events.position;
    bool progress = position != matcher->events.released || note != matcher->note;
    mr_ring_publish(&matcher->matches, position);
    MR_CRASH("matcher.published");
    if (progress) {
        matcher->note = note;
        mr_ring_release(&matcher->events, position, note);
        MR_CRASH("matcher.released");
    }
    tell_publisher(matcher, progress, dry, now_ns);
}

static void measure_batch(struct mr_matcher *matcher, uint64_t started_ns)
{
    struct mr_cell_shm *cell = matcher->process->cell;
    uint32_t count = matcher->batch_count;
    uint64_t now_ns = mr_clock_ns();
    if (count == 0)
        return;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t ingest_ns = matcher->batch_ingest_ns[i];
        mr_histogram_add(&cell->histograms[MR_HISTOGRAM_RING_TO_MATCH],
                         now_ns > ingest_ns ? now_ns - ingest_ns : 0);
    }
    mr_histogram_add_n(&cell->histograms[MR_HISTOGRAM_MATCH_TIME], (now_ns - started_ns) / count,
                       count);
    matcher->batch_count = 0;
}

/* Events: first the one that waits for room, then a batch. */
static enum mr_rc turn_events(struct mr_matcher *matcher, uint64_t now_ns, uint64_t *done,
                              struct mr_err *err)
{
    /* Before the look at the ring: what is fed through here and is not in the ring is not for us.
     */
    uint64_t through = mr_ring_through(matcher->events.shm);
    uint64_t position = matcher->events.position, written = matcher->matches.tail;
    /* Subscriptions may have taken long. */
    uint64_t started_ns = *done > 0 ? mr_clock_ns() : now_ns;
    mr_process_beat(matcher->process, started_ns);
    enum mr_rc rc = matcher->waiting.active ? write_waiting(matcher, err) : MR_OK;
    if (rc == MR_OK)
        rc = match_batch(matcher, started_ns, err);
    if (rc != MR_OK && rc != MR_AGAIN && rc != MR_FULL)
        return rc;
    if (rc == MR_AGAIN && through > matcher->sequence)
        matcher->sequence = through;
    hand_over(matcher, matcher->sequence, rc == MR_AGAIN, now_ns);
    measure_batch(matcher, started_ns);
    *done += matcher->events.position - position + matcher->matches.tail - written;
    return MR_OK;
}

/* Before its first event a shard applies all that the journal holds by then: subscriptions may have
 * been confirmed without it while its ring set was being prepared. */
static enum mr_rc begin(struct mr_matcher *matcher, struct mr_err *err)
{
    while (!matcher->begun && mr_ring_tail(matcher->events.shm) != matcher->events.position) {
        uint64_t done = 0;
        if (!mr_process_running(matcher->process, mr_clock_ns()))
            return MR_OK;
        enum mr_rc rc = mr_subscriptions_work(&matcher->subs, &done, err);
        if (rc != MR_OK)
            return rc;
        matcher->begun = done == 0;
    }
    return MR_OK;
}

enum mr_rc mr_matcher_work(struct mr_matcher *matcher, uint64_t now_ns, uint64_t *done,
                           struct mr_err *err)
{
    *done = 0;
    enum mr_rc rc = MR_OK;
    if (!matcher->waiting.active)
        rc = mr_subscriptions_work(&matcher->subs, done, err);
    if (rc == MR_OK && !matcher->begun)
        rc = begin(matcher, err);
    if (rc == MR_OK)
        rc = turn_events(matcher, now_ns, done, err);
    if (rc != MR_OK)
        return rc;
    matcher->uncounted |= *done > 0;
    if (matcher->uncounted &&
        (*done == 0 || now_ns - matcher->counted_ns >= COUNT_EVERY_MS * MR_NS_PER_MS)) {
        matcher->uncounted = false;
        matcher->counted_ns = now_ns;
        mr_subscriptions_count(&matcher->subs);
    }
    return MR_OK;
}

bool mr_matcher_look(void *context)
{
    const struct mr_matcher *matcher = context;
    if (matcher->waiting.active) {
        uint64_t bytes = event_bytes(matcher->waiting.count);
        uint64_t capacity = matcher->matches.mask + 1;
        return has_room(&matcher->matches,
                        bytes <= capacity ? bytes : record_bytes(MR_MATCH_IDS_MAX));
    }
    return mr_ring_tail(matcher->events.shm) != matcher->events.position ||
           mr_subscriptions_look(&matcher->subs);
}

uint64_t mr_matcher_sleep_ns(const struct mr_matcher *matcher)
{
    if (matcher->waiting.active)
        return BLOCKED_SLEEP_MS * MR_NS_PER_MS;
    return matcher->untold_ns != 0 ? TELL_MS * MR_NS_PER_MS : MR_BEAT_NS;
}
