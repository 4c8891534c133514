#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "publisher/pump_state.h"

/* Match records merged in one turn: then room is given back, and requests get their turn. */
enum { TURN_RECORDS = 1024, PATH_BYTES = 4096 };
/* How long the sink may go on sending when the process ends. */
#define CLOSE_NS (5 * MR_NS_PER_S)
/* While something is awaited that nobody rings for. */
#define SOON_NS MR_NS_PER_MS
/* What requests may take of a turn: deliveries go in between. */
#define REQUESTS_NS (5 * MR_NS_PER_MS)

enum mr_rc mr_pump_open(struct mr_pump **out, struct mr_process *process,
                        const struct mr_sink_ops *sink, struct mr_err *err)
{
    struct mr_pump *pump = calloc(1, sizeof *pump);
    if (!pump)
        return mr_fail(err, MR_FATAL, "make the pump");
    pump->process = process;
    pump->board = process->board.shm;
    pump->cell = process->cell;
    pump->config = &process->config;
    pump->current = &pump->sets[0];
    pump->next = &pump->sets[1];
    TAILQ_INIT(&pump->announced);
    TAILQ_INIT(&pump->waiting);
    TAILQ_INIT(&pump->table.gateways);
    mr_durable_init(&pump->durable, &pump->cell->bell);
    enum mr_rc rc = mr_program_compiler_create(&pump->compiler, err);
    if (rc == MR_OK)
        rc = sink->open(&pump->sink, pump->config, pump->cell, err);
    if (rc != MR_OK) {
        mr_program_compiler_destroy(&pump->compiler);
        free(pump);
        return rc;
    }
    MR_ASSERT(pump->sink->ops == sink);
    pump->sink->board = pump->board;
    if (sink->attach)
        rc = sink->attach(pump->sink, err);
    else
        atomic_store_explicit(&pump->board->held_through[MR_HOLDER_SINK], 0, memory_order_release);
    if (rc != MR_OK) {
        sink->close(pump->sink, mr_clock_ns());
        mr_program_compiler_destroy(&pump->compiler);
        free(pump);
        return rc;
    }
    sink->serving(pump->sink, false);
    pump->deliverer = (struct mr_deliverer){.sink = pump->sink, .cell = pump->cell};
    *out = pump;
    return MR_OK;
}

/* MR_AGAIN is what is not there yet: the supervisor makes it. */
static enum mr_rc attach(struct mr_pump *pump, struct mr_shard_set *set, uint64_t packed,
                         struct mr_err *err)
{
    enum mr_rc rc = mr_shard_set_attach(set, pump->process->instance, pump->board, packed, err);
    if (rc != MR_OK)
        return rc;
    atomic_store_explicit(&pump->cell->rings_attached, set->generation, memory_order_release);
    MR_CRASH("publisher.attached");
    mr_log_info("pump", "rings_attached", "generation=%u shards=%u", set->generation,
                set->shard_count);
    return MR_OK;
}

/* Where this epoch, or a predecessor, has come to. */
static void start_merge(struct mr_pump *pump)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < pump->current->shard_count; i++)
        least = pump->current->shards[i].done < least ? pump->current->shards[i].done : least;
    pump->merged = pump->board->start_sequence > least ? pump->board->start_sequence : least;
}

/* The supervisor switches only when every old ring is released through its tail. */
static enum mr_rc switch_rings(struct mr_pump *pump, uint64_t packed, struct mr_err *err)
{
    struct mr_shard_set *old = pump->current;
    if (pump->next->generation != mr_ring_set_generation(packed)) {
        mr_shard_set_detach(pump->next);
        enum mr_rc rc = attach(pump, pump->next, packed, err);
        if (rc != MR_OK)
            return rc;
    }
    pump->current = pump->next;
    pump->next = old;
    mr_shard_set_detach(old);
    pump->announced_changed = true;
    MR_CRASH("publisher.switched");
    return MR_OK;
}

