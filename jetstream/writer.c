#include "jetstream/writer.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "jetstream/ack.h"

enum {
    BURST = 256,     /* messages between two looks at the socket */
    ASK_EVERY = 128, /* messages of a lane for one acknowledgement, while there are more to send */
    ROOM_SHARE = 8,  /* a window that was full is written to again when this part of it is free */
    OVERHEAD = 512,  /* bytes of headers that this folder adds */
};
/* While messages keep coming they are written this often, for each write wakes the server. What
 * comes after a silence is not held up. */
#define PACE_NS (500 * MR_NS_PER_US)

struct lane {
    struct mr_js_stream stream; /* its texts are owned */
    bool known;                 /* was opened once */
    uint64_t acked;             /* the stream has everything through this sequence */
    uint64_t sent;              /* sequence of the last message sent */
    uint64_t stored_tag;        /* left out through here */
    uint64_t last_in_burst;
    uint32_t unasked;
    size_t last_id_len; /* of the last message sent on this connection; 0: none was */
    char last_id[MR_JS_ID_MAX];
};

struct mr_js_writer {
    struct mr_js_writer_options options;
    struct mr_js_outbox *outbox;
    struct mr_js_link *link; /* NULL: not connected */
    struct lane *lanes;
    uint32_t lane_count, lane_max;
    uint64_t next;          /* number of the entry to be sent next */
    uint64_t sent_high;     /* entries in front of this one were sent before */
    uint64_t careful_until; /* entries in front of this one each ask for an answer */
    bool full;              /* the link takes no more for now */
    uint64_t sent_ns;       /* when messages were written last */
    uint64_t progress_ns;   /* when something was acknowledged, or nothing was in flight */
    struct mr_breaker breaker;
    struct mr_js_writer_stats stats;
    struct mr_js_stored stored; /* scratch: large */
};

enum mr_rc mr_js_writer_create(struct mr_js_writer **out,
                               const struct mr_js_writer_options *options,
                               struct mr_js_outbox *outbox, struct mr_err *err)
{
    struct mr_js_writer *w = calloc(1, sizeof *w);
    if (!w)
        return mr_fail(err, MR_FATAL, "allocate a JetStream writer");
    w->options = *options;
    w->outbox = outbox;
    w->breaker = (struct mr_breaker){.failures_max = options->breaker_failures,
                                     .open_ns = options->breaker_open_ns};
    *out = w;
    return MR_OK;
}

static void free_names(struct mr_js_stream *stream)
{
    free((char *)(uintptr_t)stream->name);
    free((char *)(uintptr_t)stream->subject);
    free((char *)(uintptr_t)stream->consumer);
}

void mr_js_writer_destroy(struct mr_js_writer **out)
{
    struct mr_js_writer *w = *out;
    if (!w)
        return;
    mr_js_link_close(&w->link);
    for (uint32_t i = 0; i < w->lane_count; i++)
        free_names(&w->lanes[i].stream);
    free(w->lanes);
    free(w);
    *out = NULL;
}

enum mr_rc mr_js_writer_add(struct mr_js_writer *w, const struct mr_js_stream *stream,
                            uint32_t *lane, struct mr_err *err)
{
    if (w->lane_count == w->lane_max) {
        uint32_t max = w->lane_max ? 2 * w->lane_max : 4;
        struct lane *grown = realloc(w->lanes, max * sizeof *grown);
        if (!grown)
            return mr_fail(err, MR_FATAL, "add stream %s", stream->name);
        w->lanes = grown;
        w->lane_max = max;
    }
    struct lane *added = &w->lanes[w->lane_count];
    *added = (struct lane){.stream = *stream, .last_in_burst = UINT64_MAX};
    added->stream.name = strdup(stream->name);
    added->stream.subject = strdup(stream->subject);
    added->stream.consumer = stream->consumer ? strdup(stream->consumer) : NULL;
    if (!added->stream.name || !added->stream.subject ||
        (stream->consumer && !added->stream.consumer)) {
        free_names(&added->stream);
        return mr_fail(err, MR_FATAL, "add stream %s", stream->name);
    }
    *lane = w->lane_count++;
    return MR_OK;
}

static uint64_t head_of(const struct mr_js_writer *w)
{
    return atomic_load_explicit(&w->outbox->head, memory_order_relaxed);
}

