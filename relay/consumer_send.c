/* What a consumer is sent: relay/consumer.h. */
#include <stdio.h>

#include "common/clock.h"
#include "relay/consumer.h"

enum {
    SKIPPED_MAX = 4096, /* a filter lets nothing through: tell the position after so many */
    PARTS_MAX = 64,     /* of one message: at the live end pieces are short */
};
#define RETRY_NS (20 * MR_NS_PER_MS)

/* What one consumer may hold of the memory for all: a message on its way, a piece of its own. */
static size_t share_of(const struct mr_relay *r)
{
    const struct mr_config *config = &r->process->config;
    size_t share = config->relay_memory_size / 4 / (r->consumer_count + 1);
    return share < config->relay_batch_size ? share : config->relay_batch_size;
}

/* A message while it is put together: parts of pieces, shared with them. */
struct message {
    grpc_slice parts[PARTS_MAX];
    uint32_t part_count;
    uint64_t events;
    size_t bytes;
    size_t held; /* of slabs that stay in memory because of it */
};

/* Takes the parts. more: another message follows at once. */
static void write_message(struct mr_consumer *c, struct message *message, bool more)
{
    c->writing = true;
    c->in_flight = message->bytes;
    atomic_fetch_add_explicit(&c->relay->numbers.in_flight, c->in_flight, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->relay->numbers.bytes, c->in_flight, memory_order_relaxed);
    grpc_byte_buffer *bytes = grpc_raw_byte_buffer_create(message->parts, message->part_count);
    for (uint32_t i = 0; i < message->part_count; i++)
        grpc_slice_unref(message->parts[i]);
    grpc_op op = mr_grpc_op_send(bytes, more ? GRPC_WRITE_BUFFER_HINT : 0);
    mr_grpc_start(c->call.call, &op, 1, &c->written);
    grpc_byte_buffer_destroy(bytes);
}

static struct mr_str marker_of(const struct mr_relay *r, uint64_t sequence,
                               char out[MR_MARKER_TEXT_MAX])
{
    struct mr_marker marker = {.log_id = mr_relay_log_id(r), .sequence = sequence};
    return (struct mr_str){out, mr_marker_format(marker, out)};
}

/* Messages without events. True: one is on its way. */
static bool send_notice(struct mr_consumer *c, uint64_t now_ns)
{
    uint8_t bytes[MR_WIRE_NOTICE_MAX];
    char text[MR_MARKER_TEXT_MAX], resume_text[MR_MARKER_TEXT_MAX];
    struct mr_str progress = marker_of(c->relay, c->position, text);
    size_t len;
    if (c->tell_lag) {
        const struct mr_wire_lag lag = {(uint32_t)c->lag.level, c->lag.events,
                                        c->lag.age_ns / MR_NS_PER_MS};
        c->tell_lag = false;
        len = mr_wire_put_lag(bytes, progress, &lag);
    } else if (c->tell_rebuild) {
        struct mr_str resume = marker_of(c->relay, mr_relay_head(c->relay), resume_text);
        len = mr_wire_put_rebuild(bytes, progress, mr_str_from(c->tell_rebuild), resume);
        c->tell_rebuild = NULL;
    } else if (now_ns - c->sent_ns >= c->relay->process->config.relay_heartbeat_interval) {
        len = mr_wire_put_heartbeat(bytes, progress);
    } else {
        return false;
    }
    c->sent_ns = now_ns;
    c->said = c->position;
    struct message message = {.part_count = 1, .bytes = len};
    message.parts[0] = grpc_slice_from_copied_buffer((const char *)bytes, len);
    write_message(c, &message, false);
    return true;
}