/* Follow the supervisor from ring set to ring set. */
static enum mr_rc follow_rings(struct mr_pump *pump, uint64_t *done, struct mr_err *err)
{
    uint64_t packed = atomic_load_explicit(&pump->board->ring_set, memory_order_acquire);
    uint64_t next = atomic_load_explicit(&pump->board->ring_set_next, memory_order_acquire);
    enum mr_rc rc = MR_OK;
    if (packed != 0 && pump->current->generation == 0) {
        rc = attach(pump, pump->current, packed, err);
        if (rc == MR_OK)
            start_merge(pump);
        ++*done;
    } else if (packed != 0 && pump->current->generation != mr_ring_set_generation(packed)) {
        rc = switch_rings(pump, packed, err);
        ++*done;
    }
    if (rc != MR_OK || pump->current->generation == 0)
        return rc;
    if (next == packed || pump->next->generation == mr_ring_set_generation(next))
        return MR_OK;
    mr_shard_set_detach(pump->next); /* the change was given up, or another one came */
    return next != 0 ? attach(pump, pump->next, next, err) : MR_OK;
}

static void confirmed(void *context, struct mr_subscription *s)
{
    mr_pump_set_confirmed(context, s);
}

/* Everything behind the rings, once they are there: journal, table, catch-up thread. */
static enum mr_rc open_journal(struct mr_pump *pump, struct mr_err *err)
{
    enum mr_rc rc = mr_register_open(&pump->reg, pump->process->instance, pump->board, err);
    if (rc != MR_OK)
        return rc;
    pump->reg_open = true;
    uint64_t generation = pump->reg.generation + 1;
    rc = mr_subscriptions_init(&pump->table, (uint32_t)(generation << 20), err);
    if (rc != MR_OK)
        return rc;
    char dir[PATH_BYTES];
    snprintf(dir, sizeof dir, "%s/log", pump->config->instance_data_dir.text);
    struct mr_resume parts = {.table = &pump->table,
                              .deliverer = &pump->deliverer,
                              .cell = pump->cell,
                              .hold_bytes_max = pump->config->publisher_gateway_queue_size,
                              .merged = &pump->merged,
                              .confirmed = confirmed,
                              .context = pump};
    rc = mr_resume_init(&pump->resume, &parts, dir, err);
    return rc == MR_OK ? mr_durable_open(pump, err) : rc;
}

/* Begin a generation: the first one, or a shorter one for a journal that has grown long. */
static enum mr_rc begin_generation(struct mr_pump *pump, struct mr_err *err)
{
    if (!mr_register_may_begin(&pump->reg))
        return MR_OK;
    enum mr_rc rc = mr_register_begin(&pump->reg, &pump->table);
    if (rc != MR_OK)
        return mr_reject(err, MR_RETRY,
                         "begin journal generation %" PRIu64 " with %u subscriptions: no room",
                         pump->reg.generation, pump->table.count);
    pump->announced_changed = true;
    mr_log_info("pump", "journal_begun", "generation=%" PRIu64 " subscriptions=%u",
                pump->reg.generation, pump->table.count);
    return MR_OK;
}

static enum mr_rc follow_journal(struct mr_pump *pump, struct mr_err *err)
{
    enum mr_rc rc = MR_OK;
    if (!pump->reg_open)
        rc = open_journal(pump, err);
    if (rc == MR_OK && (!pump->reg.current || mr_register_due(&pump->reg)))
        rc = begin_generation(pump, err);
    if (rc != MR_OK || !pump->reg.current)
        return rc;
    mr_register_publish(&pump->reg);
    uint64_t count = pump->reg.current->count;
    (void)mr_shard_set_announce(pump->current, pump->reg.generation, count);
    (void)mr_shard_set_announce(pump->next, pump->reg.generation, count);
    if (!pump->ready)
        mr_process_ready(pump->process);
    pump->ready = true;
    return MR_OK;
}

/* Markers need the log's identity, which the puller tells; answers need shards. */
static void follow_serving(struct mr_pump *pump)
{
    if (pump->serving || !pump->ready)
        return;
    uint64_t log_id = atomic_load_explicit(&pump->board->log_id, memory_order_acquire);
    if (log_id == 0 || !mr_shard_set_in_generation(pump->current, pump->reg.generation))
        return;
    pump->deliverer.log_id = log_id;
    pump->serving = true;
    pump->sink->ops->serving(pump->sink, true);
    mr_log_info("pump", "serving", "sink=%s merged=%" PRIu64, pump->sink->ops->name, pump->merged);
}

