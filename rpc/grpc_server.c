#include "rpc/grpc_server.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/listen.h"
#include "common/log.h"
#include "rpc/auth.h"
#include "rpc/grpc_tls.h"

/* Streams stay open for days, so both sides must agree on pings. A peer that does not answer one
 * for a timeout is gone. gRPC's own clients may ping every 10 s and are not told to go away; half
 * of that leaves room for jitter. */
enum {
    KEEPALIVE_TIME_MS = 30000,
    KEEPALIVE_TIMEOUT_MS = 20000,
    CLIENT_PING_INTERVAL_MIN_MS = 5000,
    CLIENT_PING_STRIKES_MAX = 2,
    STREAMS_PER_CONNECTION_MAX = 1024,
    METADATA_BYTES_MAX = 16 * 1024,
    HANDSHAKE_TIMEOUT_MS = 10000,
    WRITE_BUFFER_BYTES = 64 * 1024, /* what a stream may gather before it goes to the wire */
    READ_CHUNK_BYTES = 64 * 1024,
};

struct mr_grpc_server {
    struct mr_grpc_server_options options;
    grpc_server *server;
    grpc_completion_queue *queue;
    pthread_t thread;
    uint16_t port;
    struct mr_auth *auth;    /* NULL: everybody may do everything */
    struct mr_grpc_tls *tls; /* NULL: plain */
    _Atomic uint32_t calls;  /* open; queue thread only, read by all */

    /* The call that comes next. Queue thread only. */
    struct mr_grpc_op accept;
    grpc_call *next;
    grpc_call_details details;
    grpc_metadata_array metadata;

    struct mr_grpc_op stopped;
    pthread_mutex_t lock; /* of the two below */
    pthread_cond_t changed;
    bool ended; /* no call is open and none can come */
};

/* Queue thread. */

static void request_next(struct mr_grpc_server *s)
{
    grpc_call_details_init(&s->details);
    grpc_metadata_array_init(&s->metadata);
    s->next = NULL;
    grpc_call_error rc = grpc_server_request_call(s->server, &s->next, &s->details, &s->metadata,
                                                  s->queue, s->queue, &s->accept);
    MR_ASSERT(rc == GRPC_CALL_OK);
}

static const struct mr_grpc_route *find_route(const struct mr_grpc_server *s, struct mr_str path)
{
    for (uint32_t i = 0; i < s->options.route_count; i++) {
        if (mr_str_equal(mr_str_from(s->options.routes[i].path), path))
            return &s->options.routes[i];
    }
    return NULL;
}

static void refuse_unknown(struct mr_grpc_call call, struct mr_str path)
{
    char text[256];
    snprintf(text, sizeof text, "method \"%.*s\" is unknown here; see server reflection",
             (int)(path.len < 128 ? path.len : 128), path.data);
    mr_grpc_refuse(call, GRPC_STATUS_UNIMPLEMENTED, text);
}

/* The value of a header; data NULL: there is none. Borrowed from the server's metadata. */
static struct mr_str header(const struct mr_grpc_server *s, const char *name)
{
    for (size_t i = 0; i < s->metadata.count; i++) {
        const grpc_metadata *m = &s->metadata.metadata[i];
        if (mr_str_equal(mr_grpc_slice_str(&m->key), mr_str_from(name)))
            return mr_grpc_slice_str(&m->value);
    }
    return (struct mr_str){NULL, 0};
}

/* May the caller use the route? The call's scope and end are set; or it is refused, and gone. */
static bool admit(const struct mr_grpc_server *s, const struct mr_grpc_route *route,
                  struct mr_str authorization, struct mr_grpc_call *call)
{
    struct mr_err err = {0};
    struct mr_scope *scope = NULL;
    if (route->access == MR_GRPC_ANYBODY || !s->auth)
        return true;
    enum mr_rc rc = mr_auth_check(s->auth, authorization, &scope, &err);
    if (rc != MR_OK) {
        mr_grpc_refuse(*call,
                       rc == MR_USAGE ? GRPC_STATUS_UNAUTHENTICATED : GRPC_STATUS_UNAVAILABLE,
                       err.text);
        return false;
    }
    if (scope)
        call->expires_ns = scope->expires_ns;
    if (route->access == MR_GRPC_SCOPED) {
        call->scope = scope;
        return true;
    }
    bool whole = !scope || (scope->databases.all && scope->collections.all);
    mr_scope_unref(scope);
    if (!whole)
        mr_grpc_refuse(*call, GRPC_STATUS_PERMISSION_DENIED,
                       "the token does not reach every database and collection");
    return whole;
}

