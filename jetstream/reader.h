/* jetstream/reader.h: a stream read in order from a sequence on, by an ordered consumer of its own:
 * nothing is acknowledged, the reader remembers its place. One thread; it waits in every call. */
#ifndef MR_JETSTREAM_READER_H
#define MR_JETSTREAM_READER_H
#include "jetstream/link.h"

struct mr_js_received {
    uint64_t stream_sequence;
    struct mr_str subject, payload;     /* borrowed until the next call */
    struct mr_str id, position, format; /* Nats-Msg-Id, Millrace-Position, Millrace-Format */
};

struct mr_js_reader;
/* Connect and begin behind sequence after. MR_RETRY: no server, or no such stream (yet). */
MR_MUST_USE enum mr_rc mr_js_reader_open(struct mr_js_reader **out,
                                         const struct mr_js_options *options, const char *stream,
                                         uint64_t after, struct mr_err *err);
void mr_js_reader_close(struct mr_js_reader **reader);
/* The stream when it was opened. */
struct mr_js_range {
    uint64_t first, last; /* sequences; first is last + 1 when it is empty */
    int64_t created_ns;   /* since 1970: another one under the same name has another time */
};
struct mr_js_range mr_js_reader_range(const struct mr_js_reader *reader);
/* MR_AGAIN: nothing came in timeout_ms. MR_RETRY: open it again. Sequences ascend; one that is left
 * out is no longer in the stream. */
MR_MUST_USE enum mr_rc mr_js_reader_next(struct mr_js_reader *reader, int timeout_ms,
                                         struct mr_js_received *out, struct mr_err *err);
#endif