/* The event of a match record, in place, checked. */
static enum mr_rc load_event(const struct mr_shard *shard, const struct mr_match_head *head,
                             struct mr_ring_record *record, struct mr_event *event,
                             struct mr_err *err)
{
    if (mr_ring_at(&shard->events, head->position, record) == MR_OK && record->end == head->end &&
        record->type == MR_RECORD_EVENT &&
        mr_event_decode(record->data, record->len, event) == MR_OK &&
        event->head.sequence == head->sequence)
        return MR_OK;
    return mr_reject(err, MR_CORRUPT, "read %s at position %" PRIu64 ": expected event %" PRIu64,
                     shard->events.segment.name, head->position, head->sequence);
}

static enum mr_rc gather(struct mr_pump *pump, uint64_t sequence, uint64_t id, struct mr_err *err)
{
    struct mr_subscription *s = mr_subscription_get(&pump->table, mr_match_id(id));
    uint32_t tag = mr_match_tag(id);
    if (!s)
        return MR_OK;
    if (sequence <= s->active_after || (s->state == MR_SUB_RESUMING && tag & MR_TAG_QUARANTINED)) {
        /* Not for it; but what a shard says of its filter is. */
        enum mr_rc rc = mr_deliverer_add(&pump->deliverer, s, tag | MR_TAG_ALONE, err);
        if (rc != MR_OK || sequence <= s->active_after)
            return rc;
    }
    if (s->state == MR_SUB_RESUMING)
        return mr_resume_match(&pump->resume, s, id, sequence, err);
    return mr_deliverer_add(&pump->deliverer, s, tag, err);
}

static enum mr_rc send_event(struct mr_pump *pump, const struct mr_shard *shard,
                             const struct mr_match_head *head, struct mr_err *err)
{
    if (pump->deliverer.touched_count == 0 && pump->resume.touched_count == 0)
        return MR_OK;
    struct mr_ring_record record;
    struct mr_event event;
    enum mr_rc rc = load_event(shard, head, &record, &event, err);
    if (rc != MR_OK)
        return rc;
    mr_resume_hold(&pump->resume, head->sequence, record.data, record.len);
    if (pump->deliverer.touched_count == 0)
        return MR_OK;
    rc = mr_deliverer_send(&pump->deliverer, &event, err);
    MR_CRASH("publisher.delivered");
    uint64_t now_ns = mr_clock_ns();
    if (event.head.ingest_ns != 0 && event.head.ingest_ns <= now_ns)
        mr_histogram_add(&pump->cell->histograms[MR_HISTOGRAM_SOURCE_TO_SENT],
                         now_ns - event.head.ingest_ns);
    return rc;
}

/* Keep the ids of a record that is not its event's last one. Subscriptions may end before the last
 * one comes, so ids and not subscriptions. */
static enum mr_rc keep_ids(struct mr_pump *pump, const uint64_t *ids, uint32_t count,
                           struct mr_err *err)
{
    if (pump->id_max - pump->id_count < count) {
        uint32_t max = (pump->id_count + count) * 2;
        uint64_t *grown = realloc(pump->ids, max * sizeof *grown);
        if (!grown)
            return mr_fail(err, MR_FATAL, "keep the matches of event %" PRIu64,
                           pump->merging_sequence);
        pump->ids = grown;
        pump->id_max = max;
    }
    memcpy(pump->ids + pump->id_count, ids, count * sizeof *ids);
    pump->id_count += count;
    return MR_OK;
}

static enum mr_rc gather_all(struct mr_pump *pump, const uint64_t *ids, uint32_t count,
                             struct mr_err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        enum mr_rc rc = gather(pump, pump->merging_sequence, ids[i], err);
        if (rc != MR_OK)
            return rc;
    }
    return MR_OK;
}

/* A matcher that died within an event's records writes the first ones again: ids ascend within an
 * event, so what was seen is skipped. */