static uint64_t tail_of(const struct mr_js_writer *w)
{
    return atomic_load_explicit(&w->outbox->tail, memory_order_acquire); /* entries first */
}

/* What is acknowledged stays so: the next connection counts anew. */
static void drop_link(struct mr_js_writer *w)
{
    mr_js_link_close(&w->link);
    for (uint64_t n = head_of(w); n < w->next; n++) {
        struct mr_js_entry *entry = mr_js_outbox_entry(w->outbox, n);
        if (w->lanes[entry->lane].acked >= entry->stream_sequence)
            entry->done = true;
    }
    w->careful_until = w->careful_until > w->next ? w->careful_until : w->next;
    w->next = head_of(w);
}

static enum mr_rc failed(struct mr_js_writer *w, enum mr_rc rc)
{
    drop_link(w);
    mr_breaker_failed(&w->breaker, mr_clock_ns());
    w->stats.failures++;
    return rc;
}

void mr_js_writer_failed(struct mr_js_writer *w)
{
    (void)failed(w, MR_RETRY);
}

static bool has_id(const struct mr_js_writer *w, const struct mr_js_entry *entry, const char *id)
{
    const char *bytes = mr_js_outbox_bytes(w->outbox, entry) + entry->subject_len;
    return strlen(id) == entry->id_len && memcmp(bytes, id, entry->id_len) == 0;
}

/* The stream has gone on behind acked, through last. Usually the message at last is the one that
 * was sent as such, and then so are all of the lane before it. UINT64_MAX: it is not. */
static uint64_t find_as_sent(struct mr_js_writer *w, uint32_t lane, uint64_t last)
{
    if (mr_js_stream_message(w->link, w->lanes[lane].stream.name, last, &w->stored, NULL) != MR_OK)
        return UINT64_MAX;
    for (uint64_t n = head_of(w); n < w->sent_high; n++) {
        const struct mr_js_entry *entry = mr_js_outbox_entry(w->outbox, n);
        if (entry->lane == lane && !entry->done && entry->stream_sequence == last)
            return has_id(w, entry, w->stored.id) ? n : UINT64_MAX;
    }
    return UINT64_MAX;
}

static void mark_done(struct mr_js_writer *w, uint32_t lane, uint64_t through)
{
    for (uint64_t n = head_of(w); n <= through; n++) {
        struct mr_js_entry *entry = mr_js_outbox_entry(w->outbox, n);
        if (entry->lane == lane)
            entry->done = true;
    }
}

/* Message by message: what is ours is found by its id, in order; the rest somebody else has
 * written.
 */
static enum mr_rc walk(struct mr_js_writer *w, uint32_t lane, uint64_t last, struct mr_err *err)
{
    struct lane *l = &w->lanes[lane];
    uint64_t n = head_of(w), end = tail_of(w), foreign = 0;
    for (uint64_t sequence = l->acked + 1; sequence <= last; sequence++) {
        enum mr_rc rc = mr_js_stream_message(w->link, l->stream.name, sequence, &w->stored, err);
        if (rc != MR_OK && rc != MR_AGAIN)
            return rc;
        uint64_t at = n;
        for (; rc == MR_OK && at < end; at++) {
            struct mr_js_entry *entry = mr_js_outbox_entry(w->outbox, at);
            if (entry->lane == lane && !entry->done && has_id(w, entry, w->stored.id)) {
                entry->done = true;
                break;
            }
        }
        if (rc == MR_OK && at < end)
            n = at + 1;
        else
            foreign++;
    }
    if (foreign > 0)
        mr_log_warn("jetstream", "foreign_messages",
                    "stream=%s count=%" PRIu64 " effect=\"kept; a stream should have one writer\"",
                    l->stream.name, foreign);
    return MR_OK;
}

static enum mr_rc resync(struct mr_js_writer *w, uint32_t lane, uint64_t last, struct mr_err *err)
{
    struct lane *l = &w->lanes[lane];
    if (last < l->acked)
        mr_log_error("jetstream", "stream_went_back",
                     "stream=%s acknowledged=%" PRIu64 " last=%" PRIu64
                     " effect=\"what the server has lost is gone\"",
                     l->stream.name, l->acked, last);
    if (last > l->acked) {
        uint64_t n = find_as_sent(w, lane, last);
        enum mr_rc rc = MR_OK;
        if (n != UINT64_MAX)
            mark_done(w, lane, n);
        else
            rc = walk(w, lane, last, err);
        if (rc != MR_OK)
            return rc;
    }
    l->acked = l->sent = last;
    l->last_id_len = 0;
    return MR_OK;
}

