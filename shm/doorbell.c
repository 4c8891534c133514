#include "shm/doorbell.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"

/* Without membarrier a wake can be lost: the waker's look at the bell may come before its store is
 * visible. So nobody sleeps longer than this then. */
#define WAIT_WITHOUT_MEMBARRIER_NS (2 * MR_NS_PER_MS)

/* Set once by mr_doorbell_register, before any thread of this process sleeps. */
static _Atomic bool have_membarrier;

static int membarrier(int command)
{
    return (int)syscall(SYS_membarrier, command, 0, 0);
}

/* The word lives in memory shared by processes: no FUTEX_PRIVATE_FLAG. */
static long futex(_Atomic uint32_t *word, int operation, uint32_t value,
                  const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

bool mr_doorbell_register(void)
{
    int known = membarrier(MEMBARRIER_CMD_QUERY);
    bool have = known >= 0 && (known & MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0 &&
                membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0;
    atomic_store_explicit(&have_membarrier, have, memory_order_relaxed);
    return have;
}

static void announce(struct mr_doorbell_shm *bell, uint32_t state)
{
    atomic_store_explicit(&bell->state, state, memory_order_seq_cst);
    /* From here on either the owner's next look finds what a peer has stored, or the peer's look at
     * the bell finds the state: the barrier runs on every core that runs a registered process. */
    if (atomic_load_explicit(&have_membarrier, memory_order_relaxed) &&
        membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0)
        atomic_store_explicit(&have_membarrier, false, memory_order_relaxed);
}

void mr_doorbell_announce(struct mr_doorbell_shm *bell)
{
    announce(bell, MR_DOORBELL_ASLEEP);
}

void mr_doorbell_announce_doze(struct mr_doorbell_shm *bell)
{
    announce(bell, MR_DOORBELL_DOZING);
}

void mr_doorbell_wait(struct mr_doorbell_shm *bell, uint64_t timeout_ns)
{
    if (!atomic_load_explicit(&have_membarrier, memory_order_relaxed) &&
        timeout_ns > WAIT_WITHOUT_MEMBARRIER_NS)
        timeout_ns = WAIT_WITHOUT_MEMBARRIER_NS;
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / MR_NS_PER_S),
                               .tv_nsec = (long)(timeout_ns % MR_NS_PER_S)};
    uint32_t state = atomic_load_explicit(&bell->state, memory_order_relaxed);
    if (state == MR_DOORBELL_AWAKE) /* rung already */
        return;
    /* One wait, no loop: whatever ends it, the caller looks at its rings again. */
    long rc = futex(&bell->state, FUTEX_WAIT, state, &timeout);
    MR_ASSERT(rc == 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT);
    mr_doorbell_cancel(bell);
}

void mr_doorbell_cancel(struct mr_doorbell_shm *bell)
{
    atomic_store_explicit(&bell->state, MR_DOORBELL_AWAKE, memory_order_relaxed);
}

void mr_doorbell_wake(struct mr_doorbell_shm *bell)
{
    /* Of several wakers the one that takes the word makes the call. */
    if (atomic_exchange_explicit(&bell->state, MR_DOORBELL_AWAKE, memory_order_acq_rel) ==
        MR_DOORBELL_AWAKE)
        return;
    atomic_fetch_add_explicit(&bell->wakes, 1, memory_order_relaxed);
    long rc = futex(&bell->state, FUTEX_WAKE, 1, NULL);
    MR_ASSERT(rc >= 0);
}
