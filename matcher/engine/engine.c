#include "matcher/engine/engine.h"

#include <math.h>
#include <stdlib.h>
#include <sys/random.h>

#include "matcher/engine/filter.h"

void *mr_index_alloc(struct mr_engine *engine, size_t size)
{
    void *memory = malloc(size);
    if (memory)
        engine->stats.bytes += size;
    return memory;
}

void *mr_index_resize(struct mr_engine *engine, void *memory, size_t old_size, size_t size)
{
    void *resized = realloc(memory, size);
    if (resized)
        engine->stats.bytes += size - old_size;
    return resized;
}

void mr_index_free(struct mr_engine *engine, void *memory, size_t size)
{
    if (!memory)
        return;
    engine->stats.bytes -= size;
    free(memory);
}

enum mr_rc mr_engine_create(struct mr_engine **out, struct mr_err *err)
{
    struct mr_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return mr_fail(err, MR_FATAL, "create a matching engine");
    /* Without the kernel's randomness, where the engine lies is still hard to guess from outside.
     */
    if (getrandom(&engine->seed, sizeof engine->seed, GRND_NONBLOCK) != sizeof engine->seed)
        engine->seed = (uint64_t)(uintptr_t)engine;
    mr_table_init(&engine->groups);
    mr_tables_init(&engine->predicates);
    mr_tables_init(&engine->filters);
    for (uint32_t i = 0; i < MR_TABLE_PARTS; i++)
        mr_subs_init(&engine->subs[i]);
    *out = engine;
    return MR_OK;
}

/* ---- groups ---- */

static uint64_t group_hash(const struct mr_engine *engine, struct mr_str database,
                           struct mr_str collection)
{
    uint64_t hash = mr_hash_bytes(engine->seed, database.data, database.len);
    return mr_hash_bytes(hash, collection.data, collection.len);
}

static struct mr_str group_database(const struct mr_group *group)
{
    return (struct mr_str){group->names, group->database_len};
}

static struct mr_group *group_find(const struct mr_engine *engine, uint64_t hash,
                                   struct mr_str database, struct mr_str collection)
{
    for (uint64_t at = hash;; at++) {
        const struct mr_table_entry *entry = mr_table_at(&engine->groups, at);
        struct mr_group *group = entry->item;
        if (!group)
            return NULL;
        struct mr_str name = {group->names + group->database_len, group->collection_len};
        if (entry->hash == hash && mr_str_equal(group_database(group), database) &&
            mr_str_equal(name, collection))
            return group;
    }
}

static struct mr_group *group_create(struct mr_engine *engine, uint64_t hash,
                                     struct mr_str database, struct mr_str collection)
{
    struct mr_trie_node *root = NULL;
    size_t size = sizeof(struct mr_group) + database.len + collection.len;
    struct mr_group *group =
        mr_table_reserve(&engine->groups) ? mr_index_alloc(engine, size) : NULL;
    if (group)
        root = mr_index_alloc(engine, sizeof *root);
    if (!root) {
        mr_index_free(engine, group, size);
        return NULL;
    }
    *root = (struct mr_trie_node){0};
    mr_table_init(&root->children);
    *group = (struct mr_group){.hash = hash,
                               .next = engine->first_group,
                               .root = root,
                               .database_len = (uint32_t)database.len,
                               .collection_len = (uint32_t)collection.len};
    if (database.len)
        memcpy(group->names, database.data, database.len);
    if (collection.len)
        memcpy(group->names + database.len, collection.data, collection.len);
    if (engine->first_group)
        engine->first_group->previous = group;
    engine->first_group = group;
    mr_table_put(&engine->groups, hash, group);
    return group;
}

static void group_release(struct mr_engine *engine, struct mr_group *group)
{
    if (group->filters)
        return;
    mr_table_remove(&engine->groups, group->hash, group);
    if (group->previous)
        group->previous->next = group->next;
    else
        engine->first_group = group->next;
    if (group->next)
        group->next->previous = group->previous;
    mr_slots_fini(engine, group);
    mr_index_free(engine, group, sizeof *group + group->database_len + group->collection_len);
}

/* ---- subscriptions ---- */

static struct mr_sub_table *subs_part(struct mr_engine *engine, uint64_t id)
{
    return &engine->subs[mr_hash_mix(id, 0) >> 58];
}

/* An event can match every subscription: room for all their ids, twice for the sort. */
static bool set_id_capacity(struct mr_engine *engine, uint64_t capacity)
{
    size_t old_size = engine->id_capacity * sizeof(uint64_t), size = capacity * sizeof(uint64_t);
    uint64_t *ids = malloc(size), *spare = malloc(size);
    if (!ids || !spare) {
        free(ids);
        free(spare);
        return false;
    }
    free(engine->ids);
    free(engine->spare);
    engine->ids = ids;
    engine->spare = spare;
    engine->id_capacity = capacity;
    engine->stats.bytes += 2 * size;
    engine->stats.bytes -= 2 * old_size;
    return true;
}

