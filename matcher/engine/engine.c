#include "matcher/engine/engine.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "matcher/engine/match.h"

/* ---- life ---- */

enum mr_rc mr_engine_create(struct mr_engine **out, struct mr_err *err)
{
    struct mr_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return mr_fail(err, MR_FATAL, "create a matching engine");
    enum mr_rc rc = mr_heap_init(&engine->heap, err);
    if (rc == MR_OK) {
        engine->plan = mr_plan_create();
        engine->runner = mr_code_runner_create();
        if (!engine->plan || !engine->runner)
            rc = mr_fail(err, MR_FATAL, "create a matching engine");
    }
    if (rc != MR_OK) {
        mr_engine_destroy(&engine);
        return rc;
    }
    /* Without the kernel's randomness, where the engine lies is still hard to guess from outside.
     */
    if (getrandom(&engine->seed, sizeof engine->seed, GRND_NONBLOCK) != sizeof engine->seed)
        engine->seed = mr_hash_mix((uintptr_t)engine, (uintptr_t)engine->heap.base);
    *out = engine;
    return MR_OK;
}

void mr_engine_set_bloom(struct mr_engine *engine, bool on)
{
    engine->bloom_on = on;
}

void mr_engine_set_pulse(struct mr_engine *engine, mr_engine_pulse *pulse, void *context)
{
    engine->pulse = pulse;
    engine->pulse_context = context;
}

static void unmap_ids(struct mr_engine *engine)
{
    if (engine->id_capacity == 0)
        return;
    munmap(engine->ids, engine->id_capacity * sizeof(uint64_t));
    munmap(engine->spare, engine->id_capacity * sizeof(uint64_t));
}

/* What code leaves hold outside of the heap. */
static void unload_all(struct mr_engine *engine)
{
    for (mr_ref at = engine->code_leaves; at;) {
        struct mr_leaf *leaf = mr_at(engine, at);
        at = mr_code_next(leaf);
        mr_code_unload(engine, leaf);
    }
}

void mr_engine_destroy(struct mr_engine **out)
{
    struct mr_engine *engine = *out;
    if (!engine)
        return;
    unload_all(engine);
    unmap_ids(engine);
    mr_heap_fini(&engine->heap);
    mr_code_runner_destroy(engine->runner);
    mr_plan_destroy(engine->plan);
    free(engine->found);
    free(engine->found_slots);
    free(engine->items);
    free(engine);
    *out = NULL;
}

void mr_engine_stats(const struct mr_engine *engine, struct mr_engine_stats *out)
{
    *out = engine->stats;
    out->bytes = sizeof *engine + engine->heap.bytes +
                 engine->found_capacity * (sizeof *engine->found + sizeof *engine->found_slots);
    out->bloom_lookups = engine->bloom.lookups;
    out->bloom_rejected = engine->bloom.rejected;
    out->bloom_false = engine->bloom.passed_missing;
    out->bloom_rebuilds = engine->bloom.rebuilds;
    out->bloom_bytes = engine->bloom.bytes;
}

/* ---- groups ---- */

static bool is_wild(struct mr_str name)
{
    return name.len == 1 && name.data[0] == '*';
}

static uint32_t group_hash(const struct mr_engine *engine, struct mr_str database,
                           struct mr_str collection)
{
    uint64_t hash = mr_hash_bytes(engine->seed, database.data, database.len);
    return (uint32_t)(mr_hash_bytes(hash, collection.data, collection.len) >> 32);
}

static struct mr_str group_database(const struct mr_group *group)
{
    return (struct mr_str){group->names, group->database_len};
}

static struct mr_str group_collection(const struct mr_group *group)
{
    return (struct mr_str){group->names + group->database_len, group->collection_len};
}

static struct mr_group *group_find(const struct mr_engine *engine, struct mr_str database,
                                   struct mr_str collection)
{
    struct mr_table_probe probe;
    uint32_t hash = group_hash(engine, database, collection);
    mr_ref ref = mr_table_find(&engine->groups, &engine->heap, hash, &probe);
    for (; ref; ref = mr_table_next(&probe)) {
        struct mr_group *group = mr_at(engine, ref);
        if (mr_str_equal(group_database(group), database) &&
            mr_str_equal(group_collection(group), collection))
            return group;
    }
    return NULL;
}

static size_t group_bytes(size_t names)
{
    return sizeof(struct mr_group) + names;
}

