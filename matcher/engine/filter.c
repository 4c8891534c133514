/* Filters: found by what they state, and evaluated where their anchor does not say it all. */
#include <stdlib.h>

#include "matcher/engine/index.h"

uint32_t mr_filter_skip(const struct mr_engine *engine, const struct mr_filter *filter, uint32_t at)
{
    uint32_t open = 1;
    while (open > 0) {
        uint16_t token = mr_filter_token(engine, filter, at++);
        open--;
        if ((token & MR_TOKEN_KIND) != 0)
            open += token & ~(uint32_t)MR_TOKEN_KIND;
    }
    return at;
}

/* ---- evaluation ---- */

struct term {
    struct mr_engine *engine;
    const mr_ref *leaves;
    const uint16_t *tokens;
};

static const uint16_t *skip(const uint16_t *token)
{
    uint32_t open = 1;
    while (open > 0) {
        uint16_t t = *token++;
        open--;
        if ((t & MR_TOKEN_KIND) != 0)
            open += t & ~(uint32_t)MR_TOKEN_KIND;
    }
    return token;
}

/* The term at *at, which moves behind it. Stops at the first child that decides. */
static bool term_holds(const struct term *term, const uint16_t **at)
{
    uint16_t token = *(*at)++;
    if ((token & MR_TOKEN_KIND) == 0)
        return mr_leaf_holds(term->engine, mr_at(term->engine, term->leaves[token]));
    uint32_t count = token & ~(uint32_t)MR_TOKEN_KIND;
    bool is_and = (token & MR_TOKEN_KIND) == MR_TOKEN_AND;
    for (; count > 0; count--) {
        if (term_holds(term, at) == is_and)
            continue;
        while (--count > 0)
            *at = skip(*at);
        return !is_and;
    }
    return is_and;
}

static bool holds(struct mr_engine *engine, const struct mr_filter *filter)
{
    const mr_ref *leaves = mr_filter_leaves(engine, filter);
    engine->stats.candidates++;
    if (filter->token_count == 1)
        return filter->leaf_count ? mr_leaf_holds(engine, mr_at(engine, *leaves))
                                  : filter->parts == MR_TOKEN_AND;
    const struct term term = {engine, leaves, (const uint16_t *)(leaves + filter->leaf_count)};
    const uint16_t *at = term.tokens;
    return term_holds(&term, &at);
}

bool mr_filter_holds(struct mr_engine *engine, struct mr_filter *filter)
{
    engine->rested = false;
    bool result = holds(engine, filter);
    if (engine->rested && !filter->reported && engine->offence_count < MR_OFFENCES_MAX) {
        engine->offence_budget[engine->offence_count] = engine->rested_budget;
        engine->offences[engine->offence_count++] = mr_heap_ref(&engine->heap, filter);
        filter->reported = true;
    }
    return result;
}

/* A filter goes before it was asked for. */
static void forget_offence(struct mr_engine *engine, mr_ref ref)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < engine->offence_count; i++) {
        if (engine->offences[i] == ref)
            continue;
        engine->offence_budget[kept] = engine->offence_budget[i];
        engine->offences[kept++] = engine->offences[i];
    }
    if (kept != engine->offence_count)
        engine->offence_sub = 0;
    engine->offence_count = kept;
}

/* ---- finding ---- */

static size_t parts_bytes(uint32_t leaf_count, uint32_t token_count)
{
    return token_count > 1 ? leaf_count * sizeof(mr_ref) + token_count * sizeof(uint16_t) : 0;
}

static uint32_t hash_parts(const struct mr_engine *engine, const struct mr_group *group,
                           const void *parts, size_t size)
{
    return (uint32_t)(mr_hash_bytes(engine->seed ^ group->ref, parts, size) >> 32);
}

