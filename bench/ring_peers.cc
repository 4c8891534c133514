/* bench/ring_peers.cc: the two C++ queues that bench/ring_bench.c compares with, used in the way
 * that is fastest for them: records are read in place (peek or front, then pop). */
#include <sys/mman.h>

#include <boost/lockfree/spsc_queue.hpp>
#include <new>
#include <readerwriterqueue/readerwriterqueue.h>

#include "bench/ring_channel.h"

namespace
{
template <uint32_t Len> struct alignas(8) Record {
    uint8_t data[Len];
};

/* Allocates its blocks from the heap, so both ends must be threads of one process. */
template <uint32_t Len> struct Moodycamel {
    moodycamel::ReaderWriterQueue<Record<Len>> queue{BENCH_SLOTS};
    static constexpr bool shared = false;
    bool put(const Record<Len> &record)
    {
        return queue.try_enqueue(record);
    }
    const Record<Len> *front()
    {
        return queue.peek();
    }
    void pop()
    {
        queue.pop();
    }
};

/* Holds its slots in itself, so it can be placed into memory shared by two processes. */
template <uint32_t Len> struct Boost {
    boost::lockfree::spsc_queue<Record<Len>, boost::lockfree::capacity<BENCH_SLOTS>> queue;
    static constexpr bool shared = true;
    bool put(const Record<Len> &record)
    {
        return queue.push(record);
    }
    const Record<Len> *front()
    {
        return queue.read_available() ? &queue.front() : nullptr;
    }
    void pop()
    {
        queue.pop();
    }
};

template <template <uint32_t> class Queue, uint32_t Len> struct Loops {
    using Q = Queue<Len>;
    static void *create(int pings)
    {
        size_t bytes = sizeof(Q) * (pings ? 2 : 1);
        void *memory =
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return nullptr;
        Q *queues = static_cast<Q *>(memory);
        new (&queues[0]) Q;
        if (pings)
            new (&queues[1]) Q;
        return queues;
    }
    static void put(Q &queue, bench_job *job, uint64_t number)
    {
        auto record = reinterpret_cast<const Record<Len> *>(bench_source(job, number));
        while (!queue.put(*record))
            bench_pause();
    }
    static void get(Q &queue, bench_job *job, uint64_t number)
    {
        const Record<Len> *record;
        while (!(record = queue.front()))
            ;
        job->errors += bench_look(record->data, Len, number);
        queue.pop();
    }
    static void produce(void *state, bench_job *job)
    {
        Q *queues = static_cast<Q *>(state);
        uint64_t n = 1;
        for (; n <= job->warmup; n++)
            put(queues[0], job, n);
        bench_begin(job);
        for (; n <= job->count; n++)
            put(queues[0], job, n);
        bench_end(job);
    }
    static void consume(void *state, bench_job *job)
    {
        Q *queues = static_cast<Q *>(state);
        uint64_t n = 1;
        for (; n <= job->warmup; n++)
            get(queues[0], job, n);
        bench_begin(job);
        for (; n <= job->count; n++)
            get(queues[0], job, n);
        bench_end(job);
    }
    static void ping(void *state, bench_job *job)
    {
        Q *queues = static_cast<Q *>(state);
        uint64_t n = 1;
        for (; n <= job->warmup; n++) {
            put(queues[0], job, n);
            get(queues[1], job, n);
        }
        bench_begin(job);
        for (uint64_t last_ns = bench_now_ns(); n <= job->count; n++) {
            put(queues[0], job, n);
            get(queues[1], job, n);
            bench_sample(job, n, &last_ns);
        }
        bench_end(job);
    }
    static void pong(void *state, bench_job *job)
    {
        Q *queues = static_cast<Q *>(state);
        for (uint64_t n = 1; n <= job->count; n++) {
            if (n == job->warmup + 1)
                bench_begin(job);
            get(queues[0], job, n);
            put(queues[1], job, n);
        }
        bench_end(job);
    }
};

/* Run one of the two instances that exist: 64 or 600 bytes. */
template <template <uint32_t> class Queue> struct Channel {
    struct State {
        uint32_t len;
        int pings;
        void *queues;
    };
    static void *create(uint32_t len, int pings)
    {
        void *queues =
            len == 64 ? Loops<Queue, 64>::create(pings) : Loops<Queue, 600>::create(pings);
        return queues ? new State{len, pings, queues} : nullptr;
    }
    template <uint32_t Len> static void unmap(State *state)
    {
        using Q = Queue<Len>;
        Q *queues = static_cast<Q *>(state->queues);
        for (int i = 0; i <= state->pings; i++)
            queues[i].~Q();
        munmap(queues, sizeof(Q) * (state->pings ? 2 : 1));
    }
    static void destroy(void *opaque)
    {
        State *state = static_cast<State *>(opaque);
        state->len == 64 ? unmap<64>(state) : unmap<600>(state);
        delete state;
    }
#define FORWARD(verb)                                                 \
    static void verb(void *opaque, bench_job *job)                    \
    {                                                                 \
        State *state = static_cast<State *>(opaque);                  \
        job->len == 64 ? Loops<Queue, 64>::verb(state->queues, job)   \
                       : Loops<Queue, 600>::verb(state->queues, job); \
    }
    FORWARD(produce)
    FORWARD(consume)
    FORWARD(ping)
    FORWARD(pong)
#undef FORWARD
    static bench_channel row(const char *name)
    {
        bool shared = Queue<64>::shared;
        return {name,        shared ? "2 processes" : "2 threads",
                BENCH_OTHER, !shared,
                0,           create,
                destroy,     produce,
                consume,     nullptr,
                ping,        pong};
    }
};
} // namespace

extern "C" const bench_channel *bench_peers(uint32_t *count)
{
    static const bench_channel rows[] = {Channel<Moodycamel>::row("moodycamel"),
                                         Channel<Boost>::row("boost")};
    *count = sizeof rows / sizeof rows[0];
    return rows;
}