static enum mr_rc visit(void *context, const struct mr_shard *shard,
                        const struct mr_match_head *head, const uint64_t *ids, struct mr_err *err)
{
    struct mr_pump *pump = context;
    if (head->sequence != pump->merging_sequence) {
        pump->merging_sequence = head->sequence;
        pump->merging_id = 0;
        pump->id_count = 0;
    }
    uint32_t count = head->count;
    for (; count > 0 && mr_match_id(ids[0]) < pump->merging_id; ids++)
        count--;
    if (count > 0)
        pump->merging_id = mr_match_id(ids[count - 1]) + 1;
    if ((head->flags & MR_MATCH_MORE) != 0)
        return keep_ids(pump, ids, count, err);
    enum mr_rc rc = gather_all(pump, pump->ids, pump->id_count, err);
    if (rc == MR_OK)
        rc = gather_all(pump, ids, count, err);
    return rc == MR_OK ? send_event(pump, shard, head, err) : rc;
}

static void advance_merged(struct mr_pump *pump, uint64_t merged)
{
    MR_ASSERT(merged >= pump->merged);
    mr_count(pump->cell, MR_COUNTER_EVENTS_MERGED, merged - pump->merged);
    mr_gauge(pump->cell, MR_COUNTER_MERGED_SEQUENCE, merged);
    pump->merged = merged;
}

/* Merge through the frontier, stopping where somebody is to be answered, so that an answer comes
 * before every delivery behind its marker; then give the room back. */
static enum mr_rc merge(struct mr_pump *pump, uint64_t now_ns, uint64_t *done, struct mr_err *err)
{
    enum mr_rc rc = mr_shard_set_observe(pump->current, err);
    uint64_t frontier = mr_shard_set_frontier(pump->current), before = pump->merged, limit;
    struct mr_merge work = {
        .set = pump->current, .visit = visit, .context = pump, .records_max = TURN_RECORDS};
    *done += mr_pump_confirm(pump, now_ns);
    while (rc == MR_OK && (limit = mr_pump_confirm_limit(pump, frontier)) > pump->merged) {
        uint64_t merged;
        rc = mr_merge_through(&work, limit, &merged, err);
        if (rc != MR_OK)
            return rc;
        if (merged > pump->merged)
            advance_merged(pump, merged);
        *done += mr_pump_confirm(pump, now_ns);
        if (work.records >= TURN_RECORDS)
            break;
    }
    if (rc == MR_OK)
        rc = mr_merge_pieces(&work, pump->merged, err);
    if (rc != MR_OK)
        return rc;
    *done += pump->merged - before + work.records;
    mr_shard_set_release(pump->current, pump->merged, now_ns,
                         &pump->cell->histograms[MR_HISTOGRAM_SOURCE_TO_MERGED]);
    return MR_OK;
}

static enum mr_rc resume(struct mr_pump *pump, uint64_t now_ns, uint64_t *done, struct mr_err *err)
{
    struct mr_resume_turn turn = {
        .now_ns = now_ns,
        .merged = pump->merged,
        .log_written = atomic_load_explicit(&pump->board->log_written, memory_order_acquire),
        .waiting = &pump->waiting};
    if (TAILQ_EMPTY(&pump->resume.all))
        return MR_OK;
    turn.fed_known = mr_shard_set_fed(pump->current, &turn.fed);
    enum mr_rc rc = mr_resume_work(&pump->resume, &turn, err);
    *done += turn.done;
    return rc;
}

static enum mr_rc work(struct mr_pump *pump, uint64_t now_ns, uint64_t *done, struct mr_err *err)
{
    enum mr_rc rc = MR_OK;
    if (pump->serving)
        rc = mr_pump_take_requests(pump, now_ns, done, err);
    mr_durable_work(pump, now_ns, done);
    if (rc == MR_OK)
        rc = follow_journal(pump, err);
    if (rc != MR_OK || !pump->reg.current)
        return rc;
    follow_serving(pump);
    *done += mr_pump_apply(pump);
    rc = merge(pump, now_ns, done, err);
    if (rc == MR_OK)
        rc = resume(pump, now_ns, done, err);
    return rc;
}

static void flush(struct mr_pump *pump)
{
    if (pump->deliverer.queued)
        pump->sink->ops->flush(pump->sink);
    pump->deliverer.queued = false;
}

