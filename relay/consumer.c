#include "relay/consumer.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"

grpc_call *mr_consumer_call(const struct mr_consumer *consumer)
{
    return consumer->call.call;
}

/* For log lines: at most 64 bytes, and nothing that could break one. */
static const char *name_of(const struct mr_consumer *c, char out[65])
{
    size_t len = c->follow.consumer_id.len < 64 ? c->follow.consumer_id.len : 64;
    for (size_t i = 0; i < len; i++) {
        char byte = c->follow.consumer_id.data[i];
        out[i] = byte < 0x20 || byte == '"' || byte == 0x7f ? '?' : byte;
    }
    out[len] = '\0';
    return out;
}

void mr_consumer_wait(struct mr_consumer *c, bool waits)
{
    if (c->waits == waits)
        return;
    c->waits = waits;
    if (!waits) {
        atomic_fetch_sub_explicit(&c->relay->waiting, 1, memory_order_relaxed);
        return;
    }
    atomic_fetch_add_explicit(&c->relay->waiting, 1, memory_order_release);
    if (atomic_load_explicit(&c->relay->tail_next, memory_order_relaxed) == 0)
        mr_doorbell_ring(&c->relay->process->cell->bell);
}

void mr_consumer_let_go(struct mr_consumer *c)
{
    if (!c->is_gone || c->opening || c->reading || c->writing || c->ending || c->fetching ||
        c->marking)
        return;
    struct mr_relay *r = c->relay;
    mr_consumer_wait(c, false);
    pthread_mutex_lock(&r->lock);
    TAILQ_REMOVE(&r->consumers, c, link);
    r->consumer_count--;
    pthread_mutex_unlock(&r->lock);
    if (c->row)
        mr_census_leave(c->row);
    if (c->piece)
        mr_piece_unref(c->piece);
    grpc_slice_unref(c->request);
    mr_grpc_call_fini(&c->call);
    free(c);
}

static void leave(struct mr_consumer *c)
{
    mr_consumer_wait(c, false);
    c->stage = MR_CONSUMER_ENDED;
    atomic_store_explicit(&c->fetch.left, true, memory_order_relaxed);
}

/* metadata: goes with the status; NULL: none. */
static void end_with(struct mr_consumer *c, grpc_status_code status, const char *text,
                     grpc_metadata *metadata)
{
    leave(c);
    if (c->status_begun || c->is_gone)
        return;
    c->status_begun = c->ending = true;
    grpc_slice details = grpc_slice_from_copied_string(text);
    grpc_op op = mr_grpc_op_send_status(status, &details);
    op.data.send_status_from_server.trailing_metadata_count = metadata ? 1 : 0;
    op.data.send_status_from_server.trailing_metadata = metadata;
    mr_grpc_start(c->call.call, &op, 1, &c->ended);
    grpc_slice_unref(details);
}

void mr_consumer_end(struct mr_consumer *c, grpc_status_code status, const char *text)
{
    end_with(c, status, text, NULL);
}

/* OUT_OF_RANGE, with the oldest place there is: in the text, and as metadata for programs. */
static void end_out_of_range(struct mr_consumer *c, uint64_t floor, const char *why)
{
    char marker[MR_MARKER_TEXT_MAX], text[320];
    struct mr_marker oldest = {.log_id = mr_relay_log_id(c->relay), .sequence = floor - 1};
    mr_marker_format(oldest, marker);
    atomic_fetch_add_explicit(&c->relay->numbers.out_of_range, 1, memory_order_relaxed);
    snprintf(text, sizeof text,
             "%.200s; the log begins with sequence %" PRIu64 ", behind marker %s", why, floor,
             marker);
    grpc_metadata floor_metadata = {.key = grpc_slice_from_static_string("millrace-floor"),
                                    .value = grpc_slice_from_copied_string(marker)};
    end_with(c, GRPC_STATUS_OUT_OF_RANGE, text, &floor_metadata);
    grpc_slice_unref(floor_metadata.value);
}