static struct mr_group *group_create(struct mr_engine *engine, struct mr_str database,
                                     struct mr_str collection)
{
    uint32_t hash = group_hash(engine, database, collection);
    if (!mr_table_reserve(&engine->groups, &engine->heap, hash, &engine->other))
        return NULL;
    size_t size = group_bytes(database.len + collection.len);
    mr_ref ref = mr_heap_alloc(&engine->heap, size);
    mr_ref root = ref ? mr_paths_create(engine) : 0;
    if (!root) {
        mr_heap_free(&engine->heap, ref, size);
        return NULL;
    }
    struct mr_group *group = mr_at(engine, ref);
    *group = (struct mr_group){.ref = ref,
                               .hash = hash,
                               .next = engine->first_group,
                               .root = root,
                               .keys = {.bloom = engine->bloom_on},
                               .database_len = (uint32_t)database.len,
                               .collection_len = (uint32_t)collection.len};
    if (database.len)
        memcpy(group->names, database.data, database.len);
    if (collection.len)
        memcpy(group->names + database.len, collection.data, collection.len);
    if (engine->first_group)
        ((struct mr_group *)mr_at(engine, engine->first_group))->previous = ref;
    engine->first_group = ref;
    engine->wild_groups += is_wild(database) || is_wild(collection);
    mr_table_put(&engine->groups, &engine->heap, hash, ref);
    return group;
}

static void group_release(struct mr_engine *engine, struct mr_group *group)
{
    if (group->filters)
        return;
    mr_table_remove(&engine->groups, &engine->heap, group->hash, group->ref, &engine->other);
    if (group->previous)
        ((struct mr_group *)mr_at(engine, group->previous))->next = group->next;
    else
        engine->first_group = group->next;
    if (group->next)
        ((struct mr_group *)mr_at(engine, group->next))->previous = group->previous;
    engine->wild_groups -= is_wild(group_database(group)) || is_wild(group_collection(group));
    mr_paths_fini(engine, group);
    mr_heap_free(&engine->heap, group->ref,
                 group_bytes((size_t)group->database_len + group->collection_len));
}

/* ---- subscriptions ---- */

/* An event can match every subscription: room for all their ids, twice for the sort. Mapped, so
 * that only what was ever used takes memory. */
static bool set_id_capacity(struct mr_engine *engine, uint64_t capacity)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    size_t size = capacity * sizeof(uint64_t);
    void *ids = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    void *spare = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (ids == MAP_FAILED || spare == MAP_FAILED) {
        if (ids != MAP_FAILED)
            munmap(ids, size);
        if (spare != MAP_FAILED)
            munmap(spare, size);
        return false;
    }
    unmap_ids(engine);
    engine->ids = ids;
    engine->spare = spare;
    engine->id_capacity = capacity;
    return true;
}

enum { IDS_FIRST = 512 };

static bool reserve_ids(struct mr_engine *engine)
{
    if (engine->stats.subscriptions < engine->id_capacity)
        return true;
    return set_id_capacity(engine, engine->id_capacity ? engine->id_capacity * 2 : IDS_FIRST);
}

static uint32_t sub_hash(uint64_t id)
{
    return (uint32_t)(mr_hash_mix(id, 0) >> 32);
}

static mr_ref sub_find(const struct mr_engine *engine, uint64_t id)
{
    struct mr_table_probe probe;
    mr_ref ref = mr_table_find(&engine->subs, &engine->heap, sub_hash(id), &probe);
    while (ref && ((const struct mr_sub *)mr_at(engine, ref))->id != id)
        ref = mr_table_next(&probe);
    return ref;
}

/* The subscription of an id in a group. MR_FATAL: out of memory; what was made for it is left to
 * the caller to release. */
static enum mr_rc sub_create(struct mr_engine *engine, struct mr_group *group, uint64_t id,
                             const struct mr_program *program)
{
    if (!mr_table_reserve(&engine->subs, &engine->heap, sub_hash(id), &engine->other))
        return MR_FATAL;
    mr_ref ref = mr_heap_alloc(&engine->heap, sizeof(struct mr_sub));
    mr_ref filter_ref = ref ? mr_filter_get(engine, group, program) : 0;
    struct mr_sub sub = {.id = id, .filter = filter_ref};
    if (filter_ref) {
        struct mr_filter *filter = mr_at(engine, filter_ref);
        if (mr_filter_append(engine, filter, id, &sub.at)) {
            *(struct mr_sub *)mr_at(engine, ref) = sub;
            mr_table_put(&engine->subs, &engine->heap, sub_hash(id), ref);
            return MR_OK;
        }
        if (filter->sub_count == 0)
            mr_filter_drop(engine, filter_ref);
    }
    mr_heap_free(&engine->heap, ref, sizeof(struct mr_sub));
    return MR_FATAL;
}

