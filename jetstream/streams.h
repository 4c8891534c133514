/* jetstream/streams.h: streams as JetStream keeps them: made when that is wanted, refused when they
 * are not what they should be, and read back. Requests over the link's ordinary connection: each
 * waits for its answer, at most 5 s. */
#ifndef MR_JETSTREAM_STREAMS_H
#define MR_JETSTREAM_STREAMS_H
#include "jetstream/link.h"

/* What a stream must be: file storage, limits, old messages go first. Names borrowed. */
struct mr_js_stream {
    const char *name, *subject; /* the one subject, with wildcards */
    uint64_t retention_ns;
    uint32_t replicas;
    bool create; /* when missing */
    /* A durable pull consumer that is made on it, or NULL. */
    const char *consumer;
    uint32_t max_ack_pending;
    uint64_t ack_wait_ns;
};

/* A message as it was stored. */
struct mr_js_stored {
    uint64_t stream_sequence;
    char subject[MR_JS_SUBJECT_MAX + 1];
    char id[MR_JS_ID_MAX + 2]; /* Nats-Msg-Id; cut when longer */
    char position[128];        /* header Millrace-Position; empty when there is none */
};

/* Find or make a stream. *last: its last sequence. MR_USAGE: it is missing and is not to be made,
 * or has another setting, which is named; MR_RETRY: the server is away or not ready. */
MR_MUST_USE enum mr_rc mr_js_stream_open(struct mr_js_link *link, const struct mr_js_stream *stream,
                                         uint64_t *last, struct mr_err *err);
/* The message with this sequence. MR_AGAIN: it is not there (any more). */
MR_MUST_USE enum mr_rc mr_js_stream_message(struct mr_js_link *link, const char *stream,
                                            uint64_t sequence, struct mr_js_stored *out,
                                            struct mr_err *err);

/* The last message of each subject that matches, in the order of the stream. */
typedef void mr_js_visit(void *context, const struct mr_js_stored *message);
MR_MUST_USE enum mr_rc mr_js_stream_last_of_each(struct mr_js_link *link, const char *stream,
                                                 const char *subject, mr_js_visit *visit,
                                                 void *context, struct mr_err *err);
#endif
