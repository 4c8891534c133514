#include "publisher/sinks/grpc_stream.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    CHUNK = 64,             /* messages taken from the out queue under one lock */
    UNPOLLED_MAX = 64,      /* requests of one stream that wait for the pump; then it is not read */
    ANSWERS_MAX = 1024,     /* answers that wait for one gateway; then it is not read */
    OUT_CAPACITY_MIN = 64,  /* messages */
    PLACE_BITS = 20,        /* of a gateway's id; the rest is the serial number */
};

/* Towards the gateway. Goes only forward. */
enum out_state {
    OUT_OPEN,
    OUT_DRAIN, /* write what is queued, then the status */
    OUT_CUT,   /* the status at once */
    OUT_OVER,  /* the call has ended: gRPC is not called for this stream again */
};

/* One message, serialised; body is shared between gateways. */
struct out {
    grpc_slice head, body;
    bool answer;
};

struct mr_grpc_stream {
    struct mr_grpc_streams *streams;
    struct mr_grpc_call call;
    mr_gateway_id id;
    _Atomic uint32_t refs; /* queue thread, pump */
    struct mr_grpc_request open, close;
    struct mr_grpc_op metadata, read, write, end, gone, nudge;

    /* Queue thread only. */
    grpc_byte_buffer *message;
    int cancelled;
    bool opening, reading, writing, ending; /* under way: metadata, a message, a message, the status */
    bool status_begun, broken, is_gone; /* a write failed; the call has ended */
    struct out chunk[CHUNK]; /* being written: [chunk_at, chunk_count) not yet begun */
    uint32_t chunk_at, chunk_count, chunk_deliveries, chunk_answers;
    uint64_t chunk_bytes;
    bool more; /* the queue was not empty behind this chunk */

    pthread_mutex_t lock; /* of all that follows */
    enum out_state state;
    grpc_status_code status; /* from DRAIN on */
    char status_text[256];
    struct out *queue; /* ring, capacity a power of two; positions grow for ever */
    uint64_t head, tail, flushed;
    uint32_t capacity;
    uint32_t deliveries, answers; /* queued or in the chunk */
    uint64_t bytes;               /* of the deliveries */
    bool busy;    /* the queue thread comes back to the queue by itself */
    bool nudged;  /* or because it has been told to */
    bool closing; /* CLOSE is on its way */
    uint32_t unpolled;
    bool paused; /* not read because of unpolled or answers */
};

static void write_next(struct mr_grpc_stream *s);
static void let_go(struct mr_grpc_stream *s);

/* The inbox. */

static void inbox_put(struct mr_grpc_inbox *inbox, struct mr_grpc_request *request)
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

static void unref(struct mr_grpc_stream *s)
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
    free(s->queue);
    free(s);
}

void mr_grpc_request_drop(struct mr_grpc_request *request)
{
    struct mr_grpc_stream *s = request->stream;
    if (request == &s->open)
        return;
    if (request == &s->close) {
        unref(s);
        return;
    }
    mr_wire_arena_fini(&request->arena);
    grpc_slice_unref(request->bytes);
    free(request);
    pthread_mutex_lock(&s->lock);
    s->unpolled--;
    bool nudge = s->paused && s->unpolled <= UNPOLLED_MAX / 2 && !s->nudged && s->state != OUT_OVER;
    s->nudged = s->nudged || nudge;
    pthread_mutex_unlock(&s->lock);
    if (nudge)
        mr_grpc_nudge(s->call.call, &s->nudge);
}

/* The out queue: lock held. */

static bool make_room(struct mr_grpc_stream *s)
{
    if (s->tail - s->head < s->capacity)
        return true;
    uint32_t capacity = s->capacity ? s->capacity * 2 : OUT_CAPACITY_MIN;
    struct out *queue = malloc(capacity * sizeof *queue);
    if (!queue)
        return false;
    for (uint64_t i = s->head; i < s->tail; i++)
        queue[i & (capacity - 1)] = s->queue[i & (s->capacity - 1)];
    free(s->queue);
    s->queue = queue;
    s->capacity = capacity;
    return true;
}

