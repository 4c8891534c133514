/* shm/inspect.h: look at an instance from outside, alive or dead: processes, rings, numbers. Maps
 * read-only and stops nobody. Used by shmstat, millrace status and /metrics. */
#ifndef MR_SHM_INSPECT_H
#define MR_SHM_INSPECT_H
#include <stdio.h>

#include "shm/board.h"
#include "shm/ring_shm.h"

/* How a process looks from outside: its pid lives and it beats; lives but does not beat; is gone;
 * or there never was one. */
enum mr_liveness { MR_LIVE_NONE, MR_LIVE_ALIVE, MR_LIVE_HUNG, MR_LIVE_STALE };
const char *mr_liveness_name(enum mr_liveness liveness); /* "none", "alive", "hung", "stale" */
/* pid 0 is NONE; beat_ns 0: judge by the pid alone. */
enum mr_liveness mr_liveness_of(uint32_t pid, uint64_t beat_ns, uint64_t now_ns);

struct mr_inspect_ring {
    char part[32]; /* "e0.g1" */
    char kind;     /* 'e', 'm', 's' */
    uint32_t shard, generation;
    struct mr_segment segment;     /* mapped read-only */
    const struct mr_ring_shm *shm; /* NULL: not there (any more) */
    char problem[128];             /* why not */
};

struct mr_inspect {
    char instance[MR_INSTANCE_MAX];
    struct mr_board board;
    uint64_t ring_set; /* that rings[] belong to */
    uint32_t ring_count;
    struct mr_inspect_ring rings[3 * MR_SHARDS_MAX];
};

/* MR_AGAIN: no instance of this name. MR_CORRUPT: another layout, or no segment of ours. */
MR_MUST_USE enum mr_rc mr_inspect_open(struct mr_inspect *inspect, const char *instance,
                                       struct mr_err *err);
/* Follow a change of the ring set. Call before each look. */
void mr_inspect_refresh(struct mr_inspect *inspect);
void mr_inspect_close(struct mr_inspect *inspect);

/* One ring in numbers, read once. Positions are bytes, counts records. */
struct mr_ring_numbers {
    uint64_t capacity, tail, through, published, payload_bytes, stalls, wraps;
    uint64_t position[MR_RING_STAGES_MAX], consumed[MR_RING_STAGES_MAX], note[MR_RING_STAGES_MAX];
    uint32_t stage_count;
    uint32_t producer_pid, stage_pid[MR_RING_STAGES_MAX];
    uint64_t fill_bytes, fill_records; /* behind the tail and not yet freed by the last stage */
};
void mr_ring_numbers(const struct mr_ring_shm *shm, struct mr_ring_numbers *out);

/* A process's own use of the machine, from /proc. False: not there. */
struct mr_process_usage {
    uint64_t rss_bytes;
    double cpu_seconds;
    uint64_t start_seconds; /* since boot */
    uint32_t threads, open_fds;
};
bool mr_process_usage(uint32_t pid, struct mr_process_usage *out);

/* Call visit for each cell that belongs to the instance as it is now: supervisor, puller, publisher
 * and the matchers of the current ring set. */
typedef void mr_cell_visit(const struct mr_cell_shm *cell, void *context);
void mr_inspect_cells(const struct mr_inspect *inspect, mr_cell_visit *visit, void *context);

/* The Prometheus text format 0.0.4: everything in counters.def, the rings, the processes. */
void mr_inspect_prometheus(const struct mr_inspect *inspect, FILE *out);
#endif
