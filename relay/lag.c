#include "relay/lag.h"

#include "common/clock.h"

void mr_lag_clock_init(struct mr_lag_clock *clock, uint64_t hard_ns)
{
    uint64_t every_ns = 2 * hard_ns / MR_LAG_SAMPLES;
    clock->count = 0;
    clock->every_ns = every_ns > MR_NS_PER_MS ? every_ns : MR_NS_PER_MS;
}

void mr_lag_clock_tick(struct mr_lag_clock *clock, uint64_t head, uint64_t now_ns)
{
    uint64_t last = (clock->count - 1) % MR_LAG_SAMPLES, at = clock->count % MR_LAG_SAMPLES;
    if (clock->count > 0 &&
        (now_ns - clock->ns[last] < clock->every_ns || clock->sequence[last] == head))
        return;
    clock->sequence[at] = head;
    clock->ns[at] = now_ns;
    clock->count++;
}

uint64_t mr_lag_age_ns(const struct mr_lag_clock *clock, uint64_t sequence, uint64_t now_ns)
{
    uint64_t high = clock->count, low = high > MR_LAG_SAMPLES ? high - MR_LAG_SAMPLES : 0;
    uint64_t end = high;
    while (low < high) { /* the first sample that is behind sequence */
        uint64_t middle = (low + high) / 2;
        if (clock->sequence[middle % MR_LAG_SAMPLES] > sequence)
            high = middle;
        else
            low = middle + 1;
    }
    return low < end ? now_ns - clock->ns[low % MR_LAG_SAMPLES] : 0;
}

void mr_lag_begin(struct mr_lag *lag, uint64_t events, uint64_t now_ns)
{
    *lag = (struct mr_lag){.begin_ns = now_ns, .begin_events = events};
}

bool mr_lag_look(struct mr_lag *lag, const struct mr_lag_limits *limits, uint64_t events,
                 uint64_t age_ns, uint64_t now_ns)
{
    enum mr_lag_level level = lag->level;
    lag->events = events;
    lag->age_ns = age_ns;
    bool over_soft = events >= limits->soft_events || age_ns >= limits->soft_ns;
    lag->live |= !over_soft;
    if (!lag->live && now_ns - lag->begin_ns < limits->hard_ns)
        return false;
    if (!lag->live && events < lag->begin_events) { /* nearer: it has as long again */
        lag->begin_ns = now_ns;
        lag->begin_events = events;
        return false;
    }
    if (events >= limits->hard_events || age_ns >= limits->hard_ns)
        level = MR_LAG_HARD;
    else if (over_soft)
        level = MR_LAG_SOFT;
    else if (events < limits->soft_events / 2 + 1 && age_ns < limits->soft_ns / 2 + 1)
        level = MR_LAG_NONE;
    bool changed = level != lag->level;
    lag->level = level;
    return changed;
}
