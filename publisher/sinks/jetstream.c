/* The JetStream sink: deliveries of durable subscriptions, and of those in
 * jetstream.subscriptions, one message for each event and subscription on
 * EVENTS.GATEWAY.SUBSCRIPTION.
 *
 * To the pump it is one gateway that subscribes with the marker through which everything is in the
 * stream, and comes back with it when its queue was full: so what JetStream cannot take waits in
 * the log, and nobody else waits for it. Heartbeats tell how far the pump has handed everything
 * over; once all that was queued by then is acknowledged, the checkpoint may go there
 * (board.held_through). After a restart the last message of each subject says what need not be sent
 * again. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "publisher/message.h"
#include "publisher/sinks/jetstream_durables.h"
#include "publisher/sinks/jetstream_sender.h"

#define HEARTBEAT_NS   (50 * MR_NS_PER_MS)
#define RETRY_NS       (50 * MR_NS_PER_MS) /* what had no room in the journal is told again */
#define REOPEN_FILL    0.25
#define CATCH_UP_SHARE 0.55

enum phase {
    PHASE_CONNECT, /* the sender has not read back the stream yet */
    PHASE_RUN,
    PHASE_CUT,   /* the queue was full: CLOSE is to be told */
    PHASE_DRAIN, /* until there is room again */
};

/* One is enough: what it holds is copied into the queue before the pump makes the next. */
struct mr_parcel {
    struct mr_json json; /* without the closing brace */
    struct mr_marker marker;
    char headers[MR_MESSAGE_HEADERS_MAX], id[MR_MESSAGE_ID_MAX];
    size_t headers_len, id_len;
};

struct js_sink {
    struct mr_sink base;
    struct mr_js_durables all;
    struct mr_js_outbox outbox;
    struct mr_js_sender sender;
    enum phase phase;
    mr_gateway_id gateway;
    uint64_t handed; /* the pump has queued everything through this sequence */
    uint64_t safe;   /* and through this one it is acknowledged */
    uint64_t asked_handed,
        asked_tail; /* becomes safe when the queue is released through the tail */
    uint64_t heartbeat_ns, refused_ns; /* when the last one was told, and refused for now */
    bool heartbeat_due;                /* its answer is awaited */
    uint64_t confirmed;
    struct mr_parcel parcel;
};

static struct js_sink *from_base(struct mr_sink *sink)
{
    MR_ASSERT(sink->ops == &mr_sink_jetstream);
    return (struct js_sink *)(void *)sink;
}

static uint64_t log_id_of(const struct js_sink *g)
{
    return atomic_load_explicit(&g->base.board->log_id, memory_order_acquire);
}

/* Sender's thread, before it is ready: nobody else looks at what the stream holds. */
static void on_stored(void *context, const struct mr_js_stored *message)
{
    struct js_sink *g = context;
    mr_js_durables_stored(&g->all, message, log_id_of(g));
}

static void sink_free(struct js_sink *g)
{
    mr_js_durables_fini(&g->all);
    mr_js_outbox_fini(&g->outbox);
    mr_json_fini(&g->parcel.json);
    free(g);
}

static void hold(struct js_sink *g)
{
    atomic_store_explicit(&g->base.board->held_through[MR_HOLDER_SINK], 1 + g->safe,
                          memory_order_release);
    mr_gauge(g->base.cell, MR_COUNTER_JS_SEQUENCE, g->safe);
}

static enum mr_rc sink_open(struct mr_sink **out, const struct mr_config *config,
                            struct mr_cell_shm *cell, struct mr_err *err)
{
    struct js_sink *g = calloc(1, sizeof *g);
    if (!g)
        return mr_fail(err, MR_FATAL, "open the JetStream sink");
    g->base = (struct mr_sink){.ops = &mr_sink_jetstream, .config = config, .cell = cell};
    g->outbox.wake_fd = -1;
    const char *file = config->jetstream_subscriptions.text;
    enum mr_rc rc = mr_js_durables_init(&g->all, config, *file ? file : NULL, err);
    if (rc == MR_OK)
        rc = mr_js_outbox_init(&g->outbox, config->jetstream_queue_size, err);
    if (rc != MR_OK) {
        sink_free(g);
        return mr_err_prefix(err, "JetStream sink");
    }
    g->asked_tail = UINT64_MAX;
    *out = &g->base;
    return MR_OK;
}

