/* publisher/subscriptions.h: who has subscribed to what. A table of slots, found by the pipeline's
 * id (slot in the low half, use of the slot in the high half, so that a match for an earlier owner
 * is recognised) and by (gateway, client's id). The same client id may exist at several gateways.
 * One thread. Pointers stay valid until mr_subscription_remove. */
#ifndef MR_PUBLISHER_SUBSCRIPTIONS_H
#define MR_PUBLISHER_SUBSCRIPTIONS_H
#include <sys/queue.h>

#include "publisher/sink.h"

struct mr_catchup;

enum mr_subscription_state {
    MR_SUB_FREE,
    MR_SUB_ANNOUNCED, /* in the journal; not every shard has it */
    MR_SUB_WAITING,   /* every shard has it; the merge has not reached active_after */
    MR_SUB_LIVE,      /* confirmed */
    MR_SUB_RESUMING,  /* confirmed; its deliveries come from the log */
};

struct mr_gateway;
struct mr_subscription {
    enum mr_subscription_state state;
    uint32_t slot, use;
    struct mr_gateway *gateway;
    struct mr_str client_id; /* owned */
    void *record; /* owned: the journal record, struct mr_subscribe_head and the program */
    uint32_t record_len;
    uint32_t
        hash_next;  /* slot + 1 of the next one in the bucket; in a free slot of the next free */
    uint64_t order; /* of registration */
    uint64_t journal_count; /* it is in the journal once so many records are applied */
    uint64_t active_after;  /* matches at or before are dropped */
    uint64_t requested_ns;
    bool resync;                /* its marker could not be resumed from: the answer says so */
    bool applied;               /* every shard has it */
    bool confirmed;             /* its answer is on the way */
    struct mr_catchup *catchup; /* RESUMING: its group; borrowed */
    TAILQ_ENTRY(mr_subscription) of_gateway;
    TAILQ_ENTRY(mr_subscription) waiting; /* ANNOUNCED or WAITING, or RESUMING and not applied */
};
TAILQ_HEAD(mr_subscription_list, mr_subscription);

struct mr_gateway {
    mr_gateway_id id;
    uint32_t subscription_count;
    bool over_limit; /* one gateway too many: it gets no subscriptions */
    bool cut;        /* a delivery was refused for good; its CLOSE is on the way */
    struct mr_subscription_list subscriptions;
    struct mr_gateway *hash_next;
    TAILQ_ENTRY(mr_gateway) all;
    /* Of the event that is being delivered. */
    struct mr_subscription **hits;
    uint32_t hit_count, hit_max;
};
TAILQ_HEAD(mr_gateway_list, mr_gateway);

struct mr_subscriptions {
    struct mr_subscription **chunks; /* of MR_CHUNK_SLOTS each */
    uint32_t slot_count;             /* ever used */
    uint32_t free_first,
        free_last; /* slot + 1; used again in the order in which they became free */
    uint32_t count;
    uint32_t use_base; /* of slots never used before */
    uint64_t next_order;
    uint32_t *buckets; /* slot + 1 */
    uint32_t bucket_count;
    struct mr_gateway_list gateways;
    struct mr_gateway **gateway_buckets;
    uint32_t gateway_count;
};
enum { MR_CHUNK_SLOTS = 4096, MR_SLOTS_MAX = 1 << 24 };

/* use_base: see docs/design.md: generation << 20, so that no use of a predecessor comes again. */
MR_MUST_USE enum mr_rc mr_subscriptions_init(struct mr_subscriptions *table, uint32_t use_base,
                                             struct mr_err *err);
void mr_subscriptions_fini(struct mr_subscriptions *table);

/* MR_FATAL: out of memory. */
MR_MUST_USE enum mr_rc mr_gateway_add(struct mr_subscriptions *table, mr_gateway_id id,
                                      struct mr_gateway **out, struct mr_err *err);
struct mr_gateway *mr_gateway_find(const struct mr_subscriptions *table, mr_gateway_id id);
/* It has no subscriptions any more. */
void mr_gateway_remove(struct mr_subscriptions *table, struct mr_gateway *gateway);

/* Take a slot for a client's id, which is copied; an empty one gets a name made from the slot.
 * State ANNOUNCED. MR_USAGE: the gateway has this id already; MR_FULL: no slot or no memory. */
MR_MUST_USE enum mr_rc mr_subscription_add(struct mr_subscriptions *table,
                                           struct mr_gateway *gateway, struct mr_str client_id,
                                           struct mr_subscription **out);
void mr_subscription_remove(struct mr_subscriptions *table, struct mr_subscription *subscription);
struct mr_subscription *mr_subscription_find(const struct mr_subscriptions *table,
                                             const struct mr_gateway *gateway,
                                             struct mr_str client_id);

static inline uint64_t mr_subscription_id(const struct mr_subscription *subscription)
{
    return (uint64_t)subscription->use << 32 | subscription->slot;
}

/* NULL: the slot has another owner now, or none. */
static inline struct mr_subscription *mr_subscription_get(const struct mr_subscriptions *table,
                                                          uint64_t id)
{
    uint32_t slot = (uint32_t)id;
    if (slot >= table->slot_count)
        return NULL;
    struct mr_subscription *s = &table->chunks[slot / MR_CHUNK_SLOTS][slot % MR_CHUNK_SLOTS];
    return s->use == (uint32_t)(id >> 32) && s->state != MR_SUB_FREE ? s : NULL;
}
#endif
