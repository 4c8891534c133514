/* jetstream/breaker.h: when to try a peer again. Closed: failures are retried after a short wait
 * that doubles. After failures_max in a row it opens: nobody tries for open_ns. Then one try
 * (half-open): its success closes the breaker, its failure opens it anew. */
#ifndef MR_JETSTREAM_BREAKER_H
#define MR_JETSTREAM_BREAKER_H
#include <stdbool.h>
#include <stdint.h>

enum mr_breaker_state { MR_BREAKER_CLOSED, MR_BREAKER_HALF_OPEN, MR_BREAKER_OPEN };

struct mr_breaker {
    uint32_t failures_max;
    uint64_t open_ns;
    /* Zeroed is closed. */
    enum mr_breaker_state state;
    uint32_t failures; /* in a row */
    uint64_t next_ns;  /* not before */
    uint64_t opens;    /* ever */
};

/* May the peer be tried now? An open breaker whose time has come is half-open from here on. */
bool mr_breaker_may_try(struct mr_breaker *breaker, uint64_t now_ns);
void mr_breaker_failed(struct mr_breaker *breaker, uint64_t now_ns);
void mr_breaker_succeeded(struct mr_breaker *breaker);
#endif
