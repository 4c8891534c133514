/* Where a filter hangs: the cheapest set of places such that whenever the filter holds, the event
 * passes one of them. For an AND the cheapest of its terms will do, for an OR every term needs its
 * own. Cheap is what the last events say is rare. */
#include <math.h>
#include <stdlib.h>

#include "cel/program_shm.h"
#include "matcher/engine/index.h"

/* Of a term nothing can be indexed of: it would be looked at with every event. */
#define COST_ALWAYS 2.0
enum { RECONSIDER_FACTOR = 4 };

/* What is known of the terms, by the token where they begin. */
struct mr_plan {
    double cost[MR_PROGRAM_TOKENS_MAX];
    uint32_t interval_slot[MR_PROGRAM_TOKENS_MAX]; /* of a conjunction; MR_SLOT_NONE */
    uint16_t pick[MR_PROGRAM_TOKENS_MAX];          /* of an AND: the term to hang on */
    bool known[MR_PROGRAM_LEAVES_MAX];             /* leaves that passing an anchor implies */
    struct mr_anchor *anchors;
    uint32_t count, capacity;
};

struct mr_plan *mr_plan_create(void)
{
    return calloc(1, sizeof(struct mr_plan));
}

void mr_plan_destroy(struct mr_plan *plan)
{
    if (plan)
        free(plan->anchors);
    free(plan);
}

/* A filter being looked at. */
struct view {
    struct mr_engine *engine;
    struct mr_plan *plan;
    const struct mr_filter *filter;
    struct mr_group *group;
    const mr_ref *leaves;
    bool apart; /* no event passes two of its anchors */
};

static struct view view_of(struct mr_engine *engine, const struct mr_filter *filter)
{
    return (struct view){.engine = engine,
                         .plan = engine->plan,
                         .filter = filter,
                         .group = mr_at(engine, filter->group),
                         .leaves = mr_filter_leaves(engine, filter)};
}

/* A view of a filter that hangs. The items of one "in": a value equals one of them at most. */
static struct view view_of_hung(struct mr_engine *engine, const struct mr_filter *filter)
{
    struct view v = view_of(engine, filter);
    const struct mr_anchor *anchors = mr_filter_anchors(engine, filter);
    v.apart = true;
    for (uint32_t i = 1; i < filter->anchor_count; i++)
        v.apart &= anchors[i].token == anchors[0].token;
    return v;
}

static uint16_t token_at(const struct view *v, uint32_t at)
{
    return mr_filter_token(v->engine, v->filter, at);
}

static struct mr_leaf *leaf_at(const struct view *v, uint16_t token)
{
    return mr_at(v->engine, v->leaves[token]);
}

/* ---- intervals ---- */

/* What the conjunction at a token (a leaf is one of itself) says of a slot's number. */
static struct mr_interval interval_of(const struct view *v, uint32_t at, uint32_t slot)
{
    struct mr_interval interval = {.slot = slot, .exact = true, .low = -INFINITY, .high = INFINITY};
    uint16_t token = token_at(v, at);
    uint32_t count = 1;
    if ((token & MR_TOKEN_KIND) == MR_TOKEN_AND)
        count = token & ~(uint32_t)MR_TOKEN_KIND, at++;
    for (uint32_t i = 0; slot != MR_SLOT_NONE && i < count; i++) {
        token = token_at(v, at);
        if ((token & MR_TOKEN_KIND) == 0 && leaf_at(v, token)->slot == slot)
            mr_interval_narrow(&interval, leaf_at(v, token));
        at = mr_filter_skip(v->engine, v->filter, at);
    }
    if (isinf(interval.low) && isinf(interval.high))
        interval.slot = MR_SLOT_NONE;
    else if (isinf(interval.high - interval.low) && !isinf(interval.low) && !isinf(interval.high))
        interval.exact = false; /* too wide to be kept by both bounds */
    return interval;
}

/* ---- how often does it hold? ---- */

