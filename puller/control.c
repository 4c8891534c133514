#include "puller/control.h"

#include "common/crash.h"
#include "common/log.h"

struct mr_rings *mr_control_rings(struct mr_control *control)
{
    return &control->sets[control->current];
}

static void say_attached(struct mr_control *control, uint64_t set)
{
    /* The supervisor goes on when it sees the generation: everything before it is in place. */
    atomic_store_explicit(&control->process->cell->rings_attached, mr_ring_set_generation(set),
                          memory_order_release);
    mr_log_info("control", "rings_attached", "generation=%u shards=%u", mr_ring_set_generation(set),
                mr_ring_set_shards(set));
}

enum mr_rc mr_control_open(struct mr_control *control, struct mr_process *process,
                           const struct mr_log_state *log, struct mr_err *err)
{
    *control = (struct mr_control){.process = process, .log_last = log->last};
    struct mr_board_shm *board = process->board.shm;
    /* Without a checkpoint what the log still holds is fed. Behind a checkpoint there must be no
     * hole: retention leaves none. */
    uint64_t start = board->start_sequence;
    if (start == 0 && log->floor > 0)
        start = log->floor - 1;
    uint64_t set = atomic_load_explicit(&board->ring_set, memory_order_acquire);
    enum mr_rc rc =
        mr_rings_attach(&control->sets[0], board, set, &process->config, start, log->last, err);
    if (rc != MR_OK)
        return rc;
    control->set = set;
    /* A predecessor's word would let the supervisor switch before this puller stands still. */
    atomic_store_explicit(&process->cell->feed_paused, 0, memory_order_release);
    say_attached(control, set);
    return MR_OK;
}

void mr_control_close(struct mr_control *control)
{
    mr_rings_detach(&control->sets[0]);
    mr_rings_detach(&control->sets[1]);
}

/* Prepare the next set, or drop it when the supervisor has given the change up. */
static enum mr_rc follow_next(struct mr_control *control, uint64_t next, struct mr_err *err)
{
    struct mr_rings *rings = &control->sets[control->current ^ 1];
    if (next == control->set_next)
        return MR_OK;
    mr_rings_detach(rings);
    control->set_next = 0;
    if (next == 0 || next == control->set)
        return MR_OK;
    enum mr_rc rc = mr_rings_attach(rings, control->process->board.shm, next,
                                    &control->process->config, 0, control->log_last, err);
    if (rc != MR_OK)
        return rc;
    control->set_next = next;
    MR_CRASH("control.attached");
    say_attached(control, next);
    return MR_OK;
}

static enum mr_rc switch_set(struct mr_control *control, uint64_t set, struct mr_err *err)
{
    struct mr_feed *feed = control->feed;
    if (set != control->set_next) {
        enum mr_rc rc = follow_next(control, set, err);
        if (rc != MR_OK)
            return rc;
    }
    /* The new rings begin where the old ones ended, also for a successor who finds them empty. */
    struct mr_rings *next = &control->sets[control->current ^ 1];
    mr_rings_publish(next, mr_rings_fed(mr_control_rings(control)));
    MR_CRASH("control.switching");
    mr_rings_detach(mr_control_rings(control));
    control->current ^= 1;
    control->set = set;
    control->set_next = 0;
    mr_feed_use(feed, mr_control_rings(control));
    MR_CRASH("control.switched");
    mr_log_info("control", "rings_switched", "generation=%u shards=%u behind=%llu",
                mr_ring_set_generation(set), mr_ring_set_shards(set),
                (unsigned long long)feed->sequence);
    return MR_OK;
}

static void obey(struct mr_control *control, uint64_t number, enum mr_directive directive)
{
    static const char *const names[] = {"run", "quiesce", "drain"};
    control->directive_number = number;
    control->directive = directive;
    control->paused = false;
    atomic_store_explicit(&control->process->cell->feed_paused, 0, memory_order_release);
    mr_log_info("control", "directive", "directive=%s number=%llu fed=%llu", names[directive],
                (unsigned long long)number, (unsigned long long)control->feed->sequence);
}

/* QUIESCE. Not while some ring is ahead of the feed, as a predecessor leaves them who died between
 * publishing two of them: the publisher could pass nothing of what is in that ring. */
static void pause_feed(struct mr_control *control)
{
    struct mr_rings *rings = mr_control_rings(control);
    if (control->directive != MR_DIRECTIVE_QUIESCE || control->paused ||
        control->feed->sequence < rings->repeat_through)
        return;
    control->paused = true;
    /* Stated before the supervisor switches: a puller that dies in between leaves a successor who
     * finds in the new rings how far the old ones were fed. */
    if (control->set_next != 0)
        mr_rings_publish(&control->sets[control->current ^ 1], mr_rings_fed(rings));
    MR_CRASH("control.stated");
    atomic_store_explicit(&control->process->cell->feed_paused, 1 + control->directive_number,
                          memory_order_release);
    MR_CRASH("control.paused");
    mr_log_info("control", "feed_paused", "number=%llu fed=%llu",
                (unsigned long long)control->directive_number,
                (unsigned long long)control->feed->sequence);
}

enum mr_rc mr_control_turn(struct mr_control *control, struct mr_err *err)
{
    const struct mr_board_shm *board = control->process->board.shm;
    /* In this order: who sees the RUN behind a change also sees the set that it is meant for. */
    uint64_t number = atomic_load_explicit(&board->directive_number, memory_order_acquire);
    uint64_t set = atomic_load_explicit(&board->ring_set, memory_order_acquire);
    uint64_t next = atomic_load_explicit(&board->ring_set_next, memory_order_acquire);
    enum mr_rc rc = MR_OK;
    if (set != control->set)
        rc = switch_set(control, set, err);
    else if (next != control->set_next)
        rc = follow_next(control, next, err);
    if (rc != MR_OK)
        return rc;
    if (number != control->directive_number) {
        if (control->set_next != 0)
            MR_CRASH("control.told");
        uint32_t directive = atomic_load_explicit(&board->directive, memory_order_relaxed);
        if (directive > MR_DIRECTIVE_DRAIN)
            return mr_reject(err, MR_CORRUPT, "board: directive %u is unknown", directive);
        obey(control, number, (enum mr_directive)directive);
    }
    pause_feed(control);
    return MR_OK;
}
