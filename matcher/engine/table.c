#include "matcher/engine/table.h"

#include <string.h>

enum { ENTRIES_MIN = 4, STALE_SHARE = 32 };

static uint32_t blocks_for(const struct mr_table *table, uint32_t capacity)
{
    /* A few entries are compared as fast as a filter of them is asked. */
    if (!table->bloom || capacity < 64)
        return 0;
    return (capacity * MR_BLOOM_BITS + MR_BLOOM_BLOCK * 8 - 1) / (MR_BLOOM_BLOCK * 8);
}

static size_t part_bytes(const struct mr_table_part *part)
{
    return sizeof *part + (size_t)part->blocks * MR_BLOOM_BLOCK +
           (part->mask + UINT64_C(1)) * sizeof(struct mr_table_entry);
}

static struct mr_table_part *part_create(const struct mr_table *table, struct mr_heap *heap,
                                         uint32_t capacity, uint32_t depth,
                                         struct mr_bloom_stats *stats)
{
    struct mr_table_part head = {
        .mask = capacity - 1, .blocks = blocks_for(table, capacity), .depth = depth};
    mr_ref ref = mr_heap_alloc(heap, part_bytes(&head));
    if (!ref)
        return NULL;
    struct mr_table_part *part = mr_heap_at(heap, ref);
    memset(part, 0, part_bytes(&head));
    *part = head;
    stats->bytes += (uint64_t)head.blocks * MR_BLOOM_BLOCK;
    stats->rebuilds += head.blocks > 0;
    return part;
}

static void part_free(struct mr_heap *heap, struct mr_table_part *part,
                      struct mr_bloom_stats *stats)
{
    stats->bytes -= (uint64_t)part->blocks * MR_BLOOM_BLOCK;
    mr_heap_free(heap, mr_heap_ref(heap, part), part_bytes(part));
}

static void bloom_add(struct mr_table_part *part, uint32_t hash)
{
    uint64_t mixed = mr_bloom_mix(hash);
    uint64_t *block =
        (uint64_t *)(part + 1) + (((mixed >> 45) * part->blocks) >> 19) * (MR_BLOOM_BLOCK / 8);
    for (int i = 0; i < MR_BLOOM_PROBES; i++, mixed >>= 9)
        block[mixed >> 6 & 7] |= UINT64_C(1) << (mixed & 63);
}

static void part_put(struct mr_table_part *part, uint32_t hash, mr_ref item)
{
    struct mr_table_entry *entries = mr_table_entries(part);
    uint32_t at = hash & part->mask;
    while (entries[at].item)
        at = (at + 1) & part->mask;
    entries[at] = (struct mr_table_entry){hash, item};
    part->count++;
    if (part->blocks)
        bloom_add(part, hash);
}

static bool part_full(const struct mr_table_part *part)
{
    return (part->count + UINT64_C(1)) * 4 > (part->mask + UINT64_C(1)) * 3;
}

/* Put a part in the place of another: in all directory entries of its hashes. */
static void part_set(struct mr_table *table, const struct mr_heap *heap, uint32_t hash,
                     const struct mr_table_part *part)
{
    mr_ref ref = mr_heap_ref(heap, part);
    if (!table->depth) {
        table->root = ref;
        return;
    }
    mr_ref *directory = mr_heap_at(heap, table->root);
    uint32_t spread = table->depth - part->depth; /* 2^spread entries side by side are its */
    uint32_t first = hash >> (32 - table->depth) >> spread << spread;
    for (uint32_t i = 0; i < UINT32_C(1) << spread; i++)
        directory[first + i] = ref;
}

static bool part_resize(struct mr_table *table, struct mr_heap *heap, uint32_t hash,
                        struct mr_table_part *part, uint32_t capacity, struct mr_bloom_stats *stats)
{
    struct mr_table_part *other = part_create(table, heap, capacity, part->depth, stats);
    if (!other)
        return false;
    const struct mr_table_entry *entries = mr_table_entries(part);
    for (uint32_t i = 0; i <= part->mask; i++)
        if (entries[i].item)
            part_put(other, entries[i].hash, entries[i].item);
    part_set(table, heap, hash, other);
    part_free(heap, part, stats);
    return true;
}

static bool directory_double(struct mr_table *table, struct mr_heap *heap)
{
    uint32_t count = UINT32_C(1) << table->depth;
    mr_ref ref = mr_heap_alloc(heap, (size_t)count * 2 * sizeof(mr_ref));
    if (!ref)
        return false;
    mr_ref *wider = mr_heap_at(heap, ref);
    const mr_ref *old = table->depth ? mr_heap_at(heap, table->root) : &table->root;
    for (uint32_t i = 0; i < count; i++)
        wider[2 * i] = wider[2 * i + 1] = old[i];
    if (table->depth)
        mr_heap_free(heap, table->root, count * sizeof(mr_ref));
    table->root = ref;
    table->depth++;
    return true;
}

