#include "matcher/engine/filter.h"

#include <math.h>
#include <stdlib.h>

/* ---- conjuncts -> predicates ---- */

/* A predicate's constant with its list items in memory; *items is the caller's to free. */
static bool load_constant(const struct mr_program *program, uint32_t index,
                          struct mr_predicate *predicate, struct mr_const **items)
{
    *items = NULL;
    mr_program_predicate(program, index, predicate);
    if (predicate->value.kind != MR_CONST_LIST)
        return true;
    uint32_t count = predicate->value.list.count;
    *items = malloc((count + 1) * sizeof **items);
    if (!*items)
        return false;
    for (uint32_t i = 0; i < count; i++)
        mr_program_list_item(program, index, i, &(*items)[i]);
    predicate->value.list.items = *items;
    return true;
}

static struct mr_index_predicate *intern(struct mr_engine *engine, struct mr_group *group,
                                         const struct mr_program *program, uint32_t index)
{
    struct mr_predicate predicate;
    struct mr_const *items;
    struct mr_index_predicate *interned = NULL;
    if (!load_constant(program, index, &predicate, &items))
        return NULL;
    struct mr_slot *slot = mr_slot_get(engine, group, predicate.path);
    if (slot) {
        interned = mr_index_predicate_get(engine, group, slot, predicate.op, &predicate.value);
        if (!interned)
            mr_slot_release(engine, group, slot);
    }
    free(items);
    return interned;
}

/* ---- anchors ---- */

/* What hanging the filter on this conjunct costs later events, least first: the filters that
 * already hang on the same key meet the same events; of two keys that nobody uses, the one of the
 * path with more known values is rarer. UINT64_MAX: no key. */
static uint64_t anchor_cost(const struct mr_group *group, const struct mr_index_predicate *p)
{
    const struct mr_slot *slot = group->slots[p->slot];
    uint64_t keys = slot->keys < UINT16_MAX ? slot->keys : UINT16_MAX;
    if (p->op == MR_PRED_IN)
        return (UINT64_C(1) << 62) + ((uint64_t)p->value.list.count << 16) + UINT16_MAX - keys;
    if (p->op != MR_PRED_EQ || !mr_index_hashable(&p->value))
        return UINT64_MAX;
    if (p->slot == MR_SLOT_ID)
        return 0;
    return 1 + ((uint64_t)p->postings.count << 16) + UINT16_MAX - keys;
}

static void choose_anchor(struct mr_filter *filter)
{
    uint64_t best = UINT64_MAX;
    filter->anchored = filter->conjunct_count;
    for (uint16_t i = 0; i < filter->conjunct_count; i++) {
        const struct mr_index_predicate *p = filter->conjuncts[i];
        if (p->op == MR_PRED_IN &&
            p->value.list.count == 0) { /* nothing can match: hangs nowhere */
            filter->anchored = i;
            return;
        }
        uint64_t cost = anchor_cost(filter->group, p);
        if (cost < best) {
            best = cost;
            filter->anchored = i;
        }
    }
}

static bool numeric_bound(const struct mr_index_predicate *p, double *low, double *high)
{
    double number;
    if (p->value.kind == MR_CONST_INT)
        number = (double)p->value.integer;
    else if (p->value.kind == MR_CONST_DOUBLE)
        number = p->value.number;
    else
        return false;
    *low = p->op == MR_PRED_GT || p->op == MR_PRED_GE ? number : -INFINITY;
    *high = p->op == MR_PRED_LT || p->op == MR_PRED_LE ? number : INFINITY;
    return *low > -INFINITY || *high < INFINITY;
}

/* A posting with the bounds of the first number that the filter orders. */
static struct mr_posting make_posting(struct mr_filter *filter, uint32_t ref)
{
    struct mr_posting posting = {
        .filter = filter, .low = -INFINITY, .high = INFINITY, .slot = MR_SLOT_NONE, .ref = ref};
    for (uint16_t i = 0; i < filter->conjunct_count; i++) {
        const struct mr_index_predicate *p = filter->conjuncts[i];
        double low, high;
        if (!numeric_bound(p, &low, &high) ||
            (posting.slot != MR_SLOT_NONE && posting.slot != p->slot))
            continue;
        posting.slot = p->slot;
        posting.low = low > posting.low ? low : posting.low;
        posting.high = high < posting.high ? high : posting.high;
    }
    return posting;
}