static uint32_t sample_count(const struct view *v)
{
    return v->group->sample_count < MR_SLOT_SAMPLES ? v->group->sample_count : MR_SLOT_SAMPLES;
}

static double presence_chance(const struct view *v, const struct mr_slot *slot)
{
    uint32_t count = sample_count(v);
    if (count == 0)
        return 1;
    return ((double)__builtin_popcount(slot->samples.present) + 0.1) / (count + 0.1);
}

static double equal_chance(const struct view *v, const struct mr_slot *slot, uint32_t hash)
{
    uint32_t count = sample_count(v), hits = 0;
    for (uint32_t i = 0; i < count; i++)
        hits += slot->samples.hashes[i] == hash;
    if (hits > 0)
        return (double)hits / count;
    return 1.0 / (2.0 * count + 2.0 + slot->eq_keys);
}

static double list_chance(const struct view *v, const struct mr_leaf *leaf,
                          const struct mr_slot *slot)
{
    struct mr_const list = mr_leaf_const(leaf);
    double sum = 0;
    for (uint32_t i = 0; i < list.list.count; i++) {
        struct mr_key key = {.kind = list.list.items[i].kind};
        key.bits = (uint64_t)list.list.items[i].integer;
        if (key.kind == MR_CONST_STRING)
            key.text = list.list.items[i].string;
        else if (key.kind == MR_CONST_NULL)
            key.bits = 0;
        else if (key.kind == MR_CONST_BOOL)
            key.bits = list.list.items[i].boolean;
        sum +=
            equal_chance(v, slot, mr_key_hash(v->engine, v->group, slot->index, MR_PRED_EQ, &key));
    }
    return fmin(sum, presence_chance(v, slot));
}

static bool has_prefix(const struct mr_leaf *leaf)
{
    return leaf->op != MR_PRED_PREFIX || leaf->len > 0;
}

static double leaf_chance(const struct view *v, const struct mr_leaf *leaf)
{
    if (leaf->op == MR_PRED_CODE || leaf->op == MR_PRED_MISSING)
        return COST_ALWAYS;
    const struct mr_slot *slot = mr_group_slot(v->engine, v->group, leaf->slot);
    double present = presence_chance(v, slot);
    bool key = mr_leaf_is_key((enum mr_predicate_op)leaf->op, (enum mr_const_kind)leaf->kind);
    if (leaf->op == MR_PRED_IN)
        return list_chance(v, leaf, slot);
    if (!key || !has_prefix(leaf))
        return present;
    if (leaf->op == MR_PRED_EQ)
        return fmin(present, equal_chance(v, slot, leaf->hash));
    if (leaf->op == MR_PRED_CONTAINS)
        return present * 2 / (3 + slot->member_keys);
    return present / (leaf->len < 8 ? 1 << leaf->len : 256);
}

static double interval_chance(const struct view *v, const struct mr_interval *interval)
{
    const struct mr_slot *slot = mr_group_slot(v->engine, v->group, interval->slot);
    uint32_t count = sample_count(v), hits = 0;
    if (count == 0)
        return isinf(interval->low) || isinf(interval->high) ? 0.3 : 0.1;
    for (uint32_t i = 0; i < count; i++)
        hits += (double)slot->samples.numbers[i] >= interval->low &&
                (double)slot->samples.numbers[i] <= interval->high;
    return (hits + 0.5) / (count + 1);
}

/* ---- the plan ---- */

static uint32_t plan_term(const struct view *v, uint32_t at);

/* Is what the conjunction says of an ordering leaf's slot the rarest so far? */
static double plan_interval(const struct view *v, uint32_t at, const struct mr_leaf *leaf,
                            double best)
{
    if (leaf->op < MR_PRED_LT || leaf->op > MR_PRED_GE || v->plan->interval_slot[at] == leaf->slot)
        return best;
    struct mr_interval interval = interval_of(v, at, leaf->slot);
    double chance = interval.slot == MR_SLOT_NONE ? 1 : interval_chance(v, &interval);
    if (chance >= best)
        return best;
    v->plan->interval_slot[at] = interval.slot;
    return chance;
}