static bool part_split(struct mr_table *table, struct mr_heap *heap, struct mr_table_part *part,
                       uint32_t hash, struct mr_bloom_stats *stats)
{
    if (part->depth == table->depth && !directory_double(table, heap))
        return false;
    uint32_t depth = part->depth + 1, capacity = part->mask + 1;
    struct mr_table_part *halves[2] = {part_create(table, heap, capacity, depth, stats),
                                       part_create(table, heap, capacity, depth, stats)};
    if (!halves[0] || !halves[1]) {
        for (int i = 0; i < 2; i++)
            if (halves[i])
                part_free(heap, halves[i], stats);
        return false;
    }
    const struct mr_table_entry *entries = mr_table_entries(part);
    for (uint32_t i = 0; i <= part->mask; i++)
        if (entries[i].item)
            part_put(halves[entries[i].hash >> (32 - depth) & 1], entries[i].hash, entries[i].item);
    uint32_t bit = UINT32_C(1) << (32 - depth);
    part_set(table, heap, hash & ~bit, halves[0]);
    part_set(table, heap, hash | bit, halves[1]);
    part_free(heap, part, stats);
    return true;
}

static struct mr_table_part *part_of(const struct mr_table *table, const struct mr_heap *heap,
                                     uint32_t hash)
{
    const struct mr_table_part *part = mr_table_part(table, heap, hash);
    return part ? mr_heap_at(heap, mr_heap_ref(heap, part)) : NULL;
}

bool mr_table_reserve(struct mr_table *table, struct mr_heap *heap, uint32_t hash,
                      struct mr_bloom_stats *stats)
{
    if (!table->root) {
        struct mr_table_part *part = part_create(table, heap, ENTRIES_MIN, 0, stats);
        if (!part)
            return false;
        table->root = mr_heap_ref(heap, part);
        table->depth = 0;
        return true;
    }
    for (;;) {
        struct mr_table_part *part = part_of(table, heap, hash);
        if (!part_full(part))
            return true;
        uint32_t capacity = part->mask + 1;
        /* Items of one hash cannot be parted: their part grows, however large. */
        bool grow = capacity < MR_TABLE_PART_MAX || part->depth >= 20;
        if (!(grow ? part_resize(table, heap, hash, part, capacity * 2, stats)
                   : part_split(table, heap, part, hash, stats)))
            return false;
    }
}

void mr_table_put(struct mr_table *table, struct mr_heap *heap, uint32_t hash, mr_ref item)
{
    struct mr_table_part *part = part_of(table, heap, hash);
    MR_ASSERT(part && part->count < part->mask);
    part_put(part, hash, item);
    table->count++;
}

static void bloom_rebuild(struct mr_table_part *part, struct mr_bloom_stats *stats)
{
    const struct mr_table_entry *entries = mr_table_entries(part);
    memset(part + 1, 0, (size_t)part->blocks * MR_BLOOM_BLOCK);
    for (uint32_t i = 0; i <= part->mask; i++)
        if (entries[i].item)
            bloom_add(part, entries[i].hash);
    part->stale = 0;
    stats->rebuilds++;
}

void mr_table_remove(struct mr_table *table, struct mr_heap *heap, uint32_t hash, mr_ref item,
                     struct mr_bloom_stats *stats)
{
    struct mr_table_part *part = part_of(table, heap, hash);
    MR_ASSERT(part && part->count > 0);
    struct mr_table_entry *entries = mr_table_entries(part);
    uint32_t hole = hash & part->mask;
    while (entries[hole].item != item) {
        MR_ASSERT(entries[hole].item);
        hole = (hole + 1) & part->mask;
    }
    for (uint32_t at = (hole + 1) & part->mask; entries[at].item; at = (at + 1) & part->mask) {
        uint32_t distance = (at - entries[at].hash) & part->mask;
        if (distance >= ((at - hole) & part->mask)) {
            entries[hole] = entries[at];
            hole = at;
        }
    }
    entries[hole].item = 0;
    part->count--;
    table->count--;
    if (table->count == 0) {
        mr_table_fini(table, heap, stats);
        return;
    }
    if (part->mask >= ENTRIES_MIN * 2 && part->count * UINT64_C(8) < part->mask)
        (void)part_resize(table, heap, hash, part, (part->mask + 1) / 4, stats);
    else if (part->blocks && ++part->stale > (part->mask + 1) / STALE_SHARE)
        bloom_rebuild(part, stats);
}

void mr_table_fini(struct mr_table *table, struct mr_heap *heap, struct mr_bloom_stats *stats)
{
    if (table->root && table->depth == 0) {
        part_free(heap, mr_heap_at(heap, table->root), stats);
    } else if (table->root) {
        const mr_ref *directory = mr_heap_at(heap, table->root);
        for (uint32_t i = 0; i < UINT32_C(1) << table->depth;) {
            struct mr_table_part *part = mr_heap_at(heap, directory[i]);
            i += UINT32_C(1) << (table->depth - part->depth);
            part_free(heap, part, stats);
        }
        mr_heap_free(heap, table->root, sizeof(mr_ref) << table->depth);
    }
    table->root = 0;
    table->depth = table->count = 0;
}
