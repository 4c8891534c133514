#include <stdio.h>
#include <stdlib.h>

#include "publisher/sinks/grpc_stream_state.h"

enum {
    OUT_CAPACITY_MIN = 64, /* messages */
    PLACE_BITS = 20,       /* of a gateway's id; the rest is the serial number */
};

/* The inbox. */

void mr_grpc_inbox_put(struct mr_grpc_inbox *inbox, struct mr_grpc_request *request)
{
    request->next = NULL;
    pthread_mutex_lock(&inbox->lock);
    *inbox->last = request;
    inbox->last = &request->next;
    atomic_fetch_add_explicit(&inbox->count, 1, memory_order_release);
    pthread_mutex_unlock(&inbox->lock);
    mr_doorbell_ring(inbox->bell);
}

struct mr_grpc_request *mr_grpc_inbox_take(struct mr_grpc_inbox *inbox)
{
    if (atomic_load_explicit(&inbox->count, memory_order_acquire) == 0)
        return NULL;
    pthread_mutex_lock(&inbox->lock);
    struct mr_grpc_request *request = inbox->first;
    inbox->first = request->next;
    if (!inbox->first)
        inbox->last = &inbox->first;
    atomic_fetch_sub_explicit(&inbox->count, 1, memory_order_relaxed);
    pthread_mutex_unlock(&inbox->lock);
    return request;
}

