/* matcher/engine/table.h: hash table from a well-mixed 64-bit hash to a pointer; what the items are
 * and when they are equal, the caller knows. Open addressing, linear probing, removal without
 * tombstones. Split into parts by the upper bits of the hash, so that growing moves a part and
 * never pauses the matching for the whole. */
#ifndef MR_MATCHER_ENGINE_TABLE_H
#define MR_MATCHER_ENGINE_TABLE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct mr_table_entry {
    uint64_t hash;
    void *item; /* NULL: empty */
};
struct mr_table {
    struct mr_table_entry *entries; /* mask + 1 of them, at least one empty */
    uint32_t mask;
    uint32_t count;
};

void mr_table_init(struct mr_table *table);
void mr_table_fini(struct mr_table *table);
/* Make sure that one more item fits, so that the next put cannot fail. False: out of memory. */
MR_MUST_USE bool mr_table_reserve(struct mr_table *table);
/* After reserve. The item must not be in the table. */
void mr_table_put(struct mr_table *table, uint64_t hash, void *item);
/* The item must be in the table. Shrinks when it can; never fails. */
void mr_table_remove(struct mr_table *table, uint64_t hash, const void *item);
size_t mr_table_bytes(const struct mr_table *table);

/* Probe: start at = hash and step by one until an entry without an item. */
static inline const struct mr_table_entry *mr_table_at(const struct mr_table *table, uint64_t at)
{
    return &table->entries[at & table->mask];
}

enum { MR_TABLE_PARTS = 64 };
struct mr_tables {
    struct mr_table parts[MR_TABLE_PARTS];
};
static inline struct mr_table *mr_tables_part(struct mr_tables *tables, uint64_t hash)
{
    return &tables->parts[hash >> 58];
}
void mr_tables_init(struct mr_tables *tables);
void mr_tables_fini(struct mr_tables *tables);
size_t mr_tables_bytes(const struct mr_tables *tables);
#endif