/* The cheapest term, times the chance of the best interval that goes with it. */
static uint32_t plan_and(const struct view *v, uint32_t at, uint32_t count, uint32_t first)
{
    struct mr_plan *plan = v->plan;
    double best = COST_ALWAYS, chance = 1;
    uint32_t child = first;
    plan->pick[at] = (uint16_t)(count ? first : at);
    plan->interval_slot[at] = MR_SLOT_NONE;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t end = first == at ? at + 1 : plan_term(v, child);
        uint16_t token = token_at(v, child);
        double cost = plan->cost[child];
        if ((token & MR_TOKEN_KIND) == 0) {
            const struct mr_leaf *leaf = leaf_at(v, token);
            cost = leaf_chance(v, leaf);
            chance = plan_interval(v, at, leaf, chance);
        }
        if (cost < best) {
            best = cost;
            plan->pick[at] = (uint16_t)child;
        }
        child = end;
    }
    bool leaf_picked = (token_at(v, plan->pick[at]) & MR_TOKEN_KIND) == 0;
    plan->cost[at] = best >= COST_ALWAYS ? COST_ALWAYS : leaf_picked ? best * chance : best;
    return child;
}

static uint32_t plan_or(const struct view *v, uint32_t at, uint32_t count)
{
    double sum = 0;
    uint32_t child = at + 1;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t end = plan_term(v, child);
        sum += v->plan->cost[child];
        child = end;
    }
    v->plan->cost[at] = fmin(sum, COST_ALWAYS);
    return child;
}

/* Fill in what is known of the term at a token; returns where it ends. */
static uint32_t plan_term(const struct view *v, uint32_t at)
{
    uint16_t token = token_at(v, at);
    uint32_t count = token & ~(uint32_t)MR_TOKEN_KIND;
    if ((token & MR_TOKEN_KIND) == MR_TOKEN_OR)
        return plan_or(v, at, count);
    if ((token & MR_TOKEN_KIND) == MR_TOKEN_AND)
        return plan_and(v, at, count, at + 1);
    return plan_and(v, at, 1, at);
}

/* ---- anchors ---- */

static bool put_anchor(struct mr_plan *plan, struct mr_anchor anchor)
{
    if (plan->count == plan->capacity) {
        uint32_t capacity = plan->capacity ? plan->capacity * 2 : 16;
        struct mr_anchor *anchors = realloc(plan->anchors, capacity * sizeof *anchors);
        if (!anchors)
            return false;
        plan->anchors = anchors;
        plan->capacity = capacity;
    }
    plan->anchors[plan->count++] = anchor;
    return true;
}

/* One anchor for each item, found as if it were "==". Takes a reference for each. */
static bool put_items(const struct view *v, const struct mr_leaf *leaf, struct mr_anchor anchor)
{
    struct mr_const list = mr_leaf_const(leaf);
    uint32_t slot = leaf->slot;
    for (uint32_t i = 0; i < list.list.count; i++) {
        anchor.at = mr_leaf_get_equal(v->engine, v->group, slot, &list.list.items[i]);
        if (!anchor.at)
            return false;
        if (!put_anchor(v->plan, anchor)) {
            mr_leaf_release(v->engine, anchor.at);
            return false;
        }
    }
    return true;
}

