/* tools/shmstat.h: the parts of shmstat. One sample is everything that a view shows, read once;
 * rates come from two samples. */
#ifndef MR_TOOLS_SHMSTAT_H
#define MR_TOOLS_SHMSTAT_H
#include "shm/inspect.h"

struct shmstat_ring {
    const struct mr_inspect_ring *ring;
    struct mr_ring_numbers numbers;              /* zero when the ring is not there */
    double records_per_second, bytes_per_second; /* published, since the sample before */
    double age_seconds; /* of the oldest event not yet freed; 0 none, event rings only */
};

struct shmstat_sample {
    uint64_t now_ns;
    uint32_t ring_count;
    struct shmstat_ring rings[3 * MR_SHARDS_MAX];
};

/* Read everything; before: an earlier sample for rates, or NULL. */
void shmstat_take(struct mr_inspect *inspect, const struct shmstat_sample *before,
                  struct shmstat_sample *out);

void shmstat_text(const struct mr_inspect *inspect, const struct shmstat_sample *sample, FILE *out);
void shmstat_json(const struct mr_inspect *inspect, const struct shmstat_sample *sample, FILE *out);
/* Show the next count records of each ring (or of the one named), without consuming them. */
void shmstat_peek(const struct mr_inspect *inspect, const char *part, uint64_t count, bool json,
                  FILE *out);

/* The liveness of a ring's producer or consumer: by its pid and the heartbeat of its cell. */
enum mr_liveness shmstat_peer(const struct mr_inspect *inspect, uint32_t pid, uint64_t now_ns);
/* A JSON string with quotes; bytes that are no UTF-8 come as U+FFFD. */
void shmstat_json_string(FILE *out, const char *text, size_t len);
#endif
