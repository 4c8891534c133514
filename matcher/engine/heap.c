#include "matcher/engine/heap.h"

#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

enum {
    UNIT = 1 << MR_HEAP_UNIT_BITS,
    CHUNK_BYTES = 1 << 18,
#ifdef MR_TEST_BUILD /* valgrind has no room for many ranges of the full size */
    CHUNKS_MAX = 1 << (MR_HEAP_REF_BITS + MR_HEAP_UNIT_BITS - 18 - 4),
#else
    CHUNKS_MAX = 1 << (MR_HEAP_REF_BITS + MR_HEAP_UNIT_BITS - 18),
#endif
    GROW_CHUNKS = 16, /* made accessible at once; whole huge pages */
    HUGE_BYTES = 1 << 21,
    ITEM_BYTES_MAX = 1 << 16, /* larger ones take whole chunks */
    FINE_BYTES_MAX = 128,     /* up to here a class for each unit, then four for each doubling */
    KEEP_BYTES_MAX = 512,     /* of these one empty chunk is kept, against going to and fro */
};

/* What is known of a chunk. Of a span of chunks only the first says something. */
struct mr_heap_chunk {
    uint32_t previous, next; /* in the list of its class, or of free chunks */
    uint16_t free_item;      /* first free item's place in units / 1, 0 with fresh < end: none */
    uint16_t used, fresh;    /* items in use; items ever used */
    uint8_t class, listed;
};

static uint32_t class_of(size_t size)
{
    size_t units = (size + UNIT - 1) / UNIT;
    if (units * UNIT <= FINE_BYTES_MAX)
        return units ? (uint32_t)units : 1;
    uint32_t bits = 63 - (uint32_t)__builtin_clzll(units - 1); /* 8 units: 3 */
    uint32_t quarter = (uint32_t)((units - 1) >> (bits - 2)) & 3;
    return 9 + (bits - 3) * 4 + quarter;
}

static size_t class_bytes(uint32_t class)
{
    if (class <= 8)
        return (size_t) class * UNIT;
    uint32_t bits = (class - 9) / 4 + 3, quarter = (class - 9) % 4;
    return ((size_t)(5 + quarter) << (bits - 2)) * UNIT;
}

static size_t span_chunks(size_t size)
{
    return (size + CHUNK_BYTES - 1) / CHUNK_BYTES;
}

size_t mr_heap_item_bytes(size_t size)
{
    return size > ITEM_BYTES_MAX ? span_chunks(size) * CHUNK_BYTES : class_bytes(class_of(size));
}

static uint8_t *chunk_at(const struct mr_heap *heap, uint32_t number)
{
    return heap->base + (size_t)number * CHUNK_BYTES;
}