static bool collect_conjunction(const struct view *v, uint32_t at)
{
    uint32_t pick = v->plan->pick[at];
    const struct mr_leaf *leaf = leaf_at(v, token_at(v, pick));
    struct mr_anchor anchor = {.slot = v->plan->interval_slot[at], .token = (uint16_t)at};
    if (leaf->op == MR_PRED_IN)
        return put_items(v, leaf, anchor);
    bool key = mr_leaf_is_key((enum mr_predicate_op)leaf->op, (enum mr_const_kind)leaf->kind);
    anchor.place = key && has_prefix(leaf) ? MR_PLACE_KEY : MR_PLACE_PRESENCE;
    anchor.at = leaf->slot;
    if (anchor.place == MR_PLACE_KEY) {
        anchor.at = v->leaves[token_at(v, pick)];
        ((struct mr_leaf *)mr_at(v->engine, anchor.at))->refs++;
    }
    if (put_anchor(v->plan, anchor))
        return true;
    if (anchor.place == MR_PLACE_KEY)
        mr_leaf_release(v->engine, anchor.at);
    return false;
}

static bool collect(const struct view *v, uint32_t at)
{
    uint16_t token = token_at(v, at);
    if ((token & MR_TOKEN_KIND) != MR_TOKEN_OR) {
        uint32_t pick = v->plan->pick[at];
        if ((token_at(v, pick) & MR_TOKEN_KIND) != 0)
            return collect(v, pick);
        return collect_conjunction(v, at);
    }
    uint32_t count = token & ~(uint32_t)MR_TOKEN_KIND, child = at + 1;
    for (uint32_t i = 0; i < count; i++) {
        if (!collect(v, child))
            return false;
        child = mr_filter_skip(v->engine, v->filter, child);
    }
    return true;
}

/* ---- postings ---- */

/* Does what is known imply the term at *at? *at moves behind it. */
static bool implied(const struct view *v, uint32_t *at)
{
    uint16_t token = token_at(v, (*at)++);
    uint32_t count = token & ~(uint32_t)MR_TOKEN_KIND;
    if ((token & MR_TOKEN_KIND) == 0)
        return v->plan->known[token];
    bool is_and = (token & MR_TOKEN_KIND) == MR_TOKEN_AND, result = is_and;
    for (uint32_t i = 0; i < count; i++) {
        bool one = implied(v, at);
        result = is_and ? result && one : result || one;
    }
    return result;
}

static int order_items(const void *left, const void *right)
{
    return mr_program_order_const(left, right);
}

static bool list_has(const struct mr_leaf *list, const struct mr_leaf *item)
{
    struct mr_const all = mr_leaf_const(list), one = mr_leaf_const(item);
    return bsearch(&one, all.list.items, all.list.count, sizeof one, order_items) != NULL;
}

/* Which leaves does passing this anchor, and being within the interval, imply? */
static bool anchor_decides(const struct view *v, const struct mr_anchor *anchor,
                           const struct mr_interval *interval)
{
    const struct mr_leaf *key = anchor->place == MR_PLACE_KEY ? mr_at(v->engine, anchor->at) : NULL;
    for (uint32_t i = 0; i < v->filter->leaf_count; i++) {
        const struct mr_leaf *leaf = leaf_at(v, (uint16_t)i);
        bool known = leaf == key;
        if (key && leaf->slot == key->slot && leaf->op == MR_PRED_IN && key->op == MR_PRED_EQ)
            known = list_has(leaf, key);
        if (leaf->op == MR_PRED_EXISTS)
            known =
                leaf->slot == (key ? key->slot : anchor->at) && anchor->place != MR_PLACE_ALWAYS;
        v->plan->known[i] = known;
    }
    if (interval->slot != MR_SLOT_NONE && interval->exact) {
        uint32_t at = anchor->token, count = 1;
        uint16_t token = token_at(v, at);
        if ((token & MR_TOKEN_KIND) == MR_TOKEN_AND)
            count = token & ~(uint32_t)MR_TOKEN_KIND, at++;
        for (uint32_t i = 0; i < count; i++) {
            token = token_at(v, at);
            if ((token & MR_TOKEN_KIND) == 0 && leaf_at(v, token)->slot == interval->slot &&
                leaf_at(v, token)->op >= MR_PRED_LT && leaf_at(v, token)->op <= MR_PRED_GE &&
                leaf_at(v, token)->kind != MR_CONST_BOOL)
                v->plan->known[token] = true;
            at = mr_filter_skip(v->engine, v->filter, at);
        }
    }
    uint32_t at = 0;
    return implied(v, &at);
}