/* Before the pump releases anything: nothing behind the checkpoint is known to be safe. */
static enum mr_rc sink_attach(struct mr_sink *sink, struct mr_err *err)
{
    struct js_sink *g = from_base(sink);
    g->safe = g->handed = atomic_load_explicit(&sink->board->checkpoint, memory_order_acquire);
    hold(g);
    g->sender.config = sink->config;
    g->sender.board = sink->board;
    g->sender.cell = sink->cell;
    g->sender.outbox = &g->outbox;
    g->sender.stored = on_stored;
    g->sender.context = g;
    return mr_js_sender_start(&g->sender, err);
}

/* What was handed over when a heartbeat was answered is acknowledged by now? */
static void follow_safe(struct js_sink *g)
{
    if (g->asked_tail == UINT64_MAX ||
        atomic_load_explicit(&g->outbox.head, memory_order_acquire) < g->asked_tail)
        return;
    g->asked_tail = UINT64_MAX;
    if (g->asked_handed > g->safe) {
        g->safe = g->asked_handed;
        hold(g);
    }
}

static void tell_open(struct js_sink *g, struct mr_request *out)
{
    g->gateway++;
    g->confirmed = 0;
    g->asked_tail = UINT64_MAX;
    g->heartbeat_due = false;
    g->phase = PHASE_RUN;
    mr_js_durables_again(&g->all);
    *out = (struct mr_request){.kind = MR_REQUEST_OPEN, .gateway = g->gateway, .own = true};
}

static enum mr_rc tell_heartbeat(struct js_sink *g, struct mr_request *out)
{
    uint64_t now_ns = mr_clock_ns();
    if (g->heartbeat_due || now_ns - g->heartbeat_ns < HEARTBEAT_NS)
        return MR_AGAIN;
    g->heartbeat_ns = now_ns;
    g->heartbeat_due = true;
    *out = (struct mr_request){.kind = MR_REQUEST_HEARTBEAT, .gateway = g->gateway};
    return MR_OK;
}

static enum mr_rc tell_next(struct js_sink *g, struct mr_request *out)
{
    const struct mr_marker handed = {.log_id = log_id_of(g), .sequence = g->handed};
    if (!TAILQ_EMPTY(&g->all.refused) && mr_clock_ns() - g->refused_ns >= RETRY_NS)
        mr_js_durables_retry(&g->all);
    enum mr_rc rc = mr_js_durables_poll(&g->all, handed, out);
    if (rc != MR_OK)
        return tell_heartbeat(g, out);
    out->gateway = g->gateway;
    if (out->kind == MR_REQUEST_UNSUBSCRIBE) {
        const struct mr_js_durable *d = mr_js_durables_find(&g->all, out->subscription_id);
        g->confirmed -= d->confirmed;
        mr_gauge(g->base.cell, MR_COUNTER_JS_SUBSCRIPTIONS, g->confirmed);
    }
    return MR_OK;
}

static enum mr_rc sink_poll(struct mr_sink *sink, struct mr_request *out)
{
    struct js_sink *g = from_base(sink);
    follow_safe(g);
    switch (g->phase) {
    case PHASE_CONNECT:
        if (!atomic_load_explicit(&g->sender.ready, memory_order_acquire))
            return MR_AGAIN;
        mr_js_durables_index(&g->all);
        tell_open(g, out);
        return MR_OK;
    case PHASE_RUN:
        return tell_next(g, out);
    case PHASE_CUT:
        g->phase = PHASE_DRAIN;
        *out = (struct mr_request){.kind = MR_REQUEST_CLOSE, .gateway = g->gateway};
        return MR_OK;
    case PHASE_DRAIN:
        if (mr_js_outbox_fill(&g->outbox) > REOPEN_FILL)
            return MR_AGAIN;
        tell_open(g, out);
        return MR_OK;
    }
    return MR_AGAIN;
}

