#include "tools/client/client.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/client/encode.h"

/* Pings as the publisher expects them at most; a publisher that does not answer is gone after 20 s.
 */
enum {
    KEEPALIVE_TIME_MS = 10000,
    KEEPALIVE_TIMEOUT_MS = 10000,
    RECONNECT_MS = 100,
    WORK_MAX = 128,
    READ_CHUNK_BYTES = 64 * 1024
};

enum tag { TAG_READ, TAG_WRITE, TAG_STATUS, TAG_METADATA, TAG_COUNT };

/* What a completion points to. */
struct op {
    struct mr_client *client;
    enum tag tag;
};

struct out {
    struct out *next;
    grpc_byte_buffer *message; /* NULL: half-close */
};

struct mr_client_queue {
    grpc_completion_queue *completions;
};

struct mr_client {
    struct mr_client_queue *queue;
    struct op ops[TAG_COUNT];
    struct mr_client_handlers handlers;
    struct mr_client_ids ids;
    char target[256];
    grpc_channel *channel;
    grpc_call *call;
    uint32_t pending; /* operations under way */
    bool reading, writing, half_closed;
    grpc_byte_buffer *received;
    struct out *first, **last; /* to be written; while writing, first is under way */
    grpc_metadata batch;       /* sent: "several deliveries in one message are welcome" */
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice status_text;
    bool ended;
};

static void start(struct mr_client *c, const grpc_op *op, size_t count, enum tag tag)
{
    grpc_call_error rc = grpc_call_start_batch(c->call, op, count, &c->ops[tag], NULL);
    MR_ASSERT(rc == GRPC_CALL_OK);
    c->pending++;
}

static void read_next(struct mr_client *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &c->received;
    c->reading = true;
    start(c, &op, 1, TAG_READ);
}

static void write_next(struct mr_client *c)
{
    if (c->writing || !c->first || c->ended)
        return;
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    if (c->first->message) {
        op.op = GRPC_OP_SEND_MESSAGE;
        op.flags = c->first->next ? GRPC_WRITE_BUFFER_HINT : 0;
        op.data.send_message.send_message = c->first->message;
    }
    c->writing = true;
    start(c, &op, 1, TAG_WRITE);
}

static void drop_first(struct mr_client *c)
{
    struct out *out = c->first;
    c->first = out->next;
    if (!c->first)
        c->last = &c->first;
    if (out->message)
        grpc_byte_buffer_destroy(out->message);
    free(out);
}

static void add(struct mr_client *c, grpc_byte_buffer *message)
{
    struct out *out = malloc(sizeof *out);
    MR_ASSERT(out != NULL);
    *out = (struct out){NULL, message};
    *c->last = out;
    c->last = &out->next;
    write_next(c);
}

static void add_slice(struct mr_client *c, grpc_slice slice)
{
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    add(c, message);
}

void mr_client_subscribe(struct mr_client *client,
                         const struct mr_client_subscription *subscription)
{
    grpc_slice slice = grpc_slice_malloc(mr_client_subscribe_size(subscription));
    mr_client_put_subscribe(GRPC_SLICE_START_PTR(slice), subscription);
    add_slice(client, slice);
}

void mr_client_unsubscribe(struct mr_client *client, struct mr_str subscription_id)
{
    grpc_slice slice = grpc_slice_malloc(mr_client_unsubscribe_size(subscription_id));
    mr_client_put_unsubscribe(GRPC_SLICE_START_PTR(slice), subscription_id);
    add_slice(client, slice);
}

void mr_client_heartbeat(struct mr_client *client, int64_t timestamp_ms)
{
    grpc_slice slice = grpc_slice_malloc(mr_client_heartbeat_size(timestamp_ms));
    mr_client_put_heartbeat(GRPC_SLICE_START_PTR(slice), timestamp_ms);
    add_slice(client, slice);
}

void mr_client_half_close(struct mr_client *client)
{
    if (client->half_closed)
        return;
    client->half_closed = true;
    add(client, NULL);
}

static grpc_arg int_arg(const char *key, int value)
{
    grpc_arg arg = {.type = GRPC_ARG_INTEGER};
    arg.key = (char *)(uintptr_t)key; /* gRPC does not write to it */
    arg.value.integer = value;
    return arg;
}

