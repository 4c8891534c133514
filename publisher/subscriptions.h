/* publisher/subscriptions.h: who has subscribed to what. A table of slots, found by the pipeline's
 * id (slot in the low half, use of the slot in the high half, so that a match for an earlier owner
 * is recognised) and by (gateway, client's id). The same client id may exist at several gateways.
 * One thread. Pointers stay valid until mr_subscription_remove. */
#ifndef MR_PUBLISHER_SUBSCRIPTIONS_H
#define MR_PUBLISHER_SUBSCRIPTIONS_H
#include <sys/queue.h>

#include "proto/match.h"
#include "publisher/lease.h"
#include "publisher/sink.h"

struct mr_catchup;
TAILQ_HEAD(mr_catchup_list, mr_catchup);

enum mr_subscription_state {
    MR_SUB_FREE,
    MR_SUB_ANNOUNCED, /* in the journal; not every shard has it */
    MR_SUB_WAITING,   /* every shard has it; the merge has not reached active_after */
    MR_SUB_LIVE,      /* confirmed */
    MR_SUB_RESUMING,  /* confirmed; its deliveries come from the log */
};

/* Parts of its filter are not evaluated any more, as a matcher says. */
enum mr_trouble { MR_TROUBLE_NONE, MR_TROUBLE_BUDGET, MR_TROUBLE_ERRORS };
struct mr_str mr_trouble_code(
    enum mr_trouble trouble); /* deliver.c; for programs, and for people */
struct mr_str mr_trouble_text(enum mr_trouble trouble);

/* The subscriptions of one database count together, whoever holds them. */
struct mr_tenant {
    struct mr_str name; /* behind it */
    uint32_t subscription_count;
    struct mr_tenant *hash_next;
};

struct mr_subscription;
struct mr_hit {
    struct mr_subscription *subscription;
    enum mr_transition transition;
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
    enum mr_trouble trouble;    /* with its filter; its owner has been told, if there was one */
    bool internal;              /* a sink's own, for a durable one: counts against no quota */
    struct mr_catchup *catchup; /* RESUMING: its group; borrowed */
    struct mr_tenant *tenant;   /* counts it; NULL: nobody does yet */
    struct mr_lease *lease;     /* owned; NULL: it ends with its stream */
    uint64_t matches;           /* events that concerned it */
    uint64_t drops;             /* of these: nobody was there to take them */
    int64_t last_match_us;      /* wall clock; 0: never */
    TAILQ_ENTRY(mr_subscription) of_gateway;
    TAILQ_ENTRY(mr_subscription) waiting; /* ANNOUNCED or WAITING, or RESUMING and not applied */
};
TAILQ_HEAD(mr_subscription_list, mr_subscription);

/* Somebody who holds subscriptions: an open stream, or a name that durable subscriptions were
 * registered for and that a stream may speak for at a time ("bound"). */
struct mr_gateway {
    mr_gateway_id id;
    struct mr_str name;       /* owned; empty: a stream */
    mr_gateway_id stream;     /* where deliveries go: its own id, or that of bound; 0: nowhere */
    struct mr_gateway *bound; /* of a name: the stream that speaks for it, and the other way */
    uint64_t seen_ns;         /* of a name: when a stream last spoke for it; 0: never */
    uint64_t seen_kept_ns;    /* seen_ns as the store has it */
    uint32_t subscription_count, internal_count; /* internal ones are among them */
    bool over_limit; /* one gateway too many: it gets no subscriptions */
    bool own;        /* a sink itself: mr_gateway_set_own */
    bool cut;        /* a delivery was refused for good; its CLOSE is on the way */
    struct mr_subscription_list subscriptions;
    struct mr_catchup_list catchups; /* resume.c; in the order in which they were made */
    struct mr_catchup *snapshot;     /* the one that is on its way to it; borrowed */
    struct mr_gateway *hash_next, *name_next;
    TAILQ_ENTRY(mr_gateway) all;
    /* Of the event that is being delivered. */
    struct mr_hit *hits;
    uint32_t hit_count, hit_max;
};
TAILQ_HEAD(mr_gateway_list, mr_gateway);

struct mr_subscriptions {
    struct mr_subscription **chunks; /* of MR_CHUNK_SLOTS each */
    uint32_t slot_count;             /* ever used */
    uint32_t free_first,
        free_last; /* slot + 1; used again in the order in which they became free */
    uint32_t count, internal_count; /* internal ones are among them */
    uint32_t use_base;              /* of slots never used before */
    uint64_t next_order;
    uint32_t *buckets; /* slot + 1 */
    uint32_t bucket_count;
    struct mr_gateway_list gateways;
    struct mr_gateway **gateway_buckets, **name_buckets;
    uint32_t gateway_count; /* streams, without sinks' own */
    uint64_t next_name_id;
    struct mr_tenant **tenant_buckets;
};
enum { MR_CHUNK_SLOTS = 4096, MR_SLOTS_MAX = 1 << MR_TAG_SHIFT };
/* Ids of gateways that are names begin here; no sink gives such ids to its streams. */
#define MR_GATEWAY_NAMED (UINT64_C(1) << 63)

