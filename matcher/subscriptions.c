#include "matcher/subscriptions.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "proto/match.h"

/* Of one turn: events and heartbeats wait no longer. Programs with many patterns take the most time
 * to load. */
enum { RECORDS_A_TURN = 512, TURN_MS = 2 };

static uint64_t board_generation(const struct mr_subscriptions *subs)
{
    return atomic_load_explicit(&subs->process->board.shm->subs_generation, memory_order_acquire);
}

static void set_close(struct mr_subscription_set *set)
{
    mr_watch_destroy(&set->engine);
    if (set->journal.shm)
        mr_journal_detach(&set->journal);
    *set = (struct mr_subscription_set){0};
}

static void beat(void *process)
{
    mr_process_beat(process, mr_clock_ns());
}

/* Begin an empty set of a generation. MR_AGAIN: its journal is not there yet. */
static enum mr_rc set_begin(const struct mr_subscriptions *subs, struct mr_subscription_set *set,
                            uint64_t generation, struct mr_err *err)
{
    struct mr_process *process = subs->process;
    *set = (struct mr_subscription_set){.generation = generation};
    enum mr_rc rc = MR_OK;
    if (generation != 0) {
        rc = mr_journal_attach_reader(&set->journal, process->instance,
                                      generation & 1 ? "subs1" : "subs0", err);
        if (rc == MR_OK)
            rc = mr_journal_rewind(&set->journal, generation);
    }
    if (rc == MR_OK)
        rc = mr_watch_create(&set->engine, err);
    if (rc == MR_OK)
        mr_watch_set_pulse(set->engine, beat, process);
    else
        set_close(set);
    return rc;
}

static enum mr_rc open_scratch(struct mr_subscriptions *subs, struct mr_err *err)
{
    subs->scratch = malloc(MR_JOURNAL_RECORD_MAX);
    if (!subs->scratch)
        return mr_fail(err, MR_FATAL, "allocate room for a journal record");
    return MR_OK;
}

enum mr_rc mr_subscriptions_open(struct mr_subscriptions *subs, struct mr_process *process,
                                 struct mr_err *err)
{
    *subs = (struct mr_subscriptions){.process = process};
    enum mr_rc rc = open_scratch(subs, err);
    if (rc != MR_OK)
        return rc;
    char part[32];
    mr_ring_part(part, 's', process->shard, process->ring_generation);
    const struct mr_ring_options options = {.part = part, .stage_count = 1};
    rc = mr_ring_attach_consumer(&subs->control, process->instance, &options, 0, err);
    if (rc != MR_OK)
        return rc;
    mr_ring_consumer_bells(&subs->control, &process->board.shm->cells[MR_CELL_PUBLISHER].bell);
    return MR_OK;
}

void mr_subscriptions_close(struct mr_subscriptions *subs)
{
    set_close(&subs->current);
    set_close(&subs->next);
    if (subs->control.shm)
        mr_ring_detach_consumer(&subs->control);
    free(subs->scratch);
    subs->scratch = NULL;
}

bool mr_subscriptions_ready(const struct mr_subscriptions *subs)
{
    return subs->current.engine != NULL;
}

/* Tell the publisher how far this shard is. The count is taken back before the generation changes,
 * so that no reader sees the new generation with the old count. */
static void report(struct mr_subscriptions *subs)
{
    struct mr_cell_shm *cell = subs->process->cell;
    const struct mr_subscription_set *set = &subs->current;
    if (atomic_load_explicit(&cell->subs_generation, memory_order_relaxed) != set->generation) {
        atomic_store_explicit(&cell->subs_applied, 0, memory_order_release);
        MR_CRASH("matcher.generation");
        atomic_store_explicit(&cell->subs_generation, set->generation, memory_order_release);
    }
    atomic_store_explicit(&cell->subs_applied, set->applied, memory_order_release);
    MR_CRASH("matcher.reported");
    mr_gauge(cell, MR_COUNTER_MATCH_APPLIED, set->applied);
    mr_doorbell_ring(&subs->process->board.shm->cells[MR_CELL_PUBLISHER].bell);
}