static void connect_channel(struct mr_client *c)
{
    grpc_arg args[] = {
        int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_TIME_MS),
        int_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        int_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, -1),
        int_arg(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_MS),
        int_arg(GRPC_ARG_TCP_READ_CHUNK_SIZE, READ_CHUNK_BYTES),
        int_arg(GRPC_ARG_ENABLE_RETRIES, 0),
        int_arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
        int_arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        int_arg(GRPC_ARG_MINIMAL_STACK, 1),
        int_arg(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0),
        int_arg(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
        int_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL,
                1), /* a connection of its own for each client */
    };
    grpc_channel_args all = {sizeof args / sizeof args[0], args};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    c->channel = grpc_channel_create(c->target, credentials, &all);
    grpc_channel_credentials_release(credentials);
}

static void begin_call(struct mr_client *c)
{
    grpc_slice method =
        grpc_slice_from_static_string("/syntrix.streamer.v1.StreamerService/Stream");
    c->call =
        grpc_channel_create_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, c->queue->completions,
                                 method, NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    status.data.recv_status_on_client.trailing_metadata = &c->trailing;
    status.data.recv_status_on_client.status = &c->status;
    status.data.recv_status_on_client.status_details = &c->status_text;
    start(c, &status, 1, TAG_STATUS);
    c->batch = (grpc_metadata){.key = grpc_slice_from_static_string("millrace-batch"),
                               .value = grpc_slice_from_static_string("1")};
    grpc_op metadata[] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                          {.op = GRPC_OP_RECV_INITIAL_METADATA}};
    metadata[0].data.send_initial_metadata.count = 1;
    metadata[0].data.send_initial_metadata.metadata = &c->batch;
    metadata[1].data.recv_initial_metadata.recv_initial_metadata = &c->initial;
    start(c, metadata, 2, TAG_METADATA);
    read_next(c);
}

struct mr_client_queue *mr_client_queue_create(void)
{
    struct mr_client_queue *queue = calloc(1, sizeof *queue);
    MR_ASSERT(queue != NULL);
    grpc_init();
    queue->completions = grpc_completion_queue_create_for_next(NULL);
    return queue;
}

void mr_client_queue_destroy(struct mr_client_queue **queue)
{
    if (!*queue)
        return;
    grpc_completion_queue *completions = (*queue)->completions;
    grpc_completion_queue_shutdown(completions);
    while (
        grpc_completion_queue_next(completions, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
        GRPC_QUEUE_SHUTDOWN)
        continue;
    grpc_completion_queue_destroy(completions);
    grpc_shutdown();
    free(*queue);
    *queue = NULL;
}

enum mr_rc mr_client_open(struct mr_client **out, struct mr_client_queue *queue, const char *target,
                          const struct mr_client_handlers *handlers, struct mr_err *err)
{
    if (strlen(target) >= sizeof((struct mr_client *)0)->target)
        return mr_reject(err, MR_USAGE, "server: expected host:port, got %zu bytes",
                         strlen(target));
    struct mr_client *c = calloc(1, sizeof *c);
    if (!c)
        return mr_reject(err, MR_FATAL, "connect to %s: out of memory", target);
    c->queue = queue;
    for (uint32_t tag = 0; tag < TAG_COUNT; tag++)
        c->ops[tag] = (struct op){c, (enum tag)tag};
    c->handlers = *handlers;
    snprintf(c->target, sizeof c->target, "%s", target);
    c->last = &c->first;
    c->status_text = grpc_empty_slice();
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    connect_channel(c);
    begin_call(c);
    *out = c;
    return MR_OK;
}

static enum mr_rc dispatch(struct mr_client *c, grpc_byte_buffer *message, struct mr_err *err)
{
    grpc_byte_buffer_reader reader;
    int ok = grpc_byte_buffer_reader_init(&reader, message);
    MR_ASSERT(ok);
    grpc_slice bytes = grpc_empty_slice();
    if (grpc_byte_buffer_length(message) > 0 && grpc_byte_buffer_reader_next(&reader, &bytes) &&
        GRPC_SLICE_LENGTH(bytes) < grpc_byte_buffer_length(message)) {
        grpc_slice_unref(bytes);
        grpc_byte_buffer_reader_destroy(&reader);
        ok = grpc_byte_buffer_reader_init(&reader, message);
        MR_ASSERT(ok);
        bytes = grpc_byte_buffer_reader_readall(&reader);
    }
    struct mr_str text = {(const char *)GRPC_SLICE_START_PTR(bytes), GRPC_SLICE_LENGTH(bytes)};
    enum mr_rc rc = mr_client_dispatch(text, &c->handlers, &c->ids, err);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_slice_unref(bytes);
    grpc_byte_buffer_destroy(message);
    return rc;
}

static enum mr_rc completed(struct mr_client *c, enum tag tag, bool ok, struct mr_err *err)
{
    grpc_byte_buffer *message;
    c->pending--;
    switch (tag) {
    case TAG_READ:
        c->reading = false;
        message = c->received;
        c->received = NULL;
        if (!message) /* the end; the status follows */
            return MR_OK;
        read_next(c);
        return dispatch(c, message, err);
    case TAG_WRITE:
        c->writing = false;
        drop_first(c);
        if (ok)
            write_next(c);
        return MR_OK;
    case TAG_STATUS:
        c->ended = true;
        return MR_OK;
    case TAG_METADATA:
    case TAG_COUNT:
        break;
    }
    return MR_OK;
}

static const char *status_name(grpc_status_code status)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };
    return (size_t)status < sizeof names / sizeof names[0] ? names[status] : "unknown status";
}