static void accepted(void *owner, bool ok)
{
    struct mr_grpc_server *s = owner;
    if (!ok) { /* the server is stopping: no more calls will come */
        grpc_call_details_destroy(&s->details);
        grpc_metadata_array_destroy(&s->metadata);
        return;
    }
    struct mr_grpc_call call = {
        .server = s,
        .call = s->next,
        .expires_ns = UINT64_MAX,
        .batch = mr_str_equal(header(s, "millrace-batch"), MR_STR("1")),
    };
    grpc_call_details details = s->details;
    atomic_fetch_add_explicit(&s->calls, 1, memory_order_relaxed);
    struct mr_str path = mr_grpc_slice_str(&details.method);
    const struct mr_grpc_route *route = find_route(s, path);
    bool admitted = route && admit(s, route, header(s, "authorization"), &call);
    grpc_metadata_array_destroy(&s->metadata);
    request_next(s);
    if (!route)
        refuse_unknown(call, path);
    else if (admitted)
        route->begin(call, route->context);
    grpc_call_details_destroy(&details);
}

static void server_stopped(void *owner, bool ok)
{
    struct mr_grpc_server *s = owner;
    (void)ok;
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void *run_queue(void *argument)
{
    struct mr_grpc_server *s = argument;
    gpr_timespec forever = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    for (;;) {
        grpc_event event = grpc_completion_queue_next(s->queue, forever, NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        MR_ASSERT(event.type == GRPC_OP_COMPLETE);
        struct mr_grpc_op *op = event.tag;
        op->done(op->owner, event.success != 0);
    }
}

void mr_grpc_start(grpc_call *call, const grpc_op *ops, size_t count, struct mr_grpc_op *op)
{
    grpc_call_error rc = grpc_call_start_batch(call, ops, count, op, NULL);
    MR_ASSERT(rc == GRPC_CALL_OK);
}

void mr_grpc_nudge(grpc_call *call, struct mr_grpc_op *op)
{
    mr_grpc_start(call, NULL, 0, op);
}

void mr_grpc_call_fini(struct mr_grpc_call *call)
{
    struct mr_grpc_server *s = call->server;
    grpc_call_unref(call->call);
    uint32_t before = atomic_fetch_sub_explicit(&s->calls, 1, memory_order_relaxed);
    MR_ASSERT(before > 0);
    if (before > 1)
        return;
    pthread_mutex_lock(&s->lock); /* mr_grpc_server_close may wait for the last one */
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* A refused call: everything in one batch, and then it is over. */
struct refusal {
    struct mr_grpc_call call;
    struct mr_grpc_op op;
    int cancelled;
};

static void refused(void *owner, bool ok)
{
    struct refusal *refusal = owner;
    (void)ok; /* whether the peer waited for the answer is its own business */
    mr_grpc_call_fini(&refusal->call);
    free(refusal);
}

void mr_grpc_refuse(struct mr_grpc_call call, grpc_status_code status, const char *text)
{
    struct refusal *refusal = malloc(sizeof *refusal);
    if (!refusal) { /* the peer gets CANCELLED */
        grpc_call_cancel(call.call, NULL);
        mr_grpc_call_fini(&call);
        return;
    }
    *refusal = (struct refusal){.call = call, .op = {refused, refusal}};
    grpc_slice details = grpc_slice_from_copied_string(text);
    grpc_op ops[] = {mr_grpc_op_send_metadata(), mr_grpc_op_send_status(status, &details),
                     mr_grpc_op_receive_close(&refusal->cancelled)};
    mr_grpc_start(call.call, ops, 3, &refusal->op);
    grpc_slice_unref(details);
}

grpc_slice mr_grpc_take_bytes(grpc_byte_buffer *message)
{
    size_t len = grpc_byte_buffer_length(message);
    grpc_byte_buffer_reader reader;
    int ok = grpc_byte_buffer_reader_init(&reader, message);
    MR_ASSERT(ok);
    grpc_slice bytes = grpc_empty_slice();
    ok = len == 0 || grpc_byte_buffer_reader_next(&reader, &bytes);
    MR_ASSERT(ok);
    if (GRPC_SLICE_LENGTH(bytes) < len) { /* more than one piece: join them in a copy */
        grpc_slice_unref(bytes);
        grpc_byte_buffer_reader_destroy(&reader);
        ok = grpc_byte_buffer_reader_init(&reader, message);
        MR_ASSERT(ok);
        bytes = grpc_byte_buffer_reader_readall(&reader);
    }
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(message);
    return bytes;
}

/* The owner's thread. */

static grpc_arg int_arg(const char *key, int value)
{
    grpc_arg arg = {.type = GRPC_ARG_INTEGER};
    arg.key = (char *)(uintptr_t)key; /* gRPC does not write to it */
    arg.value.integer = value;
    return arg;
}

/* What gRPC has to say is for those who look into gRPC; what matters of it, we say ourselves. */
static void log_of_grpc(gpr_log_func_args *args)
{
    mr_log_debug("grpc", "core", "line=%d text=\"%.400s\"", args->line, args->message);
}

/* gRPC tells only that it could not listen: ask the system for the reason. */
static enum mr_rc not_listening(const struct mr_grpc_server_options *options, struct mr_err *err)
{
    int fd;
    if (mr_listen(options->key, options->listen, &fd, err) == MR_OK) {
        close(fd);
        (void)mr_reject(err, MR_RETRY, "listen on %s %s: no reason is known", options->key,
                        options->listen);
    }
    return MR_RETRY;
}

static enum mr_rc listen_on(struct mr_grpc_server *s, struct mr_err *err)
{
    grpc_arg args[] = {
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)s->options.message_bytes_max),
        int_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, STREAMS_PER_CONNECTION_MAX),
        int_arg(GRPC_ARG_MAX_METADATA_SIZE, METADATA_BYTES_MAX),
        int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_TIME_MS),
        int_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        int_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        int_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        int_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, CLIENT_PING_INTERVAL_MIN_MS),
        int_arg(GRPC_ARG_HTTP2_MAX_PING_STRIKES, CLIENT_PING_STRIKES_MAX),
        int_arg(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS),
        int_arg(GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, WRITE_BUFFER_BYTES),
        int_arg(GRPC_ARG_TCP_READ_CHUNK_SIZE, READ_CHUNK_BYTES),
        /* Two servers must never share a port by accident: the second is to fail. */
        int_arg(GRPC_ARG_ALLOW_REUSEPORT, 0),
        int_arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
        int_arg(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0),
        /* gRPC holds a message's length against its limit before it unpacks it, without one. So
         * nothing is unpacked: who compresses is told UNIMPLEMENTED. */
        int_arg(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
        int_arg(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE),
    };
    grpc_channel_args all = {sizeof args / sizeof args[0], args};
    s->server = grpc_server_create(&all, NULL);
    s->queue = grpc_completion_queue_create_for_next(NULL);
    if (!s->server || !s->queue)
        return mr_reject(err, MR_FATAL, "gRPC server on %s: out of memory", s->options.listen);
    grpc_server_register_completion_queue(s->server, s->queue, NULL);
    grpc_server_credentials *credentials = mr_grpc_tls_credentials(s->tls);
    int port = grpc_server_add_http2_port(s->server, s->options.listen, credentials);
    grpc_server_credentials_release(credentials);
    if (port <= 0)
        return not_listening(&s->options, err);
    s->port = (uint16_t)port;
    return MR_OK;
}

