#include "publisher/sinks/grpc_stream_state.h"

#include <stdio.h>
#include <stdlib.h>

static void write_next(struct mr_grpc_stream *s);
static void let_go(struct mr_grpc_stream *s);

/* The end of a stream as the queue thread sees it. */
static void finish(struct mr_grpc_stream *s, enum mr_out_state state, grpc_status_code status,
                   const char *text)
{
    pthread_mutex_lock(&s->lock);
    bool close = mr_grpc_stream_advance(s, state, status, text);
    pthread_mutex_unlock(&s->lock);
    if (close)
        mr_grpc_inbox_put(&s->streams->inbox, &s->close);
    write_next(s);
}

/* Writing. Queue thread. */

/* Lock held. */
static void drop_chunk(struct mr_grpc_stream *s)
{
    for (; s->chunk_at < s->chunk_count; s->chunk_at++)
        mr_out_fini(&s->chunk[s->chunk_at]);
}

static void send_status(struct mr_grpc_stream *s)
{
    pthread_mutex_lock(&s->lock);
    drop_chunk(s);
    pthread_mutex_unlock(&s->lock);
    grpc_slice text = grpc_slice_from_copied_string(s->status_text);
    grpc_op op = mr_grpc_op_send_status(s->status, &text);
    s->ending = s->status_begun = true;
    mr_grpc_start(s->call.call, &op, 1, &s->end);
    grpc_slice_unref(text);
}

static void read_next(struct mr_grpc_stream *s);

static void write_next(struct mr_grpc_stream *s)
{
    struct mr_out_run run;
    bool refilled = false, taken = false;
    if (s->status_begun || s->broken || s->is_gone)
        return;
    pthread_mutex_lock(&s->lock);
    bool writing = s->writing;
    if (!writing) {
        refilled = s->chunk_at == s->chunk_count;
        taken = mr_grpc_stream_take(s, &run);
    }
    enum mr_out_state state = s->state;
    pthread_mutex_unlock(&s->lock);
    if (refilled)
        read_next(s); /* answers may have gone out that kept it from reading */
    if (taken)
        mr_grpc_stream_write(s, &run);
    else if (!writing && (state == MR_OUT_DRAIN || state == MR_OUT_CUT))
        send_status(s);
}

static void written(void *owner, bool ok)
{
    struct mr_grpc_stream *s = owner;
    pthread_mutex_lock(&s->lock);
    s->writing = false;
    pthread_mutex_unlock(&s->lock);
    s->broken = s->broken || !ok; /* the call is over: gone will say so */
    write_next(s);
    let_go(s);
}

static void nudged(void *owner, bool ok)
{
    struct mr_grpc_stream *s = owner;
    (void)ok;
    pthread_mutex_lock(&s->lock);
    s->nudged = false;
    enum mr_out_state state = s->state;
    pthread_mutex_unlock(&s->lock);
    /* A message that the peer does not read must not keep back the status that says why it is cut.
     */
    if (state == MR_OUT_CUT && !s->status_begun && !s->is_gone)
        send_status(s);
    write_next(s);
    read_next(s);
    let_go(s);
}

static void ended(void *owner, bool ok)
{
    struct mr_grpc_stream *s = owner;
    (void)ok; /* false: the peer left before it heard the status */
    s->ending = false;
    let_go(s);
}

/* Reading. Queue thread. */

static void read_next(struct mr_grpc_stream *s)
{
    if (s->reading || s->is_gone)
        return;
    pthread_mutex_lock(&s->lock);
    bool open = s->state == MR_OUT_OPEN;
    s->paused = open && (s->unsettled >= MR_GRPC_UNSETTLED_MAX ||
                         s->unsettled_bytes >= MR_GRPC_UNSETTLED_BYTES_MAX ||
                         s->answers >= MR_GRPC_ANSWERS_MAX);
    bool read = open && !s->paused;
    pthread_mutex_unlock(&s->lock);
    if (!read)
        return;
    s->reading = true;
    grpc_op op = mr_grpc_op_receive(&s->message);
    mr_grpc_start(s->call.call, &op, 1, &s->read);
}