/* Either what is in the filter, or what would be. */
static mr_ref lookup(const struct mr_engine *engine, const struct mr_group *group, uint32_t hash,
                     const struct mr_filter *wanted, const void *parts, size_t size)
{
    struct mr_table_probe probe;
    mr_ref ref = mr_table_find(&engine->filters, &engine->heap, hash, &probe);
    for (; ref; ref = mr_table_next(&probe)) {
        const struct mr_filter *filter = mr_at(engine, ref);
        if (filter->group != group->ref || filter->leaf_count != wanted->leaf_count ||
            filter->token_count != wanted->token_count)
            continue;
        if (wanted->token_count == 1 ? filter->parts == wanted->parts
                                     : memcmp(mr_at(engine, filter->parts), parts, size) == 0)
            return ref;
    }
    return 0;
}

static void enlist(struct mr_engine *engine, struct mr_group *group, mr_ref ref)
{
    struct mr_filter *filter = mr_at(engine, ref);
    filter->next = group->filters;
    if (group->filters)
        ((struct mr_filter *)mr_at(engine, group->filters))->previous = ref;
    group->filters = ref;
    mr_table_put(&engine->filters, &engine->heap, filter->hash, ref);
    engine->stats.filters++;
}

/* Takes over the leaves' references on success. */
static mr_ref filter_create(struct mr_engine *engine, struct mr_group *group,
                            const struct mr_filter *wanted, const void *parts, size_t size)
{
    if (!mr_table_reserve(&engine->filters, &engine->heap, wanted->hash, &engine->other))
        return 0;
    mr_ref ref = mr_heap_alloc(&engine->heap, sizeof(struct mr_filter));
    if (!ref)
        return 0;
    struct mr_filter *filter = mr_at(engine, ref);
    *filter = *wanted;
    filter->group = group->ref;
    if (size > 0) {
        filter->parts = mr_heap_alloc(&engine->heap, size);
        if (filter->parts)
            memcpy(mr_at(engine, filter->parts), parts, size);
    }
    bool whole = size == 0 || filter->parts;
    if (!whole || !mr_anchor_hang(engine, filter)) {
        if (size > 0)
            mr_heap_free(&engine->heap, filter->parts, size);
        mr_heap_free(&engine->heap, ref, sizeof *filter);
        return 0;
    }
    enlist(engine, group, ref);
    return ref;
}

/* The items of a list, in scratch that the next list takes over. */
static bool read_items(struct mr_engine *engine, const struct mr_program *program, uint32_t leaf,
                       struct mr_const *list)
{
    uint32_t count = list->list.count;
    if (count > engine->item_capacity) {
        struct mr_const *items = realloc(engine->items, count * sizeof *items);
        if (!items)
            return false;
        engine->items = items;
        engine->item_capacity = count;
    }
    for (uint32_t i = 0; i < count; i++)
        mr_program_list_item(program, leaf, i, &engine->items[i]);
    list->list.items = engine->items;
    return true;
}

/* The leaves of a program; returns how many could be had. */
static uint32_t get_leaves(struct mr_engine *engine, struct mr_group *group,
                           const struct mr_program *program, mr_ref *leaves)
{
    for (uint32_t i = 0; i < program->leaf_count; i++) {
        struct mr_predicate p;
        mr_program_predicate(program, i, &p);
        if (p.value.kind == MR_CONST_LIST && !read_items(engine, program, i, &p.value))
            return i;
        leaves[i] = mr_leaf_get(engine, group, &p);
        if (!leaves[i])
            return i;
    }
    return program->leaf_count;
}

