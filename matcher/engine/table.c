#include "matcher/engine/table.h"

#include <stdlib.h>

/* What an empty table looks at, so that a lookup needs no check for it. Never written. */
static struct mr_table_entry nothing;

void mr_table_init(struct mr_table *table)
{
    *table = (struct mr_table){.entries = &nothing};
}

void mr_table_fini(struct mr_table *table)
{
    if (table->entries != &nothing)
        free(table->entries);
    mr_table_init(table);
}

static bool resize(struct mr_table *table, uint32_t capacity)
{
    struct mr_table_entry *entries = calloc(capacity, sizeof *entries);
    if (!entries)
        return false;
    struct mr_table bigger = {.entries = entries, .mask = capacity - 1};
    for (uint32_t i = 0; i <= table->mask; i++)
        if (table->entries[i].item)
            mr_table_put(&bigger, table->entries[i].hash, table->entries[i].item);
    MR_ASSERT(bigger.count == table->count);
    mr_table_fini(table);
    *table = bigger;
    return true;
}

bool mr_table_reserve(struct mr_table *table)
{
    uint64_t capacity = (uint64_t)table->mask + 1;
    if (table->entries == &nothing)
        return resize(table, 4);
    if ((table->count + UINT64_C(1)) * 4 <= capacity * 3)
        return true;
    return capacity < (UINT32_C(1) << 31) && resize(table, (uint32_t)capacity * 2);
}

void mr_table_put(struct mr_table *table, uint64_t hash, void *item)
{
    MR_ASSERT(item && table->count < table->mask);
    uint32_t at = (uint32_t)hash & table->mask;
    while (table->entries[at].item)
        at = (at + 1) & table->mask;
    table->entries[at] = (struct mr_table_entry){hash, item};
    table->count++;
}

void mr_table_remove(struct mr_table *table, uint64_t hash, const void *item)
{
    uint32_t hole = (uint32_t)hash & table->mask;
    while (table->entries[hole].item != item) {
        MR_ASSERT(table->entries[hole].item);
        hole = (hole + 1) & table->mask;
    }
    /* Pull later items of the run into the hole where their probing passes it. */
    for (uint32_t at = (hole + 1) & table->mask; table->entries[at].item;
         at = (at + 1) & table->mask) {
        uint32_t home = (uint32_t)table->entries[at].hash & table->mask;
        if (((at - home) & table->mask) >= ((at - hole) & table->mask)) {
            table->entries[hole] = table->entries[at];
            hole = at;
        }
    }
    table->entries[hole].item = NULL;
    table->count--;
    if (table->count == 0)
        mr_table_fini(table);
    else if (table->mask > 16 && table->count * UINT64_C(8) < table->mask)
        (void)resize(table, (table->mask + 1) / 4); /* without memory it just stays large */
}

size_t mr_table_bytes(const struct mr_table *table)
{
    return table->entries == &nothing ? 0 : ((size_t)table->mask + 1) * sizeof *table->entries;
}

void mr_tables_init(struct mr_tables *tables)
{
    for (uint32_t i = 0; i < MR_TABLE_PARTS; i++)
        mr_table_init(&tables->parts[i]);
}

void mr_tables_fini(struct mr_tables *tables)
{
    for (uint32_t i = 0; i < MR_TABLE_PARTS; i++)
        mr_table_fini(&tables->parts[i]);
}

size_t mr_tables_bytes(const struct mr_tables *tables)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < MR_TABLE_PARTS; i++)
        bytes += mr_table_bytes(&tables->parts[i]);
    return bytes;
}
