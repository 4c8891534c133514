/* cel/arena.h: bump memory of one compilation or one evaluation: everything in it goes at once.
 *
 * Starts in bytes that the caller gives (may be none) and grows by blocks from the heap up to a
 * cap, which is a limit against hostile input like any other: over it, allocation fails and nothing
 * else happens. With a cap of the caller's own bytes the heap is never asked. One thread at a time.
 */
#ifndef MR_CEL_ARENA_H
#define MR_CEL_ARENA_H
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

struct mr_cel_arena_block;
struct mr_cel_arena {
    uint8_t *at, *end;                 /* free bytes of the current block */
    uint8_t *own;                      /* the caller's bytes; may be NULL */
    size_t own_size;                   /* bytes */
    struct mr_cel_arena_block *blocks; /* from the heap, newest first */
    size_t taken_bytes;                /* reserved: own_size and all blocks */
    size_t bytes_max;                  /* cap of taken_bytes */
};

enum { MR_CEL_ARENA_ALIGN = 8 }; /* of every allocation, in bytes */

/* bytes: borrowed until fini, aligned to MR_CEL_ARENA_ALIGN; NULL with size 0: all from the heap.
 *   bytes_max  cap of all memory, the caller's bytes included */
void mr_cel_arena_init(struct mr_cel_arena *arena, void *bytes, size_t size, size_t bytes_max);
void mr_cel_arena_fini(struct mr_cel_arena *arena);
/* Forget all that was allocated; the newest (largest) block from the heap is kept for the next
 * turn. */
void mr_cel_arena_reset(struct mr_cel_arena *arena);
/* Bytes in use or reserved: what counts against the cap. */
size_t mr_cel_arena_used(const struct mr_cel_arena *arena);

/* What mr_cel_arena_alloc does when the current block is full. */
void *mr_cel_arena_grow(struct mr_cel_arena *arena, size_t size);

/* size bytes, not zeroed, valid until reset or fini. NULL: the cap is reached, or the heap is
 * exhausted. */
static inline MR_MUST_USE void *mr_cel_arena_alloc(struct mr_cel_arena *arena, size_t size)
{
    size_t rounded = (size + MR_CEL_ARENA_ALIGN - 1) & ~(size_t)(MR_CEL_ARENA_ALIGN - 1);
    if (__builtin_expect(rounded < size || (size_t)(arena->end - arena->at) < rounded, 0))
        return mr_cel_arena_grow(arena, size);
    void *bytes = arena->at;
    arena->at += rounded;
    return bytes;
}
#endif
