/* The gRPC sink: syntrix.streamer.v1.StreamerService with health checks and reflection. This file
 * is what the pump calls; see rpc/grpc_server.h for the threads.
 *
 * Counters kept here: gateways, cuts, delivery bytes, rejected messages. Deliveries, pairs,
 * subscribes are the pump's. */
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/json.h"
#include "publisher/control.h"
#include "publisher/sinks/grpc_stream.h"
#include "rpc/grpc_health.h"
#include "rpc/grpc_reflection.h"

enum { ROUTE_COUNT = 5 };

struct grpc_sink {
    struct mr_sink base;
    struct mr_grpc_streams streams;
    struct mr_grpc_health *health;
    struct mr_grpc_route routes[ROUTE_COUNT];
    struct mr_grpc_server *server;

    /* The pump's. */
    struct mr_grpc_request *current; /* given out by the last poll */
    struct mr_grpc_stream *
        *known;      /* by place: streams whose OPEN was given out and CLOSE was not */
    uint32_t *dirty; /* places of streams with messages that are not flushed */
    bool *is_dirty;  /* by place */
    uint32_t dirty_count;
    uint64_t gateways, rejected_counted;
    uint64_t expires_ns; /* no token of an open stream expires before it */
    struct mr_json json; /* scratch */
};

/* Parcel: lies at the start of its own slice's bytes, in front of the event part. */
struct mr_parcel {
    grpc_slice whole;
    size_t len; /* of the event part */
};

static struct grpc_sink *from_base(struct mr_sink *sink)
{
    MR_ASSERT(sink->ops == &mr_sink_grpc);
    return (struct grpc_sink *)(void *)sink;
}

static struct mr_grpc_stream *find_stream(struct grpc_sink *g, mr_gateway_id id)
{
    uint32_t place = mr_grpc_stream_place(id);
    MR_ASSERT(place < g->streams.limits.streams_max);
    struct mr_grpc_stream *stream = g->known[place];
    return stream && mr_grpc_stream_id(stream) == id ? stream : NULL;
}

static void sink_free(struct grpc_sink *g)
{
    mr_grpc_health_destroy(&g->health);
    mr_json_fini(&g->json);
    free(g->known);
    free(g->dirty);
    free(g->is_dirty);
    free(g);
}

static enum mr_rc allocate(struct grpc_sink **out, const struct mr_config *config,
                           struct mr_cell_shm *cell, struct mr_err *err)
{
    struct grpc_sink *g = calloc(1, sizeof *g);
    size_t places = config->publisher_gateways_max;
    if (g) {
        g->base = (struct mr_sink){.ops = &mr_sink_grpc, .config = config, .cell = cell};
        g->expires_ns = UINT64_MAX;
        g->known = calloc(places, sizeof(struct mr_grpc_stream *));
        g->dirty = calloc(places, sizeof *g->dirty);
        g->is_dirty = calloc(places, sizeof *g->is_dirty);
    }
    if (!g || !g->known || !g->dirty || !g->is_dirty) {
        if (g)
            sink_free(g);
        return mr_reject(err, MR_FATAL, "open the gRPC sink: out of memory");
    }
    *out = g;
    return MR_OK;
}

static enum mr_rc open_server(struct grpc_sink *g, struct mr_err *err)
{
    const struct mr_grpc_route routes[ROUTE_COUNT] = {
        {"/syntrix.streamer.v1.StreamerService/Stream", mr_grpc_stream_begin, &g->streams,
         MR_GRPC_SCOPED},
        {"/grpc.health.v1.Health/Check", mr_grpc_health_check, g->health, MR_GRPC_ANYBODY},
        {"/grpc.health.v1.Health/Watch", mr_grpc_health_watch, g->health, MR_GRPC_ANYBODY},
        {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", mr_grpc_reflection, NULL,
         MR_GRPC_ANYBODY},
        {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", mr_grpc_reflection, NULL,
         MR_GRPC_ANYBODY},
    };
    memcpy(g->routes, routes, sizeof routes);
    const struct mr_grpc_server_options options = {
        .listen = g->base.config->publisher_grpc_listen.text,
        .key = "publisher.grpc_listen",
        .message_bytes_max = (uint32_t)g->base.config->publisher_message_bytes_max,
        .routes = g->routes,
        .route_count = ROUTE_COUNT,
        .config = g->base.config,
    };
    return mr_grpc_server_open(&g->server, &options, err);
}

