/* relay/lag.h: how far a consumer is behind, in events and in time, and what follows from it. Pure
 * arithmetic; the caller has the clock. */
#ifndef MR_RELAY_LAG_H
#define MR_RELAY_LAG_H
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct mr_lag_limits {
    uint64_t soft_events, hard_events;
    uint64_t soft_ns, hard_ns;
};

/* When the log had grown to where: samples, from which the age of any place follows. */
enum { MR_LAG_SAMPLES = 2048 };
struct mr_lag_clock {
    uint64_t every_ns; /* between two samples */
    uint64_t count;    /* ever taken; those kept are the last MR_LAG_SAMPLES */
    uint64_t sequence[MR_LAG_SAMPLES], ns[MR_LAG_SAMPLES];
};
void mr_lag_clock_init(struct mr_lag_clock *clock, uint64_t hard_ns);
void mr_lag_clock_tick(struct mr_lag_clock *clock, uint64_t head, uint64_t now_ns);
/* For how long the log has been longer than sequence; 0: it is not. At most what is remembered. */
uint64_t mr_lag_age_ns(const struct mr_lag_clock *clock, uint64_t sequence, uint64_t now_ns);

enum mr_lag_level { MR_LAG_NONE, MR_LAG_SOFT, MR_LAG_HARD };

struct mr_lag {
    enum mr_lag_level level;
    uint64_t events, age_ns;         /* at the last look */
    bool live;                       /* has been near the end once: from then on it is judged */
    uint64_t begin_ns, begin_events; /* while it is not: when it had come nearer, and how near */
};
void mr_lag_begin(struct mr_lag *lag, uint64_t events, uint64_t now_ns);
/* Look again. Returns whether the level changed. Catching up is no lag as long as it gets nearer
 * within the hard time, again and again; back below half of a soft limit the level is NONE again.
 */
bool mr_lag_look(struct mr_lag *lag, const struct mr_lag_limits *limits, uint64_t events,
                 uint64_t age_ns, uint64_t now_ns);
#endif
