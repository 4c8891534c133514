/* The table of subscriptions: id -> filter. As table.c, with the entry in place of a pointer. */
#include <stdlib.h>

#include "matcher/engine/index.h"

static struct mr_sub nobody; /* what an empty table looks at; never written */

void mr_subs_init(struct mr_sub_table *table)
{
    *table = (struct mr_sub_table){.subs = &nobody};
}

void mr_subs_fini(struct mr_sub_table *table)
{
    if (table->subs != &nobody)
        free(table->subs);
    mr_subs_init(table);
}

static uint32_t home(const struct mr_sub_table *table, uint64_t id)
{
    return (uint32_t)mr_hash_mix(id, 0) & table->mask;
}

static bool resize(struct mr_sub_table *table, uint32_t capacity)
{
    struct mr_sub *subs = calloc(capacity, sizeof *subs);
    if (!subs)
        return false;
    struct mr_sub_table other = {.subs = subs, .mask = capacity - 1};
    for (uint32_t i = 0; i <= table->mask; i++)
        if (table->subs[i].filter)
            mr_subs_put(&other, table->subs[i]);
    mr_subs_fini(table);
    *table = other;
    return true;
}

bool mr_subs_reserve(struct mr_sub_table *table)
{
    uint64_t capacity = (uint64_t)table->mask + 1;
    if (table->subs == &nobody)
        return resize(table, 4);
    if ((table->count + UINT64_C(1)) * 4 <= capacity * 3)
        return true;
    return capacity < (UINT32_C(1) << 31) && resize(table, (uint32_t)capacity * 2);
}

struct mr_sub *mr_subs_find(const struct mr_sub_table *table, uint64_t id)
{
    uint32_t at = home(table, id);
    for (; table->subs[at].filter; at = (at + 1) & table->mask)
        if (table->subs[at].id == id)
            return &table->subs[at];
    return NULL;
}

void mr_subs_put(struct mr_sub_table *table, struct mr_sub sub)
{
    MR_ASSERT(sub.filter && table->count < table->mask);
    uint32_t at = home(table, sub.id);
    while (table->subs[at].filter)
        at = (at + 1) & table->mask;
    table->subs[at] = sub;
    table->count++;
}

void mr_subs_remove(struct mr_sub_table *table, struct mr_sub *sub)
{
    uint32_t hole = (uint32_t)(sub - table->subs);
    MR_ASSERT(hole <= table->mask && sub->filter);
    for (uint32_t at = (hole + 1) & table->mask; table->subs[at].filter;
         at = (at + 1) & table->mask) {
        uint32_t distance = (at - home(table, table->subs[at].id)) & table->mask;
        if (distance >= ((at - hole) & table->mask)) {
            table->subs[hole] = table->subs[at];
            hole = at;
        }
    }
    table->subs[hole].filter = NULL;
    table->count--;
    if (table->count == 0)
        mr_subs_fini(table);
    else if (table->mask > 16 && table->count * UINT64_C(8) < table->mask)
        (void)resize(table, (table->mask + 1) / 4);
}
