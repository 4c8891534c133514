#include "matcher/engine/run.h"

#include <string.h>

enum { CAPACITY_MIN = 2 };

static int order(const struct mr_run_entry *a, double key, double other, uint32_t item)
{
    if (a->key != key)
        return a->key < key ? -1 : 1;
    if (a->other != other)
        return a->other < other ? -1 : 1;
    return (a->item > item) - (a->item < item);
}

/* The first of count sorted entries that is not before (key, other, item). */
static uint32_t lower_bound(const struct mr_run_entry *entries, uint32_t count, double key,
                            double other, uint32_t item)
{
    uint32_t low = 0;
    while (count > 0) {
        uint32_t half = count / 2;
        if (order(&entries[low + half], key, other, item) < 0) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low;
}

static size_t block_bytes(uint32_t capacity)
{
    return sizeof(struct mr_run_block) + capacity * sizeof(struct mr_run_entry);
}

static struct mr_run_block *block_create(struct mr_heap *heap, uint32_t capacity)
{
    mr_ref ref = mr_heap_alloc(heap, block_bytes(capacity));
    if (!ref)
        return NULL;
    struct mr_run_block *block = mr_heap_at(heap, ref);
    *block = (struct mr_run_block){.capacity = capacity};
    return block;
}

static void block_free(struct mr_heap *heap, struct mr_run_block *block)
{
    mr_heap_free(heap, mr_heap_ref(heap, block), block_bytes(block->capacity));
}

static struct mr_run_entry *directory(const struct mr_run *run, const struct mr_heap *heap)
{
    return mr_heap_at(heap, run->root);
}

static struct mr_run_block *block_at(const struct mr_run *run, const struct mr_heap *heap,
                                     uint32_t index)
{
    return mr_heap_at(heap, run->block_count > 1 ? directory(run, heap)[index].block : run->root);
}

/* The block in which an entry is, or into which it goes. */
static uint32_t find_block(const struct mr_run *run, const struct mr_heap *heap, double key,
                           double other, uint32_t item)
{
    if (run->block_count <= 1)
        return 0;
    const struct mr_run_entry *firsts = directory(run, heap);
    uint32_t at = lower_bound(firsts, run->block_count, key, other, item);
    bool exact = at < run->block_count && order(&firsts[at], key, other, item) == 0;
    return exact || at == 0 ? at : at - 1;
}

/* A block's first entry has changed. */
static void note_first(struct mr_run *run, const struct mr_heap *heap, uint32_t index)
{
    if (run->block_count <= 1)
        return;
    struct mr_run_entry *first = &directory(run, heap)[index];
    mr_ref block = first->block;
    *first = ((const struct mr_run_block *)mr_heap_at(heap, block))->entries[0];
    first->block = block;
}

/* Another capacity for a block, at least its count. */
static struct mr_run_block *block_resize(struct mr_run *run, struct mr_heap *heap, uint32_t index,
                                         uint32_t capacity)
{
    struct mr_run_block *old = block_at(run, heap, index);
    struct mr_run_block *block = block_create(heap, capacity);
    if (!block)
        return NULL;
    block->count = old->count;
    memcpy(block->entries, old->entries, old->count * sizeof *block->entries);
    if (run->block_count > 1) {
        directory(run, heap)[index].block = mr_heap_ref(heap, block);
    } else {
        run->root = mr_heap_ref(heap, block);
        run->capacity = capacity;
    }
    block_free(heap, old);
    return block;
}

/* Room for one more directory entry. */
static bool reserve_directory(struct mr_run *run, struct mr_heap *heap)
{
    bool first = run->block_count == 1;
    if (!first && run->block_count < run->capacity)
        return true;
    uint32_t capacity = first ? 4 : run->capacity * 2;
    mr_ref ref = mr_heap_alloc(heap, capacity * sizeof(struct mr_run_entry));
    if (!ref)
        return false;
    struct mr_run_entry *entries = mr_heap_at(heap, ref);
    if (first) {
        entries[0] = block_at(run, heap, 0)->entries[0];
        entries[0].block = run->root;
    } else {
        memcpy(entries, directory(run, heap), run->block_count * sizeof *entries);
        mr_heap_free(heap, run->root, run->capacity * sizeof *entries);
    }
    run->root = ref;
    run->capacity = capacity;
    return true;
}

/* Halve a full block. The run has a directory, with room for one more. */
static bool split(struct mr_run *run, struct mr_heap *heap, uint32_t index)
{
    struct mr_run_entry *firsts = directory(run, heap);
    struct mr_run_block *left = mr_heap_at(heap, firsts[index].block);
    struct mr_run_block *right = block_create(heap, MR_RUN_BLOCK_MAX);
    if (!right)
        return false;
    /* Whoever adds in ascending order leaves full blocks behind. */
    uint32_t keep = index + 1 == run->block_count ? left->count - left->count / 8 : left->count / 2;
    right->count = left->count - keep;
    memcpy(right->entries, left->entries + keep, right->count * sizeof *right->entries);
    left->count = keep;
    memmove(firsts + index + 2, firsts + index + 1,
            (run->block_count - index - 1) * sizeof *firsts);
    firsts[index + 1] = right->entries[0];
    firsts[index + 1].block = mr_heap_ref(heap, right);
    run->block_count++;
    return true;
}

/* A block with room for the entry; *index its number. NULL: out of memory. */
static struct mr_run_block *make_room(struct mr_run *run, struct mr_heap *heap,
                                      const struct mr_run_entry *entry, uint32_t *index)
{
    *index = find_block(run, heap, entry->key, entry->other, entry->item);
    struct mr_run_block *block = block_at(run, heap, *index);
    if (block->count < block->capacity)
        return block;
    if (block->capacity < MR_RUN_BLOCK_MAX)
        return block_resize(run, heap, *index, block->capacity * 2);
    bool single = run->block_count == 1;
    if (!reserve_directory(run, heap))
        return NULL;
    if (!split(run, heap, *index)) {
        if (single) {
            mr_ref root = directory(run, heap)[0].block;
            mr_heap_free(heap, run->root, run->capacity * sizeof *entry);
            run->root = root;
            run->capacity = MR_RUN_BLOCK_MAX;
        }
        return NULL;
    }
    *index = find_block(run, heap, entry->key, entry->other, entry->item);
    return block_at(run, heap, *index);
}

bool mr_run_add(struct mr_run *run, struct mr_heap *heap, double key, double other, uint32_t item)
{
    const struct mr_run_entry entry = {key, other, item, 0};
    if (run->block_count == 0) {
        struct mr_run_block *only = block_create(heap, CAPACITY_MIN);
        if (!only)
            return false;
        *run = (struct mr_run){0, 1, CAPACITY_MIN, mr_heap_ref(heap, only)};
    }
    uint32_t index;
    struct mr_run_block *block = make_room(run, heap, &entry, &index);
    if (!block)
        return false;
    uint32_t at = lower_bound(block->entries, block->count, key, other, item);
    memmove(block->entries + at + 1, block->entries + at,
            (block->count - at) * sizeof *block->entries);
    block->entries[at] = entry;
    block->count++;
    run->count++;
    if (at == 0)
        note_first(run, heap, index);
    return true;
}

static void drop_block(struct mr_run *run, struct mr_heap *heap, uint32_t index)
{
    block_free(heap, block_at(run, heap, index));
    if (run->block_count == 1) {
        *run = (struct mr_run){0};
        return;
    }
    struct mr_run_entry *firsts = directory(run, heap);
    memmove(firsts + index, firsts + index + 1, (run->block_count - index - 1) * sizeof *firsts);
    if (--run->block_count > 1)
        return;
    mr_ref last = firsts[0].block;
    mr_heap_free(heap, run->root, run->capacity * sizeof *firsts);
    run->root = last;
    run->capacity = ((const struct mr_run_block *)mr_heap_at(heap, last))->capacity;
}

/* Give back room: a block that is nearly empty shrinks, or joins its right neighbour. */
static void tidy(struct mr_run *run, struct mr_heap *heap, uint32_t index)
{
    struct mr_run_block *block = block_at(run, heap, index);
    if (block->count >= block->capacity / 4)
        return;
    if (index + 1 < run->block_count) {
        struct mr_run_block *right = block_at(run, heap, index + 1);
        if (right->capacity - right->count >= block->count) {
            memmove(right->entries + block->count, right->entries,
                    right->count * sizeof *right->entries);
            memcpy(right->entries, block->entries, block->count * sizeof *right->entries);
            right->count += block->count;
            note_first(run, heap, index + 1);
            drop_block(run, heap, index);
            return;
        }
    }
    if (block->capacity > 2 * CAPACITY_MIN)
        (void)block_resize(run, heap, index, block->capacity / 2);
}

bool mr_run_remove(struct mr_run *run, struct mr_heap *heap, double key, double other,
                   uint32_t item)
{
    if (run->block_count == 0)
        return false;
    uint32_t index = find_block(run, heap, key, other, item);
    struct mr_run_block *block = block_at(run, heap, index);
    uint32_t at = lower_bound(block->entries, block->count, key, other, item);
    if (at == block->count || order(&block->entries[at], key, other, item) != 0)
        return false;
    block->count--;
    run->count--;
    memmove(block->entries + at, block->entries + at + 1,
            (block->count - at) * sizeof *block->entries);
    if (block->count == 0) {
        drop_block(run, heap, index);
        return true;
    }
    if (at == 0)
        note_first(run, heap, index);
    tidy(run, heap, index);
    return true;
}

double mr_run_first(const struct mr_run *run, const struct mr_heap *heap)
{
    return block_at(run, heap, 0)->entries[0].key;
}

void mr_run_begin(const struct mr_run *run, const struct mr_heap *heap, double from,
                  struct mr_run_walk *walk)
{
    *walk = (struct mr_run_walk){.run = run};
    if (run->block_count == 0 || from == -__builtin_inf())
        return;
    walk->block = find_block(run, heap, from, -__builtin_inf(), 0);
    const struct mr_run_block *block = block_at(run, heap, walk->block);
    walk->at = lower_bound(block->entries, block->count, from, -__builtin_inf(), 0);
}

const struct mr_run_entry *mr_run_block(struct mr_run_walk *walk, const struct mr_heap *heap,
                                        uint32_t *count)
{
    if (walk->block >= walk->run->block_count)
        return NULL;
    const struct mr_run_block *block = block_at(walk->run, heap, walk->block++);
    const struct mr_run_entry *entries = block->entries + walk->at;
    *count = block->count - walk->at;
    walk->at = 0;
    return entries;
}