void mr_consumer_too_old(struct mr_consumer *c, uint64_t floor)
{
    char text[160];
    if (c->follow.rebuild && c->stage == MR_CONSUMER_STREAMING) {
        mr_consumer_rebuild(c, "log_trimmed");
        return;
    }
    snprintf(text, sizeof text, "expected a place that the log still has, got sequence %" PRIu64,
             c->position);
    end_out_of_range(c, floor ? floor : mr_relay_floor(c->relay), text);
}

static void mark_done(struct mr_checkpoint_write *write)
{
    struct mr_consumer *c = (void *)((char *)write - offsetof(struct mr_consumer, mark));
    mr_grpc_nudge(c->call.call, &c->marked);
}

static void marked(void *owner, bool ok)
{
    struct mr_consumer *c = owner;
    (void)ok;
    c->marking = false;
    if (c->mark.rc != MR_OK)
        mr_log_error("relay", "mark_failed", "why=\"%s\"", c->mark.err.text);
    mr_consumer_let_go(c);
}

/* Whether there is a newer stream for the same: then nobody may be at the end of this one any more,
 * and what it needs is not what the consumer needs. */
static bool has_come_back(const struct mr_consumer *c)
{
    const struct mr_follow *ours = &c->follow;
    for (struct mr_consumer *next = TAILQ_NEXT(c, link); next; next = TAILQ_NEXT(next, link)) {
        const struct mr_follow *its = &next->follow;
        bool same = next->stage == MR_CONSUMER_STREAMING &&
                    mr_str_equal(its->consumer_id, ours->consumer_id) &&
                    its->collection_count == ours->collection_count;
        for (uint32_t i = 0; same && i < ours->collection_count; i++)
            same = mr_str_equal(its->collections[i], ours->collections[i]);
        if (same)
            return true;
    }
    return false;
}

void mr_consumer_rebuild(struct mr_consumer *c, const char *cause)
{
    char name[65];
    struct mr_relay *r = c->relay;
    mr_consumer_wait(c, false);
    c->stage = MR_CONSUMER_PAUSED;
    c->tell_rebuild = cause;
    atomic_fetch_add_explicit(&r->numbers.rebuilds, 1, memory_order_relaxed);
    mr_census_add(&c->row->rebuilds, 1);
    mr_log_warn("relay", "rebuild_required",
                "consumer=\"%s\" cause=%s position=%" PRIu64 " head=%" PRIu64, name_of(c, name),
                cause, c->position, mr_relay_head(r));
    if (c->follow.consumer_id.len == 0 || c->marking || strcmp(cause, "not_rebuilt") == 0 ||
        has_come_back(c))
        return;
    c->marking = true;
    c->mark = (struct mr_checkpoint_write){.change = MR_CHECKPOINT_MARK, .done = mark_done};
    mr_checkpoint_key(&c->mark.key, c->follow.consumer_id, (struct mr_str){NULL, 0});
    mr_checkpoints_put(r->checkpoints, &c->mark);
}

/* From the place on. */
static void begin_streaming(struct mr_consumer *c, uint64_t position)
{
    uint64_t now_ns = mr_clock_ns(), head = mr_relay_head(c->relay);
    c->position = c->said = position;
    c->stage = MR_CONSUMER_STREAMING;
    c->sent_ns = now_ns;
    mr_lag_begin(&c->lag, head > position ? head - position : 0, now_ns);
    mr_consumer_step(c, now_ns);
}

static void begin_at_marker(struct mr_consumer *c, struct mr_marker marker)
{
    struct mr_relay *r = c->relay;
    uint64_t floor = mr_relay_floor(r), head = mr_relay_head(r);
    char text[160];
    c->position = marker.sequence;
    if (marker.log_id != mr_relay_log_id(r))
        end_out_of_range(c, floor, "expected a marker of this log, got one of another");
    else if (marker.sequence > head) {
        snprintf(text, sizeof text,
                 "expected a place that the log has reached, %" PRIu64 ", got sequence %" PRIu64,
                 head, marker.sequence);
        end_out_of_range(c, floor, text);
    } else if (marker.sequence + 1 < floor)
        mr_consumer_too_old(c, floor);
    else
        begin_streaming(c, marker.sequence);
}

