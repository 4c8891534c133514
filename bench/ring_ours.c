#include "bench/ring_ours.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/ring_rings.h"

enum { SOCKET_BATCH = 32 << 10 };

static void *create(uint32_t len, int pings)
{
    (void)len;
    return bench_rings_create(pings ? 2 : 1, 1);
}

/* Look at what there is, at most a batch; release it. Returns how many records. */
static inline uint64_t drain(struct mr_ring_consumer *ring, struct bench_job *job, uint64_t number)
{
    uint64_t count = bench_look_at_batch(ring, job, number);
    if (count > 0)
        mr_ring_release(ring, ring->position, number + count);
    else
        bench_pause();
    return count;
}

static void consume(void *state, struct bench_job *job)
{
    struct mr_ring_consumer ring;
    bench_rings_consumer(state, 0, 0, &ring);
    uint64_t n = 0;
    while (n < job->warmup)
        n += drain(&ring, job, n);
    bench_begin(job);
    while (n < job->count)
        n += drain(&ring, job, n);
    bench_end(job);
    mr_ring_detach_consumer(&ring);
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
    bench_rings_producer(state, 0, &there);
    bench_rings_consumer(state, 1, 0, &back);
    uint64_t n = 1;
    for (; n <= job->warmup; n++) {
        put(&there, job, n);
        get(&back, job, n);
    }
    bench_begin(job);
    for (uint64_t last_ns = bench_now_ns(); n <= job->count; n++) {
        put(&there, job, n);
        get(&back, job, n);
        bench_sample(job, n, &last_ns);
    }
    bench_end(job);
    mr_ring_detach_producer(&there);
    mr_ring_detach_consumer(&back);
}

static void pong(void *state, struct bench_job *job)
{
    struct mr_ring_consumer there;
    struct mr_ring_producer back;
    bench_rings_consumer(state, 0, 0, &there);
    bench_rings_producer(state, 1, &back);
    for (uint64_t n = 1; n <= job->count; n++) {
        if (n == job->warmup + 1)
            bench_begin(job);
        get(&there, job, n);
        put(&back, job, n);
    }
    bench_end(job);
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

static void send_records(struct sockets *sockets, struct bench_job *job, uint64_t n, uint64_t last)
{
    static uint8_t batch[SOCKET_BATCH];
    size_t used = 0;
    for (; n <= last; n++) {
        memcpy(batch + used, bench_source(job, n), job->len);
        used += job->len;
        if (used == sockets->batch_bytes || n == last) {
            transfer(sockets->fds[0], batch, used, true);
            used = 0;
        }
    }
}

static void receive_records(struct sockets *sockets, struct bench_job *job, uint64_t n,
                            uint64_t last)
{
    static uint8_t batch[SOCKET_BATCH];
    while (n <= last) {
        uint64_t left = (last + 1 - n) * job->len;
        size_t len = left < sockets->batch_bytes ? (size_t)left : sockets->batch_bytes;
        transfer(sockets->fds[1], batch, len, false);
        for (size_t at = 0; at < len; at += job->len)
            job->errors += bench_look(batch + at, job->len, n++);
    }
}

static void produce_socket(void *state, struct bench_job *job)
{
    send_records(state, job, 1, job->warmup);
    bench_begin(job);
    send_records(state, job, job->warmup + 1, job->count);
    bench_end(job);
}

static void consume_socket(void *state, struct bench_job *job)
{
    receive_records(state, job, 1, job->warmup);
    bench_begin(job);
    receive_records(state, job, job->warmup + 1, job->count);
    bench_end(job);
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
    uint64_t batch = BENCH_BATCH_BYTES / job->len;
    uint64_t slots = BENCH_RING_BYTES / job->len / batch * batch;
    bool begun = false;
    for (uint64_t n = 0, slot = 0; n < job->count; n += batch) {
        if (!begun && n >= job->warmup) {
            bench_begin(job);
            begun = true;
        }
        for (uint64_t i = 0; i < batch; i++)
            memcpy(block + (slot + i) * job->len, bench_source(job, n + i), job->len);
        for (uint64_t i = 0; i < batch; i++)
            job->errors += bench_look(block + (slot + i) * job->len, job->len, n + i);
        slot = slot + batch == slots ? 0 : slot + batch;
    }
    bench_end(job);
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
        {"millrace", "2 processes", BENCH_OURS, 0, 0, create, bench_rings_destroy,
         bench_rings_produce, consume, NULL, ping, pong},
        {"memcpy", "2 threads, each for itself", BENCH_OTHER, 1, 0, create_memcpy, free,
         produce_memcpy, consume_memcpy, NULL, NULL, NULL},
        {"socketpair", "2 processes", BENCH_OTHER, 0, 1, create_socket, destroy_sockets,
         produce_socket, consume_socket, NULL, NULL, NULL},
        {"socketpair batched", "2 processes", BENCH_OTHER, 0, 1, create_socket_batched,
         destroy_sockets, produce_socket, consume_socket, NULL, NULL, NULL},
    };
    *count = sizeof rows / sizeof rows[0];
    return rows;
}
