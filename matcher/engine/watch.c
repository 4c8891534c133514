#include "matcher/engine/watch.h"

#include <stdlib.h>

/* Ids in ascending order. */
struct list {
    uint64_t *ids;
    uint32_t count, capacity;
};

struct mr_watch {
    struct mr_engine *plain;
    struct mr_engine *moving;    /* of who wants transitions; NULL: nobody has */
    struct list after, moved;    /* of moving: in the set now; the tagged result */
    struct list offenders, both; /* the tagged offenders; the whole result */
    struct list merged;          /* scratch */
    uint64_t hits, pairs;        /* that the plain engine does not count */
    mr_engine_pulse *pulse;
    void *pulse_context;
};

/* The images on both sides of an event: whether they are known, and the document; none: there is
 * no document on this side. */
struct sides {
    bool before_known, after_known;
    struct mr_str before, after;
};

enum mr_rc mr_watch_create(struct mr_watch **out, struct mr_err *err)
{
    struct mr_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return mr_fail(err, MR_FATAL, "create a matching engine");
    enum mr_rc rc = mr_engine_create(&watch->plain, err);
    if (rc != MR_OK) {
        free(watch);
        return rc;
    }
    *out = watch;
    return MR_OK;
}

void mr_watch_destroy(struct mr_watch **out)
{
    struct mr_watch *watch = *out;
    if (!watch)
        return;
    mr_engine_destroy(&watch->plain);
    mr_engine_destroy(&watch->moving);
    free(watch->after.ids);
    free(watch->moved.ids);
    free(watch->offenders.ids);
    free(watch->both.ids);
    free(watch->merged.ids);
    free(watch);
    *out = NULL;
}

void mr_watch_set_pulse(struct mr_watch *watch, mr_engine_pulse *pulse, void *context)
{
    watch->pulse = pulse;
    watch->pulse_context = context;
    mr_engine_set_pulse(watch->plain, pulse, context);
    if (watch->moving)
        mr_engine_set_pulse(watch->moving, pulse, context);
}

/* ---- subscriptions ---- */

static bool reserve(struct list *list, uint64_t count)
{
    if (count <= list->capacity)
        return true;
    uint64_t capacity = list->capacity ? list->capacity : 64;
    while (capacity < count)
        capacity *= 2;
    uint64_t *ids = realloc(list->ids, capacity * sizeof *ids);
    if (!ids)
        return false;
    list->ids = ids;
    list->capacity = (uint32_t)capacity;
    return true;
}

static uint64_t count_of(const struct mr_engine *engine)
{
    struct mr_engine_stats stats;
    mr_engine_stats(engine, &stats);
    return stats.subscriptions;
}

/* Room for an event that concerns everybody, so that matching allocates nothing. */
static bool reserve_all(struct mr_watch *watch)
{
    if (!watch->moving)
        return true;
    uint64_t moving = count_of(watch->moving), all = moving + count_of(watch->plain);
    return reserve(&watch->after, moving) && reserve(&watch->moved, moving) &&
           reserve(&watch->both, all);
}

enum mr_rc mr_watch_add(struct mr_watch *watch, uint64_t subscription, uint32_t flags,
                        const void *program, uint32_t len)
{
    MR_ASSERT(mr_match_tag(subscription) == 0);
    struct mr_err err;
    bool moves = (flags & MR_SUBSCRIBE_TRANSITIONS) != 0;
    if (moves && !watch->moving) {
        if (mr_engine_create(&watch->moving, &err) != MR_OK)
            return MR_FATAL;
        mr_engine_set_pulse(watch->moving, watch->pulse, watch->pulse_context);
    }
    struct mr_engine *engine = moves ? watch->moving : watch->plain;
    enum mr_rc rc = mr_engine_add(engine, subscription, program, len);
    if (rc != MR_OK || reserve_all(watch))
        return rc;
    (void)mr_engine_remove(engine, subscription);
    return MR_FATAL;
}

enum mr_rc mr_watch_remove(struct mr_watch *watch, uint64_t subscription)
{
    enum mr_rc rc = mr_engine_remove(watch->plain, subscription);
    return rc == MR_AGAIN && watch->moving ? mr_engine_remove(watch->moving, subscription) : rc;
}

