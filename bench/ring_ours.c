#include "bench/ring_ours.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/ring.h"

enum { BATCH_BYTES = 16 << 10, SOCKET_BATCH = 32 << 10 };

static void check(enum mr_rc rc, const struct mr_err *err)
{
    if (rc == MR_OK)
        return;
    fprintf(stderr, "bench-ring: %s: %s\n", mr_rc_name(rc), err->text);
    exit(1);
}

/* Rings "b0" and, for pings, "b1". Each process attaches for itself: handles are private. */
struct ours {
    char instance[MR_INSTANCE_MAX];
    uint32_t stages;
};

static const struct mr_ring_options ring_options[2] = {
    {.part = "b0", .capacity = BENCH_RING_BYTES, .stage_count = 1, .publish_bytes = BATCH_BYTES},
    {.part = "b1", .capacity = BENCH_RING_BYTES, .stage_count = 1, .publish_bytes = BATCH_BYTES}};

static void *create_stages(int rings, uint32_t stages)
{
    struct mr_err err = {0};
    struct ours *ours = calloc(1, sizeof *ours);
    if (!ours)
        return NULL;
    ours->stages = stages;
    snprintf(ours->instance, sizeof ours->instance, "bench-%d", getpid());
    for (int i = 0; i < rings; i++) {
        struct mr_ring_options options = ring_options[i];
        options.stage_count = stages;
        check(mr_ring_create(ours->instance, 1, &options, &err), &err);
    }
    return ours;
}

static void *create(uint32_t len, int pings)
{
    (void)len;
    return create_stages(pings ? 2 : 1, 1);
}

static void *create_staged(uint32_t len, int pings)
{
    (void)len;
    return create_stages(pings ? 2 : 1, 2);
}

static void destroy(void *state)
{
    struct ours *ours = state;
    mr_segment_remove_all(ours->instance);
    free(ours);
}

static void open_producer(const struct ours *ours, uint32_t index, struct mr_ring_producer *ring)
{
    struct mr_err err = {0};
    uint64_t note;
    struct mr_ring_options options = ring_options[index];
    options.stage_count = ours->stages;
    check(mr_ring_attach_producer(ring, ours->instance, &options, &note, &err), &err);
}

static void open_consumer(const struct ours *ours, uint32_t index, uint32_t stage,
                          struct mr_ring_consumer *ring)
{
    struct mr_err err = {0};
    struct mr_ring_options options = ring_options[index];
    options.stage_count = ours->stages;
    check(mr_ring_attach_consumer(ring, ours->instance, &options, stage, &err), &err);
}

static void produce(void *state, struct bench_job *job)
{
    struct mr_ring_producer ring;
    open_producer(state, 0, &ring);
    for (uint64_t n = 1; n <= job->count; n++) {
        const uint8_t *source = bench_source(job, n);
        while (mr_ring_write(&ring, source, job->len, 1, n) != MR_OK)
            bench_pause();
    }
    mr_ring_publish(&ring, job->count);
    mr_ring_detach_producer(&ring);
}

/* Look at what there is, at most a batch; release it. Returns how many records. */
static inline uint64_t drain(struct mr_ring_consumer *ring, struct bench_job *job, uint64_t number)
{
    struct mr_ring_record record;
    uint64_t count = 0, errors = 0;
    while (!mr_ring_release_due(ring) && mr_ring_peek(ring, &record) == MR_OK) {
        errors += bench_look(record.data, record.len, number + ++count);
        mr_ring_advance(ring, &record);
    }
    job->errors += errors;
    if (count > 0)
        mr_ring_release(ring, ring->position, number + count);
    else
        bench_pause();
    return count;
}

static void consume(void *state, struct bench_job *job)
{
    struct mr_ring_consumer ring;
    open_consumer(state, 0, 0, &ring);
    for (uint64_t n = 0; n < job->count;)
        n += drain(&ring, job, n);
    mr_ring_detach_consumer(&ring);
}

/* Both stages in turn in one process: three that spin do not fit on two cores. */
static void consume_staged(void *state, struct bench_job *job)
{
    struct mr_ring_consumer first, second;
    open_consumer(state, 0, 0, &first);
    open_consumer(state, 0, 1, &second);
    for (uint64_t n = 0, m = 0; m < job->count;) {
        n += drain(&first, job, n);
        m += drain(&second, job, m);
    }
    mr_ring_detach_consumer(&first);
    mr_ring_detach_consumer(&second);
}

static void put(struct mr_ring_producer *ring, struct bench_job *job, uint64_t number)
{
    while (mr_ring_write(ring, bench_source(job, number), job->len, 1, number) != MR_OK)
        bench_pause();
    mr_ring_publish(ring, number); /* the input is dry: nothing is held back */
}

static void get(struct mr_ring_consumer *ring, struct bench_job *job, uint64_t number)
{
    struct mr_ring_record record;
    while (mr_ring_peek(ring, &record) != MR_OK)
        ;
    job->errors += bench_look(record.data, record.len, number);
    mr_ring_advance(ring, &record);
    mr_ring_release(ring, ring->position, number);
}