static void out_fini(struct out *out)
{
    grpc_slice_unref(out->head);
    grpc_slice_unref(out->body);
}

static void drop_queue(struct mr_grpc_stream *s)
{
    for (; s->head < s->tail; s->head++)
        out_fini(&s->queue[s->head & (s->capacity - 1)]);
}

/* Move to a later state. Returns whether CLOSE is to be put into the inbox now (by the caller, without
 * the lock). */
static bool advance(struct mr_grpc_stream *s, enum out_state state, grpc_status_code status,
                    const char *text)
{
    if (state <= s->state)
        return false;
    if (s->state == OUT_OPEN) {
        s->status = status;
        snprintf(s->status_text, sizeof s->status_text, "%s", text);
    }
    s->state = state;
    s->flushed = s->tail;
    if (state >= OUT_CUT)
        drop_queue(s);
    bool close = !s->closing;
    s->closing = true;
    return close;
}

/* The end of a stream as the queue thread sees it. */
static void finish(struct mr_grpc_stream *s, enum out_state state, grpc_status_code status,
                   const char *text)
{
    pthread_mutex_lock(&s->lock);
    bool close = advance(s, state, status, text);
    pthread_mutex_unlock(&s->lock);
    if (close)
        inbox_put(&s->streams->inbox, &s->close);
    write_next(s);
}

/* Writing. Queue thread. */

static void drop_chunk(struct mr_grpc_stream *s)
{
    for (; s->chunk_at < s->chunk_count; s->chunk_at++)
        out_fini(&s->chunk[s->chunk_at]);
}

static void send_status(struct mr_grpc_stream *s)
{
    drop_chunk(s);
    grpc_slice text = grpc_slice_from_copied_string(s->status_text);
    grpc_op op = mr_grpc_op_send_status(s->status, &text);
    s->ending = s->status_begun = true;
    mr_grpc_start(s->call.call, &op, 1, &s->end);
    grpc_slice_unref(text);
}

/* The last chunk is written: take the next one. The newest message is left where it is until the pump
 * has flushed, so that a turn's messages go out together. Returns the state. */
static enum out_state refill(struct mr_grpc_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->deliveries -= s->chunk_deliveries;
    s->answers -= s->chunk_answers;
    s->bytes -= s->chunk_bytes;
    s->chunk_at = s->chunk_count = s->chunk_deliveries = s->chunk_answers = 0;
    s->chunk_bytes = 0;
    while (s->chunk_count < CHUNK && s->head < s->tail &&
           (s->head < s->flushed || s->head + 1 < s->tail)) {
        struct out *out = &s->queue[s->head++ & (s->capacity - 1)];
        s->chunk[s->chunk_count++] = *out;
        s->chunk_answers += out->answer;
        s->chunk_deliveries += !out->answer;
        if (!out->answer)
            s->chunk_bytes += GRPC_SLICE_LENGTH(out->head) + GRPC_SLICE_LENGTH(out->body);
    }
    s->more = s->head < s->tail;
    s->busy = s->chunk_count > 0;
    enum out_state state = s->state;
    pthread_mutex_unlock(&s->lock);
    return state;
}

/* Write one message. All but the last of what there is may wait in gRPC's buffer: it goes to the socket
 * when that is full or the last one pushes it out. */
static void write_one(struct mr_grpc_stream *s)
{
    struct out *out = &s->chunk[s->chunk_at++];
    bool last = s->chunk_at == s->chunk_count && !s->more;
    size_t parts = GRPC_SLICE_LENGTH(out->body) ? 2 : 1;
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create((grpc_slice[]){out->head, out->body}, parts);
    out_fini(out);
    grpc_op op = mr_grpc_op_send(message, last ? 0 : GRPC_WRITE_BUFFER_HINT);
    s->writing = true;
    mr_grpc_start(s->call.call, &op, 1, &s->write);
    grpc_byte_buffer_destroy(message);
}

