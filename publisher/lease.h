/* publisher/lease.h: how long a durable subscription lives without a sign of its gateway, and the
 * wheel that finds those whose time is up. Time is mr_clock_ns: steps of the wall clock change
 * nothing. One thread. */
#ifndef MR_PUBLISHER_LEASE_H
#define MR_PUBLISHER_LEASE_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/clock.h"
#include "common/err.h"

struct mr_subscription;
struct mr_control;

/* What a durable subscription has beyond its place in the table. */
struct mr_lease {
    struct mr_subscription *subscription;
    uint64_t deadline_ns;
    TAILQ_ENTRY(mr_lease) slot; /* while on the wheel */
    uint64_t slot_tick;         /* 0: not on the wheel */
    uint32_t ttl_s;
    int64_t created_us;
    void *record; /* owned: as it is in the store, see spec.h */
    uint32_t record_len;
    bool durable;         /* the store has it */
    uint32_t sink_handle; /* of the sink that delivers to durable ones; 0: it knows nothing of it */
    /* Who waits for it to be durable and confirmed. */
    struct mr_control *waiter;
    uint32_t waiter_item;
    /* A replacement of the same subscription that is not confirmed yet, and the other way. */
    struct mr_subscription *successor, *predecessor;
    bool replaced;  /* it took a predecessor's place; the store learns the exact one now */
    bool replacing; /* the store is taking a successor in */
};
TAILQ_HEAD(mr_lease_list, mr_lease);

/* Deadlines may lie so far ahead, and are noticed at most one tick late. */
#define MR_WHEEL_TICK_NS  (250 * MR_NS_PER_MS)
#define MR_WHEEL_SLOTS    UINT64_C(16384)
#define MR_WHEEL_AHEAD_NS ((MR_WHEEL_SLOTS - 2) * MR_WHEEL_TICK_NS)

struct mr_wheel {
    struct mr_lease_list *slots; /* MR_WHEEL_SLOTS */
    uint64_t tick;               /* all slots before it are empty */
};

MR_MUST_USE enum mr_rc mr_wheel_init(struct mr_wheel *wheel, uint64_t now_ns, struct mr_err *err);
void mr_wheel_fini(struct mr_wheel *wheel);
/* Put it where its deadline belongs; it may be on the wheel already. */
void mr_wheel_put(struct mr_wheel *wheel, struct mr_lease *lease);
void mr_wheel_remove(struct mr_wheel *wheel, struct mr_lease *lease);
/* Take one off whose deadline has come. NULL: none. */
struct mr_lease *mr_wheel_due(struct mr_wheel *wheel, uint64_t now_ns);
#endif
