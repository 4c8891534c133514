/* bench/ring_channel.h: what bench/ring_bench.c asks of every channel that it compares, ours and
 * the peers'. Loops over records are inside the channel, so that no call is paid for a record. */
#ifndef MR_BENCH_RING_CHANNEL_H
#define MR_BENCH_RING_CHANNEL_H
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BENCH_SOURCES = 32, BENCH_RING_BYTES = 1 << 20, BENCH_SLOTS = 1024 };

/* One side's share of a run. */
struct bench_job {
    uint32_t len;      /* payload bytes of a record: 64 or 600 */
    uint64_t warmup;   /* records, or pings, before the clock starts: pages and lines are there */
    uint64_t count;    /* records, or pings, with the warm-up */
    uint8_t *sources;  /* producer: BENCH_SOURCES records, one behind the other */
    uint32_t *samples; /* ping: round trips in ns, count less warmup */
    uint64_t errors;   /* consumer: records that were not the expected one */
    void *side;        /* bench_begin and bench_end */
};

/* A side attaches, passes the warm-up, calls bench_begin, passes the rest, calls bench_end and
 * detaches: so only the passing of records is timed. */
typedef void bench_role(void *state, struct bench_job *job);

enum bench_kind {
    BENCH_OURS,   /* the ring itself: what the others are compared with */
    BENCH_STAGED, /* the ring in another use: its share of the ring's rate is told */
    BENCH_OTHER,  /* the ring's multiple of its rate is told */
};

struct bench_channel {
    const char *name;
    const char *how; /* which processes or threads */
    enum bench_kind kind;
    int threads; /* 1: lives in one process's heap */
    int sleeps;  /* 1: a side may be off its core without being disturbed */
    /* Before the peer is started. pings: two queues, there and back. */
    void *(*create)(uint32_t len, int pings);
    void (*destroy)(void *state);
    bench_role *produce; /* core 0 */
    bench_role *consume; /* core 1 */
    bench_role *second;  /* core 1 too, a process of its own; NULL: two sides only */
    bench_role *ping;    /* core 0; NULL: not measured */
    bench_role *pong;    /* core 1 */
};

/* All sides have passed the warm-up: the clock starts. Stops the clock of this side. */
void bench_begin(struct bench_job *job);
void bench_end(struct bench_job *job);

const struct bench_channel *bench_peers(uint32_t *count);

uint64_t bench_now_ns(void);

/* The next record to send: one of few, so that they stay in L1, stamped with its number. */
static inline const uint8_t *bench_source(struct bench_job *job, uint64_t number)
{
    uint8_t *source = job->sources + (number % BENCH_SOURCES) * job->len;
    memcpy(source, &number, sizeof number);
    return source;
}

/* What a consumer does with a record: load eight bytes of each line and the last, check its number.
 * Returns 1 when it is the wrong one. */
static inline uint64_t bench_look(const uint8_t *data, uint32_t len, uint64_t number)
{
    uint64_t word, sum = 0;
    for (uint32_t i = 8; i + 8 <= len; i += 64) {
        memcpy(&word, data + i, sizeof word);
        sum += word;
    }
    memcpy(&word, data + len - 8, sizeof word);
    sum += word;
    __asm__ volatile("" : : "r"(sum));
    memcpy(&word, data, sizeof word);
    return word != number;
}

/* The round trip of a ping behind the warm-up, which ends now. One clock read each: the end of one
 * is the start of the next. */
static inline void bench_sample(struct bench_job *job, uint64_t number, uint64_t *last_ns)
{
    uint64_t now_ns = bench_now_ns();
    job->samples[number - job->warmup - 1] = (uint32_t)(now_ns - *last_ns);
    *last_ns = now_ns;
}

static inline void bench_pause(void)
{
    __builtin_ia32_pause();
}

#ifdef __cplusplus
}
#endif
#endif