static void read_next(struct mr_grpc_stream *s);

static void write_next(struct mr_grpc_stream *s)
{
    if (s->writing || s->status_begun || s->broken || s->is_gone)
        return;
    if (s->chunk_at == s->chunk_count) {
        enum out_state state = refill(s);
        read_next(s); /* answers may have gone out that kept it from reading */
        if (s->chunk_count == 0 && (state == OUT_DRAIN || state == OUT_CUT))
            send_status(s);
        if (s->chunk_count == 0)
            return;
    }
    write_one(s);
}

static void written(void *owner, bool ok)
{
    struct mr_grpc_stream *s = owner;
    s->writing = false;
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
    enum out_state state = s->state;
    pthread_mutex_unlock(&s->lock);
    /* A message that the peer does not read must not keep back the status that says why it is cut. */
    if (state == OUT_CUT && !s->status_begun && !s->is_gone)
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
    bool open = s->state == OUT_OPEN;
    s->paused = open && (s->unpolled >= UNPOLLED_MAX || s->answers >= ANSWERS_MAX);
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
    }
    if (rc == MR_OK) {
        request->request.gateway = s->id;
        pthread_mutex_lock(&s->lock);
        s->unpolled++;
        pthread_mutex_unlock(&s->lock);
        inbox_put(&s->streams->inbox, request);
        return true;
    }
    atomic_fetch_add_explicit(&s->streams->inbox.rejected, 1, memory_order_relaxed);
    if (rc == MR_CORRUPT)
        finish(s, OUT_DRAIN, GRPC_STATUS_INVALID_ARGUMENT, err.text);
    else
        finish(s, OUT_CUT, GRPC_STATUS_RESOURCE_EXHAUSTED, "the publisher is out of memory");
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
        finish(s, OUT_DRAIN, GRPC_STATUS_OK, "");
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
    drop_chunk(s);
    finish(s, OUT_OVER, GRPC_STATUS_CANCELLED, "");
    let_go(s);
}

/* Let go of a stream whose call is over and of which no operation is under way. */
static void let_go(struct mr_grpc_stream *s)
{
    if (!s->is_gone || s->opening || s->reading || s->writing || s->ending)
        return;
    pthread_mutex_lock(&s->lock);
    MR_ASSERT(s->state == OUT_OVER);
    bool wait = s->nudged; /* comes by here again */
    pthread_mutex_unlock(&s->lock);
    if (wait)
        return;
    mr_grpc_call_fini(&s->call);
    unref(s);
}