static struct mr_parcel *sink_encode(struct mr_sink *sink, const struct mr_event *event)
{
    struct js_sink *g = from_base(sink);
    struct mr_parcel *p = &g->parcel;
    char position[MR_MARKER_TEXT_MAX], event_id[MR_EVENT_ID_MAX];
    struct mr_event named = *event;
    named.event_id = (struct mr_str){event_id, mr_event_id(event, event_id)};
    p->marker = (struct mr_marker){.log_id = log_id_of(g), .sequence = event->head.sequence};
    p->id_len = mr_message_id(&named, p->id);
    p->headers_len = mr_message_headers(&named, p->marker, MR_MESSAGE_FORMAT, p->headers);
    mr_json_reset(&p->json);
    mr_json_put_raw(&p->json, MR_STR("{\"version\":1,\"position\":\""));
    mr_json_put_raw(&p->json, (struct mr_str){position, mr_marker_format(p->marker, position)});
    mr_json_put_raw(&p->json, MR_STR("\",\"event\":"));
    return mr_message_put_event(&p->json, &named) == MR_OK && !p->json.failed ? p : NULL;
}

static void sink_release(struct mr_sink *sink, struct mr_parcel *parcel)
{
    (void)sink;
    (void)parcel;
}

/* What the event did to the subscription's result set, in the room behind the event. */
static void put_transition(struct mr_json *json, enum mr_transition transition)
{
    static const char *const names[] = {[MR_TRANSITION_ENTER] = "entered",
                                        [MR_TRANSITION_STAY] = "stayed",
                                        [MR_TRANSITION_LEAVE] = "left",
                                        [MR_TRANSITION_UNKNOWN] = "unknown"};
    if (transition == MR_TRANSITION_NONE)
        return;
    mr_json_put_raw(json, MR_STR(",\"transition\":"));
    mr_json_put_string(json, mr_str_from(names[transition]));
}

/* Too large for the queue: it goes without its payload. */
static enum mr_rc put_omitted(struct js_sink *g, const struct mr_parcel *p, struct mr_js_message *m)
{
    char headers[MR_MESSAGE_HEADERS_MAX];
    memcpy(headers, p->headers, p->headers_len);
    m->headers =
        (struct mr_str){headers, mr_message_add_omitted(p->json.len, headers, p->headers_len)};
    m->payload = m->payload_end = (struct mr_str){NULL, 0};
    enum mr_rc rc = mr_js_outbox_put(&g->outbox, m);
    if (rc == MR_OK)
        atomic_fetch_add_explicit(&g->sender.oversize, 1, memory_order_relaxed);
    return rc;
}

/* The message of one subscription. */
static enum mr_rc put(struct js_sink *g, const struct mr_js_durable *d, struct mr_parcel *p,
                      enum mr_transition transition)
{
    char id[MR_MESSAGE_ID_MAX + sizeof d->id_end];
    memcpy(id, p->id, p->id_len);
    size_t id_end_len = strlen(d->id_end), event_len = p->json.len;
    memcpy(id + p->id_len, d->id_end, id_end_len);
    put_transition(&p->json, transition);
    if (p->json.failed)
        return MR_FULL;
    struct mr_js_message m = {
        .tag = p->marker.sequence,
        .queued_ns = mr_clock_ns(),
        .subject = mr_str_from(d->subject),
        .id = {id, p->id_len + id_end_len},
        .headers = {p->headers, p->headers_len},
        .payload = {p->json.data, p->json.len},
        .payload_end = d->end,
    };
    enum mr_rc rc = mr_js_outbox_put(&g->outbox, &m);
    p->json.len = event_len;
    return rc == MR_USAGE ? put_omitted(g, p, &m) : rc;
}