/* Is the progress of a shard waited for, by a match of another shard or by somebody who is to be
 * answered? Else it can come when there is a match again, or in a while. */
static bool waits_for_progress(const struct mr_pump *pump)
{
    if (!pump->serving || !TAILQ_EMPTY(&pump->announced) || !TAILQ_EMPTY(&pump->waiting) ||
        !TAILQ_EMPTY(&pump->resume.all))
        return true;
    for (uint32_t i = 0; i < pump->current->shard_count; i++)
        if (pump->current->shards[i].has_head)
            return true;
    return false;
}

enum mr_rc mr_pump_turn(struct mr_pump *pump, uint64_t now_ns, uint64_t *done, struct mr_err *err)
{
    struct mr_err missing = {0};
    enum mr_rc rc = follow_rings(pump, done, &missing);
    pump->turn_until_ns = now_ns + REQUESTS_NS;
    pump->deliverer.turn_us = mr_clock_wall_us();
    if (rc == MR_OK && pump->current->generation != 0)
        rc = work(pump, now_ns, done, &missing);
    flush(pump);
    pump->process->patient = !waits_for_progress(pump);
    if (rc == MR_AGAIN) { /* a segment is not there yet */
        mr_cell_say(pump->cell, "waiting: %s", missing.text);
        return MR_OK;
    }
    if (rc != MR_OK)
        *err = missing;
    return rc;
}

bool mr_pump_is_late(const struct mr_pump *pump)
{
    return mr_clock_ns() >= pump->turn_until_ns;
}

bool mr_pump_look(void *context)
{
    struct mr_pump *pump = context;
    if (!pump->reg.current)
        return false;
    if (pump->serving && !pump->has_request)
        pump->has_request = pump->sink->ops->poll(pump->sink, &pump->request) == MR_OK;
    return pump->has_request || mr_durable_look(pump) ||
           mr_shard_set_moved(pump->current, pump->merged) ||
           mr_merge_has_piece(pump->current, pump->merged) ||
           mr_catchup_waiting(pump->resume.worker);
}

uint64_t mr_pump_timeout_ns(const struct mr_pump *pump)
{
    bool soon = !pump->serving || pump->resume.waits || !TAILQ_EMPTY(&pump->announced);
    return soon ? SOON_NS : MR_BEAT_NS;
}

struct mr_control_queue *mr_pump_controls(struct mr_pump *pump)
{
    return &pump->durable.queue;
}

/* What is matched reaches the sink before it is told to end. */
static void finish(struct mr_pump *pump)
{
    struct mr_err err = {0};
    uint64_t done = 1;
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK && done > 0 && pump->reg.current && pump->current->generation != 0) {
        done = 0;
        rc = merge(pump, mr_clock_ns(), &done, &err);
    }
    if (rc != MR_OK)
        mr_log_error("pump", "unfinished", "why=\"%s\"", err.text);
    flush(pump);
}

void mr_pump_close(struct mr_pump **out)
{
    struct mr_pump *pump = *out;
    if (!pump)
        return;
    pump->sink->ops->serving(pump->sink, false);
    if (pump->process->stopping)
        finish(pump);
    mr_durable_close(pump);
    if (pump->has_request && pump->request.kind == MR_REQUEST_REGISTER)
        mr_control_put(&pump->durable.queue, pump->request.control); /* refused: it is closed */
    pump->sink->ops->close(pump->sink, mr_clock_ns() + CLOSE_NS);
    mr_control_close(&pump->durable.queue); /* what streams asked for meanwhile */
    mr_control_queue_fini(&pump->durable.queue);
    if (pump->reg_open) {
        mr_resume_fini(&pump->resume);
        mr_subscriptions_fini(&pump->table);
    }
    mr_register_close(&pump->reg);
    mr_shard_set_detach(pump->current);
    mr_shard_set_detach(pump->next);
    mr_wheel_fini(&pump->durable.wheel);
    mr_deliverer_fini(&pump->deliverer);
    mr_program_compiler_destroy(&pump->compiler);
    free(pump->ids);
    free(pump);
    *out = NULL;
}
