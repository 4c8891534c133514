#include "publisher/lease.h"

#include <stdlib.h>

enum mr_rc mr_wheel_init(struct mr_wheel *wheel, uint64_t now_ns, struct mr_err *err)
{
    wheel->slots = malloc(MR_WHEEL_SLOTS * sizeof *wheel->slots);
    if (!wheel->slots)
        return mr_fail(err, MR_FATAL, "make the wheel of leases");
    for (uint64_t i = 0; i < MR_WHEEL_SLOTS; i++)
        TAILQ_INIT(&wheel->slots[i]);
    wheel->tick = now_ns / MR_WHEEL_TICK_NS;
    return MR_OK;
}

void mr_wheel_fini(struct mr_wheel *wheel)
{
    free(wheel->slots);
    wheel->slots = NULL;
}

static struct mr_lease_list *slot_of(struct mr_wheel *wheel, uint64_t tick)
{
    return &wheel->slots[tick % MR_WHEEL_SLOTS];
}

void mr_wheel_put(struct mr_wheel *wheel, struct mr_lease *lease)
{
    mr_wheel_remove(wheel, lease);
    /* The first tick by which the deadline has passed; what lies beyond the wheel is looked at
     * early and put again. */
    uint64_t tick = lease->deadline_ns / MR_WHEEL_TICK_NS + 1;
    uint64_t last = wheel->tick + MR_WHEEL_SLOTS - 1;
    tick = tick < wheel->tick ? wheel->tick : tick;
    lease->slot_tick = tick < last ? tick : last;
    TAILQ_INSERT_TAIL(slot_of(wheel, lease->slot_tick), lease, slot);
}

void mr_wheel_remove(struct mr_wheel *wheel, struct mr_lease *lease)
{
    if (lease->slot_tick == 0)
        return;
    TAILQ_REMOVE(slot_of(wheel, lease->slot_tick), lease, slot);
    lease->slot_tick = 0;
}

struct mr_lease *mr_wheel_due(struct mr_wheel *wheel, uint64_t now_ns)
{
    uint64_t now_tick = now_ns / MR_WHEEL_TICK_NS;
    for (; wheel->tick <= now_tick; wheel->tick++) {
        struct mr_lease *lease;
        while ((lease = TAILQ_FIRST(slot_of(wheel, wheel->tick))) != NULL) {
            mr_wheel_remove(wheel, lease);
            if (lease->deadline_ns <= now_ns)
                return lease;
            mr_wheel_put(wheel, lease);
            MR_ASSERT(lease->slot_tick > wheel->tick);
        }
    }
    return NULL;
}