static struct mr_grpc_stream *create(struct mr_grpc_streams *streams, struct mr_grpc_call call)
{
    struct mr_grpc_stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->streams = streams;
    s->call = call;
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

/* Give a stream its place and its id, and announce it. From here on the pump knows it. */
static grpc_status_code admit(struct mr_grpc_streams *streams, struct mr_grpc_stream *s)
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
        inbox_put(&streams->inbox, &s->open);
    }
    pthread_mutex_unlock(&streams->lock);
    return status;
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
    grpc_status_code status = s ? admit(streams, s) : GRPC_STATUS_RESOURCE_EXHAUSTED;
    if (status != GRPC_STATUS_OK) {
        if (s)
            pthread_mutex_destroy(&s->lock);
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

/* The pump's side. */

uint32_t mr_grpc_stream_place(mr_gateway_id id)
{
    return (uint32_t)(id & ((1u << PLACE_BITS) - 1));
}

mr_gateway_id mr_grpc_stream_id(const struct mr_grpc_stream *stream)
{
    return stream->id;
}

/* Lock held. Whether one more delivery of this size is too much. The first may have any size: a queue
 * smaller than one event would deliver nothing. */
static bool over_limit(const struct mr_grpc_stream *s, uint64_t bytes)
{
    const struct mr_grpc_stream_limits *limits = &s->streams->limits;
    return s->deliveries >= limits->queue_messages ||
           (s->deliveries > 0 && s->bytes + bytes > limits->queue_bytes);
}

static bool cut_off(struct mr_grpc_stream *s)
{
    char text[256];
    snprintf(text, sizeof text,
             "the gateway does not read fast enough: %u deliveries of %llu bytes wait, the limits are "
             "%u (publisher.gateway_queue_messages) and %llu (publisher.gateway_queue_size)",
             s->deliveries, (unsigned long long)s->bytes, s->streams->limits.queue_messages,
             (unsigned long long)s->streams->limits.queue_bytes);
    return advance(s, OUT_CUT, GRPC_STATUS_RESOURCE_EXHAUSTED, text);
}

enum mr_rc mr_grpc_stream_queue(struct mr_grpc_stream *stream, grpc_slice head, grpc_slice body,
                                bool answer, bool *cut)
{
    struct mr_grpc_stream *s = stream;
    uint64_t bytes = GRPC_SLICE_LENGTH(head) + GRPC_SLICE_LENGTH(body);
    bool close = false, nudge = false;
    *cut = false;
    pthread_mutex_lock(&s->lock);
    bool open = s->state == OUT_OPEN;
    if (open && ((!answer && over_limit(s, bytes)) || !make_room(s))) {
        *cut = true;
        open = false;
        close = cut_off(s);
        nudge = !s->nudged;
        s->nudged = true;
    }
    if (open) {
        s->queue[s->tail++ & (s->capacity - 1)] = (struct out){head, body, answer};
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
        inbox_put(&s->streams->inbox, &s->close);
    if (nudge)
        mr_grpc_nudge(s->call.call, &s->nudge);
    return MR_CLOSED;
}

void mr_grpc_stream_flush(struct mr_grpc_stream *stream)
{
    struct mr_grpc_stream *s = stream;
    pthread_mutex_lock(&s->lock);
    s->flushed = s->tail;
    bool nudge = s->head < s->tail && !s->busy && !s->nudged && s->state != OUT_OVER;
    s->nudged = s->nudged || nudge;
    pthread_mutex_unlock(&s->lock);
    if (nudge)
        mr_grpc_nudge(s->call.call, &s->nudge);
}

double mr_grpc_stream_fill(struct mr_grpc_stream *stream)
{
    struct mr_grpc_stream *s = stream;
    const struct mr_grpc_stream_limits *limits = &s->streams->limits;
    pthread_mutex_lock(&s->lock);
    double messages = (double)s->deliveries / limits->queue_messages;
    double bytes = (double)s->bytes / (double)limits->queue_bytes;
    bool open = s->state == OUT_OPEN;
    pthread_mutex_unlock(&s->lock);
    double fill = messages > bytes ? messages : bytes;
    return !open || fill > 1 ? 1 : fill;
}

static void stop_stream(struct mr_grpc_stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool over = s->state == OUT_OVER;
    bool close = advance(s, OUT_DRAIN, GRPC_STATUS_UNAVAILABLE,
                         "the publisher is stopping; connect again with the last progress marker");
    bool nudge = !over && !s->nudged;
    s->nudged = s->nudged || nudge;
    pthread_mutex_unlock(&s->lock);
    if (close)
        inbox_put(&s->streams->inbox, &s->close);
    if (nudge)
        mr_grpc_nudge(s->call.call, &s->nudge);
}

void mr_grpc_streams_stop(struct mr_grpc_streams *streams)
{
    pthread_mutex_lock(&streams->lock); /* keeps every stream that has a place alive */
    streams->stopping = true;
    for (uint32_t i = 0; i < streams->limits.streams_max; i++) {
        if (streams->places[i])
            stop_stream(streams->places[i]);
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