/* Hand a message over to the pump. False: the stream cannot go on, and has been told so. */
static bool pass_on(struct mr_grpc_stream *s, grpc_slice bytes)
{
    struct mr_err err = {0};
    struct mr_grpc_request *request = calloc(1, sizeof *request);
    enum mr_rc rc = MR_FATAL;
    if (request) {
        request->stream = s;
        request->bytes = bytes;
        rc = mr_wire_decode(mr_grpc_slice_str(&request->bytes), &s->streams->limits.wire,
                            &request->arena, &request->request, &err);
        if (rc == MR_OK && request->request.kind == MR_REQUEST_REGISTER)
            rc = mr_grpc_registration(s, &request->request, request->bytes, &err);
    }
    if (rc == MR_OK) {
        request->request.gateway = s->id;
        request->request.scope = s->scope;
        pthread_mutex_lock(&s->lock);
        s->unsettled++;
        s->unsettled_bytes += GRPC_SLICE_LENGTH(bytes);
        pthread_mutex_unlock(&s->lock);
        mr_grpc_inbox_put(&s->streams->inbox, request);
        return true;
    }
    atomic_fetch_add_explicit(&s->streams->inbox.rejected, 1, memory_order_relaxed);
    if (rc == MR_CORRUPT)
        finish(s, MR_OUT_DRAIN, GRPC_STATUS_INVALID_ARGUMENT, err.text);
    else
        finish(s, MR_OUT_CUT, GRPC_STATUS_RESOURCE_EXHAUSTED, "the publisher is out of memory");
    if (request)
        mr_wire_arena_fini(&request->arena);
    free(request);
    grpc_slice_unref(bytes);
    return false;
}

static void got(void *owner, bool ok)
{
    struct mr_grpc_stream *s = owner;
    s->reading = false;
    if (!ok || !s->message) { /* half-closed, or gone */
        finish(s, MR_OUT_DRAIN, GRPC_STATUS_OK, "");
    } else {
        grpc_slice bytes = mr_grpc_take_bytes(s->message);
        s->message = NULL;
        if (pass_on(s, bytes))
            read_next(s);
    }
    let_go(s);
}

/* Beginning and end. Queue thread. */

static void opened(void *owner, bool ok)
{
    struct mr_grpc_stream *s = owner;
    (void)ok;
    s->opening = false;
    let_go(s);
}

static void gone(void *owner, bool ok)
{
    struct mr_grpc_stream *s = owner;
    (void)ok;
    s->is_gone = true;
    pthread_mutex_lock(&s->lock);
    drop_chunk(s);
    pthread_mutex_unlock(&s->lock);
    finish(s, MR_OUT_OVER, GRPC_STATUS_CANCELLED, "");
    let_go(s);
}

/* Let go of a stream whose call is over and of which no operation is under way. */
static void let_go(struct mr_grpc_stream *s)
{
    if (!s->is_gone || s->opening || s->reading || s->ending)
        return;
    pthread_mutex_lock(&s->lock);
    MR_ASSERT(s->state == MR_OUT_OVER);
    bool wait = s->nudged || s->writing; /* comes by here again */
    pthread_mutex_unlock(&s->lock);
    if (wait)
        return;
    mr_grpc_call_fini(&s->call);
    mr_grpc_stream_unref(s);
}

static struct mr_grpc_stream *create(struct mr_grpc_streams *streams, struct mr_grpc_call call)
{
    struct mr_grpc_stream *s = calloc(1, sizeof *s);
    if (!s) {
        mr_scope_unref(call.scope);
        return NULL;
    }
    s->streams = streams;
    s->call = call;
    s->scope = call.scope;
    atomic_init(&s->refs, 2);
    pthread_mutex_init(&s->lock, NULL);
    s->open.stream = s->close.stream = s;
    s->metadata = (struct mr_grpc_op){opened, s};
    s->read = (struct mr_grpc_op){got, s};
    s->write = (struct mr_grpc_op){written, s};
    s->end = (struct mr_grpc_op){ended, s};
    s->gone = (struct mr_grpc_op){gone, s};
    s->nudge = (struct mr_grpc_op){nudged, s};
    return s;
}

static void refuse_stream(struct mr_grpc_call call, grpc_status_code status, uint32_t streams_max)
{
    char text[128];
    if (status == GRPC_STATUS_UNAVAILABLE)
        snprintf(text, sizeof text, "the publisher is stopping; connect again");
    else
        snprintf(text, sizeof text, "expected at most %u gateway streams (publisher.gateways_max)",
                 streams_max);
    mr_grpc_refuse(call, status, text);
}

void mr_grpc_stream_begin(struct mr_grpc_call call, void *context)
{
    struct mr_grpc_streams *streams = context;
    struct mr_grpc_stream *s = create(streams, call);
    grpc_status_code status = s ? mr_grpc_stream_admit(streams, s) : GRPC_STATUS_RESOURCE_EXHAUSTED;
    if (status != GRPC_STATUS_OK) {
        if (s) {
            pthread_mutex_destroy(&s->lock);
            mr_scope_unref(s->scope);
        }
        free(s);
        refuse_stream(call, status, streams->limits.streams_max);
        return;
    }
    grpc_op close = mr_grpc_op_receive_close(&s->cancelled);
    mr_grpc_start(call.call, &close, 1, &s->gone);
    grpc_op metadata = mr_grpc_op_send_metadata();
    s->opening = true;
    mr_grpc_start(call.call, &metadata, 1, &s->metadata);
    read_next(s);
}
