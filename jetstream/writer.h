/* jetstream/writer.h: puts the messages of an outbox into streams: every message once, each stream
 * in the order of the outbox, whatever dies or goes away meanwhile.
 *
 * A lane is a stream that this writer alone should write. Each message names the one before it
 * (Nats-Expected-Last-Msg-Id; the first on a connection the sequence), so the server refuses
 * whatever would leave a hole, and an acknowledgement also speaks for the messages before it: only
 * every so many ask for one. The sequence alone would not do: a stranger's message in the place of
 * one that was refused makes the count right again. After a lost connection the stream is asked how
 * far it is, and sending goes on behind that: this needs no window of remembered ids, so it holds
 * after any pause.
 *
 * One thread (the sender of the outbox). It waits in connecting and in requests, up to seconds. */
#ifndef MR_JETSTREAM_WRITER_H
#define MR_JETSTREAM_WRITER_H
#include "jetstream/breaker.h"
#include "jetstream/streams.h"

/* A stream as it is when its lane opens. */
struct mr_js_lane_state {
    uint64_t last;              /* sequence; 0: empty for ever */
    struct mr_js_stored stored; /* its last message; stream_sequence 0: there is none */
};

struct mr_js_writer_options {
    struct mr_js_options link;
    uint32_t in_flight_max;
    uint64_t ack_timeout_ns;
    uint32_t breaker_failures;
    uint64_t breaker_open_ns;
    /* A lane opens for the first time: through which tag does the stream hold everything? Messages
     * at or before are left out. */
    uint64_t (*stored_through)(void *context, uint32_t lane, const struct mr_js_lane_state *state);
    /* Called once for each message of which an acknowledgement came. */
    void (*acknowledged)(void *context, uint64_t latency_ns);
    void *context;
};

struct mr_js_writer_stats {
    uint64_t published, bytes, resent, duplicates, oversize, failures;
};

struct mr_js_writer;
MR_MUST_USE enum mr_rc mr_js_writer_create(struct mr_js_writer **out,
                                           const struct mr_js_writer_options *options,
                                           struct mr_js_outbox *outbox, struct mr_err *err);
void mr_js_writer_destroy(struct mr_js_writer **writer);

/* Another stream to write; opened when its first message is sent. Names are copied. Returns its
 * lane in *lane: 0, 1, 2, ... */
MR_MUST_USE enum mr_rc mr_js_writer_add(struct mr_js_writer *writer,
                                        const struct mr_js_stream *stream, uint32_t *lane,
                                        struct mr_err *err);

/* Connect when that is due, send, take acknowledgements. Behind a message that was just sent the
 * next ones gather for half a millisecond; behind a silence nothing is held up. Wait at most
 * timeout_ns when there was nothing to do, or until the outbox's putter flushes. *done: messages
 * sent and acknowledged. Whatever goes wrong is tried again by the breaker's rules and said in err
 * (once; MR_OK else): MR_RETRY, or MR_USAGE for a stream that is not what it should be. */
enum mr_rc mr_js_writer_work(struct mr_js_writer *writer, uint64_t timeout_ns, uint64_t *done,
                             struct mr_err *err);

/* For an owner who reads back before it puts its first message: connect and open this lane now.
 * MR_AGAIN: it is not time to try; else as work. The link is the writer's. */
MR_MUST_USE enum mr_rc mr_js_writer_open(struct mr_js_writer *writer, uint32_t lane,
                                         struct mr_js_link **link, struct mr_err *err);
/* What the owner asked over that link has failed: it is closed. */
void mr_js_writer_failed(struct mr_js_writer *writer);

const struct mr_js_writer_stats *mr_js_writer_stats(const struct mr_js_writer *writer);
const struct mr_breaker *mr_js_writer_breaker(const struct mr_js_writer *writer);
/* More waits than the window of messages under way has room for now. */
bool mr_js_writer_full(const struct mr_js_writer *w);
bool mr_js_writer_connected(const struct mr_js_writer *writer);
#endif
