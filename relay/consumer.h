/* relay/consumer.h: one Subscribe call from inside, for the files that run it: consumer.c (its
 * life), consumer_send.c (what it is sent). Queue thread only, but for the list that it is in. */
#ifndef MR_RELAY_CONSUMER_H
#define MR_RELAY_CONSUMER_H
#include "relay/census.h"
#include "relay/state.h"

enum mr_consumer_stage {
    MR_CONSUMER_OPENING, /* the request has not been read, or its place is being looked for */
    MR_CONSUMER_STREAMING,
    MR_CONSUMER_PAUSED, /* told to rebuild: only heartbeats are sent */
    MR_CONSUMER_ENDED,  /* the status is on its way, or the peer has gone */
};

struct mr_consumer {
    struct mr_relay *relay;
    struct mr_grpc_call call;
    TAILQ_ENTRY(mr_consumer) link;
    enum mr_consumer_stage stage;
    struct mr_grpc_op metadata, read, written, ended, gone, fetched;
    grpc_byte_buffer *message;
    int cancelled;
    bool opening, reading, writing, ending, is_gone, broken, status_begun; /* under way; happened */

    grpc_slice request; /* what follow points into */
    struct mr_follow follow;
    struct mr_place place;
    struct mr_consumer_row_shm *row; /* what /metrics shows of it; NULL: no request yet */
    uint64_t position;               /* sent through, or not wanted */
    uint64_t told;                   /* the marker of the last event sent; 0: none yet */
    uint64_t said;                   /* the last marker sent, of an event or not */
    bool acknowledges;               /* it has, on this stream, or begins where it did */
    uint64_t acknowledged;           /* through */
    bool waits;                      /* for the live end: counted in relay->waiting */
    bool fetching;
    struct mr_fetch fetch;
    struct mr_piece *piece; /* being sent; NULL: look for what is next */
    size_t in_flight;       /* bytes of the message being written */
    uint64_t sent_ns;       /* the last message */
    uint64_t retry_ns;      /* of a fetch that failed for now; 0: none */
    struct mr_lag lag;
    bool tell_lag;                   /* a change of level has not been told yet */
    const char *tell_rebuild;        /* its cause, not told yet; NULL: none */
    struct mr_checkpoint_write mark; /* of the rebuild, in the store */
    bool marking;
    struct mr_grpc_op marked;
};

/* consumer.c */
void mr_consumer_end(struct mr_consumer *c, grpc_status_code status, const char *text);
/* The log begins behind what it needs: say so, in the way that it understands. */
void mr_consumer_too_old(struct mr_consumer *c, uint64_t floor);
void mr_consumer_rebuild(struct mr_consumer *c, const char *cause);
void mr_consumer_let_go(struct mr_consumer *c);
void mr_consumer_wait(struct mr_consumer *c, bool waits);

/* consumer_send.c: send what is next, or begin to get it. */
void mr_consumer_step(struct mr_consumer *c, uint64_t now_ns);
void mr_consumer_written(void *consumer, bool ok); /* completions */
void mr_consumer_fetched(void *consumer, bool ok);
void mr_consumer_fetch_done(struct mr_fetch *fetch); /* fetch thread */
#endif