mr_ref mr_filter_get(struct mr_engine *engine, struct mr_group *group,
                     const struct mr_program *program)
{
    /* References, then tokens, as a filter keeps them. */
    mr_ref parts[MR_PROGRAM_LEAVES_MAX + MR_PROGRAM_TOKENS_MAX / 2];
    MR_ASSERT(program->leaf_count <= MR_PROGRAM_LEAVES_MAX &&
              program->token_count <= MR_PROGRAM_TOKENS_MAX);
    uint32_t count = get_leaves(engine, group, program, parts);
    mr_ref found = 0;
    bool known = false;
    if (count == program->leaf_count) {
        struct mr_filter wanted = {.leaf_count = (uint16_t)count,
                                   .token_count = (uint16_t)program->token_count};
        uint16_t *tokens = (uint16_t *)(parts + count);
        for (uint32_t i = 0; i < program->token_count; i++)
            tokens[i] = mr_program_token(program, i);
        size_t size = parts_bytes(count, program->token_count);
        wanted.parts = size ? 0 : count ? parts[0] : tokens[0];
        wanted.hash = size ? hash_parts(engine, group, parts, size)
                           : hash_parts(engine, group, &wanted.parts, sizeof wanted.parts);
        found = lookup(engine, group, wanted.hash, &wanted, parts, size);
        known = found != 0;
        if (!known)
            found = filter_create(engine, group, &wanted, parts, size);
    }
    for (uint32_t i = 0; (known || !found) && i < count; i++)
        mr_leaf_release(engine, parts[i]);
    return found;
}

void mr_filter_drop(struct mr_engine *engine, mr_ref ref)
{
    struct mr_filter *filter = mr_at(engine, ref);
    struct mr_group *group = mr_at(engine, filter->group);
    MR_ASSERT(filter->sub_count == 0);
    mr_table_remove(&engine->filters, &engine->heap, filter->hash, ref, &engine->other);
    if (filter->previous)
        ((struct mr_filter *)mr_at(engine, filter->previous))->next = filter->next;
    else
        group->filters = filter->next;
    if (filter->next)
        ((struct mr_filter *)mr_at(engine, filter->next))->previous = filter->previous;
    mr_anchor_unhang(engine, filter);
    const mr_ref *leaves = mr_filter_leaves(engine, filter);
    for (uint32_t i = 0; i < filter->leaf_count; i++)
        mr_leaf_release(engine, leaves[i]);
    size_t size = parts_bytes(filter->leaf_count, filter->token_count);
    if (size > 0)
        mr_heap_free(&engine->heap, filter->parts, size);
    if (filter->sub_capacity > 1)
        mr_heap_free(&engine->heap, filter->subs.many, filter->sub_capacity * sizeof(uint64_t));
    if (engine->offence_count > 0)
        forget_offence(engine, ref);
    if (engine->suspect == ref)
        engine->suspect = 0;
    engine->stats.filters--;
    mr_heap_free(&engine->heap, ref, sizeof *filter);
}

/* ---- subscribers ---- */

/* At least its count, and at least 2. */
static bool set_sub_capacity(struct mr_engine *engine, struct mr_filter *filter, uint32_t capacity)
{
    mr_ref ref = mr_heap_alloc(&engine->heap, capacity * sizeof(uint64_t));
    if (!ref)
        return false;
    if (filter->sub_count > 0)
        memcpy(mr_at(engine, ref), mr_filter_ids(engine, filter),
               filter->sub_count * sizeof(uint64_t));
    if (filter->sub_capacity > 1)
        mr_heap_free(&engine->heap, filter->subs.many, filter->sub_capacity * sizeof(uint64_t));
    filter->subs.many = ref;
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
    filter->reported = false; /* who comes later is told, too */
    if (filter->sub_capacity > 1)
        ((uint64_t *)mr_at(engine, filter->subs.many))[*at] = id;
    else
        filter->subs.one = id;
    return true;
}

bool mr_filter_take(struct mr_engine *engine, struct mr_filter *filter, uint32_t at,
                    uint64_t *moved)
{
    MR_ASSERT(at < filter->sub_count);
    uint32_t last = --filter->sub_count;
    bool moves = at != last;
    if (moves) {
        uint64_t *ids = mr_at(engine, filter->subs.many);
        *moved = ids[at] = ids[last];
    }
    if (filter->sub_capacity > 8 && filter->sub_count < filter->sub_capacity / 4)
        (void)set_sub_capacity(engine, filter, filter->sub_capacity / 2);
    return moves;
}