/* First time, or again on a new connection. */
static enum mr_rc open_lane(struct mr_js_writer *w, uint32_t lane, struct mr_err *err)
{
    struct lane *l = &w->lanes[lane];
    struct mr_js_lane_state state = {.last = 0};
    enum mr_rc rc = mr_js_stream_open(w->link, &l->stream, &state.last, err);
    if (rc != MR_OK)
        return rc;
    if (l->known)
        return resync(w, lane, state.last, err);
    if (state.last > 0) {
        rc = mr_js_stream_message(w->link, l->stream.name, state.last, &state.stored, err);
        if (rc != MR_OK && rc != MR_AGAIN) /* AGAIN: too old, it is gone */
            return rc;
    }
    l->acked = l->sent = state.last;
    if (w->options.stored_through)
        l->stored_tag = w->options.stored_through(w->options.context, lane, &state);
    l->known = true;
    mr_log_info("jetstream", "stream_opened", "stream=%s last=%" PRIu64 " stored_through=%" PRIu64,
                l->stream.name, state.last, l->stored_tag);
    return MR_OK;
}

/* Take what is done off the outbox's head. */
static uint64_t release(struct mr_js_writer *w, uint64_t now_ns)
{
    uint64_t head = head_of(w), n = head;
    for (; n < w->next; n++) {
        const struct mr_js_entry *entry = mr_js_outbox_entry(w->outbox, n);
        if (!entry->done && w->lanes[entry->lane].acked < entry->stream_sequence)
            break;
        if (entry->stream_sequence != 0) { /* else the stream had it before */
            w->stats.published++;
            w->stats.bytes += entry->payload_len;
        }
        if (w->options.acknowledged)
            w->options.acknowledged(w->options.context,
                                    now_ns > entry->queued_ns ? now_ns - entry->queued_ns : 0);
    }
    if (n == head)
        return 0;
    mr_js_outbox_release(w->outbox, n);
    w->progress_ns = now_ns;
    return n - head;
}

static enum mr_rc connect(struct mr_js_writer *w, struct mr_err *err)
{
    enum mr_rc rc = mr_js_link_open(&w->link, &w->options.link, err);
    for (uint32_t i = 0; rc == MR_OK && i < w->lane_count; i++)
        if (w->lanes[i].known)
            rc = open_lane(w, i, err);
    if (rc != MR_OK)
        return failed(w, rc);
    w->next = head_of(w);
    w->progress_ns = mr_clock_ns();
    mr_log_info("jetstream", "connected", "connection=%s pending=%" PRIu64, w->options.link.name,
                tail_of(w) - head_of(w));
    if (w->next == tail_of(w)) /* nothing to prove it by */
        mr_breaker_succeeded(&w->breaker);
    return MR_OK;
}

enum mr_rc mr_js_writer_open(struct mr_js_writer *w, uint32_t lane, struct mr_js_link **link,
                             struct mr_err *err)
{
    enum mr_rc rc = MR_OK;
    if (!w->link)
        rc = mr_breaker_may_try(&w->breaker, mr_clock_ns()) ? connect(w, err) : MR_AGAIN;
    if (rc == MR_OK && !w->lanes[lane].known) {
        rc = open_lane(w, lane, err);
        if (rc != MR_OK)
            return failed(w, rc);
    }
    *link = w->link;
    return rc;
}

/* What the server would refuse goes without its payload, and says so: the order stays whole. */
static struct mr_str fit(struct mr_js_writer *w, const struct mr_js_entry *entry,
                         struct mr_js_publish *m, char *room, size_t size)
{
    size_t max = mr_js_link_payload_max(w->link);
    if (m->payload.len + m->headers.len + m->id.len + OVERHEAD <= max)
        return m->headers;
    int len =
        snprintf(room, size, "%.*sMillrace-Omitted: %" PRIu32 " bytes, over the server's %zu\r\n",
                 (int)m->headers.len, m->headers.data, entry->payload_len, max);
    m->payload.len = 0;
    w->stats.oversize++;
    return (struct mr_str){room, (size_t)len < size ? (size_t)len : 0};
}