enum mr_rc mr_heap_init(struct mr_heap *heap, struct mr_err *err)
{
    const size_t range = (size_t)CHUNKS_MAX * CHUNK_BYTES + HUGE_BYTES;
    const size_t table = CHUNKS_MAX * sizeof(struct mr_heap_chunk);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    *heap = (struct mr_heap){.chunk_end = 1};
    void *base = mmap(NULL, range, PROT_NONE, flags, -1, 0);
    if (base == MAP_FAILED)
        return mr_fail(err, MR_FATAL, "reserve %zu bytes of addresses for an index", range);
    void *chunks = mmap(NULL, table, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (chunks == MAP_FAILED) {
        munmap(base, range);
        return mr_fail(err, MR_FATAL, "reserve %zu bytes for an index", table);
    }
    heap->mapped = base;
    heap->base = (uint8_t *)base + (HUGE_BYTES - (uintptr_t)base % HUGE_BYTES) % HUGE_BYTES;
    heap->chunks = chunks;
    return MR_OK;
}

void mr_heap_fini(struct mr_heap *heap)
{
    if (!heap->base)
        return;
    ASAN_UNPOISON_MEMORY_REGION(heap->base, (size_t)heap->chunk_end * CHUNK_BYTES);
    munmap(heap->mapped, (size_t)CHUNKS_MAX * CHUNK_BYTES + HUGE_BYTES);
    munmap(heap->chunks, CHUNKS_MAX * sizeof(struct mr_heap_chunk));
    *heap = (struct mr_heap){0};
}

/* ---- chunks ---- */

/* count chunks side by side at the end of what is in use. 0: none left. */
static uint32_t extend(struct mr_heap *heap, uint32_t count)
{
    uint32_t first = heap->chunk_end, end = first + count;
    if (count > CHUNKS_MAX || end > CHUNKS_MAX)
        return 0;
    uint32_t open = (first + GROW_CHUNKS - 1) / GROW_CHUNKS * GROW_CHUNKS;
    uint32_t wanted = (end + GROW_CHUNKS - 1) / GROW_CHUNKS * GROW_CHUNKS;
    if (wanted > CHUNKS_MAX)
        wanted = CHUNKS_MAX;
    if (first == 1)
        open = 0;
    if (wanted > open && mprotect(chunk_at(heap, open), (size_t)(wanted - open) * CHUNK_BYTES,
                                  PROT_READ | PROT_WRITE) != 0)
        return 0;
    /* An index is read at random: huge pages spare half of what a miss costs. Not for the first
     * chunks: a small index is to stay small. Where the kernel has none to give, nothing is lost.
     */
    if (open > 0 && wanted > open)
        (void)madvise(chunk_at(heap, open), (size_t)(wanted - open) * CHUNK_BYTES, MADV_HUGEPAGE);
    ASAN_POISON_MEMORY_REGION(chunk_at(heap, first), (size_t)count * CHUNK_BYTES);
    heap->chunk_end = end;
    return first;
}

static void list_push(struct mr_heap *heap, uint32_t *head, uint32_t number)
{
    struct mr_heap_chunk *chunk = &heap->chunks[number];
    chunk->previous = 0;
    chunk->next = *head;
    if (*head)
        heap->chunks[*head].previous = number;
    *head = number;
    chunk->listed = true;
}

static void list_remove(struct mr_heap *heap, uint32_t *head, uint32_t number)
{
    struct mr_heap_chunk *chunk = &heap->chunks[number];
    if (chunk->previous)
        heap->chunks[chunk->previous].next = chunk->next;
    else
        *head = chunk->next;
    if (chunk->next)
        heap->chunks[chunk->next].previous = chunk->previous;
    chunk->listed = false;
}

static void chunk_release(struct mr_heap *heap, uint32_t number)
{
    (void)madvise(chunk_at(heap, number), CHUNK_BYTES, MADV_DONTNEED);
    ASAN_POISON_MEMORY_REGION(chunk_at(heap, number), CHUNK_BYTES);
    heap->chunks[number] = (struct mr_heap_chunk){0};
    list_push(heap, &heap->free_chunks, number);
}

static uint32_t chunk_take(struct mr_heap *heap)
{
    uint32_t number = heap->free_chunks;
    if (!number)
        return extend(heap, 1);
    list_remove(heap, &heap->free_chunks, number);
    return number;
}

/* ---- items ---- */

static uint32_t items_in_chunk(size_t bytes)
{
    return (uint32_t)(CHUNK_BYTES / bytes);
}

static mr_ref span_alloc(struct mr_heap *heap, size_t size)
{
    size_t count = span_chunks(size);
    uint32_t first = count == 1 ? chunk_take(heap) : 0;
    if (count < CHUNKS_MAX && count > 1)
        first = extend(heap, (uint32_t)count);
    if (!first)
        return 0;
    heap->bytes += count * CHUNK_BYTES;
    ASAN_UNPOISON_MEMORY_REGION(chunk_at(heap, first), size);
    return mr_heap_ref(heap, chunk_at(heap, first));
}

mr_ref mr_heap_alloc(struct mr_heap *heap, size_t size)
{
    if (size > ITEM_BYTES_MAX)
        return span_alloc(heap, size);
    uint32_t class = class_of(size), number = heap->partial[class];
    size_t bytes = class_bytes(class);
    if (!number) {
        number = chunk_take(heap);
        if (!number)
            return 0;
        heap->chunks[number] = (struct mr_heap_chunk){.class = (uint8_t) class};
        list_push(heap, &heap->partial[class], number);
    }
    struct mr_heap_chunk *chunk = &heap->chunks[number];
    uint8_t *item;
    if (chunk->free_item) {
        item = chunk_at(heap, number) + (size_t)(chunk->free_item - 1) * bytes;
        ASAN_UNPOISON_MEMORY_REGION(item, bytes);
        chunk->free_item = *(uint16_t *)item;
    } else {
        item = chunk_at(heap, number) + (size_t)chunk->fresh++ * bytes;
        ASAN_UNPOISON_MEMORY_REGION(item, bytes);
    }
    chunk->used++;
    if (!chunk->free_item && chunk->fresh == items_in_chunk(bytes))
        list_remove(heap, &heap->partial[class], number);
    heap->bytes += bytes;
    return mr_heap_ref(heap, item);
}

void mr_heap_free(struct mr_heap *heap, mr_ref ref, size_t size)
{
    if (!ref)
        return;
    uint32_t number = ref >> (18 - MR_HEAP_UNIT_BITS);
    if (size > ITEM_BYTES_MAX) {
        size_t count = span_chunks(size);
        heap->bytes -= count * CHUNK_BYTES;
        for (size_t i = 0; i < count; i++)
            chunk_release(heap, number + (uint32_t)i);
        return;
    }
    struct mr_heap_chunk *chunk = &heap->chunks[number];
    size_t bytes = class_bytes(chunk->class);
    uint8_t *item = mr_heap_at(heap, ref);
    MR_ASSERT(chunk->used > 0 && chunk->class == class_of(size));
    *(uint16_t *)item = chunk->free_item;
    chunk->free_item = (uint16_t)((size_t)(item - chunk_at(heap, number)) / bytes + 1);
    ASAN_POISON_MEMORY_REGION(item, bytes);
    heap->bytes -= bytes;
    chunk->used--;
    uint32_t *partial = &heap->partial[chunk->class];
    if (!chunk->listed)
        list_push(heap, partial, number);
    bool only = *partial == number && !chunk->next;
    if (chunk->used == 0 && !(only && bytes <= KEEP_BYTES_MAX)) {
        list_remove(heap, partial, number);
        chunk_release(heap, number);
    }
}