struct mr_grpc_stream *mr_grpc_stream_ref(struct mr_grpc_stream *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void mr_grpc_stream_unref(struct mr_grpc_stream *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
        return;
    struct mr_grpc_streams *streams = s->streams;
    uint32_t place = mr_grpc_stream_place(s->id);
    pthread_mutex_lock(&streams->lock);
    MR_ASSERT(streams->places[place] == s);
    streams->places[place] = NULL;
    streams->free_places[streams->free_count++] = place;
    pthread_mutex_unlock(&streams->lock);
    pthread_mutex_destroy(&s->lock);
    mr_scope_unref(s->scope);
    free(s->queue);
    free(s);
}

void mr_grpc_stream_settle(struct mr_grpc_stream *s, size_t bytes)
{
    pthread_mutex_lock(&s->lock);
    s->unsettled--;
    s->unsettled_bytes -= bytes;
    bool nudge = s->paused && s->unsettled <= MR_GRPC_UNSETTLED_MAX / 2 &&
                 s->unsettled_bytes <= MR_GRPC_UNSETTLED_BYTES_MAX / 2 && !s->nudged &&
                 s->state != MR_OUT_OVER;
    s->nudged = s->nudged || nudge;
    pthread_mutex_unlock(&s->lock);
    if (nudge)
        mr_grpc_nudge(s->call.call, &s->nudge);
}

void mr_grpc_request_drop(struct mr_grpc_request *request)
{
    struct mr_grpc_stream *s = request->stream;
    if (request == &s->open)
        return;
    if (request == &s->close) {
        mr_grpc_stream_unref(s);
        return;
    }
    bool settled = request->request.kind != MR_REQUEST_REGISTER; /* else when it is answered */
    size_t bytes = GRPC_SLICE_LENGTH(request->bytes);
    mr_wire_arena_fini(&request->arena);
    grpc_slice_unref(request->bytes);
    free(request);
    if (settled)
        mr_grpc_stream_settle(s, bytes);
}

/* The out queue: lock held. */

static bool make_room(struct mr_grpc_stream *s)
{
    if (s->tail - s->head < s->capacity)
        return true;
    uint32_t capacity = s->capacity ? s->capacity * 2 : OUT_CAPACITY_MIN;
    struct mr_out *queue = malloc(capacity * sizeof *queue);
    if (!queue)
        return false;
    for (uint64_t i = s->head; i < s->tail; i++)
        queue[i & (capacity - 1)] = s->queue[i & (s->capacity - 1)];
    free(s->queue);
    s->queue = queue;
    s->capacity = capacity;
    return true;
}

static void drop_queue(struct mr_grpc_stream *s)
{
    for (; s->head < s->tail; s->head++)
        mr_out_fini(&s->queue[s->head & (s->capacity - 1)]);
}

bool mr_grpc_stream_advance(struct mr_grpc_stream *s, enum mr_out_state state,
                            grpc_status_code status, const char *text)
{
    if (state <= s->state)
        return false;
    if (s->state == MR_OUT_OPEN) {
        s->status = status;
        snprintf(s->status_text, sizeof s->status_text, "%s", text);
    }
    s->state = state;
    s->flushed = s->tail;
    if (state >= MR_OUT_CUT)
        drop_queue(s);
    bool close = !s->closing;
    s->closing = true;
    return close;
}

grpc_status_code mr_grpc_stream_admit(struct mr_grpc_streams *streams, struct mr_grpc_stream *s)
{
    grpc_status_code status = GRPC_STATUS_OK;
    pthread_mutex_lock(&streams->lock);
    if (streams->stopping) {
        status = GRPC_STATUS_UNAVAILABLE;
    } else if (streams->free_count == 0) {
        status = GRPC_STATUS_RESOURCE_EXHAUSTED;
    } else {
        uint32_t place = streams->free_places[--streams->free_count];
        s->id = ++streams->serial << PLACE_BITS | place;
        s->open.request = (struct mr_request){.kind = MR_REQUEST_OPEN, .gateway = s->id};
        s->close.request = (struct mr_request){.kind = MR_REQUEST_CLOSE, .gateway = s->id};
        streams->places[place] = s;
        mr_grpc_inbox_put(&streams->inbox, &s->open);
    }
    pthread_mutex_unlock(&streams->lock);
    return status;
}

/* Writing: either side. */

static uint64_t out_bytes(const struct mr_out *out)
{
    return GRPC_SLICE_LENGTH(out->head) + GRPC_SLICE_LENGTH(out->body);
}

/* The chunk is written: take the next one. The newest message is left where it is until the pump
 * has flushed, so that a turn's messages go out together. */
static void refill(struct mr_grpc_stream *s)
{
    s->deliveries -= s->chunk_deliveries;
    s->answers -= s->chunk_answers;
    s->bytes -= s->chunk_bytes;
    s->chunk_at = s->chunk_count = s->chunk_deliveries = s->chunk_answers = 0;
    s->chunk_bytes = 0;
    while (s->chunk_count < MR_GRPC_CHUNK && s->head < s->tail &&
           (s->head < s->flushed || s->head + 1 < s->tail)) {
        struct mr_out *out = &s->queue[s->head++ & (s->capacity - 1)];
        s->chunk[s->chunk_count++] = *out;
        s->chunk_answers += out->answer;
        s->chunk_deliveries += !out->answer;
        if (!out->answer)
            s->chunk_bytes += out_bytes(out);
    }
    s->more = s->head < s->tail;
    s->busy = s->chunk_count > 0;
}

bool mr_grpc_stream_take(struct mr_grpc_stream *s, struct mr_out_run *run)
{
    MR_ASSERT(!s->writing);
    if (s->chunk_at == s->chunk_count)
        refill(s);
    if (s->chunk_count == 0)
        return false;
    struct mr_out *next = &s->chunk[s->chunk_at], *end = &s->chunk[s->chunk_count];
    *run = (struct mr_out_run){.outs = next, .count = 1, .bytes = out_bytes(next)};
    if (s->call.batch && !next->answer) {
        while (++next < end && !next->answer &&
               run->bytes + out_bytes(next) <= MR_GRPC_BATCH_BYTES_MAX) {
            run->count++;
            run->bytes += out_bytes(next);
        }
    }
    s->chunk_at += run->count;
    run->last = s->chunk_at == s->chunk_count && !s->more;
    s->writing = true;
    return true;
}

/* All but the last of what there is may wait in gRPC's buffer: it goes to the socket when that is
 * full or the last one pushes it out. */
void mr_grpc_stream_write(struct mr_grpc_stream *s, const struct mr_out_run *run)
{
    grpc_slice slices[1 + 2 * MR_GRPC_CHUNK];
    size_t parts = 0;
    if (run->count > 1) {
        slices[parts++] = grpc_slice_malloc(mr_wire_batch_head_size(run->bytes));
        mr_wire_put_batch_head(GRPC_SLICE_START_PTR(slices[0]), run->bytes);
    }
    for (uint32_t i = 0; i < run->count; i++) {
        slices[parts++] = run->outs[i].head;
        if (GRPC_SLICE_LENGTH(run->outs[i].body) > 0)
            slices[parts++] = run->outs[i].body;
        else
            grpc_slice_unref(run->outs[i].body);
    }
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(slices, parts);
    while (parts > 0)
        grpc_slice_unref(slices[--parts]);
    grpc_op op = mr_grpc_op_send(message, run->last ? 0 : GRPC_WRITE_BUFFER_HINT);
    mr_grpc_start(s->call.call, &op, 1, &s->write);
    grpc_byte_buffer_destroy(message);
}

/* The pump's side. */

uint32_t mr_grpc_stream_place(mr_gateway_id id)
{
    return (uint32_t)(id & ((1u << PLACE_BITS) - 1));
}

mr_gateway_id mr_grpc_stream_id(const struct mr_grpc_stream *stream)
{
    return stream->id;
}

/* Lock held. Whether one more delivery of this size is too much. The first may have any size: a
 * queue smaller than one event would deliver nothing. */
static bool over_limit(const struct mr_grpc_stream *s, uint64_t bytes)
{
    const struct mr_grpc_stream_limits *limits = &s->streams->limits;
    return s->deliveries >= limits->queue_messages ||
           (s->deliveries > 0 && s->bytes + bytes > limits->queue_bytes);
}

static bool cut_off(struct mr_grpc_stream *s)
{
    char text[256];
    snprintf(
        text, sizeof text,
        "the gateway does not read fast enough: %u deliveries of %llu bytes wait, the limits are "
        "%u (publisher.gateway_queue_messages) and %llu (publisher.gateway_queue_size); connect "
        "again with the last progress marker",
        s->deliveries, (unsigned long long)s->bytes, s->streams->limits.queue_messages,
        (unsigned long long)s->streams->limits.queue_bytes);
    return mr_grpc_stream_advance(s, MR_OUT_CUT, GRPC_STATUS_RESOURCE_EXHAUSTED, text);
}

enum mr_rc mr_grpc_stream_queue(struct mr_grpc_stream *stream, grpc_slice head, grpc_slice body,
                                bool answer, bool *cut)
{
    struct mr_grpc_stream *s = stream;
    uint64_t bytes = GRPC_SLICE_LENGTH(head) + GRPC_SLICE_LENGTH(body);
    bool close = false, nudge = false;
    *cut = false;
    pthread_mutex_lock(&s->lock);
    bool open = s->state == MR_OUT_OPEN;
    if (open && ((!answer && over_limit(s, bytes)) || !make_room(s))) {
        *cut = true;
        open = false;
        close = cut_off(s);
        nudge = !s->nudged;
        s->nudged = true;
    }
    if (open) {
        s->queue[s->tail++ & (s->capacity - 1)] = (struct mr_out){head, body, answer};
        s->answers += answer;
        s->deliveries += !answer;
        s->bytes += answer ? 0 : bytes;
    }
    pthread_mutex_unlock(&s->lock);
    if (open)
        return MR_OK;
    grpc_slice_unref(head);
    grpc_slice_unref(body);
    if (close)
        mr_grpc_inbox_put(&s->streams->inbox, &s->close);
    if (nudge)
        mr_grpc_nudge(s->call.call, &s->nudge);
    return MR_CLOSED;
}

void mr_grpc_stream_flush(struct mr_grpc_stream *stream)
{
    struct mr_grpc_stream *s = stream;
    struct mr_out_run run;
    bool taken = false;
    pthread_mutex_lock(&s->lock);
    s->flushed = s->tail;
    bool idle = s->head < s->tail && !s->busy && !s->nudged && !s->writing;
    /* From here and at once: a thread to be woken first would double the latency. What is written
     * while this is under way, the queue thread goes on with. */
    if (idle && s->state == MR_OUT_OPEN)
        taken = mr_grpc_stream_take(s, &run);
    bool nudge = idle && !taken && s->state != MR_OUT_OVER;
    s->nudged = s->nudged || nudge;
    pthread_mutex_unlock(&s->lock);
    if (taken)
        mr_grpc_stream_write(s, &run);
    else if (nudge)
        mr_grpc_nudge(s->call.call, &s->nudge);
}

double mr_grpc_stream_fill(struct mr_grpc_stream *stream)
{
    struct mr_grpc_stream *s = stream;
    const struct mr_grpc_stream_limits *limits = &s->streams->limits;
    pthread_mutex_lock(&s->lock);
    double messages = (double)s->deliveries / limits->queue_messages;
    double bytes = (double)s->bytes / (double)limits->queue_bytes;
    bool open = s->state == MR_OUT_OPEN;
    pthread_mutex_unlock(&s->lock);
    double fill = messages > bytes ? messages : bytes;
    return !open || fill > 1 ? 1 : fill;
}

uint64_t mr_grpc_stream_expires_ns(const struct mr_grpc_stream *stream)
{
    return stream->call.expires_ns;
}

void mr_grpc_stream_end(struct mr_grpc_stream *stream, grpc_status_code status, const char *text)
{
    struct mr_grpc_stream *s = stream;
    pthread_mutex_lock(&s->lock);
    bool over = s->state == MR_OUT_OVER;
    bool close = mr_grpc_stream_advance(s, MR_OUT_DRAIN, status, text);
    bool nudge = !over && !s->nudged;
    s->nudged = s->nudged || nudge;
    pthread_mutex_unlock(&s->lock);
    if (close)
        mr_grpc_inbox_put(&s->streams->inbox, &s->close);
    if (nudge)
        mr_grpc_nudge(s->call.call, &s->nudge);
}

void mr_grpc_streams_stop(struct mr_grpc_streams *streams)
{
    pthread_mutex_lock(&streams->lock); /* keeps every stream that has a place alive */
    streams->stopping = true;
    for (uint32_t i = 0; i < streams->limits.streams_max; i++) {
        if (streams->places[i])
            mr_grpc_stream_end(
                streams->places[i], GRPC_STATUS_UNAVAILABLE,
                "the publisher is stopping; connect again with the last progress marker");
    }
    pthread_mutex_unlock(&streams->lock);
}

enum mr_rc mr_grpc_streams_init(struct mr_grpc_streams *streams,
                                const struct mr_grpc_stream_limits *limits,
                                struct mr_doorbell_shm *bell, struct mr_err *err)
{
    MR_ASSERT(limits->streams_max < 1u << PLACE_BITS);
    *streams = (struct mr_grpc_streams){.limits = *limits};
    streams->places = calloc(limits->streams_max, sizeof(struct mr_grpc_stream *));
    streams->free_places = calloc(limits->streams_max, sizeof *streams->free_places);
    if (!streams->places || !streams->free_places) {
        free(streams->places);
        free(streams->free_places);
        return mr_reject(err, MR_FATAL, "table of %u gateways: out of memory", limits->streams_max);
    }
    for (uint32_t i = limits->streams_max; i > 0; i--)
        streams->free_places[streams->free_count++] = i - 1;
    streams->inbox.last = &streams->inbox.first;
    streams->inbox.bell = bell;
    pthread_mutex_init(&streams->lock, NULL);
    pthread_mutex_init(&streams->inbox.lock, NULL);
    return MR_OK;
}

void mr_grpc_streams_fini(struct mr_grpc_streams *streams)
{
    MR_ASSERT(streams->free_count == streams->limits.streams_max);
    pthread_mutex_destroy(&streams->inbox.lock);
    pthread_mutex_destroy(&streams->lock);
    free(streams->places);
    free(streams->free_places);
}