struct posting {
    struct mr_bucket *bucket;
    struct mr_interval interval;
    uint32_t item, item_without;
};

static bool is_member(const struct view *v, const struct mr_anchor *anchor)
{
    return anchor->place == MR_PLACE_KEY &&
           ((const struct mr_leaf *)mr_at(v->engine, anchor->at))->op == MR_PRED_CONTAINS;
}

static struct mr_bucket *bucket_of(const struct view *v, const struct mr_anchor *anchor)
{
    if (anchor->place == MR_PLACE_KEY)
        return &((struct mr_leaf *)mr_at(v->engine, anchor->at))->bucket;
    if (anchor->place == MR_PLACE_PRESENCE)
        return &mr_group_slot(v->engine, v->group, anchor->at)->presence;
    return &v->group->always;
}

static struct posting posting_of(const struct view *v, const struct mr_anchor *anchor)
{
    const struct mr_interval none = {.slot = MR_SLOT_NONE};
    struct posting p = {.bucket = bucket_of(v, anchor),
                        .interval = interval_of(v, anchor->token, anchor->slot)};
    p.item = mr_heap_ref(&v->engine->heap, v->filter);
    /* An array may have the same element twice. */
    if (!v->apart || is_member(v, anchor))
        p.item |= MR_POSTING_MULTI;
    p.item_without = p.item;
    if (anchor_decides(v, anchor, &p.interval))
        p.item |= MR_POSTING_EXACT;
    if (anchor_decides(v, anchor, &none))
        p.item_without |= MR_POSTING_EXACT;
    return p;
}

static void count_place(const struct view *v, const struct mr_anchor *anchor, int step)
{
    if (anchor->place == MR_PLACE_PRESENCE)
        mr_group_slot(v->engine, v->group, anchor->at)->anchored += (uint32_t)step;
    else if (anchor->place == MR_PLACE_ALWAYS)
        v->group->always_count += (uint32_t)step;
    v->engine->stats.anchors[anchor->place] += (uint64_t)(int64_t)step;
}

static void take_off(const struct view *v, const struct mr_anchor *anchor)
{
    struct posting p = posting_of(v, anchor);
    mr_bucket_remove(v->engine, p.bucket, p.item, &p.interval);
    count_place(v, anchor, -1);
}

static void release_anchors(struct mr_engine *engine, const struct mr_anchor *anchors,
                            uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (anchors[i].place == MR_PLACE_KEY)
            mr_leaf_release(engine, anchors[i].at);
}

static bool keep_anchors(struct mr_engine *engine, struct mr_filter *filter)
{
    const struct mr_plan *plan = engine->plan;
    size_t size = plan->count * sizeof(struct mr_anchor);
    filter->anchor_count = plan->count & INT32_MAX;
    if (plan->count == 1)
        filter->anchors.one = plan->anchors[0];
    if (plan->count <= 1)
        return true;
    filter->anchors.many = mr_heap_alloc(&engine->heap, size);
    if (!filter->anchors.many)
        return false;
    memcpy(mr_at(engine, filter->anchors.many), plan->anchors, size);
    return true;
}

/* A bucket's first posting is kept without its interval, and so is evaluated with every event. That
 * is not worth it beside others, which have sets. */
static void settle(struct mr_engine *engine, struct mr_bucket *bucket,
                   const struct mr_filter *newcomer)
{
    if (!bucket->one || (bucket->one & MR_POSTING_EXACT))
        return;
    const struct mr_filter *filter = mr_at(engine, bucket->one & MR_POSTING_REF);
    if (filter == newcomer)
        return;
    struct view v = view_of_hung(engine, filter);
    const struct mr_anchor *anchors = mr_filter_anchors(engine, filter);
    for (uint32_t i = 0; i < filter->anchor_count; i++) {
        struct posting p = posting_of(&v, &anchors[i]);
        if (p.bucket != bucket)
            continue;
        if (p.interval.slot != MR_SLOT_NONE)
            mr_bucket_settle(engine, bucket, p.item, &p.interval);
        return;
    }
}

