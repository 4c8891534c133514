/* jetstream/outbox.h: messages on their way to JetStream, from one thread that puts them to one
 * that sends them, in order. A message stays until it is acknowledged, and its bytes stay where
 * they are, so it can be sent again. Bounded in bytes and in messages; without locks. */
#ifndef MR_JETSTREAM_OUTBOX_H
#define MR_JETSTREAM_OUTBOX_H
#include <stdatomic.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

enum { MR_JS_SUBJECT_MAX = 3072, MR_JS_ID_MAX = 255, MR_JS_HEADERS_MAX = 32 * 1024 }; /* bytes */

/* What is put. Everything is copied. */
struct mr_js_message {
    uint32_t lane;      /* which stream it is for: the writer's (writer.h) */
    uint64_t tag;       /* place in the putter's own order, ascending: a sequence of the log */
    uint64_t queued_ns; /* what its way is measured from */
    struct mr_str subject;
    struct mr_str id;                   /* Nats-Msg-Id */
    struct mr_str headers;              /* further ones, "Name: value\r\n" each */
    struct mr_str payload, payload_end; /* one after the other */
};

/* As it lies in the outbox. The sender's fields are its own. */
struct mr_js_entry {
    uint64_t tag, queued_ns;
    uint64_t stream_sequence; /* sender: that it will have, once it was sent */
    uint64_t begin;           /* of its bytes (subject, id, headers, payload), ever growing */
    uint32_t lane;
    uint32_t payload_len;
    uint16_t subject_len, id_len, headers_len;
    bool done; /* sender: in the stream, or to be left out */
};

struct mr_js_outbox {
    uint8_t *bytes;
    struct mr_js_entry *entries;
    size_t capacity;      /* of bytes; a power of two */
    uint64_t entries_max; /* a power of two */
    /* Putter's. */
    uint64_t bytes_tail, head_seen, bytes_head_seen;
    _Alignas(128) _Atomic uint64_t tail; /* putter: messages ever put */
    _Atomic uint64_t last_tag;           /* putter: of the last one put */
    _Alignas(128) _Atomic uint64_t head; /* sender: messages ever acknowledged */
    _Atomic uint64_t bytes_head;         /* sender: bytes in front of which nothing is needed */
    _Alignas(128) _Atomic bool asleep;   /* sender: wake me; putter: done */
    int wake_fd;                         /* readable: there is something new */
};

/* bytes is rounded up to a power of two. */
MR_MUST_USE enum mr_rc mr_js_outbox_init(struct mr_js_outbox *outbox, size_t bytes,
                                         struct mr_err *err);
void mr_js_outbox_fini(struct mr_js_outbox *outbox);

/* Putter. MR_FULL: no room now; MR_USAGE: it is larger than half of the outbox, or its subject is
 * over MR_JS_SUBJECT_MAX, its id over MR_JS_ID_MAX, its headers over MR_JS_HEADERS_MAX. */
MR_MUST_USE enum mr_rc mr_js_outbox_put(struct mr_js_outbox *outbox,
                                        const struct mr_js_message *message);
/* Putter: wake the sender if it sleeps. */
void mr_js_outbox_flush(struct mr_js_outbox *outbox);
/* Putter: share in use, 0 to 1, of what is scarcer. */
double mr_js_outbox_fill(const struct mr_js_outbox *outbox);

/* Sender. Entry number n, head <= n < tail. */
static inline struct mr_js_entry *mr_js_outbox_entry(const struct mr_js_outbox *outbox, uint64_t n)
{
    return &outbox->entries[n & (outbox->entries_max - 1)];
}
static inline const char *mr_js_outbox_bytes(const struct mr_js_outbox *outbox,
                                             const struct mr_js_entry *entry)
{
    return (const char *)outbox->bytes + (entry->begin & (outbox->capacity - 1));
}
/* Sender: everything in front of entry n is acknowledged. */
void mr_js_outbox_release(struct mr_js_outbox *outbox, uint64_t n);
/* Sender: about to sleep on wake_fd; false: do not, there is a message behind number n. Sleep for a
 * bounded time all the same. After the sleep, or instead of it: awake. */
bool mr_js_outbox_may_sleep(struct mr_js_outbox *outbox, uint64_t n);
void mr_js_outbox_awake(struct mr_js_outbox *outbox);
/* Sender: the tag of the first message that is not released; UINT64_MAX: there is none. */
uint64_t mr_js_outbox_pending_tag(const struct mr_js_outbox *outbox);
#endif
