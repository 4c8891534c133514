#include "bench/ring_rings.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void check(enum mr_rc rc, const struct mr_err *err)
{
    if (rc == MR_OK)
        return;
    fprintf(stderr, "bench-ring: %s: %s\n", mr_rc_name(rc), err->text);
    exit(1);
}

static struct mr_ring_options options_of(const struct bench_rings *rings, uint32_t index)
{
    return (struct mr_ring_options){.part = index == 0 ? "b0" : "b1",
                                    .capacity = BENCH_RING_BYTES,
                                    .stage_count = index == 0 ? rings->stages : 1,
                                    .publish_bytes = BENCH_BATCH_BYTES};
}

struct bench_rings *bench_rings_create(uint32_t count, uint32_t stages)
{
    struct mr_err err = {0};
    struct bench_rings *rings = calloc(1, sizeof *rings);
    void *bells =
        mmap(NULL, sizeof *rings->bells, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!rings || bells == MAP_FAILED) {
        perror("bench-ring: memory");
        exit(1);
    }
    rings->stages = stages;
    rings->bells = bells;
    snprintf(rings->instance, sizeof rings->instance, "bench-%d", getpid());
    for (uint32_t i = 0; i < count; i++) {
        struct mr_ring_options options = options_of(rings, i);
        check(mr_ring_create(rings->instance, 1, &options, &err), &err);
    }
    return rings;
}

void bench_rings_destroy(void *state)
{
    struct bench_rings *rings = state;
    mr_segment_remove_all(rings->instance);
    munmap(rings->bells, sizeof *rings->bells);
    free(rings);
}

void bench_rings_producer(const struct bench_rings *rings, uint32_t index,
                          struct mr_ring_producer *out)
{
    struct mr_err err = {0};
    uint64_t note;
    struct mr_ring_options options = options_of(rings, index);
    check(mr_ring_attach_producer(out, rings->instance, &options, &note, &err), &err);
}

void bench_rings_consumer(const struct bench_rings *rings, uint32_t index, uint32_t stage,
                          struct mr_ring_consumer *out)
{
    struct mr_err err = {0};
    struct mr_ring_options options = options_of(rings, index);
    check(mr_ring_attach_consumer(out, rings->instance, &options, stage, &err), &err);
}

static void write_records(struct mr_ring_producer *ring, struct bench_job *job, uint64_t n,
                          uint64_t last)
{
    for (; n <= last; n++) {
        const uint8_t *source = bench_source(job, n);
        while (mr_ring_write(ring, source, job->len, 1, n) != MR_OK)
            bench_pause();
    }
    mr_ring_publish(ring, last);
}

void bench_rings_produce(void *state, struct bench_job *job)
{
    struct mr_ring_producer ring;
    bench_rings_producer(state, 0, &ring);
    write_records(&ring, job, 1, job->warmup);
    bench_begin(job);
    write_records(&ring, job, job->warmup + 1, job->count);
    bench_end(job);
    mr_ring_detach_producer(&ring);
}
