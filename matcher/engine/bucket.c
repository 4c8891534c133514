#include <math.h>

#include "matcher/engine/index.h"

static bool fits(const struct mr_set *set, const struct mr_interval *interval,
                 const struct mr_interval_class *class)
{
    return set->slot == interval->slot && set->span == class->span && set->width == class->width &&
           (class->span == MR_SPAN_ANY || set->order == interval->order);
}

static size_t sets_bytes(uint32_t capacity)
{
    return sizeof(struct mr_sets) + capacity * sizeof(struct mr_set);
}

/* Room for one more. NULL: out of memory. */
static struct mr_sets *sets_reserve(struct mr_engine *engine, struct mr_bucket *bucket)
{
    struct mr_sets *old = bucket->sets ? mr_at(engine, bucket->sets) : NULL;
    if (old && old->count < old->capacity)
        return old;
    uint32_t capacity = old ? old->capacity * 2 : 1;
    mr_ref ref = mr_heap_alloc(&engine->heap, sets_bytes(capacity));
    if (!ref)
        return NULL;
    struct mr_sets *sets = mr_at(engine, ref);
    *sets = (struct mr_sets){.capacity = capacity};
    if (old) {
        sets->count = old->count;
        memcpy(sets->set, old->set, old->count * sizeof *sets->set);
        mr_heap_free(&engine->heap, bucket->sets, sets_bytes(old->capacity));
    }
    bucket->sets = ref;
    return sets;
}

/* The set for a class, made where there is none. NULL: out of memory. */
static struct mr_set *set_get(struct mr_engine *engine, struct mr_bucket *bucket,
                              const struct mr_interval *interval,
                              const struct mr_interval_class *class)
{
    struct mr_sets *sets = bucket->sets ? mr_at(engine, bucket->sets) : NULL;
    for (uint32_t i = 0; sets && i < sets->count; i++)
        if (fits(&sets->set[i], interval, class))
            return &sets->set[i];
    sets = sets_reserve(engine, bucket);
    if (!sets)
        return NULL;
    sets->set[sets->count] = (struct mr_set){.slot = interval->slot,
                                             .order = (uint8_t)interval->order,
                                             .span = (uint8_t) class->span,
                                             .width = class->width,
                                             .reach = ldexp(1, class->width)};
    return &sets->set[sets->count++];
}

/* An empty set goes, the last one takes its place. */
static void set_drop(struct mr_engine *engine, struct mr_bucket *bucket, struct mr_set *set)
{
    struct mr_sets *sets = mr_at(engine, bucket->sets);
    *set = sets->set[--sets->count];
    if (sets->count > 0)
        return;
    mr_heap_free(&engine->heap, bucket->sets, sets_bytes(sets->capacity));
    bucket->sets = 0;
}

/* False: out of memory, nothing changed. */
static bool put(struct mr_engine *engine, struct mr_bucket *bucket, uint32_t item,
                const struct mr_interval *interval)
{
    struct mr_interval_class class = mr_interval_classify(interval);
    struct mr_set *set = set_get(engine, bucket, interval, &class);
    if (!set)
        return false;
    bool added = mr_run_add(&set->run, &engine->heap, class.key, class.other, item);
    if (set->run.count == 0)
        set_drop(engine, bucket, set);
    else
        set->first = mr_run_first(&set->run, &engine->heap);
    return added;
}

bool mr_bucket_add(struct mr_engine *engine, struct mr_bucket *bucket, uint32_t item,
                   const struct mr_interval *interval, uint32_t item_without)
{
    /* A set for one posting would be larger than the filter itself. */
    if (bucket->one || bucket->sets)
        return put(engine, bucket, item, interval);
    bucket->one = item_without;
    return true;
}

void mr_bucket_settle(struct mr_engine *engine, struct mr_bucket *bucket, uint32_t item,
                      const struct mr_interval *interval)
{
    if (put(engine, bucket, item, interval))
        bucket->one = 0;
}

void mr_bucket_remove(struct mr_engine *engine, struct mr_bucket *bucket, uint32_t item,
                      const struct mr_interval *interval)
{
    struct mr_interval_class class = mr_interval_classify(interval);
    struct mr_sets *sets = bucket->sets ? mr_at(engine, bucket->sets) : NULL;
    for (uint32_t i = 0; sets && i < sets->count; i++) {
        struct mr_set *set = &sets->set[i];
        if (!fits(set, interval, &class))
            continue;
        if (!mr_run_remove(&set->run, &engine->heap, class.key, class.other, item))
            break;
        if (set->run.count == 0)
            set_drop(engine, bucket, set);
        else
            set->first = mr_run_first(&set->run, &engine->heap);
        return;
    }
    MR_ASSERT((bucket->one & MR_POSTING_REF) == (item & MR_POSTING_REF));
    bucket->one = 0;
}
