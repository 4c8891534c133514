#include "publisher/pump_state.h"

#include "common/crash.h"

/* Journal records that every shard has: those of the set in use, and those of the next one that are
 * running already. */
static uint64_t applied(const struct mr_pump *pump)
{
    uint64_t generation = pump->reg.generation;
    uint64_t count = mr_shard_set_applied(pump->current, generation, false);
    if (pump->next->generation != 0) {
        uint64_t next = mr_shard_set_applied(pump->next, generation, true);
        count = next < count ? next : count;
    }
    /* A number beyond what was written belongs to another generation and is about to change. */
    return count <= pump->reg.current->count ? count : 0;
}

static void apply_one(struct mr_pump *pump, struct mr_subscription *s, uint64_t after)
{
    TAILQ_REMOVE(&pump->announced, s, waiting);
    if (s->state == MR_SUB_RESUMING) {
        mr_resume_applied(s, after);
        return;
    }
    s->applied = true;
    s->state = MR_SUB_WAITING;
    s->active_after = after;
    TAILQ_INSERT_TAIL(&pump->waiting, s, waiting);
}

uint64_t mr_pump_apply(struct mr_pump *pump)
{
    if (TAILQ_EMPTY(&pump->announced))
        return 0;
    uint64_t count = applied(pump), after, done = 0;
    if (count == pump->applied_seen && !pump->announced_changed)
        return 0;
    if (!mr_shard_set_fed(pump->current, &after))
        return 1; /* again, at once */
    if (after < pump->merged)
        after = pump->merged;
    pump->applied_seen = count;
    pump->announced_changed = false;
    struct mr_subscription *next;
    for (struct mr_subscription *s = TAILQ_FIRST(&pump->announced); s; s = next) {
        next = TAILQ_NEXT(s, waiting);
        if (s->journal_count > count)
            continue;
        apply_one(pump, s, after);
        done++;
    }
    return done;
}

uint64_t mr_pump_confirm_limit(const struct mr_pump *pump, uint64_t frontier)
{
    const struct mr_subscription *first = TAILQ_FIRST(&pump->waiting);
    return first && first->active_after < frontier ? first->active_after : frontier;
}

void mr_pump_set_confirmed(struct mr_pump *pump, struct mr_subscription *s)
{
    if (!s->confirmed && !s->internal)
        mr_gauge(pump->cell, MR_COUNTER_SUBSCRIPTIONS,
                 mr_counter_get(pump->cell, MR_COUNTER_SUBSCRIPTIONS) + 1);
    s->confirmed = true;
}

uint64_t mr_pump_confirm(struct mr_pump *pump, uint64_t now_ns)
{
    struct mr_subscription *s;
    uint64_t done = 0;
    while ((s = TAILQ_FIRST(&pump->waiting)) != NULL && s->active_after <= pump->merged) {
        TAILQ_REMOVE(&pump->waiting, s, waiting);
        s->state = MR_SUB_LIVE;
        if (!s->lease)
            mr_deliverer_confirm(&pump->deliverer, s, s->active_after);
        MR_CRASH("publisher.confirmed");
        mr_histogram_add(&pump->cell->histograms[MR_HISTOGRAM_SUBSCRIBE_TIME],
                         now_ns > s->requested_ns ? now_ns - s->requested_ns : 0);
        mr_pump_set_confirmed(pump, s);
        mr_deliverer_tell_trouble(&pump->deliverer, s);
        if (s->lease)
            mr_durable_confirmed(pump, s);
        done++;
    }
    return done;
}