static enum mr_rc sink_deliver(struct mr_sink *sink, mr_gateway_id gateway,
                               struct mr_parcel *parcel, const struct mr_delivery *delivery)
{
    struct js_sink *g = from_base(sink);
    if (gateway != g->gateway || g->phase == PHASE_CUT || g->phase == PHASE_DRAIN)
        return MR_CLOSED;
    for (uint32_t i = 0; i < delivery->count; i++) {
        struct mr_js_durable *d = mr_js_durables_find(&g->all, delivery->subscription_ids[i]);
        if (!d || parcel->marker.sequence > d->last)
            continue; /* it has ended; the pump is about to hear of it */
        if (parcel->marker.sequence <= d->through) {
            atomic_fetch_add_explicit(&g->sender.skipped, 1, memory_order_relaxed);
            continue;
        }
        enum mr_transition transition =
            delivery->transitions ? delivery->transitions[i] : MR_TRANSITION_NONE;
        if (put(g, d, parcel, transition) != MR_OK) {
            mr_log_info("jetstream", "queue_full",
                        "sequence=%" PRIu64 " effect=\"goes on from the log behind %" PRIu64
                        " when there is room\"",
                        parcel->marker.sequence, g->handed);
            g->phase = PHASE_CUT;
            return MR_CLOSED;
        }
        d->through = parcel->marker.sequence;
    }
    return MR_OK;
}

/* Whoever reads the stream cannot change the subscription: this is for who keeps the file. */
static enum mr_rc sink_notify(struct mr_sink *sink, mr_gateway_id gateway,
                              const struct mr_notice *notice)
{
    struct js_sink *g = from_base(sink);
    if (gateway != g->gateway)
        return MR_CLOSED;
    const struct mr_js_durable *d = mr_js_durables_find(&g->all, notice->subscription_id);
    mr_log_warn("jetstream", "subscription_in_trouble", "subject=%s code=%.*s why=\"%.*s\"",
                d ? d->subject : "", (int)notice->code.len, notice->code.data,
                (int)notice->text.len, notice->text.data);
    return MR_OK;
}

/* The log no longer reaches back to where this subscription was: its reader is told so. */
static void tell_gap(struct js_sink *g, const struct mr_js_durable *d, struct mr_str progress)
{
    char id[128], headers[256], text[256];
    int id_len =
        snprintf(id, sizeof id, "resync-%.*s%s", (int)progress.len, progress.data, d->id_end);
    int headers_len = snprintf(headers, sizeof headers,
                               "Millrace-Operation: resync\r\nMillrace-Position: %.*s\r\n"
                               "Millrace-Format: " MR_MESSAGE_FORMAT "\r\n",
                               (int)progress.len, progress.data);
    int text_len =
        snprintf(text, sizeof text, "{\"version\":1,\"position\":\"%.*s\",\"event\":null",
                 (int)progress.len, progress.data);
    const struct mr_js_message m = {
        .tag = g->handed,
        .queued_ns = mr_clock_ns(),
        .subject = mr_str_from(d->subject),
        .id = {id, (size_t)id_len},
        .headers = {headers, (size_t)headers_len},
        .payload = {text, (size_t)text_len},
        .payload_end = d->end,
    };
    if (mr_js_outbox_put(&g->outbox, &m) != MR_OK)
        mr_log_error("jetstream", "resync_not_told", "subject=%s", d->subject);
}