static enum mr_rc outcome(const struct mr_client *c, struct mr_err *err)
{
    enum mr_rc rc = MR_RETRY;
    if (c->status == GRPC_STATUS_OK)
        return MR_CLOSED;
    if (c->status == GRPC_STATUS_INVALID_ARGUMENT || c->status == GRPC_STATUS_UNIMPLEMENTED)
        rc = MR_USAGE;
    return mr_reject(err, rc, "stream to %s: %s: %.*s", c->target, status_name(c->status),
                     (int)GRPC_SLICE_LENGTH(c->status_text),
                     (const char *)GRPC_SLICE_START_PTR(c->status_text));
}

static grpc_event next_event(struct mr_client_queue *queue, uint64_t timeout_ns)
{
    gpr_timespec deadline = gpr_inf_past(GPR_CLOCK_MONOTONIC);
    if (timeout_ns > 0)
        deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                gpr_time_from_nanos((int64_t)timeout_ns, GPR_TIMESPAN));
    return grpc_completion_queue_next(queue->completions, deadline, NULL);
}

enum mr_rc mr_client_work(struct mr_client_queue *queue, uint64_t timeout_ns, struct mr_err *err)
{
    uint32_t done = 0;
    while (done < WORK_MAX) {
        grpc_event event = next_event(queue, done ? 0 : timeout_ns);
        if (event.type != GRPC_OP_COMPLETE)
            break;
        const struct op *op = event.tag;
        struct mr_client *c = op->client;
        enum mr_rc rc = completed(c, op->tag, event.success != 0, err);
        if (rc != MR_OK)
            return rc;
        if (c->ended && !c->reading) /* what came before the status has been handed out */
            return outcome(c, err);
        done++;
    }
    return done ? MR_OK : MR_AGAIN;
}

void mr_client_close(struct mr_client **client)
{
    struct mr_client *c = *client;
    if (!c)
        return;
    *client = NULL;
    if (!c->ended)
        grpc_call_cancel(c->call, NULL);
    while (c->pending > 0) {
        grpc_event event = grpc_completion_queue_next(c->queue->completions,
                                                      gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        MR_ASSERT(event.type == GRPC_OP_COMPLETE);
        const struct op *op = event.tag;
        struct mr_err ignored = {0};
        if (op->client == c)
            c->pending--;
        else
            (void)completed(op->client, op->tag, event.success != 0, &ignored);
    }
    if (c->received)
        grpc_byte_buffer_destroy(c->received);
    while (c->first)
        drop_first(c);
    grpc_call_unref(c->call);
    grpc_channel_destroy(c->channel);
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
    grpc_slice_unref(c->status_text);
    free(c->ids.items);
    free(c);
}