void mr_subscriptions_count(struct mr_subscriptions *subs)
{
    struct mr_cell_shm *cell = subs->process->cell;
    struct mr_engine_stats now;
    if (!subs->current.engine)
        return;
    mr_watch_stats(subs->current.engine, &now);
    mr_count(cell, MR_COUNTER_MATCH_EVENTS, now.events - subs->counted.events);
    mr_count(cell, MR_COUNTER_MATCH_HITS, now.hits - subs->counted.hits);
    mr_count(cell, MR_COUNTER_MATCH_PAIRS, now.pairs - subs->counted.pairs);
    mr_count(cell, MR_COUNTER_MATCH_CANDIDATES, now.candidates - subs->counted.candidates);
    mr_count(cell, MR_COUNTER_MATCH_ERRORS,
             now.errors + now.code_errors - subs->counted.errors - subs->counted.code_errors);
    mr_gauge(cell, MR_COUNTER_MATCH_SUBSCRIPTIONS, now.subscriptions);
    mr_gauge(cell, MR_COUNTER_MATCH_INDEX_BYTES, now.bytes);
    mr_gauge(cell, MR_COUNTER_MATCH_QUARANTINED, now.quarantined);
    subs->counted = now;
}

/* A bad subscription stays alone: it is left out, counted and logged. */
static enum mr_rc subscribe(struct mr_subscriptions *subs, struct mr_watch *engine,
                            const uint8_t *record, uint32_t len, struct mr_err *err)
{
    struct mr_subscribe_head head;
    memcpy(&head, record, sizeof head);
    enum mr_rc rc = mr_match_tag(head.subscription) == 0
                        ? mr_watch_add(engine, head.subscription, head.flags, record + sizeof head,
                                       len - (uint32_t)sizeof head)
                        : MR_CORRUPT;
    if (rc == MR_FATAL)
        return mr_fail(err, rc, "add subscription %llu to the index",
                       (unsigned long long)head.subscription);
    if (rc != MR_OK) {
        mr_count(subs->process->cell, MR_COUNTER_MATCH_ERRORS, 1);
        mr_log_error("matcher", "subscription_refused", "subscription=%llu rc=%s",
                     (unsigned long long)head.subscription, mr_rc_name(rc));
    }
    return MR_OK;
}

static enum mr_rc apply(struct mr_subscriptions *subs, struct mr_watch *engine, uint8_t type,
                        uint32_t len, struct mr_err *err)
{
    struct mr_subscribe_head head;
    if (len < sizeof head || (type != MR_RECORD_SUBSCRIBE && type != MR_RECORD_UNSUBSCRIBE))
        return mr_reject(err, MR_CORRUPT, "subscription journal: a record of type %u with %u bytes",
                         type, len);
    if (type == MR_RECORD_SUBSCRIBE)
        return subscribe(subs, engine, subs->scratch, len, err);
    memcpy(&head, subs->scratch, sizeof head);
    if (mr_watch_remove(engine, head.subscription) != MR_OK)
        mr_log_warn("matcher", "unsubscribe_unknown", "subscription=%llu",
                    (unsigned long long)head.subscription);
    return MR_OK;
}

/* Apply at most a turn's records, at least one. MR_AGAIN: all that is there has been applied;
 * MR_OK: more may be; MR_CLOSED: the journal was begun again under another generation. */
static enum mr_rc advance(struct mr_subscriptions *subs, struct mr_subscription_set *set,
                          uint64_t *done, struct mr_err *err)
{
    if (set->generation == 0)
        return MR_AGAIN;
    uint64_t until_ns = mr_clock_ns() + TURN_MS * MR_NS_PER_MS;
    for (uint32_t i = 0; i < RECORDS_A_TURN && (i == 0 || mr_clock_ns() < until_ns); i++) {
        uint8_t type;
        const void *data;
        uint32_t len;
        enum mr_rc rc = mr_journal_next(&set->journal, &type, &data, &len);
        if (rc == MR_CORRUPT)
            return mr_reject(
                err, rc, "subscription journal of generation %llu: no record number %llu",
                (unsigned long long)set->generation, (unsigned long long)set->applied + 1);
        if (rc != MR_OK)
            return rc;
        MR_ASSERT(len <= MR_JOURNAL_RECORD_MAX);
        memcpy(subs->scratch, data, len);
        rc = apply(subs, set->engine, type, len, err);
        if (rc != MR_OK)
            return rc;
        set->applied++;
        MR_CRASH("matcher.applied");
        (*done)++;
    }
    return MR_OK;
}