enum { IDS_FIRST = 64 };

static bool reserve_ids(struct mr_engine *engine)
{
    if (engine->stats.subscriptions < engine->id_capacity)
        return true;
    return set_id_capacity(engine, engine->id_capacity ? engine->id_capacity * 2 : IDS_FIRST);
}

enum mr_rc mr_engine_add(struct mr_engine *engine, uint64_t subscription, const void *bytes,
                         uint32_t len)
{
    struct mr_program program;
    struct mr_sub sub = {.id = subscription};
    struct mr_sub_table *subs = subs_part(engine, subscription);
    if (mr_program_load(bytes, len, &program) != MR_OK)
        return MR_CORRUPT;
    if (mr_subs_find(subs, subscription))
        return MR_USAGE;
    uint64_t hash = group_hash(engine, program.database, program.collection);
    struct mr_group *group = group_find(engine, hash, program.database, program.collection);
    if (!mr_subs_reserve(subs) || !reserve_ids(engine))
        return MR_FATAL;
    if (!group)
        group = group_create(engine, hash, program.database, program.collection);
    if (!group)
        return MR_FATAL;
    if (mr_filter_get(engine, group, &program, &sub.filter) != MR_OK) {
        group_release(engine, group);
        return MR_FATAL;
    }
    if (!mr_filter_append(engine, sub.filter, subscription, &sub.at)) {
        if (sub.filter->sub_count == 0)
            mr_filter_drop(engine, sub.filter);
        group_release(engine, group);
        return MR_FATAL;
    }
    mr_subs_put(subs, sub);
    group->sub_count++;
    engine->stats.subscriptions++;
    return MR_OK;
}

enum mr_rc mr_engine_remove(struct mr_engine *engine, uint64_t subscription)
{
    struct mr_sub_table *subs = subs_part(engine, subscription);
    struct mr_sub *sub = mr_subs_find(subs, subscription);
    if (!sub)
        return MR_AGAIN;
    struct mr_filter *filter = sub->filter;
    struct mr_group *group = filter->group;
    uint64_t moved;
    uint32_t at = sub->at;
    mr_subs_remove(subs, sub);
    if (mr_filter_take(engine, filter, at, &moved))
        mr_subs_find(subs_part(engine, moved), moved)->at = at;
    group->sub_count--;
    engine->stats.subscriptions--;
    if (filter->sub_count == 0)
        mr_filter_drop(engine, filter);
    group_release(engine, group);
    if (engine->id_capacity > 1024 && engine->stats.subscriptions < engine->id_capacity / 4)
        (void)set_id_capacity(engine, engine->id_capacity / 2);
    return MR_OK;
}

void mr_engine_destroy(struct mr_engine **out)
{
    struct mr_engine *engine = *out;
    if (!engine)
        return;
    for (struct mr_group *group = engine->first_group, *next; group; group = next) {
        next = group->next;
        while (group->filters) {
            group->filters->sub_count = 0;
            mr_filter_drop(engine, group->filters);
        }
        group_release(engine, group);
    }
    mr_table_fini(&engine->groups);
    mr_tables_fini(&engine->predicates);
    mr_tables_fini(&engine->filters);
    for (uint32_t i = 0; i < MR_TABLE_PARTS; i++)
        mr_subs_fini(&engine->subs[i]);
    mr_index_free(engine, engine->found, engine->found_capacity * sizeof *engine->found);
    mr_index_free(engine, engine->found_slots, engine->found_capacity * sizeof(uint32_t));
    mr_index_free(engine, engine->ids, engine->id_capacity * sizeof(uint64_t));
    mr_index_free(engine, engine->spare, engine->id_capacity * sizeof(uint64_t));
    MR_ASSERT(engine->stats.bytes == 0);
    free(engine);
    *out = NULL;
}

void mr_engine_stats(const struct mr_engine *engine, struct mr_engine_stats *out)
{
    *out = engine->stats;
    out->bytes += sizeof *engine + mr_table_bytes(&engine->groups) +
                  mr_tables_bytes(&engine->predicates) + mr_tables_bytes(&engine->filters);
    for (uint32_t i = 0; i < MR_TABLE_PARTS; i++)
        if (engine->subs[i].count > 0)
            out->bytes += (engine->subs[i].mask + UINT64_C(1)) * sizeof(struct mr_sub);
}

/* ---- matching ---- */

static bool holds(struct mr_engine *engine, struct mr_index_predicate *p)
{
    if (p->memo >> 1 == engine->event)
        return p->memo & 1;
    const struct mr_found *found = &engine->found[p->slot];
    bool result = found->event == engine->event &&
                  mr_value_holds(&found->value, (enum mr_predicate_op)p->op, &p->value, NULL);
    p->memo = engine->event << 1 | result;
    return result;
}