static void answer(void *context, mr_gateway_id gateway, grpc_slice message);

static enum mr_rc sink_open(struct mr_sink **out, const struct mr_config *config,
                            struct mr_cell_shm *cell, struct mr_err *err)
{
    struct grpc_sink *g = NULL;
    enum mr_rc rc = allocate(&g, config, cell, err);
    if (rc != MR_OK)
        return rc;
    const struct mr_grpc_stream_limits limits = {
        .wire = {.filters_max = (uint32_t)config->publisher_filters_max,
                 .value_bytes_max = (uint32_t)config->publisher_value_bytes_max},
        .streams_max = (uint32_t)config->publisher_gateways_max,
        .queue_messages = (uint32_t)config->publisher_gateway_queue_messages,
        .queue_bytes = config->publisher_gateway_queue_size,
    };
    rc = mr_grpc_health_create(&g->health, "syntrix.streamer.v1.StreamerService", err);
    if (rc == MR_OK)
        rc = mr_grpc_streams_init(&g->streams, &limits, &cell->bell, err);
    if (rc != MR_OK) {
        sink_free(g);
        return rc;
    }
    mr_gauge(cell, MR_COUNTER_GATEWAYS, 0); /* of a predecessor */
    g->streams.answer = answer;
    g->streams.answer_context = g;
    rc = open_server(g, err);
    if (rc != MR_OK) {
        mr_grpc_streams_fini(&g->streams);
        sink_free(g);
        return rc;
    }
    *out = &g->base;
    return MR_OK;
}

static void drop_current(struct grpc_sink *g)
{
    struct mr_grpc_request *request = g->current;
    if (!request)
        return;
    g->current = NULL;
    if (request->request.kind == MR_REQUEST_CLOSE)
        g->known[mr_grpc_stream_place(request->request.gateway)] = NULL;
    mr_grpc_request_drop(request);
}

/* Who opened a stream with a token that has expired has to show another one. */
static void end_expired(struct grpc_sink *g)
{
    uint64_t now_ns = mr_clock_ns();
    if (now_ns < g->expires_ns)
        return;
    g->expires_ns = UINT64_MAX;
    for (uint32_t i = 0; i < g->streams.limits.streams_max; i++) {
        uint64_t expires_ns = g->known[i] ? mr_grpc_stream_expires_ns(g->known[i]) : UINT64_MAX;
        if (expires_ns <= now_ns)
            mr_grpc_stream_end(g->known[i], GRPC_STATUS_UNAUTHENTICATED,
                               "the token has expired; connect again with a new one and the last "
                               "progress marker");
        else if (expires_ns < g->expires_ns)
            g->expires_ns = expires_ns;
    }
}

static enum mr_rc sink_poll(struct mr_sink *sink, struct mr_request *out)
{
    struct grpc_sink *g = from_base(sink);
    drop_current(g);
    end_expired(g);
    struct mr_grpc_request *request = mr_grpc_inbox_take(&g->streams.inbox);
    uint64_t rejected = atomic_load_explicit(&g->streams.inbox.rejected, memory_order_relaxed);
    if (rejected != g->rejected_counted) {
        mr_count(sink->cell, MR_COUNTER_MESSAGES_REJECTED, rejected - g->rejected_counted);
        g->rejected_counted = rejected;
    }
    if (!request)
        return MR_AGAIN;
    if (request->request.kind == MR_REQUEST_OPEN) {
        g->known[mr_grpc_stream_place(request->request.gateway)] = request->stream;
        uint64_t expires_ns = mr_grpc_stream_expires_ns(request->stream);
        g->expires_ns = expires_ns < g->expires_ns ? expires_ns : g->expires_ns;
        mr_gauge(sink->cell, MR_COUNTER_GATEWAYS, ++g->gateways);
    } else if (request->request.kind == MR_REQUEST_CLOSE) {
        mr_gauge(sink->cell, MR_COUNTER_GATEWAYS, --g->gateways);
    }
    g->current = request;
    *out = request->request;
    return MR_OK;
}

