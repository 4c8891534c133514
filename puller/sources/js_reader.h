/* puller/sources/js_reader.h: the thread of the jetstream source, because reading a stream waits:
 * keeps a reader open, and queues what comes, in order, bounded in items and bytes. */
#ifndef MR_PULLER_SOURCES_JS_READER_H
#define MR_PULLER_SOURCES_JS_READER_H
#include "common/config.h"
#include "jetstream/reader.h"

enum mr_js_item_kind {
    MR_JS_RECORD,
    MR_JS_STRANGE, /* a message that no millrace has written */
    MR_JS_GAP,
    MR_JS_BEGIN, /* nothing yet: where the very first start begins */
};
struct mr_js_item {
    enum mr_js_item_kind kind;
    uint64_t stream_sequence; /* of the message; GAP: the last that is missing; BEGIN: in front */
    int64_t created_ns;       /* of the stream */
    uint64_t gap_from;        /* GAP: the first sequence that is missing */
    const char *gap_cause;    /* GAP: static storage */
    char position[64];        /* RECORD: as the writer said it */
    void *record;             /* RECORD: owned; else NULL */
    uint32_t record_len;
};

struct mr_js_feed;

/* Start reading behind after, in the stream that was made at created_ns; 0: in whichever it is. */
MR_MUST_USE enum mr_rc mr_js_feed_start(struct mr_js_feed **out, const struct mr_config *config,
                                        uint64_t after, int64_t created_ns, struct mr_err *err);
void mr_js_feed_stop(struct mr_js_feed **feed);

/* The oldest item, borrowed until pop. MR_AGAIN: none now; MR_USAGE: the stream is none of records,
 * err says. */
MR_MUST_USE enum mr_rc mr_js_feed_peek(struct mr_js_feed *feed, struct mr_js_item **out,
                                       struct mr_err *err);
void mr_js_feed_pop(struct mr_js_feed *feed);
int mr_js_feed_fd(const struct mr_js_feed *feed); /* readable: there may be something to peek */
/* How it stands: connected now, connections after the first one. */
void mr_js_feed_state(struct mr_js_feed *feed, bool *connected, uint64_t *reconnects);
#endif