static enum mr_rc send_entry(struct mr_js_writer *w, uint64_t n, struct mr_err *err)
{
    struct mr_js_entry *entry = mr_js_outbox_entry(w->outbox, n);
    struct lane *l = &w->lanes[entry->lane];
    char room[2048];
    const char *at = mr_js_outbox_bytes(w->outbox, entry);
    struct mr_js_publish m = {.expected = l->sent, .expected_id = {l->last_id, l->last_id_len}};
    m.subject = (struct mr_str){at, entry->subject_len};
    m.id = (struct mr_str){m.subject.data + m.subject.len, entry->id_len};
    m.headers = (struct mr_str){m.id.data + m.id.len, entry->headers_len};
    m.payload = (struct mr_str){m.headers.data + m.headers.len, entry->payload_len};
    m.headers = fit(w, entry, &m, room, sizeof room);
    bool ask = n == l->last_in_burst || l->unasked + 1 >= ASK_EVERY || n < w->careful_until;
    m.answer = ask ? n + 1 : 0;
    enum mr_rc rc = mr_js_link_publish(w->link, &m, err);
    if (rc != MR_OK)
        return rc;
    MR_CRASH("jetstream.sent");
    l->unasked = ask ? 0 : l->unasked + 1;
    l->last_id_len = m.id.len;
    memcpy(l->last_id, m.id.data, m.id.len);
    entry->stream_sequence = ++l->sent;
    w->stats.resent += n < w->sent_high;
    return MR_OK;
}

/* A half-open breaker lets one message through. */
static uint64_t in_flight_max(const struct mr_js_writer *w)
{
    return w->breaker.state == MR_BREAKER_HALF_OPEN ? 1 : w->options.in_flight_max;
}

/* How far may be sent now. Where more waits than the window has room for, not in many small pieces:
 * each would wake the server. */
static uint64_t burst_end(const struct mr_js_writer *w)
{
    uint64_t tail = tail_of(w), window = in_flight_max(w), limit = head_of(w) + window;
    if (tail > limit && limit - w->next < window / ROOM_SHARE)
        return w->next;
    uint64_t end = tail < limit ? tail : limit;
    return end < w->next + BURST ? end : w->next + BURST;
}

/* How long what waits is held for more to come with it; 0: not at all. */
static uint64_t hold_ns(const struct mr_js_writer *w, uint64_t now_ns)
{
    return !w->full && now_ns - w->sent_ns < PACE_NS && tail_of(w) - w->next < BURST
               ? w->sent_ns + PACE_NS - now_ns
               : 0;
}

bool mr_js_writer_full(const struct mr_js_writer *w)
{
    return tail_of(w) > w->next && burst_end(w) <= w->next;
}

static enum mr_rc send_burst(struct mr_js_writer *w, uint64_t *done, struct mr_err *err)
{
    uint64_t end = burst_end(w);
    enum mr_rc rc = MR_OK;
    for (uint64_t n = w->next; n < end; n++) {
        const struct mr_js_entry *entry = mr_js_outbox_entry(w->outbox, n);
        if (!entry->done)
            w->lanes[entry->lane].last_in_burst = n;
    }
    for (; w->next < end; w->next++) {
        struct mr_js_entry *entry = mr_js_outbox_entry(w->outbox, w->next);
        struct lane *l = &w->lanes[entry->lane];
        if (!l->known && (rc = open_lane(w, entry->lane, err)) != MR_OK)
            return rc;
        if (!entry->done && entry->tag <= l->stored_tag) {
            entry->done = true;
            w->stats.duplicates++;
        }
        if (!entry->done && (rc = send_entry(w, w->next, err)) != MR_OK)
            break;
        ++*done;
        if (w->next >= w->sent_high)
            w->sent_high = w->next + 1;
    }
    w->full = rc == MR_FULL;
    return rc == MR_FULL ? MR_OK : rc;
}

