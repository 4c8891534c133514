/* shm/doorbell.h: how a process sleeps while its rings are empty, and how a peer wakes it.
 *
 * One futex word a process, in its cell on the board. The sleeper announces itself, looks once more
 * for work and only then sleeps, bounded. The waker has stored what it has to tell, then looks at
 * the word. Both touch the word by a read-modify-write, and one of them comes second: the sleeper,
 * and then it sees what was stored, or the waker, and then it sees the sleeper. The waker pays that
 * once a batch; a barrier on all cores by the sleeper alone (membarrier) interrupts the others, and
 * waits for a core that the host has taken away: docs/performance.md. */
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

/* Sleeper's side: announce, then the caller looks for work again, then wait or cancel.
 * wait returns after a ring, or after timeout_ns. */
void mr_doorbell_announce(struct mr_doorbell_shm *bell);
void mr_doorbell_announce_doze(
    struct mr_doorbell_shm *bell); /* for a sleep that a nudge leaves be */
void mr_doorbell_wait(struct mr_doorbell_shm *bell, uint64_t timeout_ns);
void mr_doorbell_cancel(struct mr_doorbell_shm *bell);

void mr_doorbell_wake(struct mr_doorbell_shm *bell); /* the slow path of mr_doorbell_ring */

/* Waker's side, after its release store. */
static inline uint32_t mr_doorbell_state(struct mr_doorbell_shm *bell)
{
    return atomic_fetch_add_explicit(&bell->state, 0, memory_order_acq_rel);
}

static inline void mr_doorbell_ring(struct mr_doorbell_shm *bell)
{
    if (__builtin_expect(bell && mr_doorbell_state(bell) != MR_DOORBELL_AWAKE, 0))
        mr_doorbell_wake(bell);
}

/* The same for news that can wait while the sleeper dozes. False: it dozes on and does not know;
 * the caller rings in a while. */
static inline bool mr_doorbell_nudge(struct mr_doorbell_shm *bell)
{
    uint32_t state = mr_doorbell_state(bell);
    if (state == MR_DOORBELL_ASLEEP)
        mr_doorbell_wake(bell);
    return state != MR_DOORBELL_DOZING;
}
#endif