/* The new set is complete: matches are by it from here on. */
static void take_over(struct mr_subscriptions *subs)
{
    mr_subscriptions_count(subs);
    set_close(&subs->current);
    subs->current = subs->next;
    subs->next = (struct mr_subscription_set){0};
    subs->counted = (struct mr_engine_stats){0};
    mr_log_info("matcher", "subscriptions", "generation=%llu records=%llu",
                (unsigned long long)subs->current.generation,
                (unsigned long long)subs->current.applied);
    report(subs);
}

/* Build the set of the board's generation, when that is not the current one. */
static enum mr_rc build_next(struct mr_subscriptions *subs, uint64_t *done, struct mr_err *err)
{
    uint64_t generation = board_generation(subs);
    if (subs->current.engine && generation == subs->current.generation) {
        if (subs->next.engine)
            set_close(&subs->next);
        return MR_OK;
    }
    if (subs->next.engine && subs->next.generation != generation)
        set_close(&subs->next);
    enum mr_rc rc = MR_OK;
    if (!subs->next.engine)
        rc = set_begin(subs, &subs->next, generation, err);
    if (rc == MR_OK)
        rc = advance(subs, &subs->next, done, err);
    else if (rc == MR_AGAIN)
        return MR_OK; /* begun between the look at the board and now: the board will say more */
    if (rc == MR_CLOSED) {
        set_close(&subs->next);
        return MR_OK;
    }
    if (rc != MR_AGAIN)
        return rc;
    take_over(subs);
    (*done)++;
    return MR_OK;
}

/* Announcements only wake: what counts is what the board and the journal say. */
static enum mr_rc take_announcements(struct mr_subscriptions *subs, uint64_t *done,
                                     struct mr_err *err)
{
    struct mr_ring_record record;
    enum mr_rc rc;
    while ((rc = mr_ring_peek(&subs->control, &record)) == MR_OK) {
        if (record.type != MR_RECORD_ANNOUNCE || record.len != sizeof(struct mr_announce))
            return mr_reject(err, MR_CORRUPT, "control ring: a record of type %u with %u bytes",
                             record.type, record.len);
        mr_ring_advance(&subs->control, &record);
        (*done)++;
    }
    if (rc != MR_AGAIN)
        return mr_reject(err, rc, "control ring: no record at position %llu",
                         (unsigned long long)subs->control.position);
    if (mr_ring_unreleased(&subs->control) > 0)
        mr_ring_release(&subs->control, subs->control.position, subs->current.applied);
    return MR_OK;
}

enum mr_rc mr_subscriptions_work(struct mr_subscriptions *subs, uint64_t *done, struct mr_err *err)
{
    uint64_t applied = subs->current.applied, before = *done;
    enum mr_rc rc = take_announcements(subs, done, err);
    if (rc != MR_OK)
        return rc;
    rc = build_next(subs, done, err);
    if (rc != MR_OK)
        return rc;
    if (subs->current.engine && subs->current.generation == board_generation(subs)) {
        rc = advance(subs, &subs->current, done, err);
        if (rc != MR_OK && rc != MR_AGAIN && rc != MR_CLOSED)
            return rc;
    }
    if (subs->current.applied != applied && *done != before)
        report(subs);
    return MR_OK;
}

bool mr_subscriptions_look(const struct mr_subscriptions *subs)
{
    const struct mr_subscription_set *set = &subs->current;
    if (mr_ring_tail(subs->control.shm) != subs->control.position)
        return true;
    if (!set->engine || set->generation != board_generation(subs))
        return true;
    return set->generation != 0 &&
           atomic_load_explicit(&set->journal.shm->tail, memory_order_acquire) != set->journal.tail;
}