/* Fails when the thread cannot be made; then nothing runs yet. */
static enum mr_rc start_thread(struct mr_grpc_server *s, struct mr_err *err)
{
    int rc = pthread_create(&s->thread, NULL, run_queue, s);
    if (rc != 0)
        return mr_reject(err, MR_FATAL, "start the gRPC thread: %s", strerror(rc));
    pthread_setname_np(s->thread, "grpc");
    return MR_OK;
}

/* Free a server whose queue has no events left to give. */
static void destroy(struct mr_grpc_server *s)
{
    if (s->server)
        grpc_server_destroy(s->server);
    if (s->queue)
        grpc_completion_queue_destroy(s->queue);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    mr_grpc_tls_close(&s->tls);
    mr_auth_close(&s->auth);
    free(s);
    grpc_shutdown();
}

/* A server that did not get as far as a running thread: take its last events by hand. */
static void abandon(struct mr_grpc_server *s)
{
    if (s->server && s->queue) {
        grpc_server_shutdown_and_notify(s->server, s->queue, &s->stopped);
        grpc_completion_queue_shutdown(s->queue);
        run_queue(s);
    }
    destroy(s);
}

static void init_changed(struct mr_grpc_server *s)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static enum mr_rc secure(struct mr_grpc_server *s, struct mr_err *err)
{
    if (!s->options.config)
        return MR_OK;
    enum mr_rc rc = mr_auth_open(&s->auth, s->options.config, err);
    return rc == MR_OK ? mr_grpc_tls_open(&s->tls, s->options.config, err) : rc;
}