static bool is_wanted(const struct mr_consumer *c, const struct mr_piece *piece, uint32_t index)
{
    const struct mr_piece_item *item = &piece->items[index];
    if (c->follow.collection_count == 0 || item->collection_len == 0)
        return true;
    struct mr_str name = {(const char *)GRPC_SLICE_START_PTR(piece->slab) + item->collection_at,
                          item->collection_len};
    for (uint32_t i = 0; i < c->follow.collection_count; i++)
        if (mr_str_equal(c->follow.collections[i], name))
            return true;
    return false;
}

/* The longest run of wanted events from *first on that still fits into the message: [*first, *end).
 * What must be applied at once (coalesce.h) is never cut. */
static void choose(const struct mr_consumer *c, const struct mr_piece *piece,
                   const struct message *message, uint32_t *first, uint32_t *end)
{
    size_t share = share_of(c->relay);
    size_t bytes_max = share > message->bytes ? share - message->bytes : 0;
    uint64_t events_max =
        piece->own ? piece->count : c->relay->process->config.relay_batch_events - message->events;
    if (!c->follow.batch)
        events_max = 1;
    while (*first < piece->count && !is_wanted(c, piece, *first))
        (*first)++;
    *end = *first;
    while (*end < piece->count && *end - *first < events_max && is_wanted(c, piece, *end) &&
           ((*end == *first && message->part_count == 0) ||
            (*end > *first && piece->items[*end].through == piece->items[*end - 1].through) ||
            piece->items[*end].end - piece->items[*first].at <= bytes_max))
        (*end)++;
}

/* A part of the slab, shared; a copy when the slabs that stay in memory only because of this
 * message would be over the consumer's share. */
static grpc_slice part_of(const struct mr_consumer *c, const struct mr_piece *piece,
                          struct message *message, uint32_t from, uint32_t end)
{
    size_t slab = GRPC_SLICE_LENGTH(piece->slab);
    if (message->held + slab <= share_of(c->relay)) {
        message->held += slab;
        return grpc_slice_sub(piece->slab, from, end);
    }
    return grpc_slice_from_copied_buffer((const char *)GRPC_SLICE_START_PTR(piece->slab) + from,
                                         end - from);
}

static void measure(struct mr_consumer *c, const struct mr_piece *piece, uint64_t now_ns)
{
    struct mr_cell_shm *cell = c->relay->process->cell;
    if (c->lag.live && piece->ingest_ns != 0 && piece->ingest_ns <= now_ns)
        mr_histogram_add(&cell->histograms[MR_HISTOGRAM_SOURCE_TO_RELAYED],
                         now_ns - piece->ingest_ns);
}

/* Before item is sent: who owed nothing has all that comes before it, though it was sent none. */
static void reach(struct mr_consumer *c, const struct mr_piece_item *item)
{
    if (c->acknowledges && c->acknowledged >= c->told && c->acknowledged < item->first - 1)
        c->acknowledged = item->first - 1;
}

/* Add what is next from a piece that holds it. False: the message has no room for it. */
static bool add_part(struct mr_consumer *c, const struct mr_piece *piece, struct message *message,
                     uint64_t now_ns)
{
    uint32_t first = mr_piece_find(piece, c->position), end;
    choose(c, piece, message, &first, &end);
    if (first == piece->count) { /* nothing wanted in the rest of it */
        c->position = piece->through;
        return true;
    }
    bool cut = end < piece->count && is_wanted(c, piece, end);
    if (first == end || (cut && message->part_count > 0)) /* not whole: it begins the next one */
        return false;
    const struct mr_piece_item *begin = &piece->items[first], *last = &piece->items[end - 1];
    uint32_t from = c->follow.batch ? begin->at : begin->body;
    measure(c, piece, now_ns);
    reach(c, begin);
    c->position = c->told = c->said = last->through;
    message->parts[message->part_count++] = part_of(c, piece, message, from, last->end);
    message->events += end - first;
    message->bytes += last->end - from;
    return true;
}

/* Where the message goes on: in the same piece, behind what is not wanted, or in the one behind it.
 * False: it is to be sent as it is. */