/* The event of an id of upstream's: behind it. */
static void begin_behind_event(struct mr_consumer *c)
{
    c->fetch = (struct mr_fetch){.kind = MR_FETCH_LOCATE,
                                 .sequence = mr_relay_floor(c->relay),
                                 .through = mr_relay_head(c->relay),
                                 .place = &c->place,
                                 .done = mr_consumer_fetch_done};
    c->fetching = true;
    mr_fetch(c->relay->fetcher, &c->fetch);
}

static void begin_at_place(struct mr_consumer *c)
{
    struct mr_relay *r = c->relay;
    switch (c->place.kind) {
    case MR_PLACE_NOW:
        begin_streaming(c, mr_relay_head(r));
        break;
    case MR_PLACE_OLDEST:
        begin_streaming(c, mr_relay_floor(r) > 0 ? mr_relay_floor(r) - 1 : 0);
        break;
    case MR_PLACE_MARKER:
        begin_at_marker(c, c->place.marker);
        break;
    case MR_PLACE_EVENT:
        begin_behind_event(c);
        break;
    }
}

/* Where it stood when it acknowledged last. True: taken care of. */
static bool begin_at_checkpoint(struct mr_consumer *c)
{
    struct mr_checkpoint_key key;
    struct mr_checkpoint_value value;
    struct mr_err err = {.rc = MR_OK};
    if (c->follow.consumer_id.len == 0 || !c->follow.from_checkpoint)
        return false;
    mr_checkpoint_key(&key, c->follow.consumer_id, (struct mr_str){NULL, 0});
    enum mr_rc rc = mr_checkpoints_get(c->relay->checkpoints, &key, &value, &err);
    if (rc == MR_AGAIN)
        return false;
    if (rc != MR_OK) {
        mr_consumer_end(c, GRPC_STATUS_INTERNAL, err.text);
        return true;
    }
    if (value.rebuild && c->follow.rebuild) {
        /* A place of another log, or none, is before all that there is. */
        c->position = value.log_id == mr_relay_log_id(c->relay) ? value.sequence : 0;
        mr_consumer_rebuild(c, "not_rebuilt");
        mr_consumer_step(c, mr_clock_ns());
        return true;
    }
    if (value.log_id == 0)
        return false;
    c->acknowledges = true;
    c->acknowledged = value.sequence;
    begin_at_marker(c, (struct mr_marker){.log_id = value.log_id, .sequence = value.sequence});
    return true;
}

static void begin(struct mr_consumer *c)
{
    struct mr_err err = {.rc = MR_OK};
    char name[65];
    enum mr_rc rc = mr_wire_read_follow(mr_grpc_slice_str(&c->request), &c->follow, &err);
    if (rc == MR_OK)
        rc = mr_place_parse(c->follow.after, c->relay->backend, &c->place, &err);
    if (rc != MR_OK) {
        mr_consumer_end(c, GRPC_STATUS_INVALID_ARGUMENT, err.text);
        return;
    }
    if (mr_relay_log_id(c->relay) == 0) {
        mr_consumer_end(c, GRPC_STATUS_UNAVAILABLE, "the log is not open yet; connect again");
        return;
    }
    c->row = mr_census_join(c->relay->board, &c->follow);
    mr_log_debug("relay", "subscribed", "consumer=\"%s\" batch=%d coalesce=%d", name_of(c, name),
                 c->follow.batch, c->follow.coalesce);
    if (!begin_at_checkpoint(c))
        begin_at_place(c);
}

/* Completions. */