/* ---- lists ---- */

static void put(struct list *list, uint64_t id, uint32_t tag)
{
    MR_ASSERT(list->count < list->capacity);
    list->ids[list->count++] = mr_match_tagged(id, tag);
}

/* One id with the tags of both: who is concerned by one of them is concerned. */
static uint64_t join(uint64_t a, uint64_t b)
{
    uint64_t alone = mr_match_tagged(0, MR_TAG_ALONE);
    return ((a | b) & ~alone) | (a & b & alone);
}

/* out must have room for all of both. */
static void merge(const uint64_t *a, uint32_t a_count, const struct list *b, struct list *out)
{
    uint32_t i = 0, j = 0;
    out->count = 0;
    while (i < a_count && j < b->count) {
        uint64_t left = mr_match_id(a[i]), right = mr_match_id(b->ids[j]);
        if (left == right)
            out->ids[out->count++] = join(a[i++], b->ids[j++]);
        else
            out->ids[out->count++] = left < right ? a[i++] : b->ids[j++];
    }
    while (i < a_count)
        out->ids[out->count++] = a[i++];
    while (j < b->count)
        out->ids[out->count++] = b->ids[j++];
}

/* ---- transitions ---- */

static struct sides sides_of(const struct mr_event *event)
{
    struct sides sides = {.before = event->before, .after = event->document};
    uint8_t flags = event->head.flags;
    switch ((enum mr_operation)event->head.op) {
    case MR_OP_INSERT: /* also one that was marked as deleted */
        sides.before = (struct mr_str){NULL, 0};
        sides.before_known = sides.after_known = true;
        break;
    case MR_OP_DELETE:
        if (sides.before.len == 0 && (flags & (MR_EVENT_KEY_ONLY | MR_EVENT_SOFT)) == 0)
            sides.before = event->document; /* as it was */
        sides.before_known = sides.before.len > 0;
        sides.after_known = true;
        if (sides.before_known)
            sides.after = (struct mr_str){NULL, 0};
        break;
    default:
        sides.before_known = sides.before.len > 0;
        sides.after_known = sides.after.len > 0;
        break;
    }
    return sides;
}

static struct mr_engine_event view_of(const struct mr_event *event, struct mr_str document)
{
    return (struct mr_engine_event){.database = event->database,
                                    .collection = event->collection,
                                    .document_id = event->document_id,
                                    .document = document,
                                    .everyone = event->head.op == MR_OP_TRUNCATE ||
                                                event->head.op == MR_OP_GAP};
}

/* Put what is in the set before, now, or both into moved. both, when not NONE: an image is missing.
 */
static void compare(struct mr_watch *watch, const uint64_t *before, uint32_t before_count,
                    enum mr_transition missing)
{
    const struct list *after = &watch->after;
    uint32_t i = 0, j = 0;
    while (i < before_count || j < after->count) {
        bool was = i < before_count && (j == after->count || before[i] <= after->ids[j]);
        bool is = j < after->count && (i == before_count || after->ids[j] <= before[i]);
        enum mr_transition transition = MR_TRANSITION_LEAVE;
        if (is)
            transition = was ? MR_TRANSITION_STAY : MR_TRANSITION_ENTER;
        put(&watch->moved, was ? before[i] : after->ids[j],
            missing != MR_TRANSITION_NONE ? missing : transition);
        i += was;
        j += is;
    }
}

/* Everything is gone; or something, and nobody knows what. */
static void move_everyone(struct mr_watch *watch, const struct mr_event *event)
{
    const struct mr_engine_event view = view_of(event, event->document);
    const uint64_t *ids;
    uint32_t count = mr_engine_match(watch->moving, &view, &ids);
    uint32_t tag = event->head.op == MR_OP_TRUNCATE ? MR_TRANSITION_LEAVE : MR_TRANSITION_UNKNOWN;
    for (uint32_t i = 0; i < count; i++)
        put(&watch->moved, ids[i], tag);
}

