/* matcher/subscriptions.h: the engine of a matcher and the journal that it is built from. A running
 * engine takes what is new; a new generation builds a fresh engine beside it, a piece a turn, which
 * then takes its place. */
#ifndef MR_MATCHER_SUBSCRIPTIONS_H
#define MR_MATCHER_SUBSCRIPTIONS_H
#include "matcher/engine/watch.h"
#include "shm/journal.h"
#include "shm/process.h"
#include "shm/ring.h"

/* An engine with its place in its journal. */
struct mr_subscription_set {
    struct mr_watch *engine;   /* NULL: none */
    uint64_t generation;       /* 0: of no journal, empty */
    uint64_t applied;          /* records */
    struct mr_journal journal; /* the handle's own position */
};

struct mr_subscriptions {
    struct mr_process *process;
    struct mr_ring_consumer control;
    struct mr_subscription_set current, next;
    struct mr_engine_stats counted; /* of the current engine: what the cell has already */
    uint8_t *scratch;               /* one record, out of the writer's reach while it is checked */
};

MR_MUST_USE enum mr_rc mr_subscriptions_open(struct mr_subscriptions *subs,
                                             struct mr_process *process, struct mr_err *err);
void mr_subscriptions_close(struct mr_subscriptions *subs);
/* Is the engine whole? Not before the first generation has been applied. */
bool mr_subscriptions_ready(const struct mr_subscriptions *subs);
/* Take what is new, a bounded piece of it. */
MR_MUST_USE enum mr_rc mr_subscriptions_work(struct mr_subscriptions *subs, uint64_t *done,
                                             struct mr_err *err);
bool mr_subscriptions_look(const struct mr_subscriptions *subs);
/* Write what the engine counts to the cell. */
void mr_subscriptions_count(struct mr_subscriptions *subs);
#endif
