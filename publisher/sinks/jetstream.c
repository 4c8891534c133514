/* The JetStream sink: deliveries of the subscriptions in jetstream.subscriptions, one message for
 * each event and subscription on EVENTS.GATEWAY.SUBSCRIPTION.
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
#include "jetstream/subject.h"
#include "publisher/message.h"
#include "publisher/sinks/jetstream_file.h"
#include "publisher/sinks/jetstream_sender.h"

#define HEARTBEAT_NS (50 * MR_NS_PER_MS)
#define REOPEN_FILL  0.25

enum phase {
    PHASE_CONNECT,   /* the sender has not read back the stream yet */
    PHASE_SUBSCRIBE, /* OPEN was told; the next SUBSCRIBE is next_wanted */
    PHASE_RUN,
    PHASE_CUT,   /* the queue was full: CLOSE is to be told */
    PHASE_DRAIN, /* until there is room again */
};

struct durable {
    char *subject;
    struct mr_str end; /* owned: ,"subscriptionId":"s1"} */
    char id_end[20];   /* makes one event's ids different between subjects */
    uint64_t through;  /* queued, or found in the stream */
    const struct mr_js_wanted *wanted;
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
    struct mr_js_wanted_list wanted;
    struct durable *all, **by_subject;
    struct mr_js_outbox outbox;
    struct mr_js_sender sender;
    enum phase phase;
    mr_gateway_id gateway;
    uint32_t next_wanted, told; /* subscription ids are indexes: told is the last one */
    uint64_t handed;            /* the pump has queued everything through this sequence */
    uint64_t safe;              /* and through this one it is acknowledged */
    uint64_t asked_handed,
        asked_tail; /* becomes safe when the queue is released through the tail */
    uint64_t heartbeat_ns;
    bool heartbeat_due; /* its answer is awaited */
    char after[MR_MARKER_TEXT_MAX];
    uint64_t confirmed;
    struct mr_parcel parcel;
};

static struct js_sink *from_base(struct mr_sink *sink)
{
    MR_ASSERT(sink->ops == &mr_sink_jetstream);
    return (struct js_sink *)(void *)sink;
}

static int by_subject(const void *a, const void *b)
{
    return strcmp((*(struct durable *const *)a)->subject, (*(struct durable *const *)b)->subject);
}

static uint64_t log_id_of(const struct js_sink *g)
{
    return atomic_load_explicit(&g->base.board->log_id, memory_order_acquire);
}

/* Sender's thread, before it is ready: nobody else looks at the subscriptions. */
static void on_stored(void *context, const struct mr_js_stored *message)
{
    struct js_sink *g = context;
    struct durable key = {.subject = (char *)(uintptr_t)message->subject}, *at = &key;
    struct durable **found =
        bsearch(&at, g->by_subject, g->wanted.count, sizeof(struct durable *), by_subject);
    struct mr_marker marker;
    if (found && mr_marker_parse(mr_str_from(message->position), &marker, NULL) == MR_OK &&
        marker.log_id == log_id_of(g))
        (*found)->through = marker.sequence;
}

static enum mr_rc make_subject(struct durable *d, const char *first, struct mr_err *err)
{
    char text[MR_JS_SUBJECT_MAX];
    size_t len = 0;
    bool ok = mr_js_text_append(text, sizeof text, &len, mr_str_from(first)) &&
              mr_js_text_append(text, sizeof text, &len, MR_STR(".")) &&
              mr_js_token_append(text, sizeof text, &len, d->wanted->gateway_id) &&
              mr_js_text_append(text, sizeof text, &len, MR_STR(".")) &&
              mr_js_token_append(text, sizeof text, &len, d->wanted->subscription_id);
    if (!ok)
        return mr_reject(err, MR_USAGE, "jetstream.subject: a subject of over %d bytes",
                         MR_JS_SUBJECT_MAX - 1);
    d->subject = strdup(text);
    snprintf(d->id_end, sizeof d->id_end, "@%016" PRIx64, mr_js_hash((struct mr_str){text, len}));
    return d->subject ? MR_OK : mr_fail(err, MR_FATAL, "make subject %s", text);
}

