/* shm/doorbell.h: how a process sleeps while its rings are empty, and how a peer wakes it.
 *
 * One futex word a process, in its cell on the board. The sleeper announces itself, makes every
 * peer's earlier stores visible (membarrier, so that the peers need no fence on their fast path),
 * looks once more for work and only then sleeps, bounded. The waker pays one relaxed load when
 * nobody sleeps. A wake that is lost all the same (a kernel without membarrier) costs one bound. */
#ifndef MR_SHM_DOORBELL_H
#define MR_SHM_DOORBELL_H
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    MR_DOORBELL_AWAKE = 0,
    MR_DOORBELL_ASLEEP = 1, /* wake me for everything */
    MR_DOORBELL_DOZING = 2, /* wake me for what is urgent only */
};

struct mr_doorbell_shm {
    alignas(128) _Atomic uint32_t state; /* AWAKE: owner or waker; the others: its owner */
    _Atomic uint32_t wakes;              /* futex calls made to wake the owner; any waker */
};

/* Once in every process that wakes or sleeps. Returns false where membarrier is missing. */
bool mr_doorbell_register(void);

/* Sleeper's side: announce, then the caller looks for work again, then wait or cancel.
 * wait returns after a ring, or after timeout_ns. */
void mr_doorbell_announce(struct mr_doorbell_shm *bell);
void mr_doorbell_announce_doze(
    struct mr_doorbell_shm *bell); /* for a sleep that a nudge leaves be */
void mr_doorbell_wait(struct mr_doorbell_shm *bell, uint64_t timeout_ns);
void mr_doorbell_cancel(struct mr_doorbell_shm *bell);

void mr_doorbell_wake(struct mr_doorbell_shm *bell); /* the slow path of mr_doorbell_ring */

/* Waker's side, after its release store. */
static inline void mr_doorbell_ring(struct mr_doorbell_shm *bell)
{
    if (__builtin_expect(bell && atomic_load_explicit(&bell->state, memory_order_relaxed) !=
                                     MR_DOORBELL_AWAKE,
                         0))
        mr_doorbell_wake(bell);
}

/* The same for news that can wait while the sleeper dozes. False: it dozes on and does not know;
 * the caller rings in a while. */
static inline bool mr_doorbell_nudge(struct mr_doorbell_shm *bell)
{
    uint32_t state = atomic_load_explicit(&bell->state, memory_order_relaxed);
    if (state == MR_DOORBELL_ASLEEP)
        mr_doorbell_wake(bell);
    return state != MR_DOORBELL_DOZING;
}
#endif
