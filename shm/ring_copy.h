/* shm/ring_copy.h: moving bytes into and out of a ring at the speed of the lines between two cores.
 * What each of these choices brings is measured in docs/ring.md. */
#ifndef MR_SHM_RING_COPY_H
#define MR_SHM_RING_COPY_H
#include <stdint.h>
#include <string.h>

enum {
    MR_RING_LINE = 64,
    MR_RING_PREFETCH_MIN = 128,    /* records of up to so many bytes gain nothing by prefetches */
    MR_RING_PREFETCH_WRITE = 1024, /* how far ahead of the tail lines are fetched for writing */
    MR_RING_PREFETCH_READ = 1280,  /* how far ahead of the reader */
};

/* Fetch a line to write it. In assembler, because for a general x86-64 the builtin gives a prefetch
 * for reading, which leaves the line with the consumer; a CPU that does not know it ignores it. */
#if defined(__x86_64__)
static inline void mr_prefetch_write(const void *at)
{
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)at));
}
#else
static inline void mr_prefetch_write(const void *at)
{
    __builtin_prefetch(at, 1);
}
#endif

static inline void mr_prefetch_write_range(const uint8_t *at, uint64_t len)
{
    for (uint64_t i = 0; i < len; i += MR_RING_LINE)
        mr_prefetch_write(at + i);
}

static inline void mr_prefetch_read_range(const uint8_t *at, uint64_t len)
{
    for (uint64_t i = 0; i < len; i += MR_RING_LINE)
        __builtin_prefetch(at + i, 0);
}

typedef uint64_t mr_vector __attribute__((vector_size(16), aligned(1), may_alias));

static inline void mr_copy_line(uint8_t *to, const uint8_t *from)
{
    const mr_vector *source = (const mr_vector *)(const void *)from;
    mr_vector *target = (mr_vector *)(void *)to;
    mr_vector a = source[0], b = source[1], c = source[2], d = source[3];
    target[0] = a;
    target[1] = b;
    target[2] = c;
    target[3] = d;
}

/* memcpy for records: no call, no dispatch; the last block overlaps the one before it, so that no
 * byte outside of either range is touched. */
static inline void mr_copy_record(void *to, const void *from, uint32_t len)
{
    uint8_t *target = to;
    const uint8_t *source = from;
    if (len < MR_RING_LINE) {
        memcpy(target, source, len);
        return;
    }
    uint32_t done = 0;
    for (; done + MR_RING_LINE <= len; done += MR_RING_LINE)
        mr_copy_line(target + done, source + done);
    if (done < len)
        mr_copy_line(target + len - MR_RING_LINE, source + len - MR_RING_LINE);
}
#endif