static enum mr_rc make_durable(struct js_sink *g, uint32_t i, struct mr_err *err)
{
    struct durable *d = &g->all[i];
    struct mr_json json = {0};
    d->wanted = &g->wanted.items[i];
    g->by_subject[i] = d;
    mr_json_put_raw(&json, MR_STR(",\"gatewayId\":"));
    mr_json_put_string(&json, d->wanted->gateway_id);
    mr_json_put_raw(&json, MR_STR(",\"subscriptionId\":"));
    mr_json_put_string(&json, d->wanted->subscription_id);
    mr_json_put_raw(&json, MR_STR("}"));
    d->end = (struct mr_str){json.data, json.len}; /* now ours */
    if (json.failed)
        return mr_fail(err, MR_FATAL, "prepare subscriptions");
    return make_subject(d, g->base.config->jetstream_subject.text, err);
}

static enum mr_rc make_durables(struct js_sink *g, struct mr_err *err)
{
    uint32_t count = g->wanted.count;
    g->all = calloc(count + 1, sizeof *g->all);
    g->by_subject = calloc(count + 1, sizeof(struct durable *));
    if (!g->all || !g->by_subject)
        return mr_fail(err, MR_FATAL, "prepare %u subscriptions", count);
    for (uint32_t i = 0; i < count; i++) {
        enum mr_rc rc = make_durable(g, i, err);
        if (rc != MR_OK)
            return rc;
    }
    qsort(g->by_subject, count, sizeof(struct durable *), by_subject);
    for (uint32_t i = 1; i < count; i++)
        if (strcmp(g->by_subject[i - 1]->subject, g->by_subject[i]->subject) == 0)
            return mr_reject(err, MR_USAGE, "%s: %s is there twice",
                             g->base.config->jetstream_subscriptions.text,
                             g->by_subject[i]->subject);
    return MR_OK;
}

static void sink_free(struct js_sink *g)
{
    for (uint32_t i = 0; g->all && i < g->wanted.count; i++) {
        free(g->all[i].subject);
        free((char *)(uintptr_t)g->all[i].end.data);
    }
    free(g->all);
    free(g->by_subject);
    mr_js_wanted_fini(&g->wanted);
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
    enum mr_rc rc = mr_js_wanted_read(config->jetstream_subscriptions.text, &g->wanted, err);
    if (rc == MR_OK)
        rc = make_durables(g, err);
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
    struct mr_marker marker = {.log_id = log_id_of(g), .sequence = g->handed};
    mr_marker_format(marker, g->after);
    g->gateway++;
    g->next_wanted = 0;
    g->confirmed = 0;
    g->asked_tail = UINT64_MAX;
    g->heartbeat_due = false;
    g->phase = PHASE_SUBSCRIBE;
    *out = (struct mr_request){.kind = MR_REQUEST_OPEN, .gateway = g->gateway};
}

