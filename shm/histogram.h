/* shm/histogram.h: log-linear latency histogram: 16 buckets a power of two, so a bucket is at most
 * 1/16 wide; values under 16 ns are exact. One writer, any number of readers, no locks. */
#ifndef MR_SHM_HISTOGRAM_H
#define MR_SHM_HISTOGRAM_H
#include <stdatomic.h>
#include <stdint.h>

enum { MR_HISTOGRAM_SUB = 16, MR_HISTOGRAM_BUCKETS = 16 + 36 * 16 }; /* up to 2^40 ns, 18 minutes */

struct mr_histogram_shm {
    _Atomic uint64_t count;
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t max_ns;
    _Atomic uint64_t buckets[MR_HISTOGRAM_BUCKETS]; /* the last one takes everything above */
};

static inline uint32_t mr_histogram_index(uint64_t value_ns)
{
    if (value_ns < MR_HISTOGRAM_SUB)
        return (uint32_t)value_ns;
    uint32_t power = 63u - (uint32_t)__builtin_clzll(value_ns); /* at least 4 */
    uint32_t index = (power - 3) * 16 + (uint32_t)((value_ns >> (power - 4)) & 15);
    return index < MR_HISTOGRAM_BUCKETS ? index : MR_HISTOGRAM_BUCKETS - 1;
}

/* Writer only: plain load and store, relaxed; readers may see one value's parts apart. */
static inline void mr_histogram_add_n(struct mr_histogram_shm *h, uint64_t value_ns, uint64_t n)
{
    _Atomic uint64_t *bucket = &h->buckets[mr_histogram_index(value_ns)];
    atomic_store_explicit(bucket, atomic_load_explicit(bucket, memory_order_relaxed) + n,
                          memory_order_relaxed);
    atomic_store_explicit(&h->count, atomic_load_explicit(&h->count, memory_order_relaxed) + n,
                          memory_order_relaxed);
    atomic_store_explicit(&h->sum_ns,
                          atomic_load_explicit(&h->sum_ns, memory_order_relaxed) + value_ns * n,
                          memory_order_relaxed);
    if (value_ns > atomic_load_explicit(&h->max_ns, memory_order_relaxed))
        atomic_store_explicit(&h->max_ns, value_ns, memory_order_relaxed);
}
static inline void mr_histogram_add(struct mr_histogram_shm *h, uint64_t value_ns)
{
    mr_histogram_add_n(h, value_ns, 1);
}

uint64_t mr_histogram_bucket_max_ns(uint32_t index); /* the largest value that falls into it */
/* The value under which a share (0 to 1) of all values lie, in ns; 0 when empty. */
uint64_t mr_histogram_quantile_ns(const struct mr_histogram_shm *h, double share);
#endif