static bool hang(struct mr_engine *engine, struct mr_filter *filter, struct mr_postings *list,
                 struct mr_index_predicate *predicate)
{
    uint32_t ref = filter->anchor_count;
    struct mr_anchor *anchor = &filter->anchors[ref];
    *anchor = (struct mr_anchor){.list = list, .predicate = predicate};
    if (!mr_postings_add(engine, anchor, make_posting(filter, ref)))
        return false;
    filter->anchor_count++;
    if (predicate && list->count == 1)
        filter->group->slots[predicate->slot]->keys++;
    return true;
}

static void unhang_all(struct mr_engine *engine, struct mr_filter *filter, uint32_t anchor_capacity)
{
    bool of_list = filter->anchored < filter->conjunct_count &&
                   filter->conjuncts[filter->anchored]->op == MR_PRED_IN;
    while (filter->anchor_count > 0) {
        struct mr_anchor anchor = filter->anchors[filter->anchor_count - 1];
        mr_postings_remove(engine, &anchor);
        filter->anchor_count--;
        if (anchor.predicate && anchor.list->count == 0)
            filter->group->slots[anchor.predicate->slot]->keys--;
        if (of_list)
            mr_index_predicate_release(engine, anchor.predicate);
    }
    if (filter->anchors != &filter->anchor)
        mr_index_free(engine, filter->anchors, anchor_capacity * sizeof *filter->anchors);
    filter->anchors = &filter->anchor;
}

static uint32_t anchor_capacity(const struct mr_filter *filter)
{
    if (filter->anchored == filter->conjunct_count ||
        filter->conjuncts[filter->anchored]->op != MR_PRED_IN)
        return 1;
    return filter->conjuncts[filter->anchored]->value.list.count;
}

