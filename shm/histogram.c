#include "shm/histogram.h"

#include "common/err.h"

uint64_t mr_histogram_bucket_max_ns(uint32_t index)
{
    MR_ASSERT(index < MR_HISTOGRAM_BUCKETS);
    if (index < MR_HISTOGRAM_SUB)
        return index;
    if (index == MR_HISTOGRAM_BUCKETS - 1)
        return UINT64_MAX;
    uint32_t power = index / MR_HISTOGRAM_SUB + 3;
    uint64_t width = UINT64_C(1) << (power - 4);
    return (UINT64_C(1) << power) + width * (index % MR_HISTOGRAM_SUB + 1) - 1;
}

uint64_t mr_histogram_quantile_ns(const struct mr_histogram_shm *h, double share)
{
    MR_ASSERT(share >= 0 && share <= 1);
    /* The buckets are summed here, not taken from count: the writer may be between its stores. */
    uint64_t counts[MR_HISTOGRAM_BUCKETS];
    uint64_t total = 0;
    for (uint32_t i = 0; i < MR_HISTOGRAM_BUCKETS; i++) {
        counts[i] = atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        total += counts[i];
    }
    if (total == 0)
        return 0;
    uint64_t rank = (uint64_t)(share * (double)total);
    if (rank >= total)
        rank = total - 1;
    uint32_t index = 0;
    for (uint64_t seen = counts[0]; seen <= rank && index < MR_HISTOGRAM_BUCKETS - 1;)
        seen += counts[++index];
    uint64_t max_ns = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
    uint64_t bound_ns = mr_histogram_bucket_max_ns(index);
    return max_ns != 0 && max_ns < bound_ns ? max_ns : bound_ns;
}