static void opened(void *owner, bool ok)
{
    struct mr_consumer *c = owner;
    (void)ok;
    c->opening = false;
    mr_consumer_let_go(c);
}

static void got_request(void *owner, bool ok)
{
    struct mr_consumer *c = owner;
    c->reading = false;
    if (!ok || !c->message) {
        mr_consumer_end(c, GRPC_STATUS_INVALID_ARGUMENT, "expected one request message, got none");
    } else {
        grpc_slice_unref(c->request);
        c->request = mr_grpc_take_bytes(c->message);
        c->message = NULL;
        if (!c->is_gone && !c->status_begun) /* stopping, it has been told already */
            begin(c);
    }
    mr_consumer_let_go(c);
}

static void ended(void *owner, bool ok)
{
    struct mr_consumer *c = owner;
    (void)ok; /* false: the peer left before it heard the status */
    c->ending = false;
    mr_consumer_let_go(c);
}

static void gone(void *owner, bool ok)
{
    struct mr_consumer *c = owner;
    (void)ok;
    c->is_gone = true;
    leave(c);
    mr_consumer_let_go(c);
}

static bool admit(struct mr_relay *r, struct mr_consumer *c)
{
    uint64_t max = r->process->config.relay_consumers_max;
    pthread_mutex_lock(&r->lock);
    bool ok = r->consumer_count < max && !r->stopping;
    if (ok) {
        TAILQ_INSERT_TAIL(&r->consumers, c, link);
        r->consumer_count++;
    }
    pthread_mutex_unlock(&r->lock);
    return ok;
}

void mr_consumer_begin(struct mr_grpc_call call, void *context)
{
    struct mr_relay *r = context;
    struct mr_consumer *c = calloc(1, sizeof *c);
    if (c) {
        c->relay = r;
        c->call = call;
    }
    if (!c || !admit(r, c)) {
        free(c);
        mr_grpc_refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED,
                       "over relay.consumers_max streams, or the relay is stopping");
        return;
    }
    c->request = grpc_empty_slice();
    c->metadata = (struct mr_grpc_op){opened, c};
    c->read = (struct mr_grpc_op){got_request, c};
    c->written = (struct mr_grpc_op){mr_consumer_written, c};
    c->ended = (struct mr_grpc_op){ended, c};
    c->gone = (struct mr_grpc_op){gone, c};
    c->fetched = (struct mr_grpc_op){mr_consumer_fetched, c};
    c->marked = (struct mr_grpc_op){marked, c};
    c->opening = c->reading = true;
    grpc_op close = mr_grpc_op_receive_close(&c->cancelled);
    mr_grpc_start(call.call, &close, 1, &c->gone);
    grpc_op metadata = mr_grpc_op_send_metadata();
    mr_grpc_start(call.call, &metadata, 1, &c->metadata);
    grpc_op read = mr_grpc_op_receive(&c->message);
    mr_grpc_start(call.call, &read, 1, &c->read);
}

/* All of them. */

static void look_at_lag(struct mr_consumer *c, uint64_t head, uint64_t now_ns)
{
    struct mr_relay *r = c->relay;
    /* Who has acknowledged all the events that it was sent cannot acknowledge any further. */
    bool owes = c->acknowledges && c->acknowledged < c->told;
    uint64_t base = owes ? c->acknowledged : c->position;
    uint64_t events = head > base ? head - base : 0;
    pthread_mutex_lock(&r->lock);
    uint64_t age_ns = events ? mr_lag_age_ns(&r->clock, base, now_ns) : 0;
    pthread_mutex_unlock(&r->lock);
    enum mr_lag_level before = c->lag.level;
    if (!mr_lag_look(&c->lag, &r->limits, events, age_ns, now_ns))
        return;
    char name[65];
    c->tell_lag = true;
    if (before == MR_LAG_NONE) {
        atomic_fetch_add_explicit(&r->numbers.soft, 1, memory_order_relaxed);
        mr_log_warn("relay", "behind", "consumer=\"%s\" events=%" PRIu64 " ms=%" PRIu64,
                    name_of(c, name), events, age_ns / MR_NS_PER_MS);
    }
    if (c->lag.level == MR_LAG_HARD && c->follow.rebuild)
        mr_consumer_rebuild(c, "lag");
}