bool mr_anchor_hang(struct mr_engine *engine, struct mr_filter *filter)
{
    struct view v = view_of(engine, filter);
    struct mr_plan *plan = engine->plan;
    plan->count = 0;
    (void)plan_term(&v, 0);
    const struct mr_anchor always = {.slot = MR_SLOT_NONE, .place = MR_PLACE_ALWAYS};
    bool ok = plan->cost[0] < COST_ALWAYS ? collect(&v, 0) : put_anchor(plan, always);
    if (!ok || !keep_anchors(engine, filter)) {
        release_anchors(engine, plan->anchors, plan->count);
        return false;
    }
    const struct mr_anchor *anchors = mr_filter_anchors(engine, filter);
    v = view_of_hung(engine, filter);
    for (uint32_t i = 0; i < filter->anchor_count; i++) {
        settle(engine, bucket_of(&v, &anchors[i]), filter);
        struct posting p = posting_of(&v, &anchors[i]);
        if (mr_bucket_add(engine, p.bucket, p.item, &p.interval, p.item_without)) {
            count_place(&v, &anchors[i], 1);
            continue;
        }
        while (i-- > 0)
            take_off(&v, &anchors[i]);
        release_anchors(engine, anchors, filter->anchor_count);
        if (filter->anchor_count > 1)
            mr_heap_free(&engine->heap, filter->anchors.many,
                         filter->anchor_count * sizeof *anchors);
        return false;
    }
    return true;
}

void mr_anchor_unhang(struct mr_engine *engine, struct mr_filter *filter)
{
    struct view v = view_of_hung(engine, filter);
    const struct mr_anchor *anchors = mr_filter_anchors(engine, filter);
    for (uint32_t i = 0; i < filter->anchor_count; i++)
        take_off(&v, &anchors[i]);
    release_anchors(engine, anchors, filter->anchor_count);
    if (filter->anchor_count > 1)
        mr_heap_free(&engine->heap, filter->anchors.many, filter->anchor_count * sizeof *anchors);
    filter->anchor_count = 0;
}

/* What its present anchors cost, by what is known now. */
static double present_cost(const struct view *v)
{
    const struct mr_anchor *anchors = mr_filter_anchors(v->engine, v->filter);
    double sum = 0;
    for (uint32_t i = 0; i < v->filter->anchor_count; i++) {
        const struct mr_anchor *anchor = &anchors[i];
        double cost = COST_ALWAYS;
        if (anchor->place == MR_PLACE_KEY)
            cost = leaf_chance(v, mr_at(v->engine, anchor->at));
        else if (anchor->place == MR_PLACE_PRESENCE)
            cost = presence_chance(v, mr_group_slot(v->engine, v->group, anchor->at));
        struct mr_interval interval = interval_of(v, anchor->token, anchor->slot);
        sum += interval.slot == MR_SLOT_NONE ? cost : cost * interval_chance(v, &interval);
    }
    return sum;
}

void mr_anchor_reconsider(struct mr_engine *engine, struct mr_filter *filter)
{
    struct view v = view_of(engine, filter);
    (void)plan_term(&v, 0);
    if (engine->plan->cost[0] * RECONSIDER_FACTOR >= present_cost(&v))
        return;
    struct mr_filter old = *filter;
    /* The old anchors hold references until the new ones are there. */
    if (!mr_anchor_hang(engine, filter)) {
        *filter = old;
        return;
    }
    struct mr_filter hung = *filter;
    *filter = old;
    mr_anchor_unhang(engine, filter);
    filter->anchor_count = hung.anchor_count;
    filter->anchors = hung.anchors;
    engine->stats.moved++;
}