static enum mr_rc sink_respond(struct mr_sink *sink, mr_gateway_id gateway,
                               const struct mr_response *response)
{
    struct js_sink *g = from_base(sink);
    if (gateway != g->gateway)
        return MR_CLOSED;
    struct mr_js_durable *d = mr_js_durables_find(&g->all, response->subscription_id);
    if (!d || d->state != MR_JS_TOLD)
        return MR_OK;                            /* it has ended meanwhile */
    if (!response->success && response->later) { /* progress waits for it: nothing is missed */
        mr_log_warn("jetstream", "subscription_waits", "subject=%s why=\"%.*s\"", d->subject,
                    (int)response->error.len, response->error.data);
        g->refused_ns = mr_clock_ns();
        mr_js_durables_refused(&g->all, d);
        return MR_OK;
    }
    if (!response->success) {
        mr_count(sink->cell, MR_COUNTER_JS_REJECTED, 1);
        mr_log_error("jetstream", "subscription_refused", "subject=%s why=\"%.*s\"", d->subject,
                     (int)response->error.len, response->error.data);
        return MR_OK;
    }
    g->confirmed += !d->confirmed;
    d->confirmed = true;
    mr_gauge(sink->cell, MR_COUNTER_JS_SUBSCRIPTIONS, g->confirmed);
    if (response->resync) {
        mr_log_error("jetstream", "resync", "subject=%s why=\"the log does not reach back\"",
                     d->subject);
        tell_gap(g, d, response->progress);
    }
    return MR_OK;
}

static enum mr_rc sink_acknowledge(struct mr_sink *sink, mr_gateway_id gateway,
                                   int64_t timestamp_ms, struct mr_str progress, bool resync)
{
    struct js_sink *g = from_base(sink);
    struct mr_marker marker;
    (void)timestamp_ms;
    (void)resync; /* it speaks for no other gateway */
    if (gateway != g->gateway)
        return MR_CLOSED;
    g->heartbeat_due = false;
    /* A cut in between: what was handed over after it is not in the queue. Who was not told of yet
     * was not counted with. */
    if (g->phase != PHASE_RUN || mr_js_durables_behind(&g->all) ||
        mr_marker_parse(progress, &marker, NULL) != MR_OK)
        return MR_OK;
    marker.sequence = mr_js_durables_limit(&g->all, marker.sequence);
    if (marker.sequence < g->handed)
        return MR_OK;
    g->handed = marker.sequence;
    if (g->asked_tail == UINT64_MAX) {
        g->asked_handed = g->handed;
        g->asked_tail = atomic_load_explicit(&g->outbox.tail, memory_order_relaxed);
        follow_safe(g);
    }
    return MR_OK;
}

static enum mr_rc sink_durable_begin(struct mr_sink *sink, const struct mr_sink_durable *durable,
                                     uint32_t *handle, struct mr_err *err)
{
    enum mr_rc rc = mr_js_durables_begin(&from_base(sink)->all, durable, handle, err);
    if (rc != MR_OK)
        mr_count(sink->cell, MR_COUNTER_JS_REJECTED, 1);
    return rc;
}

static void sink_durable_end(struct mr_sink *sink, uint32_t handle)
{
    mr_js_durables_end(&from_base(sink)->all, handle);
}

/* A cut costs little here, so a catch-up, which waits above one half, may go on until little room
 * is left: live deliveries that keep the queue half full must not hold it up for ever. */
static double sink_fill(struct mr_sink *sink, mr_gateway_id gateway)
{
    struct js_sink *g = from_base(sink);
    return gateway == g->gateway ? mr_js_outbox_fill(&g->outbox) * CATCH_UP_SHARE : 1;
}

static void sink_flush(struct mr_sink *sink)
{
    mr_js_outbox_flush(&from_base(sink)->outbox);
}

static void sink_serving(struct mr_sink *sink, bool serving)
{
    (void)sink;
    (void)serving; /* nobody asks */
}

static void sink_close(struct mr_sink *sink, uint64_t deadline_ns)
{
    struct js_sink *g = from_base(sink);
    mr_js_sender_stop(&g->sender, deadline_ns);
    follow_safe(g);
    sink_free(g);
}

const struct mr_sink_ops mr_sink_jetstream = {
    .name = "jetstream",
    .open = sink_open,
    .attach = sink_attach,
    .poll = sink_poll,
    .encode = sink_encode,
    .release = sink_release,
    .deliver = sink_deliver,
    .notify = sink_notify,
    .respond = sink_respond,
    .acknowledge = sink_acknowledge,
    .durable_begin = sink_durable_begin,
    .durable_end = sink_durable_end,
    .fill = sink_fill,
    .flush = sink_flush,
    .serving = sink_serving,
    .close = sink_close,
};