enum mr_rc mr_grpc_server_open(struct mr_grpc_server **out,
                               const struct mr_grpc_server_options *options, struct mr_err *err)
{
    struct mr_grpc_server *s = calloc(1, sizeof *s);
    if (!s)
        return mr_reject(err, MR_FATAL, "gRPC server: out of memory");
    s->options = *options;
    s->accept = (struct mr_grpc_op){accepted, s};
    s->stopped = (struct mr_grpc_op){server_stopped, s};
    pthread_mutex_init(&s->lock, NULL);
    init_changed(s);
    gpr_set_log_function(log_of_grpc);
    grpc_init();
    enum mr_rc rc = secure(s, err);
    if (rc == MR_OK)
        rc = listen_on(s, err);
    if (rc == MR_OK) {
        grpc_server_start(s->server);
        request_next(s);
        rc = start_thread(s, err);
    }
    if (rc != MR_OK) {
        abandon(s);
        return rc;
    }
    mr_log_info("grpc", "listening", "address=%s port=%u", options->listen, s->port);
    *out = s;
    return MR_OK;
}

uint16_t mr_grpc_server_port(const struct mr_grpc_server *server)
{
    return server->port;
}

uint32_t mr_grpc_server_calls(const struct mr_grpc_server *server)
{
    return atomic_load_explicit(&server->calls, memory_order_relaxed);
}

void mr_grpc_server_stop(struct mr_grpc_server *server)
{
    grpc_server_shutdown_and_notify(server->server, server->queue, &server->stopped);
}

/* Wait until the server has ended or, when that is enough, no call is open. False: deadline. */
static bool wait_until(struct mr_grpc_server *s, bool no_calls_is_enough, uint64_t deadline_ns)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / MR_NS_PER_S),
                             .tv_nsec = (long)(deadline_ns % MR_NS_PER_S)};
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    while (!s->ended && (!no_calls_is_enough || mr_grpc_server_calls(s) > 0) && rc == 0)
        rc = pthread_cond_timedwait(&s->changed, &s->lock, &until);
    pthread_mutex_unlock(&s->lock);
    return rc == 0;
}

void mr_grpc_server_close(struct mr_grpc_server *server, uint64_t deadline_ns)
{
    struct mr_grpc_server *s = server;
    if (!wait_until(s, true, deadline_ns))
        mr_log_warn("grpc", "calls_cancelled", "open=%u", mr_grpc_server_calls(s));
    /* Connections without calls, which peers may keep for ever, end here as well. */
    grpc_server_cancel_all_calls(s->server);
    while (!wait_until(s, false, mr_clock_ns() + MR_NS_PER_S))
        mr_log_warn("grpc", "connections_remain", "calls=%u", mr_grpc_server_calls(s));
    grpc_completion_queue_shutdown(s->queue);
    pthread_join(s->thread, NULL);
    destroy(s);
}