static bool next_part(struct mr_consumer *c, struct mr_piece **piece, const struct message *message)
{
    struct mr_relay *r = c->relay;
    uint64_t next = c->position + 1;
    if (!c->follow.batch || message->part_count == PARTS_MAX ||
        (!(*piece)->own && message->events >= r->process->config.relay_batch_events))
        return false;
    if (next <= (*piece)->through)
        return true;
    uint64_t tail = atomic_load_explicit(&r->tail_next, memory_order_acquire);
    struct mr_piece *more = (*piece)->own || next == tail ? NULL : mr_cache_get(&r->cache, next);
    if (!more)
        return false;
    mr_piece_unref(*piece);
    *piece = more;
    return true;
}

/* Send from a piece that holds what is next, and from those behind it that are in memory. True: a
 * message is on its way. *piece: the last one looked at. */
static bool send_from(struct mr_consumer *c, struct mr_piece **piece, uint64_t now_ns)
{
    struct message message;
    message.part_count = 0;
    message.events = message.bytes = message.held = 0;
    while (add_part(c, *piece, &message, now_ns) && next_part(c, piece, &message))
        continue;
    if (message.part_count == 0)
        return false;
    c->sent_ns = now_ns;
    atomic_fetch_add_explicit(&c->relay->numbers.events, message.events, memory_order_relaxed);
    mr_census_add(&c->row->events, message.events);
    write_message(c, &message, !c->follow.batch && c->position < (*piece)->through);
    return true;
}

static void start_fetch(struct mr_consumer *c, uint64_t head)
{
    bool coalesce = c->follow.coalesce && head - c->position > MR_PIECE_EVENTS_MAX;
    c->fetch = (struct mr_fetch){.kind = coalesce ? MR_FETCH_COALESCED : MR_FETCH_PIECE,
                                 .sequence = c->position + 1,
                                 .through = head,
                                 .bytes_max = share_of(c->relay),
                                 .atomic = c->follow.atomic_progress && c->follow.batch &&
                                           c->follow.collection_count == 0,
                                 .done = mr_consumer_fetch_done};
    c->fetching = true;
    mr_fetch(c->relay->fetcher, &c->fetch);
}

/* The piece that holds what is next, with a reference; NULL: it is not here, and is on its way. */
static struct mr_piece *next_piece(struct mr_consumer *c, uint64_t now_ns)
{
    struct mr_relay *r = c->relay;
    uint64_t next = c->position + 1, head = mr_relay_head(r);
    struct mr_piece *kept = c->piece;
    c->piece = NULL;
    if (kept && kept->first <= next && next <= kept->through)
        return kept;
    if (kept)
        mr_piece_unref(kept);
    /* Behind and coalescing: what others have in memory is not what it wants. */
    bool coalesces = c->follow.coalesce && head > next + MR_PIECE_EVENTS_MAX;
    struct mr_piece *piece = coalesces ? NULL : mr_cache_get(&r->cache, next);
    if (piece)
        return piece;
    uint64_t tail = atomic_load_explicit(&r->tail_next, memory_order_acquire);
    if (next > head || (tail != 0 && next >= tail)) {
        mr_consumer_wait(c, true);
        /* It may have come between the two looks. */
        piece = coalesces ? NULL : mr_cache_get(&r->cache, next);
        if (piece)
            mr_consumer_wait(c, false);
        return piece;
    }
    mr_consumer_wait(c, false);
    if (c->retry_ns <= now_ns)
        start_fetch(c, head);
    return NULL;
}

/* Not sent completely: keep it for the next message? One of its own nobody else has; one of the
 * cache saves looking for it again, but may not stay in memory when it is over the share. */
static bool is_kept(const struct mr_consumer *c, const struct mr_piece *piece)
{
    return piece->own || piece->bytes <= share_of(c->relay);
}