static struct mr_parcel *sink_encode(struct mr_sink *sink, const struct mr_event *event)
{
    struct grpc_sink *g = from_base(sink);
    char id[MR_EVENT_ID_MAX];
    struct mr_wire_event wire = {.event = event, .event_id = event->event_id};
    if (wire.event_id.len == 0)
        wire.event_id = (struct mr_str){id, mr_event_id(event, id)};
    mr_json_reset(&g->json);
    if (event->document.len > 0 && mr_json_put_document(&g->json, event->document) == MR_FULL)
        return NULL;
    wire.document_json = (struct mr_str){g->json.data, g->json.len};
    size_t size = mr_wire_event_size(&wire);
    grpc_slice whole = grpc_slice_malloc_large(sizeof(struct mr_parcel) + size);
    MR_ASSERT(whole.refcount != NULL); /* on the heap, so that parcel and slice share their bytes */
    struct mr_parcel *parcel = (struct mr_parcel *)(void *)whole.data.refcounted.bytes;
    *parcel = (struct mr_parcel){whole, size};
    mr_wire_put_event((uint8_t *)(parcel + 1), &wire);
    return parcel;
}

static void sink_release(struct mr_sink *sink, struct mr_parcel *parcel)
{
    (void)sink;
    grpc_slice_unref(parcel->whole); /* a copy: the parcel itself may go with it */
}

static void mark_dirty(struct grpc_sink *g, mr_gateway_id gateway)
{
    uint32_t place = mr_grpc_stream_place(gateway);
    if (g->is_dirty[place])
        return;
    g->is_dirty[place] = true;
    g->dirty[g->dirty_count++] = place;
}

static enum mr_rc queue(struct grpc_sink *g, struct mr_grpc_stream *stream, grpc_slice head,
                        const struct mr_parcel *parcel)
{
    grpc_slice body = grpc_empty_slice();
    if (parcel)
        body = grpc_slice_sub(parcel->whole, sizeof *parcel, sizeof *parcel + parcel->len);
    bool cut;
    enum mr_rc rc = mr_grpc_stream_queue(stream, head, body, parcel == NULL, &cut);
    if (rc == MR_OK)
        mark_dirty(g, mr_grpc_stream_id(stream));
    if (cut) {
        mr_count(g->base.cell, MR_COUNTER_GATEWAYS_CUT, 1);
        mr_log_warn("grpc", "gateway_cut", "gateway=%llu reason=\"it does not read\"",
                    (unsigned long long)mr_grpc_stream_id(stream));
    }
    return rc;
}

static enum mr_rc sink_deliver(struct mr_sink *sink, mr_gateway_id gateway,
                               struct mr_parcel *parcel, const struct mr_delivery *delivery)
{
    struct grpc_sink *g = from_base(sink);
    struct mr_grpc_stream *stream = find_stream(g, gateway);
    if (!stream)
        return MR_CLOSED;
    struct mr_wire_head wire = {.delivery = delivery, .event_size = parcel->len};
    grpc_slice head = grpc_slice_malloc(mr_wire_head_size(&wire));
    mr_wire_put_head(GRPC_SLICE_START_PTR(head), &wire);
    uint64_t bytes = GRPC_SLICE_LENGTH(head) + parcel->len;
    enum mr_rc rc = queue(g, stream, head, parcel);
    if (rc == MR_OK)
        mr_count(sink->cell, MR_COUNTER_DELIVERY_BYTES, bytes);
    return rc;
}

