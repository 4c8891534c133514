/* matcher/engine/heap.h: memory of one engine: items of many sizes in one reserved range of
 * addresses, named by 32-bit references. Items of one size share chunks; a chunk without items goes
 * back to the system at once. Never moves an item.
 *
 * 10^6 subscriptions are several 10^6 items of 16 to 64 bytes: a reference takes half the room of a
 * pointer, and an item has no header. One thread. */
#ifndef MR_MATCHER_ENGINE_HEAP_H
#define MR_MATCHER_ENGINE_HEAP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

typedef uint32_t mr_ref; /* 0: none */

enum {
    MR_HEAP_UNIT_BITS = 4, /* a reference counts in units of 16 bytes */
    MR_HEAP_REF_BITS = 30, /* so the upper two bits of a reference are free for its owner's use */
    MR_HEAP_CLASSES = 64,
};

struct mr_heap_chunk;
struct mr_heap {
    uint8_t *base; /* in what is mapped, where a huge page begins */
    void *mapped;
    struct mr_heap_chunk *chunks;      /* by number */
    uint32_t chunk_end;                /* chunks ever used: number 0 is none */
    uint32_t free_chunks;              /* list of whole free chunks; 0: none */
    uint32_t partial[MR_HEAP_CLASSES]; /* lists of chunks with room, by class */
    uint64_t bytes;                    /* in use by items, rounded to their classes */
};

MR_MUST_USE enum mr_rc mr_heap_init(struct mr_heap *heap, struct mr_err *err);
void mr_heap_fini(struct mr_heap *heap);

/* 16-byte aligned, not zeroed. 0: out of memory. Free with the same size. */
MR_MUST_USE mr_ref mr_heap_alloc(struct mr_heap *heap, size_t size);
void mr_heap_free(struct mr_heap *heap, mr_ref ref, size_t size);
/* Bytes that an item of this size takes. */
size_t mr_heap_item_bytes(size_t size);

static inline void *mr_heap_at(const struct mr_heap *heap, mr_ref ref)
{
    return heap->base + ((uint64_t)ref << MR_HEAP_UNIT_BITS);
}
static inline mr_ref mr_heap_ref(const struct mr_heap *heap, const void *item)
{
    return (mr_ref)((uint64_t)((const uint8_t *)item - heap->base) >> MR_HEAP_UNIT_BITS);
}
#endif