static void emit(struct mr_engine *engine, const struct mr_filter *filter)
{
    MR_ASSERT(filter->sub_count <= engine->id_capacity - engine->id_count);
    const uint64_t *ids = mr_filter_ids(filter);
    for (uint32_t i = 0; i < filter->sub_count; i++)
        engine->ids[engine->id_count + i] = ids[i];
    engine->id_count += filter->sub_count;
}

/* Within the posting's bounds? A missing value and one that is no number are in none. */
static bool in_bounds(const struct mr_engine *engine, const struct mr_posting *posting)
{
    if (posting->slot == MR_SLOT_NONE)
        return true;
    const struct mr_found *found = &engine->found[posting->slot];
    return found->event == engine->event && found->number >= posting->low &&
           found->number <= posting->high;
}

static void visit(struct mr_engine *engine, const struct mr_postings *list)
{
    const struct mr_posting *posting = mr_postings_items(list);
    for (uint32_t i = 0; i < list->count; i++, posting++) {
        if (!in_bounds(engine, posting))
            continue;
        const struct mr_filter *filter = posting->filter;
        uint32_t at = 0;
        while (at < filter->conjunct_count &&
               (at == filter->anchored || holds(engine, filter->conjuncts[at])))
            at++;
        engine->stats.candidates++;
        if (at == filter->conjunct_count)
            emit(engine, filter);
    }
}

static void match_everyone(struct mr_engine *engine, const struct mr_engine_event *event)
{
    for (const struct mr_group *group = engine->first_group; group; group = group->next) {
        struct mr_str collection = {group->names + group->database_len, group->collection_len};
        bool all = event->collection.len == 0;
        if (!(all && event->database.len == 0) &&
            !mr_str_equal(group_database(group), event->database))
            continue;
        if (!all && !mr_str_equal(collection, event->collection))
            continue;
        for (const struct mr_filter *filter = group->filters; filter; filter = filter->next)
            emit(engine, filter);
    }
}

static void match_group(struct mr_engine *engine, struct mr_group *group,
                        const struct mr_engine_event *event)
{
    if (group->everyone)
        emit(engine, group->everyone);
    if (group->slot_count == 0)
        return;
    if (group->slots[MR_SLOT_ID] && event->document_id.len > 0) {
        engine->found[MR_SLOT_ID] = (struct mr_found){
            .event = engine->event, .number = NAN, .value = mr_value_from_id(event->document_id)};
        engine->found_slots[engine->found_count++] = MR_SLOT_ID;
    }
    if (!mr_paths_extract(engine, group, event->document))
        engine->stats.errors++;
    for (uint32_t i = 0; i < engine->found_count; i++) {
        uint32_t index = engine->found_slots[i];
        const struct mr_slot *slot = group->slots[index];
        if (slot->keys > 0) {
            const struct mr_index_predicate *p =
                mr_index_predicate_lookup(engine, group, index, &engine->found[index].value);
            if (p)
                visit(engine, &p->postings);
        }
        visit(engine, &slot->presence);
    }
}

/* Ascending. Few ids by insertion; many by their bytes, least first, leaving out the bytes that are
 * the same in all. */
static void sort_ids(struct mr_engine *engine)
{
    uint64_t *ids = engine->ids, differ = 0;
    size_t count = engine->id_count;
    bool sorted = true;
    for (size_t i = 1; i < count; i++) {
        sorted &= ids[i - 1] < ids[i];
        differ |= ids[i - 1] ^ ids[i];
    }
    if (sorted)
        return;
    if (count <= 48) {
        for (size_t i = 1; i < count; i++) {
            uint64_t id = ids[i];
            size_t at = i;
            for (; at > 0 && ids[at - 1] > id; at--)
                ids[at] = ids[at - 1];
            ids[at] = id;
        }
        return;
    }
    for (uint32_t shift = 0; shift < 64; shift += 8) {
        size_t starts[257] = {0};
        if ((differ >> shift & 255) == 0)
            continue;
        for (size_t i = 0; i < count; i++)
            starts[(engine->ids[i] >> shift & 255) + 1]++;
        for (uint32_t i = 0; i < 256; i++)
            starts[i + 1] += starts[i];
        for (size_t i = 0; i < count; i++)
            engine->spare[starts[engine->ids[i] >> shift & 255]++] = engine->ids[i];
        uint64_t *other = engine->ids;
        engine->ids = engine->spare;
        engine->spare = other;
    }
}

uint32_t mr_engine_match(struct mr_engine *engine, const struct mr_engine_event *event,
                         const uint64_t **ids)
{
    engine->event++;
    engine->id_count = 0;
    engine->found_count = 0;
    engine->stats.events++;
    if (event->everyone) {
        match_everyone(engine, event);
    } else {
        uint64_t hash = group_hash(engine, event->database, event->collection);
        struct mr_group *group = group_find(engine, hash, event->database, event->collection);
        if (group)
            match_group(engine, group, event);
    }
    sort_ids(engine);
    *ids = engine->ids;
    engine->stats.hits += engine->id_count > 0;
    engine->stats.pairs += engine->id_count;
    return (uint32_t)engine->id_count;
}
