#include "jetstream/breaker.h"

#include "common/clock.h"

#define RETRY_MIN_NS (20 * MR_NS_PER_MS)
#define RETRY_MAX_NS MR_NS_PER_S

bool mr_breaker_may_try(struct mr_breaker *breaker, uint64_t now_ns)
{
    if (now_ns < breaker->next_ns)
        return false;
    if (breaker->state == MR_BREAKER_OPEN)
        breaker->state = MR_BREAKER_HALF_OPEN;
    return true;
}

void mr_breaker_failed(struct mr_breaker *breaker, uint64_t now_ns)
{
    breaker->failures++;
    if (breaker->state != MR_BREAKER_CLOSED || breaker->failures >= breaker->failures_max) {
        breaker->opens += breaker->state != MR_BREAKER_OPEN;
        breaker->state = MR_BREAKER_OPEN;
        breaker->next_ns = now_ns + breaker->open_ns;
        return;
    }
    uint32_t doublings = breaker->failures < 7 ? breaker->failures - 1 : 6;
    uint64_t wait_ns = RETRY_MIN_NS << doublings;
    breaker->next_ns = now_ns + (wait_ns < RETRY_MAX_NS ? wait_ns : RETRY_MAX_NS);
}

void mr_breaker_succeeded(struct mr_breaker *breaker)
{
    breaker->state = MR_BREAKER_CLOSED;
    breaker->failures = 0;
    breaker->next_ns = 0;
}
