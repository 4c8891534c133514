/* publisher/sinks/jetstream_durables.h: the subscriptions that the JetStream sink delivers: where
 * each one's messages go, how far they have come, and what the pump is still to be told of it. One
 * thread: the pump's, except where said. */
#ifndef MR_PUBLISHER_SINKS_JETSTREAM_DURABLES_H
#define MR_PUBLISHER_SINKS_JETSTREAM_DURABLES_H
#include <sys/queue.h>

#include "jetstream/streams.h"
#include "proto/marker.h"
#include "publisher/sink.h"
#include "publisher/sinks/wire.h"

enum mr_js_durable_state {
    MR_JS_FREE,
    MR_JS_NEW,     /* SUBSCRIBE is to be told */
    MR_JS_REFUSED, /* there was no room for it: SUBSCRIBE is to be told again, a little later */
    MR_JS_WAITING, /* takes the place of another one, which has not come to that place yet */
    MR_JS_TOLD,
    MR_JS_ENDED, /* UNSUBSCRIBE is to be told */
};

struct mr_js_durable {
    enum mr_js_durable_state state;
    uint32_t index; /* the subscription's id towards the pump */
    bool internal;  /* a durable subscription's; else one of the file */
    bool confirmed;
    char *subject;
    struct mr_str end;          /* owned: ,"gatewayId":"g1","subscriptionId":"s1"} */
    char id_end[20];            /* makes one event's ids different between subjects */
    struct mr_str spec;         /* owned: bytes of a SubscribeRequest */
    struct mr_marker after;     /* it begins behind it; log 0: where the sink is */
    uint64_t through;           /* queued, or found in the stream */
    uint64_t last;              /* nothing behind this sequence is delivered */
    struct mr_js_durable *next; /* WAITING: none; of one with a successor: that one */
    struct mr_js_durable *previous;
    TAILQ_ENTRY(mr_js_durable) todo; /* NEW, ENDED, REFUSED, WAITING: in their lists */
};
TAILQ_HEAD(mr_js_durable_queue, mr_js_durable);

/* The last message of a subject, as the stream had it at start. */
struct mr_js_last {
    uint64_t subject_hash, sequence;
};

struct mr_js_durables {
    const struct mr_config *config;
    struct mr_js_durable **items; /* by index; a free one is NULL */
    uint32_t count, max;
    uint32_t *free; /* indexes to be used again */
    uint32_t free_count, free_max;
    uint32_t file_count; /* the first ones: of the file */
    struct mr_js_durable_queue todo, refused, waiting;
    uint64_t waiting_first;      /* where the first of those that wait begins, or before it */
    bool waiting_changed;        /* somebody came or went: look who waits for what is past */
    uint32_t next_again;         /* all at or behind it are to be told again */
    struct mr_js_durable *ended; /* told so; its index is free when the pump has heard it */
    struct mr_wire_arena arena;  /* of the SUBSCRIBE told last */
    struct mr_js_last *stored;
    size_t stored_count, stored_max;
    uint32_t told_index; /* what the last request's id points to */
    char after[MR_MARKER_TEXT_MAX];
};

/* With the subscriptions of the file, NULL: none. MR_USAGE names what is wrong with it. */
MR_MUST_USE enum mr_rc mr_js_durables_init(struct mr_js_durables *all,
                                           const struct mr_config *config, const char *path,
                                           struct mr_err *err);
void mr_js_durables_fini(struct mr_js_durables *all);

/* Sender's thread, while nobody else looks: through which event a subject is in the stream. */
void mr_js_durables_stored(struct mr_js_durables *all, const struct mr_js_stored *message,
                           uint64_t log_id);
/* Once, when all of these were told. */
void mr_js_durables_index(struct mr_js_durables *all);

/* A durable subscription comes. MR_USAGE: the file has one with this subject; MR_FATAL: no memory.
 */
MR_MUST_USE enum mr_rc mr_js_durables_begin(struct mr_js_durables *all,
                                            const struct mr_sink_durable *durable, uint32_t *handle,
                                            struct mr_err *err);
/* It goes at once. */
void mr_js_durables_end(struct mr_js_durables *all, uint32_t handle);

/* The sink is a new gateway: all that were told are to be told again. */
void mr_js_durables_again(struct mr_js_durables *all);
/* What the pump is to be told next, when everything through handed has been queued. MR_AGAIN:
 * nothing now. Strings live until the next call. */
enum mr_rc mr_js_durables_poll(struct mr_js_durables *all, struct mr_marker handed,
                               struct mr_request *out);
/* What the pump was told of it last had no room there. */
void mr_js_durables_refused(struct mr_js_durables *all, struct mr_js_durable *durable);
/* All of these are to be told again now. */
void mr_js_durables_retry(struct mr_js_durables *all);
/* Has something not been told that a heartbeat's answer would have to count with? */
bool mr_js_durables_behind(const struct mr_js_durables *all);
/* Progress that may be believed: not beyond where somebody waits to begin. */
uint64_t mr_js_durables_limit(const struct mr_js_durables *all, uint64_t through);

/* NULL: it is gone. */
struct mr_js_durable *mr_js_durables_find(const struct mr_js_durables *all, struct mr_str id);
#endif
