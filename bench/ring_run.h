/* bench/ring_run.h: one measured run of one channel: its processes on their cores, a bounced line
 * before and after, and whether anybody else had the cores meanwhile. */
#ifndef MR_BENCH_RING_RUN_H
#define MR_BENCH_RING_RUN_H
#include <stdbool.h>

#include "bench/ring_channel.h"

enum { BENCH_PINGS = 20000 };

struct bench_run {
    const struct bench_channel *channel;
    uint32_t len;
    uint64_t count; /* records behind the warm-up; 0: BENCH_PINGS pings */
    bool realtime;  /* take the cores from everybody else for the run */
    /* Does a run with this round trip of a line help? If not, nothing is measured. */
    bool (*wanted)(void *context, double bounce_ns);
    void *context;
};

struct bench_result {
    double seconds, bounce_before_ns, bounce_after_ns;
    double p50_ns, p99_ns; /* pings */
    uint64_t errors;       /* records that were not the expected one */
    bool skipped;          /* not wanted; only bounce_before_ns is set */
    bool disturbed;        /* a side was switched off its core against its will */
};

/* The memory that the sides share in a run. Once: it also takes SIGCHLD, to notice a dead side. */
struct bench_shared;
struct bench_shared *bench_shared_create(void);

/* The caller is the producer's side, on core 0. Ends the program when a process cannot be had. */
void bench_run(struct bench_shared *shared, const struct bench_run *run, struct bench_result *out);

double bench_median(double *values, uint32_t count); /* sorts them; 0 for none */
#endif
