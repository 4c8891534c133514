/* relay/fetch.h: pieces from the log's files, for consumers that are behind: a thread that reads
 * and encodes, so that a disk never holds up what is live. Requests are served in turn; several
 * readers are kept, each where somebody is about to go on. */
#ifndef MR_RELAY_FETCH_H
#define MR_RELAY_FETCH_H
#include "relay/cache.h"
#include "relay/place.h"

enum mr_fetch_kind {
    MR_FETCH_PIECE,     /* events from sequence on, one by one; shared through the cache */
    MR_FETCH_COALESCED, /* the same, coalesced, for this consumer alone */
    MR_FETCH_LOCATE,    /* the sequence of the event with this id */
};

/* One request. Owned by the caller; the thread's until done is called. */
struct mr_fetch {
    enum mr_fetch_kind kind;
    uint64_t sequence; /* PIECE: the first wanted. LOCATE: out; begins the search where it is */
    uint64_t through;  /* the last that the log has for sure */
    size_t bytes_max;  /* COALESCED: of the piece; one event may be larger */
    bool atomic;       /* COALESCED: see coalesce.h */
    const struct mr_place *place; /* LOCATE */
    _Atomic bool left; /* set by the caller: nobody wants it any more. LOCATE ends with MR_CLOSED */
    /* Out. */
    enum mr_rc rc; /* MR_USAGE: the log begins behind it, at floor, or has no such event */
    uint64_t floor;
    struct mr_piece *piece; /* MR_OK: with a reference for the caller */
    struct mr_err err;
    void (*done)(struct mr_fetch *fetch); /* fetch thread, or mr_fetch's own; must not block */
    STAILQ_ENTRY(mr_fetch) link;
};

struct mr_fetcher;
struct mr_fetcher_options {
    const char *dir; /* of the log; copied */
    struct mr_str backend;
    struct mr_cache *cache;
    size_t piece_bytes; /* a piece ends behind so many bytes */
};
MR_MUST_USE enum mr_rc mr_fetcher_open(struct mr_fetcher **out,
                                       const struct mr_fetcher_options *options,
                                       struct mr_err *err);
/* End the thread. Requests that wait come back with MR_CLOSED, and so do those that come from then
 * on, until close. fetcher may be NULL. */
void mr_fetcher_stop(struct mr_fetcher *fetcher);
/* Stop, if that has not been done, and free. Nobody may use it any more. */
void mr_fetcher_close(struct mr_fetcher **fetcher);
/* Any thread. done is called in this one when the fetcher has been stopped. */
void mr_fetch(struct mr_fetcher *fetcher, struct mr_fetch *fetch);
uint64_t mr_fetcher_events(const struct mr_fetcher *fetcher);    /* read so far; any thread */
uint64_t mr_fetcher_coalesced(const struct mr_fetcher *fetcher); /* merged or dropped so far */
#endif
