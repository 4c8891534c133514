/* bench/ring_rings.h: the rings of bench/ring_ours.c and bench/ring_staged.c, by name, as processes
 * of the pipeline have them: each attaches for itself, handles are private. */
#ifndef MR_BENCH_RING_RINGS_H
#define MR_BENCH_RING_RINGS_H
#include "bench/ring_channel.h"
#include "shm/ring.h"

enum { BENCH_BATCH_BYTES = 16 << 10 };

struct bench_rings {
    char instance[MR_INSTANCE_MAX];
    uint32_t stages;               /* of ring 0 */
    struct mr_doorbell_shm *bells; /* [0]: of the process that reads stage 1; shared */
};

/* Ring 0 with so many stages and, if count is 2, ring 1 with one: for the way back, or for matches.
 * Heap; ends the program with a text on standard error when something fails, as all of these. */
struct bench_rings *bench_rings_create(uint32_t count, uint32_t stages);
void bench_rings_destroy(void *rings);
void bench_rings_producer(const struct bench_rings *rings, uint32_t index,
                          struct mr_ring_producer *out);
void bench_rings_consumer(const struct bench_rings *rings, uint32_t index, uint32_t stage,
                          struct mr_ring_consumer *out);

/* The producer's side for all of ours. */
bench_role bench_rings_produce;

/* Look at what there is, at most a batch, and do not release it. Returns how many records; number:
 * how many there were before. */
static inline uint64_t bench_look_at_batch(struct mr_ring_consumer *ring, struct bench_job *job,
                                           uint64_t number)
{
    struct mr_ring_record record;
    uint64_t count = 0, errors = 0;
    while (!mr_ring_release_due(ring) && mr_ring_peek(ring, &record) == MR_OK) {
        errors += bench_look(record.data, record.len, number + ++count);
        mr_ring_advance(ring, &record);
    }
    job->errors += errors;
    return count;
}
#endif
