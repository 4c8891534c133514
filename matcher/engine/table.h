/* matcher/engine/table.h: hash table from a 32-bit hash to references of items; what the items are
 * and when they are equal, the caller knows.
 *
 * Extendible hashing (Fagin, Nievergelt, Pippenger, Strong 1979): a directory of parts by the upper
 * bits of the hash; a part that is full splits in two, and nothing else moves. So growing never
 * pauses for longer than one part takes. A part is open addressing with linear probing and removal
 * without tombstones.
 *
 * A table can have a Bloom filter in front of each part, in blocks of one cache line (Putze,
 * Sanders, Singler 2007): a lookup for what is not there then reads one line of a structure that is
 * a quarter of the size. It is built anew with its part, and when removals have aged it. */
#ifndef MR_MATCHER_ENGINE_TABLE_H
#define MR_MATCHER_ENGINE_TABLE_H
#include "matcher/engine/heap.h"

struct mr_table_entry {
    uint32_t hash;
    mr_ref item; /* 0: empty */
};

enum {
    MR_TABLE_PART_MAX = 4096, /* entries of a part; it splits at three quarters */
    MR_BLOOM_BITS = 12,       /* for each entry, filled or not */
    MR_BLOOM_PROBES = 5,
    MR_BLOOM_BLOCK = 64, /* bytes */
};

struct mr_table_part {
    uint32_t mask;   /* entries - 1 */
    uint32_t count;  /* items */
    uint32_t blocks; /* of the Bloom filter behind this head, in front of the entries; 0: none */
    uint32_t stale;  /* removed, but still in the Bloom filter */
    uint32_t depth;  /* upper bits of the hash that all its items have in common */
    uint32_t padding[11]; /* the Bloom filter's blocks are lines */
};

struct mr_table {
    mr_ref root; /* depth 0: the one part, 0: empty; else the directory, 2^depth references */
    uint32_t depth;
    uint32_t count;
    bool bloom; /* parts made from now on have one */
};

/* What Bloom filters did, over all tables of an engine. */
struct mr_bloom_stats {
    uint64_t lookups, rejected, passed_missing; /* the last: false positives */
    uint64_t rebuilds, bytes;
};

/* Make sure that an item of this hash fits, so that the next put cannot fail. False: out of memory,
 * nothing changed. */
MR_MUST_USE bool mr_table_reserve(struct mr_table *table, struct mr_heap *heap, uint32_t hash,
                                  struct mr_bloom_stats *stats);
/* After reserve. The item must not be in the table. */
void mr_table_put(struct mr_table *table, struct mr_heap *heap, uint32_t hash, mr_ref item);
/* The item must be in the table. Never fails; an empty table holds no memory. */
void mr_table_remove(struct mr_table *table, struct mr_heap *heap, uint32_t hash, mr_ref item,
                     struct mr_bloom_stats *stats);
void mr_table_fini(struct mr_table *table, struct mr_heap *heap, struct mr_bloom_stats *stats);

static inline const uint64_t *mr_table_bloom(const struct mr_table_part *part)
{
    return (const uint64_t *)(part + 1);
}
static inline struct mr_table_entry *mr_table_entries(const struct mr_table_part *part)
{
    return (struct mr_table_entry *)((uintptr_t)(part + 1) + (size_t)part->blocks * MR_BLOOM_BLOCK);
}
static inline const struct mr_table_part *mr_table_part(const struct mr_table *table,
                                                        const struct mr_heap *heap, uint32_t hash)
{
    mr_ref root = table->root;
    if (table->depth)
        root = ((const mr_ref *)mr_heap_at(heap, root))[hash >> (32 - table->depth)];
    return root ? mr_heap_at(heap, root) : NULL;
}

/* The block of a hash, and its bits inside the block, 9 bits each. */
static inline uint64_t mr_bloom_mix(uint32_t hash)
{
    uint64_t mixed = (uint64_t)hash * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return mixed ^ mixed >> 29;
}
static inline bool mr_bloom_has(const struct mr_table_part *part, uint32_t hash)
{
    uint64_t mixed = mr_bloom_mix(hash);
    const uint64_t *block =
        mr_table_bloom(part) + (((mixed >> 45) * part->blocks) >> 19) * (MR_BLOOM_BLOCK / 8);
    for (int i = 0; i < MR_BLOOM_PROBES; i++, mixed >>= 9)
        if (!(block[mixed >> 6 & 7] >> (mixed & 63) & 1))
            return false;
    return true;
}

/* Items with a hash:
 *   for (at = mr_table_find(..., &probe); at; at = mr_table_next(&probe)) */
struct mr_table_probe {
    const struct mr_table_entry *entries;
    uint32_t hash, at, mask;
};
static inline mr_ref mr_table_next(struct mr_table_probe *probe)
{
    for (;;) {
        const struct mr_table_entry *entry = &probe->entries[probe->at++ & probe->mask];
        if (!entry->item || entry->hash == probe->hash)
            return entry->item;
    }
}
static inline mr_ref mr_table_find_in(const struct mr_table_part *part, uint32_t hash,
                                      struct mr_table_probe *probe)
{
    if (!part)
        return 0;
    *probe = (struct mr_table_probe){mr_table_entries(part), hash, hash, part->mask};
    return mr_table_next(probe);
}
static inline mr_ref mr_table_find(const struct mr_table *table, const struct mr_heap *heap,
                                   uint32_t hash, struct mr_table_probe *probe)
{
    return mr_table_find_in(mr_table_part(table, heap, hash), hash, probe);
}
#endif
