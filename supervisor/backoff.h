/* supervisor/backoff.h: how long to wait before a restart, and when to give up. Pure arithmetic. */
#ifndef MR_SUPERVISOR_BACKOFF_H
#define MR_SUPERVISOR_BACKOFF_H
#include <stdbool.h>
#include <stdint.h>

struct mr_backoff {
    uint32_t failures; /* in a row, without a healthy run between them */
    uint64_t random;   /* state of the jitter; seed it with anything but 0 */
};

struct mr_backoff_limits {
    uint64_t min_ns, max_ns;
    uint64_t healthy_after_ns; /* a run of this length forgets the failures before it */
    uint64_t restarts_max;     /* 0: never give up */
};

/* A run that was ready for ran_ns has ended. Returns false when it is time to give up; else
 * *wait_ns is the wait before the next run: min doubled with each failure, at most max, and of that
 * a random share between a half and the whole, so that processes that died together do not come
 * back together. */
bool mr_backoff_next(struct mr_backoff *backoff, const struct mr_backoff_limits *limits,
                     uint64_t ran_ns, uint64_t *wait_ns);
#endif