/* Without any image there is the key, which filters may ask for: as for a plain subscription. */
static void move(struct mr_watch *watch, const struct mr_event *event)
{
    struct sides sides = sides_of(event);
    bool known = sides.before_known && sides.after_known;
    const uint64_t *ids = NULL;
    uint32_t count = 0;
    watch->after.count = 0;
    if (sides.after.len > 0 || sides.before.len == 0) {
        const struct mr_engine_event view = view_of(event, sides.after);
        watch->after.count = mr_engine_match(watch->moving, &view, &ids);
        if (watch->after.count > 0)
            memcpy(watch->after.ids, ids, watch->after.count * sizeof *ids);
    }
    if (sides.before.len > 0) {
        const struct mr_engine_event view = view_of(event, sides.before);
        count = mr_engine_match(watch->moving, &view, &ids);
    }
    compare(watch, ids, count, known ? MR_TRANSITION_NONE : MR_TRANSITION_UNKNOWN);
}

/* ---- offenders ---- */

static int by_id(const void *a, const void *b)
{
    uint64_t left = mr_match_id(*(const uint64_t *)a), right = mr_match_id(*(const uint64_t *)b);
    return left < right ? -1 : left > right;
}

/* Who was quarantined by this event. Out of memory: their owners are not told. */
static void gather_offenders(struct mr_watch *watch, struct mr_engine *engine)
{
    uint64_t id;
    bool budget;
    struct list *list = &watch->offenders;
    while (engine && mr_engine_offender(engine, &id, &budget))
        if (reserve(list, list->count + 1))
            put(list, id, MR_TAG_QUARANTINED | MR_TAG_ALONE | (budget ? MR_TAG_BUDGET : 0));
}

/* The result with the offenders among them. */
static uint32_t add_offenders(struct mr_watch *watch, const uint64_t **ids, uint32_t count)
{
    struct list *offenders = &watch->offenders;
    uint32_t kept = 0;
    qsort(offenders->ids, offenders->count, sizeof *offenders->ids, by_id);
    for (uint32_t i = 0; i < offenders->count; i++) { /* two filters of one engine, at most */
        if (kept > 0 && by_id(&offenders->ids[kept - 1], &offenders->ids[i]) == 0)
            offenders->ids[kept - 1] = join(offenders->ids[kept - 1], offenders->ids[i]);
        else
            offenders->ids[kept++] = offenders->ids[i];
    }
    offenders->count = kept;
    if (!reserve(&watch->merged, (uint64_t)count + kept))
        return count;
    merge(*ids, count, offenders, &watch->merged);
    *ids = watch->merged.ids;
    return watch->merged.count;
}

/* ---- matching ---- */

uint32_t mr_watch_match(struct mr_watch *watch, const struct mr_event *event, const uint64_t **ids)
{
    const struct mr_engine_event view = view_of(event, event->document);
    uint32_t count = mr_engine_match(watch->plain, &view, ids);
    watch->offenders.count = 0;
    gather_offenders(watch, watch->plain);
    if (watch->moving) {
        watch->moved.count = 0;
        if (view.everyone)
            move_everyone(watch, event);
        else
            move(watch, event);
        watch->hits += count == 0 && watch->moved.count > 0;
        watch->pairs += watch->moved.count;
        gather_offenders(watch, watch->moving);
        if (watch->moved.count > 0) {
            merge(*ids, count, &watch->moved, &watch->both);
            *ids = watch->both.ids;
            count = watch->both.count;
        }
    }
    return watch->offenders.count > 0 ? add_offenders(watch, ids, count) : count;
}

void mr_watch_stats(const struct mr_watch *watch, struct mr_engine_stats *out)
{
    struct mr_engine_stats moving = {0};
    mr_engine_stats(watch->plain, out);
    if (watch->moving)
        mr_engine_stats(watch->moving, &moving);
    out->hits += watch->hits;
    out->pairs += watch->pairs;
    out->subscriptions += moving.subscriptions;
    out->filters += moving.filters;
    out->errors += moving.errors;
    out->candidates += moving.candidates;
    out->evaluations += moving.evaluations;
    for (int i = 0; i < 3; i++)
        out->anchors[i] += moving.anchors[i];
    out->code_runs += moving.code_runs;
    out->code_errors += moving.code_errors;
    out->quarantined += moving.quarantined;
    out->moved += moving.moved;
    out->bytes += moving.bytes;
}