static enum mr_rc sink_notify(struct mr_sink *sink, mr_gateway_id gateway,
                              const struct mr_notice *notice)
{
    struct grpc_sink *g = from_base(sink);
    struct mr_grpc_stream *stream = find_stream(g, gateway);
    if (!stream)
        return MR_CLOSED;
    grpc_slice message = grpc_slice_malloc(mr_wire_notice_size(notice));
    mr_wire_put_notice(GRPC_SLICE_START_PTR(message), notice);
    return queue(g, stream, message, NULL);
}

static enum mr_rc sink_respond(struct mr_sink *sink, mr_gateway_id gateway,
                               const struct mr_response *response)
{
    struct grpc_sink *g = from_base(sink);
    struct mr_grpc_stream *stream = find_stream(g, gateway);
    if (!stream)
        return MR_CLOSED;
    grpc_slice message = grpc_slice_malloc(mr_wire_response_size(response));
    mr_wire_put_response(GRPC_SLICE_START_PTR(message), response);
    return queue(g, stream, message, NULL);
}

static enum mr_rc sink_acknowledge(struct mr_sink *sink, mr_gateway_id gateway,
                                   int64_t timestamp_ms, struct mr_str progress, bool resync)
{
    struct grpc_sink *g = from_base(sink);
    struct mr_grpc_stream *stream = find_stream(g, gateway);
    if (!stream)
        return MR_CLOSED;
    const struct mr_wire_ack ack = {timestamp_ms, progress, resync};
    grpc_slice message = grpc_slice_malloc(mr_wire_ack_size(&ack));
    mr_wire_put_ack(GRPC_SLICE_START_PTR(message), &ack);
    return queue(g, stream, message, NULL);
}

static void answer(void *context, mr_gateway_id gateway, grpc_slice message)
{
    struct grpc_sink *g = context;
    struct mr_grpc_stream *stream = find_stream(g, gateway);
    if (stream)
        (void)queue(g, stream, message, NULL); /* or it is being closed, and needs none */
    else
        grpc_slice_unref(message);
}

static double sink_fill(struct mr_sink *sink, mr_gateway_id gateway)
{
    struct mr_grpc_stream *stream = find_stream(from_base(sink), gateway);
    return stream ? mr_grpc_stream_fill(stream) : 1;
}

static void sink_flush(struct mr_sink *sink)
{
    struct grpc_sink *g = from_base(sink);
    for (uint32_t i = 0; i < g->dirty_count; i++) {
        uint32_t place = g->dirty[i];
        g->is_dirty[place] = false;
        if (g->known[place]) /* else it has been closed since */
            mr_grpc_stream_flush(g->known[place]);
    }
    g->dirty_count = 0;
}

static void sink_serving(struct mr_sink *sink, bool serving)
{
    mr_grpc_health_serving(from_base(sink)->health, serving);
}

/* What is left in the inbox holds the streams: take all of it. */
static void empty_inbox(struct grpc_sink *g)
{
    struct mr_request request;
    while (sink_poll(&g->base, &request) == MR_OK) {
        if (request.kind != MR_REQUEST_REGISTER)
            continue;
        mr_control_fail(request.control, MR_CONTROL_UNAVAILABLE, "the publisher is stopping");
        request.control->done(request.control);
    }
}

static void sink_close(struct mr_sink *sink, uint64_t deadline_ns)
{
    struct grpc_sink *g = from_base(sink);
    mr_grpc_health_serving(g->health, false);
    mr_grpc_health_stop(g->health);
    mr_grpc_server_stop(g->server);
    sink_flush(sink);
    mr_grpc_streams_stop(&g->streams);
    mr_grpc_server_close(g->server, deadline_ns);
    empty_inbox(g);
    mr_grpc_streams_fini(&g->streams);
    sink_free(g);
}

const struct mr_sink_ops mr_sink_grpc = {
    .name = "grpc",
    .open = sink_open,
    .poll = sink_poll,
    .encode = sink_encode,
    .release = sink_release,
    .deliver = sink_deliver,
    .respond = sink_respond,
    .notify = sink_notify,
    .acknowledge = sink_acknowledge,
    .fill = sink_fill,
    .flush = sink_flush,
    .serving = sink_serving,
    .close = sink_close,
};
