#include <math.h>

#include "matcher/engine/index.h"

/* How an interval is kept: one-sided ones by their bound, two-sided ones by their lower bound
 * together with others of about their width, so that those that hold a value are near each other.
 */
static struct mr_interval_class classify(const struct mr_interval *interval)
{
    struct mr_interval_class class = {.span = MR_SPAN_ANY};
    if (interval->slot == MR_SLOT_NONE)
        return class;
    double width = nextafter(interval->high - interval->low, INFINITY);
    if (isinf(interval->high) || (isinf(width) && !isinf(interval->low))) {
        class = (struct mr_interval_class){.span = MR_SPAN_LOW, .key = interval->low};
    } else if (isinf(interval->low)) {
        class = (struct mr_interval_class){.span = MR_SPAN_HIGH, .key = -interval->high};
    } else {
        int exponent = 0;
        if (width > 0)
            (void)frexp(width, &exponent); /* width < 2^exponent */
        class = (struct mr_interval_class){.span = MR_SPAN_BOTH,
                                           .width = (int16_t)exponent,
                                           .key = interval->low,
                                           .other = interval->high};
    }
    return class;
}

static bool fits(const struct mr_set *set, const struct mr_interval *interval,
                 const struct mr_interval_class *class)
{
    return set->slot == interval->slot && set->span == class->span && set->width == class->width &&
           (class->span == MR_SPAN_ANY || set->order == interval->order);
}

static struct mr_set *set_get(struct mr_engine *engine, struct mr_bucket *bucket,
                              const struct mr_interval *interval,
                              const struct mr_interval_class *class)
{
    for (mr_ref ref = bucket->sets; ref;) {
        struct mr_set *set = mr_at(engine, ref);
        if (fits(set, interval, class))
            return set;
        ref = set->next;
    }
    mr_ref ref = mr_heap_alloc(&engine->heap, sizeof(struct mr_set));
    if (!ref)
        return NULL;
    struct mr_set *set = mr_at(engine, ref);
    *set = (struct mr_set){.next = bucket->sets,
                           .slot = interval->slot,
                           .order = (uint8_t)interval->order,
                           .span = (uint8_t) class->span,
                           .width = class->width,
                           .reach = ldexp(1, class->width)};
    bucket->sets = ref;
    return set;
}

static void set_drop(struct mr_engine *engine, struct mr_bucket *bucket, mr_ref ref)
{
    mr_ref *at = &bucket->sets;
    while (*at != ref)
        at = &((struct mr_set *)mr_at(engine, *at))->next;
    *at = ((struct mr_set *)mr_at(engine, ref))->next;
    mr_heap_free(&engine->heap, ref, sizeof(struct mr_set));
}

bool mr_bucket_add(struct mr_engine *engine, struct mr_bucket *bucket, uint32_t item,
                   const struct mr_interval *interval, uint32_t item_without)
{
    /* A set for one posting would be larger than the filter itself. */
    if (!bucket->one && !bucket->sets) {
        bucket->one = item_without;
        return true;
    }
    struct mr_interval_class class = classify(interval);
    struct mr_set *set = set_get(engine, bucket, interval, &class);
    if (!set)
        return false;
    if (mr_run_add(&set->run, &engine->heap, class.key, class.other, item))
        return true;
    if (set->run.count == 0)
        set_drop(engine, bucket, mr_heap_ref(&engine->heap, set));
    return false;
}

void mr_bucket_remove(struct mr_engine *engine, struct mr_bucket *bucket, uint32_t item,
                      const struct mr_interval *interval)
{
    struct mr_interval_class class = classify(interval);
    for (mr_ref ref = bucket->sets; ref;) {
        struct mr_set *set = mr_at(engine, ref);
        if (!fits(set, interval, &class)) {
            ref = set->next;
            continue;
        }
        if (!mr_run_remove(&set->run, &engine->heap, class.key, class.other, item))
            break;
        if (set->run.count == 0)
            set_drop(engine, bucket, ref);
        return;
    }
    MR_ASSERT((bucket->one & MR_POSTING_REF) == (item & MR_POSTING_REF));
    bucket->one = 0;
}
