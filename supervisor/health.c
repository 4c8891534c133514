#include "supervisor/health.h"

#include <inttypes.h>

#include "common/clock.h"

struct look {
    struct mr_health *out;
    uint64_t now_ns;
};

static struct mr_health_check *add(struct mr_health *health, bool ok)
{
    MR_ASSERT(health->count < MR_HEALTH_CHECKS_MAX);
    struct mr_health_check *check = &health->checks[health->count++];
    check->ok = ok;
    return check;
}

static void look_process(const struct mr_cell_shm *cell, void *context)
{
    const struct look *look = context;
    uint32_t kind = atomic_load_explicit(&cell->kind, memory_order_relaxed);
    uint32_t state = atomic_load_explicit(&cell->state, memory_order_relaxed);
    uint32_t pid = atomic_load_explicit(&cell->pid, memory_order_relaxed);
    uint64_t beat_ns = atomic_load_explicit(&cell->heartbeat_ns, memory_order_relaxed);
    if (kind >= MR_PROCESS_KIND_COUNT || state >= MR_STATE_COUNT)
        return;
    enum mr_liveness liveness = mr_liveness_of(pid, beat_ns, look->now_ns);
    struct mr_health_check *check =
        add(look->out, state == MR_STATE_READY && liveness == MR_LIVE_ALIVE);
    if (kind == MR_PROCESS_MATCHER)
        snprintf(check->name, sizeof check->name, "matcher-%" PRIu32,
                 atomic_load_explicit(&cell->shard, memory_order_relaxed));
    else
        snprintf(check->name, sizeof check->name, "%s", mr_process_kind_name(kind));
    snprintf(check->detail, sizeof check->detail, "%s, %s%s%.100s", mr_process_state_name(state),
             mr_liveness_name(liveness), cell->text[0] ? ": " : "", cell->text);
    if (state == MR_STATE_GIVEN_UP)
        look->out->given_up = true;
}

static void look_source(const struct mr_inspect *inspect, struct mr_health *out)
{
    const struct mr_cell_shm *puller = &inspect->board.shm->cells[MR_CELL_PULLER];
    bool connected = mr_counter_get(puller, MR_COUNTER_SOURCE_CONNECTED) != 0;
    struct mr_health_check *check = add(out, connected);
    snprintf(check->name, sizeof check->name, "source");
    snprintf(check->detail, sizeof check->detail, "%s", connected ? "connected" : "not connected");
}

static void look_directive(const struct mr_inspect *inspect, struct mr_health *out)
{
    uint32_t directive = atomic_load_explicit(&inspect->board.shm->directive, memory_order_relaxed);
    struct mr_health_check *check = add(out, directive != MR_DIRECTIVE_DRAIN);
    snprintf(check->name, sizeof check->name, "intake");
    snprintf(check->detail, sizeof check->detail, "%s", check->ok ? "open" : "drained on request");
}

void mr_health_look(const struct mr_inspect *inspect, struct mr_health *out)
{
    struct look look = {.out = out, .now_ns = mr_clock_ns()};
    *out = (struct mr_health){0};
    mr_inspect_cells(inspect, look_process, &look);
    look_source(inspect, out);
    look_directive(inspect, out);
}