/* use_base: see docs/design.md: generation << 20, so that no use of a predecessor comes again. */
MR_MUST_USE enum mr_rc mr_subscriptions_init(struct mr_subscriptions *table, uint32_t use_base,
                                             struct mr_err *err);
void mr_subscriptions_fini(struct mr_subscriptions *table);

/* MR_FATAL: out of memory. */
MR_MUST_USE enum mr_rc mr_gateway_add(struct mr_subscriptions *table, mr_gateway_id id,
                                      struct mr_gateway **out, struct mr_err *err);
/* It is a sink itself from now on, and no peer. */
void mr_gateway_set_own(struct mr_subscriptions *table, struct mr_gateway *gateway);
struct mr_gateway *mr_gateway_find(const struct mr_subscriptions *table, mr_gateway_id id);
/* A name's gateway; made when it is not there and out is to be set. NULL: there is none. MR_FATAL:
 * out of memory. */
struct mr_gateway *mr_gateway_named(const struct mr_subscriptions *table, struct mr_str name);
MR_MUST_USE enum mr_rc mr_gateway_add_named(struct mr_subscriptions *table, struct mr_str name,
                                            struct mr_gateway **out, struct mr_err *err);
/* It has no subscriptions any more. */
void mr_gateway_remove(struct mr_subscriptions *table, struct mr_gateway *gateway);

/* Take a slot for a client's id, which is copied; an empty one gets a name made from the slot.
 * State ANNOUNCED. MR_USAGE: the gateway has this id already; MR_FULL: no slot or no memory. */
MR_MUST_USE enum mr_rc mr_subscription_add(struct mr_subscriptions *table,
                                           struct mr_gateway *gateway, struct mr_str client_id,
                                           struct mr_subscription **out);
void mr_subscription_remove(struct mr_subscriptions *table, struct mr_subscription *subscription);
/* It is a sink's own from now on. */
void mr_subscription_set_internal(struct mr_subscriptions *table,
                                  struct mr_subscription *subscription);
/* Two subscriptions of one gateway change ids. */
void mr_subscription_swap_ids(struct mr_subscriptions *table, struct mr_subscription *a,
                              struct mr_subscription *b);
/* The durable one of this id, whatever its gateway. */
struct mr_subscription *mr_subscription_find_durable(const struct mr_subscriptions *table,
                                                     struct mr_str id);
struct mr_subscription *mr_subscription_find(const struct mr_subscriptions *table,
                                             const struct mr_gateway *gateway,
                                             struct mr_str client_id);

/* tenants.c. Subscriptions of a database. */
bool mr_tenants_init(struct mr_subscriptions *table);
void mr_tenants_fini(struct mr_subscriptions *table);
void mr_tenant_leave(struct mr_subscriptions *table, struct mr_subscription *subscription);
uint32_t mr_tenant_count(const struct mr_subscriptions *table, struct mr_str database);
/* Count one there; mr_subscription_remove takes it off. MR_FATAL: out of memory. */
MR_MUST_USE enum mr_rc mr_tenant_join(struct mr_subscriptions *table,
                                      struct mr_subscription *subscription, struct mr_str database,
                                      struct mr_err *err);

static inline uint64_t mr_subscription_id(const struct mr_subscription *subscription)
{
    return (uint64_t)subscription->use << 32 | subscription->slot;
}

/* Whoever is in a slot below slot_count; perhaps nobody. */
static inline struct mr_subscription *mr_subscription_at(const struct mr_subscriptions *table,
                                                         uint32_t slot)
{
    MR_ASSERT_SLOW(slot < table->slot_count);
    return &table->chunks[slot / MR_CHUNK_SLOTS][slot % MR_CHUNK_SLOTS];
}

/* NULL: the slot has another owner now, or none. */
static inline struct mr_subscription *mr_subscription_get(const struct mr_subscriptions *table,
                                                          uint64_t id)
{
    uint32_t slot = (uint32_t)id;
    if (slot >= table->slot_count)
        return NULL;
    struct mr_subscription *s = mr_subscription_at(table, slot);
    return s->use == (uint32_t)(id >> 32) && s->state != MR_SUB_FREE ? s : NULL;
}
#endif