static enum mr_rc take_answer(struct mr_js_writer *w, const struct mr_js_answer *answer,
                              struct mr_err *err)
{
    uint64_t n = answer->number - 1;
    struct mr_js_ack ack;
    if (n < head_of(w) || n >= w->next)
        return MR_OK; /* an earlier answer spoke for it, too */
    struct mr_js_entry *entry = mr_js_outbox_entry(w->outbox, n);
    struct lane *l = &w->lanes[entry->lane];
    if (answer->payload.len == 0)
        return mr_reject(err, MR_RETRY, "stream %s: gone, nobody takes what is published",
                         l->stream.name);
    if (mr_js_ack_parse(answer->payload, &ack) != MR_OK)
        return mr_reject(err, MR_RETRY, "stream %s: unreadable answer \"%.*s\"", l->stream.name,
                         (int)(answer->payload.len < 80 ? answer->payload.len : 80),
                         answer->payload.data);
    if (ack.error_code != 0)
        return mr_reject(err, MR_RETRY, "stream %s: refuses a message: %.*s (%" PRIu32 ")",
                         l->stream.name, (int)ack.error.len, ack.error.data, ack.error_code);
    if (ack.stream_sequence != entry->stream_sequence) {
        /* An id that came before, its own or of a message in front of it: the stream left that one
         * out, and is one short of what was expected. */
        entry->done = entry->done || ack.duplicate;
        w->stats.duplicates += ack.duplicate;
        drop_link(w);
        return MR_OK;
    }
    if (ack.stream_sequence > l->acked)
        l->acked = ack.stream_sequence;
    if (w->breaker.failures > 0 || w->breaker.state != MR_BREAKER_CLOSED)
        mr_breaker_succeeded(&w->breaker);
    return MR_OK;
}

static enum mr_rc take_answers(struct mr_js_writer *w, uint64_t *done, struct mr_err *err)
{
    struct mr_js_answer answer;
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK && w->link && mr_js_link_answer(w->link, &answer))
        rc = take_answer(w, &answer, err);
    uint64_t now_ns = mr_clock_ns();
    *done += release(w, now_ns);
    if (rc != MR_OK || !w->link)
        return rc;
    if (w->next == head_of(w))
        w->progress_ns = now_ns;
    if (now_ns - w->progress_ns > w->options.ack_timeout_ns)
        return mr_reject(err, MR_RETRY, "connection to NATS: no acknowledgement for %" PRIu64 " ms",
                         (now_ns - w->progress_ns) / MR_NS_PER_MS);
    return MR_OK;
}

/* Not connected, and not the time to try. */
static void rest(struct mr_js_writer *w, uint64_t timeout_ns)
{
    uint64_t now_ns = mr_clock_ns();
    uint64_t wait_ns = w->breaker.next_ns > now_ns ? w->breaker.next_ns - now_ns : 0;
    wait_ns = wait_ns < timeout_ns ? wait_ns : timeout_ns;
    const struct timespec timeout = {.tv_sec = (time_t)(wait_ns / MR_NS_PER_S),
                                     .tv_nsec = (long)(wait_ns % MR_NS_PER_S)};
    (void)ppoll(NULL, 0, &timeout, NULL);
}

enum mr_rc mr_js_writer_work(struct mr_js_writer *w, uint64_t timeout_ns, uint64_t *done,
                             struct mr_err *err)
{
    *done = 0;
    if (!w->link) {
        if (!mr_breaker_may_try(&w->breaker, mr_clock_ns())) {
            rest(w, timeout_ns);
            return MR_OK;
        }
        enum mr_rc rc = connect(w, err);
        if (rc != MR_OK)
            return rc;
    }
    uint64_t now_ns = mr_clock_ns(), held_ns = hold_ns(w, now_ns);
    enum mr_rc rc = held_ns == 0 ? send_burst(w, done, err) : MR_OK;
    if (*done > 0)
        w->sent_ns = now_ns;
    if (held_ns > 0 && held_ns < timeout_ns)
        timeout_ns = held_ns;
    bool blocked = w->full || held_ns > 0 || mr_js_writer_full(w);
    bool sleeps = rc == MR_OK && *done == 0 && timeout_ns > 0 &&
                  (blocked || mr_js_outbox_may_sleep(w->outbox, w->next));
    if (rc == MR_OK)
        rc = mr_js_link_work(w->link, sleeps ? w->outbox->wake_fd : -1, sleeps ? timeout_ns : 0,
                             err);
    if (sleeps)
        mr_js_outbox_awake(w->outbox);
    if (rc == MR_OK)
        rc = take_answers(w, done, err);
    return rc == MR_OK ? MR_OK : failed(w, rc);
}

const struct mr_js_writer_stats *mr_js_writer_stats(const struct mr_js_writer *w)
{
    return &w->stats;
}

const struct mr_breaker *mr_js_writer_breaker(const struct mr_js_writer *w)
{
    return &w->breaker;
}

bool mr_js_writer_connected(const struct mr_js_writer *w)
{
    return w->link != NULL;
}
