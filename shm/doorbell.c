#include "shm/doorbell.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"

/* The word lives in memory shared by processes: no FUTEX_PRIVATE_FLAG. */
static long futex(_Atomic uint32_t *word, int operation, uint32_t value,
                  const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

/* Acquire: what a waker that came before has stored. Release: that it comes before the next one. */
static void announce(struct mr_doorbell_shm *bell, uint32_t state)
{
    (void)atomic_exchange_explicit(&bell->state, state, memory_order_acq_rel);
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
    /* No plain store: it would stand between a waker's look and the next announcement, which is to
     * acquire what that waker has stored. */
    announce(bell, MR_DOORBELL_AWAKE);
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