void mr_consumer_step(struct mr_consumer *c, uint64_t now_ns)
{
    while (!c->writing && !c->fetching && !c->status_begun && !c->broken && !c->is_gone &&
           c->stage != MR_CONSUMER_OPENING && c->stage != MR_CONSUMER_ENDED) {
        if (send_notice(c, now_ns) || c->stage == MR_CONSUMER_PAUSED)
            return;
        struct mr_piece *piece = next_piece(c, now_ns);
        if (!piece)
            return;
        mr_consumer_wait(c, false);
        bool sent = send_from(c, &piece, now_ns);
        if (sent && c->position < piece->through && is_kept(c, piece))
            c->piece = piece;
        else
            mr_piece_unref(piece);
        if (!sent && c->position - c->said >= SKIPPED_MAX)
            c->sent_ns = 0; /* so that a heartbeat is due */
    }
}

void mr_consumer_written(void *owner, bool ok)
{
    struct mr_consumer *c = owner;
    c->writing = false;
    atomic_fetch_sub_explicit(&c->relay->numbers.in_flight, c->in_flight, memory_order_relaxed);
    c->broken = c->broken || !ok; /* the call is over: gone will say so */
    mr_consumer_step(c, mr_clock_ns());
    mr_consumer_let_go(c);
}

void mr_consumer_fetch_done(struct mr_fetch *fetch)
{
    struct mr_consumer *c = (void *)((char *)fetch - offsetof(struct mr_consumer, fetch));
    mr_grpc_nudge(c->call.call, &c->fetched);
}

/* A stream that has not begun takes no steps in which it could try again, nor do heartbeats tell
 * that it waits. */
static void end_unlocated(struct mr_consumer *c)
{
    char text[sizeof c->fetch.err.text + 96];
    snprintf(text, sizeof text, "look for event %s: %s; connect again", c->place.event_id,
             c->fetch.err.text);
    mr_consumer_end(c, GRPC_STATUS_UNAVAILABLE, text);
}

/* What the thread has to say beside a piece. */
static void fetch_failed(struct mr_consumer *c, uint64_t now_ns)
{
    const struct mr_fetch *fetch = &c->fetch;
    switch (fetch->rc) {
    case MR_USAGE:
        if (fetch->kind == MR_FETCH_LOCATE)
            c->position = 0;
        mr_consumer_too_old(c, fetch->floor);
        break;
    case MR_AGAIN:
    case MR_RETRY: /* the end moved under it: again in a moment */
        if (fetch->kind == MR_FETCH_LOCATE)
            end_unlocated(c);
        else
            c->retry_ns = now_ns + RETRY_NS;
        break;
    case MR_CLOSED:
        mr_consumer_end(c, GRPC_STATUS_UNAVAILABLE, "the relay is stopping");
        break;
    default:
        mr_consumer_end(c, fetch->rc == MR_CORRUPT ? GRPC_STATUS_DATA_LOSS : GRPC_STATUS_INTERNAL,
                        fetch->err.text);
    }
}

void mr_consumer_fetched(void *owner, bool ok)
{
    struct mr_consumer *c = owner;
    uint64_t now_ns = mr_clock_ns();
    (void)ok;
    c->fetching = false;
    if (c->fetch.rc == MR_OK && c->fetch.kind != MR_FETCH_LOCATE)
        c->piece = c->fetch.piece;
    if (c->is_gone || c->status_begun) {
        mr_consumer_let_go(c);
        return;
    }
    if (c->fetch.rc != MR_OK) {
        fetch_failed(c, now_ns);
    } else if (c->fetch.kind == MR_FETCH_LOCATE) {
        c->position = c->said = c->fetch.sequence;
        c->stage = MR_CONSUMER_STREAMING;
        c->sent_ns = now_ns;
        uint64_t head = mr_relay_head(c->relay);
        mr_lag_begin(&c->lag, head > c->position ? head - c->position : 0, now_ns);
    }
    mr_consumer_step(c, now_ns);
    mr_consumer_let_go(c);
}
