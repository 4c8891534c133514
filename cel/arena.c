/* cel/arena.c: see cel/arena.h. */
#include "cel/arena.h"

#include <stdlib.h>

enum { BLOCK_BYTES_MIN = 16384 };

struct mr_cel_arena_block {
    struct mr_cel_arena_block *next;
    size_t size; /* bytes, this head included */
};

static void use_own(struct mr_cel_arena *arena)
{
    arena->at = arena->own;
    arena->end = arena->own ? arena->own + arena->own_size : NULL;
}

void mr_cel_arena_init(struct mr_cel_arena *arena, void *bytes, size_t size, size_t bytes_max)
{
    MR_ASSERT((uintptr_t)bytes % MR_CEL_ARENA_ALIGN == 0);
    MR_ASSERT(bytes || size == 0);
    *arena = (struct mr_cel_arena){
        .own = bytes, .own_size = size, .taken_bytes = size, .bytes_max = bytes_max};
    use_own(arena);
}

void mr_cel_arena_fini(struct mr_cel_arena *arena)
{
    for (struct mr_cel_arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *arena = (struct mr_cel_arena){0};
}

void mr_cel_arena_reset(struct mr_cel_arena *arena)
{
    struct mr_cel_arena_block *kept = arena->blocks;
    if (!kept) {
        use_own(arena);
        return;
    }
    for (struct mr_cel_arena_block *block = kept->next, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    kept->next = NULL;
    arena->taken_bytes = arena->own_size + kept->size;
    arena->at = (uint8_t *)(kept + 1);
    arena->end = (uint8_t *)kept + kept->size;
}

size_t mr_cel_arena_used(const struct mr_cel_arena *arena)
{
    return arena->taken_bytes - (size_t)(arena->end - arena->at);
}

void *mr_cel_arena_grow(struct mr_cel_arena *arena, size_t size)
{
    size_t left = arena->bytes_max > arena->taken_bytes ? arena->bytes_max - arena->taken_bytes : 0;
    size_t need = size + sizeof(struct mr_cel_arena_block) + MR_CEL_ARENA_ALIGN;
    if (need < size || need > left)
        return NULL;
    size_t wanted = arena->taken_bytes > BLOCK_BYTES_MIN ? arena->taken_bytes : BLOCK_BYTES_MIN;
    if (wanted > left)
        wanted = left;
    if (wanted < need)
        wanted = need;
    wanted &= ~(size_t)(MR_CEL_ARENA_ALIGN - 1);
    struct mr_cel_arena_block *block = malloc(wanted);
    if (!block)
        return NULL;
    *block = (struct mr_cel_arena_block){arena->blocks, wanted};
    arena->blocks = block;
    arena->taken_bytes += wanted;
    arena->at = (uint8_t *)(block + 1);
    arena->end = (uint8_t *)block + wanted;
    return mr_cel_arena_alloc(arena, size);
}