static void ping(void *state, struct bench_job *job)
{
    struct mr_ring_producer there;
    struct mr_ring_consumer back;
    open_producer(state, 0, &there);
    open_consumer(state, 1, 0, &back);
    uint64_t last_ns = bench_now_ns();
    for (uint64_t n = 1; n <= job->count; n++) {
        put(&there, job, n);
        get(&back, job, n);
        bench_sample(job, n, &last_ns);
    }
    mr_ring_detach_producer(&there);
    mr_ring_detach_consumer(&back);
}

static void pong(void *state, struct bench_job *job)
{
    struct mr_ring_consumer there;
    struct mr_ring_producer back;
    open_consumer(state, 0, 0, &there);
    open_producer(state, 1, &back);
    for (uint64_t n = 1; n <= job->count; n++) {
        get(&there, job, n);
        put(&back, job, n);
    }
    mr_ring_detach_consumer(&there);
    mr_ring_detach_producer(&back);
}

/* A Unix stream socket pair: the producer keeps end 0, the consumer end 1. */
struct sockets {
    int fds[2];
    uint32_t batch_bytes; /* 0: a call a record */
};

static void *create_sockets(uint32_t batch_bytes)
{
    struct sockets *sockets = calloc(1, sizeof *sockets);
    if (!sockets || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets->fds) != 0)
        return NULL;
    sockets->batch_bytes = batch_bytes;
    return sockets;
}

static void *create_socket(uint32_t len, int pings)
{
    (void)pings;
    return create_sockets(len);
}

static void *create_socket_batched(uint32_t len, int pings)
{
    (void)pings;
    return create_sockets(SOCKET_BATCH / len * len);
}

static void destroy_sockets(void *state)
{
    struct sockets *sockets = state;
    close(sockets->fds[0]);
    close(sockets->fds[1]);
    free(sockets);
}

static void transfer(int fd, uint8_t *bytes, size_t len, bool out)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = out ? write(fd, bytes + done, len - done) : read(fd, bytes + done, len - done);
        if (n <= 0 && errno != EINTR) {
            perror("bench-ring: socket");
            exit(1);
        }
        done += n > 0 ? (size_t)n : 0;
    }
}

static void produce_socket(void *state, struct bench_job *job)
{
    struct sockets *sockets = state;
    static uint8_t batch[SOCKET_BATCH];
    size_t used = 0;
    for (uint64_t n = 1; n <= job->count; n++) {
        memcpy(batch + used, bench_source(job, n), job->len);
        used += job->len;
        if (used == sockets->batch_bytes || n == job->count) {
            transfer(sockets->fds[0], batch, used, true);
            used = 0;
        }
    }
}

static void consume_socket(void *state, struct bench_job *job)
{
    struct sockets *sockets = state;
    static uint8_t batch[SOCKET_BATCH];
    for (uint64_t n = 0; n < job->count;) {
        uint64_t left = (job->count - n) * job->len;
        size_t len = left < sockets->batch_bytes ? (size_t)left : sockets->batch_bytes;
        transfer(sockets->fds[1], batch, len, false);
        for (size_t at = 0; at < len; at += job->len)
            job->errors += bench_look(batch + at, job->len, ++n);
    }
}

/* The floor: each core for itself copies records into a block that stays in L2 and looks at them.
 */
static void *create_memcpy(uint32_t len, int pings)
{
    (void)len;
    (void)pings;
    return malloc(2 * BENCH_RING_BYTES);
}

static void copy_and_look(uint8_t *block, struct bench_job *job)
{
    uint64_t batch = BATCH_BYTES / job->len;
    uint64_t slots = BENCH_RING_BYTES / job->len / batch * batch;
    for (uint64_t n = 0, slot = 0; n < job->count; n += batch) {
        for (uint64_t i = 0; i < batch; i++)
            memcpy(block + (slot + i) * job->len, bench_source(job, n + i), job->len);
        for (uint64_t i = 0; i < batch; i++)
            job->errors += bench_look(block + (slot + i) * job->len, job->len, n + i);
        slot = slot + batch == slots ? 0 : slot + batch;
    }
}

static void produce_memcpy(void *state, struct bench_job *job)
{
    copy_and_look(state, job);
}

static void consume_memcpy(void *state, struct bench_job *job)
{
    copy_and_look((uint8_t *)state + BENCH_RING_BYTES, job);
}

const struct bench_channel *bench_ours(uint32_t *count)
{
    static const struct bench_channel rows[] = {
        {"millrace", "2 processes", 0, 0, create, destroy, produce, consume, ping, pong},
        {"millrace staged", "2 processes, both stages in the second", 0, 0, create_staged, destroy,
         produce, consume_staged, NULL, NULL},
        {"memcpy", "2 threads, each for itself", 1, 0, create_memcpy, free, produce_memcpy,
         consume_memcpy, NULL, NULL},
        {"socketpair", "2 processes", 0, 1, create_socket, destroy_sockets, produce_socket,
         consume_socket, NULL, NULL},
        {"socketpair batched", "2 processes", 0, 1, create_socket_batched, destroy_sockets,
         produce_socket, consume_socket, NULL, NULL},
    };
    *count = sizeof rows / sizeof rows[0];
    return rows;
}