/* Hang on each value of an "in", as if it were "==". */
static bool hang_on_items(struct mr_engine *engine, struct mr_filter *filter)
{
    struct mr_index_predicate *in = filter->conjuncts[filter->anchored];
    uint32_t count = in->value.list.count;
    if (count > 1) {
        filter->anchors = mr_index_alloc(engine, count * sizeof *filter->anchors);
        if (!filter->anchors) {
            filter->anchors = &filter->anchor;
            return false;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        struct mr_index_predicate *p =
            mr_index_predicate_get(engine, filter->group, filter->group->slots[in->slot],
                                   MR_PRED_EQ, &in->value.list.items[i]);
        if (!p)
            return false;
        if (!hang(engine, filter, &p->postings, p)) {
            mr_index_predicate_release(engine, p);
            return false;
        }
    }
    return true;
}

static bool hang_filter(struct mr_engine *engine, struct mr_filter *filter)
{
    choose_anchor(filter);
    filter->anchors = &filter->anchor;
    if (filter->conjunct_count == 0)
        return true; /* found through group->everyone */
    if (filter->anchored == filter->conjunct_count) {
        struct mr_slot *slot = filter->group->slots[filter->conjuncts[0]->slot];
        return hang(engine, filter, &slot->presence, NULL);
    }
    struct mr_index_predicate *p = filter->conjuncts[filter->anchored];
    return p->op == MR_PRED_EQ ? hang(engine, filter, &p->postings, p)
                               : hang_on_items(engine, filter);
}

/* ---- filters ---- */

static struct mr_filter *lookup(struct mr_engine *engine, uint64_t hash,
                                const struct mr_group *group,
                                struct mr_index_predicate *const *conjuncts, uint32_t count)
{
    const struct mr_table *table = mr_tables_part(&engine->filters, hash);
    for (uint64_t at = hash;; at++) {
        const struct mr_table_entry *entry = mr_table_at(table, at);
        struct mr_filter *filter = entry->item;
        if (!filter)
            return NULL;
        if (entry->hash == hash && filter->group == group && filter->conjunct_count == count &&
            (count == 0 || memcmp(filter->conjuncts, conjuncts, count * sizeof *conjuncts) == 0))
            return filter;
    }
}

static size_t filter_bytes(uint32_t conjunct_count)
{
    return sizeof(struct mr_filter) + conjunct_count * sizeof(struct mr_index_predicate *);
}

static void enlist(struct mr_engine *engine, struct mr_filter *filter)
{
    struct mr_group *group = filter->group;
    filter->next = group->filters;
    if (group->filters)
        group->filters->previous = filter;
    group->filters = filter;
    if (filter->conjunct_count == 0)
        group->everyone = filter;
    mr_table_put(mr_tables_part(&engine->filters, filter->hash), filter->hash, filter);
    engine->stats.filters++;
}

/* Takes over the references of conjuncts on success. */
static struct mr_filter *filter_create(struct mr_engine *engine, uint64_t hash,
                                       struct mr_group *group,
                                       struct mr_index_predicate *const *conjuncts, uint32_t count)
{
    struct mr_filter *filter = mr_table_reserve(mr_tables_part(&engine->filters, hash))
                                   ? mr_index_alloc(engine, filter_bytes(count))
                                   : NULL;
    if (!filter)
        return NULL;
    *filter = (struct mr_filter){.hash = hash, .group = group, .conjunct_count = (uint16_t)count};
    for (uint32_t i = 0; i < count; i++)
        filter->conjuncts[i] = conjuncts[i];
    if (!hang_filter(engine, filter)) {
        unhang_all(engine, filter, anchor_capacity(filter));
        mr_index_free(engine, filter, filter_bytes(count));
        return NULL;
    }
    enlist(engine, filter);
    return filter;
}

enum mr_rc mr_filter_get(struct mr_engine *engine, struct mr_group *group,
                         const struct mr_program *program, struct mr_filter **out)
{
    struct mr_index_predicate *conjuncts[MR_PROGRAM_CONJUNCTS_MAX];
    uint32_t count = 0;
    uint64_t hash = group->hash;
    MR_ASSERT(program->conjunct_count <= MR_PROGRAM_CONJUNCTS_MAX);
    while (count < program->conjunct_count) {
        struct mr_index_predicate *p = intern(engine, group, program, count);
        if (!p)
            break;
        conjuncts[count++] = p;
        hash = mr_hash_mix(hash, p->hash);
    }
    bool complete = count == program->conjunct_count;
    *out = complete ? lookup(engine, hash, group, conjuncts, count) : NULL;
    bool known = *out != NULL;
    if (complete && !known)
        *out = filter_create(engine, hash, group, conjuncts, count);
    if (known || !*out)
        for (uint32_t i = 0; i < count; i++)
            mr_index_predicate_release(engine, conjuncts[i]);
    return *out ? MR_OK : MR_FATAL;
}

void mr_filter_drop(struct mr_engine *engine, struct mr_filter *filter)
{
    struct mr_group *group = filter->group;
    MR_ASSERT(filter->sub_count == 0);
    mr_table_remove(mr_tables_part(&engine->filters, filter->hash), filter->hash, filter);
    if (filter->previous)
        filter->previous->next = filter->next;
    else
        group->filters = filter->next;
    if (filter->next)
        filter->next->previous = filter->previous;
    if (group->everyone == filter)
        group->everyone = NULL;
    unhang_all(engine, filter, anchor_capacity(filter));
    for (uint32_t i = 0; i < filter->conjunct_count; i++)
        mr_index_predicate_release(engine, filter->conjuncts[i]);
    if (filter->sub_capacity > 1)
        mr_index_free(engine, filter->subs.many, filter->sub_capacity * sizeof(uint64_t));
    engine->stats.filters--;
    mr_index_free(engine, filter, filter_bytes(filter->conjunct_count));
}

static bool set_sub_capacity(struct mr_engine *engine, struct mr_filter *filter, uint32_t capacity)
{
    uint64_t *many;
    if (filter->sub_capacity > 1) {
        many = mr_index_resize(engine, filter->subs.many, filter->sub_capacity * sizeof *many,
                               capacity * sizeof *many);
    } else {
        many = mr_index_alloc(engine, capacity * sizeof *many);
        if (many && filter->sub_count == 1)
            many[0] = filter->subs.one;
    }
    if (!many)
        return false;
    filter->subs.many = many;
    filter->sub_capacity = capacity;
    return true;
}

bool mr_filter_append(struct mr_engine *engine, struct mr_filter *filter, uint64_t id, uint32_t *at)
{
    if (filter->sub_capacity == 0)
        filter->sub_capacity = 1;
    if (filter->sub_count == filter->sub_capacity &&
        !set_sub_capacity(engine, filter, filter->sub_capacity * 2))
        return false;
    *at = filter->sub_count++;
    if (filter->sub_capacity > 1)
        filter->subs.many[*at] = id;
    else
        filter->subs.one = id;
    return true;
}

bool mr_filter_take(struct mr_engine *engine, struct mr_filter *filter, uint32_t at,
                    uint64_t *moved)
{
    MR_ASSERT(at < filter->sub_count);
    uint32_t last = --filter->sub_count;
    if (at == last)
        return false;
    *moved = filter->subs.many[at] = filter->subs.many[last];
    if (filter->sub_capacity > 8 && filter->sub_count < filter->sub_capacity / 4)
        (void)set_sub_capacity(engine, filter, filter->sub_capacity / 2);
    return true;
}