static void tell_subscribe(struct js_sink *g, struct mr_request *out)
{
    const struct mr_js_wanted *wanted = g->all[g->told].wanted;
    *out = (struct mr_request){
        .kind = MR_REQUEST_SUBSCRIBE,
        .gateway = g->gateway,
        .subscription_id = {(const char *)&g->told, sizeof g->told},
        .database = wanted->database,
        .collection = wanted->collection,
        .predicates = wanted->predicates,
        .predicate_count = wanted->predicate_count,
        .after = mr_str_from(g->after),
    };
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

static enum mr_rc sink_poll(struct mr_sink *sink, struct mr_request *out)
{
    struct js_sink *g = from_base(sink);
    follow_safe(g);
    switch (g->phase) {
    case PHASE_CONNECT:
        if (!atomic_load_explicit(&g->sender.ready, memory_order_acquire))
            return MR_AGAIN;
        tell_open(g, out);
        return MR_OK;
    case PHASE_SUBSCRIBE:
        if (g->next_wanted < g->wanted.count) {
            g->told = g->next_wanted++;
            tell_subscribe(g, out);
            return MR_OK;
        }
        g->phase = PHASE_RUN;
        return tell_heartbeat(g, out);
    case PHASE_RUN:
        return tell_heartbeat(g, out);
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
    char position[MR_MARKER_TEXT_MAX];
    p->marker = (struct mr_marker){.log_id = log_id_of(g), .sequence = event->head.sequence};
    p->id_len = mr_message_id(event, p->id);
    p->headers_len = mr_message_headers(event, p->marker, MR_MESSAGE_FORMAT, p->headers);
    mr_json_reset(&p->json);
    mr_json_put_raw(&p->json, MR_STR("{\"version\":1,\"position\":\""));
    mr_json_put_raw(&p->json, (struct mr_str){position, mr_marker_format(p->marker, position)});
    mr_json_put_raw(&p->json, MR_STR("\",\"event\":"));
    return mr_message_put_event(&p->json, event) == MR_OK && !p->json.failed ? p : NULL;
}

static void sink_release(struct mr_sink *sink, struct mr_parcel *parcel)
{
    (void)sink;
    (void)parcel;
}

/* The message of one subscription. Too large for the queue: it goes without its payload. */
static enum mr_rc put(struct js_sink *g, const struct durable *d, const struct mr_parcel *p)
{
    char id[MR_MESSAGE_ID_MAX + sizeof d->id_end];
    memcpy(id, p->id, p->id_len);
    size_t id_end_len = strlen(d->id_end);
    memcpy(id + p->id_len, d->id_end, id_end_len);
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
    if (rc != MR_USAGE)
        return rc;
    char headers[MR_MESSAGE_HEADERS_MAX + 64];
    int len = snprintf(headers, sizeof headers, "%.*sMillrace-Omitted: %zu bytes\r\n",
                       (int)p->headers_len, p->headers, p->json.len);
    m.headers = (struct mr_str){headers, (size_t)len};
    m.payload = m.payload_end = (struct mr_str){NULL, 0};
    rc = mr_js_outbox_put(&g->outbox, &m);
    if (rc == MR_OK)
        atomic_fetch_add_explicit(&g->sender.oversize, 1, memory_order_relaxed);
    return rc;
}

static struct durable *find(struct js_sink *g, struct mr_str subscription_id)
{
    uint32_t index;
    MR_ASSERT(subscription_id.len == sizeof index);
    memcpy(&index, subscription_id.data, sizeof index);
    MR_ASSERT(index < g->wanted.count);
    return &g->all[index];
}

static enum mr_rc sink_deliver(struct mr_sink *sink, mr_gateway_id gateway,
                               struct mr_parcel *parcel, const struct mr_delivery *delivery)
{
    struct js_sink *g = from_base(sink);
    if (gateway != g->gateway || g->phase == PHASE_CUT || g->phase == PHASE_DRAIN)
        return MR_CLOSED;
    for (uint32_t i = 0; i < delivery->count; i++) {
        struct durable *d = find(g, delivery->subscription_ids[i]);
        if (parcel->marker.sequence <= d->through) {
            atomic_fetch_add_explicit(&g->sender.skipped, 1, memory_order_relaxed);
            continue;
        }
        if (put(g, d, parcel) != MR_OK) {
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
    mr_log_warn("jetstream", "subscription_in_trouble", "subject=%s code=%.*s why=\"%.*s\"",
                find(g, notice->subscription_id)->subject, (int)notice->code.len, notice->code.data,
                (int)notice->text.len, notice->text.data);
    return MR_OK;
}

/* The log no longer reaches back to where this subscription was: its reader is told so. */
static void tell_gap(struct js_sink *g, const struct durable *d, struct mr_str progress)
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
    const struct durable *d = find(g, response->subscription_id);
    if (!response->success) {
        mr_count(sink->cell, MR_COUNTER_JS_REJECTED, 1);
        mr_log_error("jetstream", "subscription_refused", "subject=%s why=\"%.*s\"", d->subject,
                     (int)response->error.len, response->error.data);
        return MR_OK;
    }
    mr_gauge(sink->cell, MR_COUNTER_JS_SUBSCRIPTIONS, ++g->confirmed);
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
    /* A cut in between: what was handed over after it is not in the queue. */
    if (g->phase != PHASE_RUN || mr_marker_parse(progress, &marker, NULL) != MR_OK ||
        marker.sequence < g->handed)
        return MR_OK;
    g->handed = marker.sequence;
    if (g->asked_tail == UINT64_MAX) {
        g->asked_handed = g->handed;
        g->asked_tail = atomic_load_explicit(&g->outbox.tail, memory_order_relaxed);
        follow_safe(g);
    }
    return MR_OK;
}

static double sink_fill(struct mr_sink *sink, mr_gateway_id gateway)
{
    struct js_sink *g = from_base(sink);
    return gateway == g->gateway ? mr_js_outbox_fill(&g->outbox) : 1;
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
    .fill = sink_fill,
    .flush = sink_flush,
    .serving = sink_serving,
    .close = sink_close,
};