static void tick(struct mr_relay *r, uint64_t now_ns)
{
    struct mr_consumer *c;
    uint64_t head = mr_relay_head(r), events = 0, age_ns = 0;
    uint32_t behind = 0, paused = 0;
    struct mr_census census = {0};
    TAILQ_FOREACH(c, &r->consumers, link)
    {
        if (c->stage == MR_CONSUMER_STREAMING)
            look_at_lag(c, head, now_ns);
        if (c->stage == MR_CONSUMER_ENDED)
            continue;
        events = c->lag.events > events ? c->lag.events : events;
        age_ns = c->lag.age_ns > age_ns ? c->lag.age_ns : age_ns;
        if (c->row)
            mr_census_count(&census, r->board, c->row, &c->lag);
        behind += c->lag.level != MR_LAG_NONE;
        paused += c->stage == MR_CONSUMER_PAUSED;
    }
    mr_census_end(&census, r->board);
    pthread_mutex_lock(&r->lock);
    r->lag_events_max = events;
    r->lag_ns_max = age_ns;
    r->behind = behind;
    r->paused = paused;
    pthread_mutex_unlock(&r->lock);
}

void mr_consumers_step(struct mr_relay *r, bool due)
{
    struct mr_consumer *c, *next;
    uint64_t now_ns = mr_clock_ns();
    pthread_mutex_lock(&r->lock);
    bool stopping = r->stopping;
    pthread_mutex_unlock(&r->lock);
    if (due)
        tick(r, now_ns);
    for (c = TAILQ_FIRST(&r->consumers); c; c = next) {
        next = TAILQ_NEXT(c, link);
        if (now_ns >= c->call.expires_ns)
            mr_consumer_end(c, GRPC_STATUS_UNAUTHENTICATED,
                            "the token has expired; connect again with a new one and the last "
                            "progress marker");
        if (stopping && !c->is_gone)
            mr_consumer_end(c, GRPC_STATUS_UNAVAILABLE,
                            "the relay is stopping; connect again with the last progress marker");
        else if (due || c->waits)
            mr_consumer_step(c, now_ns);
    }
}

/* The place behind a rebuild is the log's end of before it: what came meanwhile is to be caught up
 * with, however long it took. */
static void begin_behind_rebuild(struct mr_consumer *c)
{
    uint64_t head = mr_relay_head(c->relay), base = c->acknowledged;
    c->tell_lag |= c->lag.level != MR_LAG_NONE;
    mr_lag_begin(&c->lag, head > base ? head - base : 0, mr_clock_ns());
}

/* A place of one collection is that of the streams which follow it alone. */
static bool is_place_of(const struct mr_acknowledge *what, const struct mr_consumer *c)
{
    return c->stage == MR_CONSUMER_STREAMING &&
           mr_str_equal(c->follow.consumer_id, what->consumer_id) &&
           (what->collection.len == 0 ||
            (c->follow.collection_count == 1 &&
             mr_str_equal(c->follow.collections[0], what->collection)));
}

void mr_consumers_acknowledged(struct mr_relay *r, const struct mr_acknowledge *what,
                               uint64_t sequence)
{
    struct mr_consumer *c;
    TAILQ_FOREACH(c, &r->consumers, link)
    {
        if (!is_place_of(what, c))
            continue;
        uint64_t reached = sequence < c->position ? sequence : c->position;
        c->acknowledges = true;
        if (reached > c->acknowledged || what->rebuilt)
            c->acknowledged = reached;
        if (what->rebuilt)
            begin_behind_rebuild(c);
    }
}