enum mr_rc mr_engine_add(struct mr_engine *engine, uint64_t subscription, const void *bytes,
                         uint32_t len)
{
    struct mr_program program;
    if (mr_program_load(bytes, len, &program) != MR_OK)
        return MR_CORRUPT;
    if (sub_find(engine, subscription))
        return MR_USAGE;
    if (!reserve_ids(engine))
        return MR_FATAL;
    struct mr_group *group = group_find(engine, program.database, program.collection);
    if (!group)
        group = group_create(engine, program.database, program.collection);
    if (!group)
        return MR_FATAL;
    if (sub_create(engine, group, subscription, &program) != MR_OK) {
        group_release(engine, group);
        return MR_FATAL;
    }
    group->sub_count++;
    engine->stats.subscriptions++;
    return MR_OK;
}

enum mr_rc mr_engine_remove(struct mr_engine *engine, uint64_t subscription)
{
    mr_ref ref = sub_find(engine, subscription);
    if (!ref)
        return MR_AGAIN;
    struct mr_sub sub = *(const struct mr_sub *)mr_at(engine, ref);
    struct mr_filter *filter = mr_at(engine, sub.filter);
    struct mr_group *group = mr_at(engine, filter->group);
    uint64_t moved;
    mr_table_remove(&engine->subs, &engine->heap, sub_hash(subscription), ref, &engine->other);
    mr_heap_free(&engine->heap, ref, sizeof sub);
    if (mr_filter_take(engine, filter, sub.at, &moved))
        ((struct mr_sub *)mr_at(engine, sub_find(engine, moved)))->at = sub.at;
    group->sub_count--;
    engine->stats.subscriptions--;
    if (filter->sub_count == 0)
        mr_filter_drop(engine, sub.filter);
    group_release(engine, group);
    if (engine->id_capacity > IDS_FIRST && engine->stats.subscriptions < engine->id_capacity / 4)
        (void)set_id_capacity(engine, engine->id_capacity / 2);
    return MR_OK;
}

/* ---- matching ---- */

static bool concerned(const struct mr_group *group, const struct mr_engine_event *event)
{
    struct mr_str database = group_database(group), collection = group_collection(group);
    bool all = event->collection.len == 0;
    if (!(all && event->database.len == 0) && !is_wild(database) &&
        !mr_str_equal(database, event->database))
        return false;
    return all || is_wild(collection) || mr_str_equal(collection, event->collection);
}

static void match_everyone(struct mr_engine *engine, const struct mr_engine_event *event)
{
    for (mr_ref ref = engine->first_group; ref;) {
        const struct mr_group *group = mr_at(engine, ref);
        if (concerned(group, event))
            mr_match_all_of(engine, group);
        ref = group->next;
    }
}

static void match_named(struct mr_engine *engine, const struct mr_engine_event *event)
{
    static const struct mr_str any = {"*", 1};
    const struct mr_str names[][2] = {{event->database, event->collection},
                                      {event->database, any},
                                      {any, event->collection},
                                      {any, any}};
    /* An event whose own name is "*" would find one group more than once. */
    uint32_t levels = engine->wild_groups > 0 ? 4 : 1;
    for (uint32_t i = 0; i < levels; i++) {
        if (i > 0 &&
            ((i != 2 && is_wild(event->collection)) || (i != 1 && is_wild(event->database))))
            continue;
        struct mr_group *group = group_find(engine, names[i][0], names[i][1]);
        if (group)
            mr_match_group(engine, group, event);
    }
}

uint32_t mr_engine_match(struct mr_engine *engine, const struct mr_engine_event *event,
                         const uint64_t **ids)
{
    engine->id_count = 0;
    engine->stats.events++;
    if (event->everyone)
        match_everyone(engine, event);
    else
        match_named(engine, event);
    mr_match_sort(engine);
    *ids = engine->ids;
    engine->stats.hits += engine->id_count > 0;
    engine->stats.pairs += engine->id_count;
    return (uint32_t)engine->id_count;
}

bool mr_engine_offender(struct mr_engine *engine, uint64_t *subscription, bool *budget)
{
    while (engine->offence_count > 0) {
        const struct mr_filter *filter = mr_at(engine, engine->offences[engine->offence_count - 1]);
        if (engine->offence_sub < filter->sub_count) {
            *budget = engine->offence_budget[engine->offence_count - 1];
            *subscription = mr_filter_ids(engine, filter)[engine->offence_sub++];
            return true;
        }
        engine->offence_count--;
        engine->offence_sub = 0;
    }
    return false;
}
