/* The graceful end: docs/design.md, "Stop". */
#include <stdio.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "supervisor/supervisor.h"

/* At least so long between SIGTERM and SIGKILL, however late it is. */
#define GRACE_MIN_NS (2 * MR_NS_PER_S)
/* Between two tries at the last checkpoint. */
#define WRITE_AGAIN_NS (5 * MR_NS_PER_MS)

static uint64_t grace_ns(const struct mr_supervisor *s, uint64_t now_ns)
{
    uint64_t left_ns = s->stop.deadline_ns > now_ns ? s->stop.deadline_ns - now_ns : 0;
    return left_ns > GRACE_MIN_NS ? left_ns : GRACE_MIN_NS;
}

/* SIGTERM to all of a kind; those without a process, or about to be replaced, are wanted no longer.
 */
static void end_kinds(struct mr_supervisor *s, uint32_t kinds, uint64_t now_ns)
{
    for (uint32_t i = 1; i < MR_BOARD_CELLS; i++) {
        struct mr_child *child = &s->children.child[i];
        if (child->life != MR_CHILD_NONE && (kinds >> child->kind & 1))
            mr_child_stop(&s->children, i, grace_ns(s, now_ns), false);
    }
}

static bool gone(const struct mr_supervisor *s, uint32_t kinds)
{
    for (uint32_t i = 1; i < MR_BOARD_CELLS; i++)
        if ((kinds >> s->children.child[i].kind & 1) && s->children.child[i].life != MR_CHILD_NONE)
            return false;
    return true;
}

void mr_stop_at_once(struct mr_supervisor *s, enum mr_rc rc, const char *reason)
{
    if (s->stop.at_once)
        return;
    mr_reject(&s->outcome, rc, "%s", reason);
    mr_log_error("supervisor", "stops_at_once", "why=\"%s\"", reason);
    if (s->task == MR_TASK_SCALE || s->task == MR_TASK_RELOAD)
        mr_supervisor_finish_task(s, &s->outcome, "ended");
    s->task = MR_TASK_STOP;
    s->stop.at_once = true;
    s->stop.phase = MR_STOP_PULLER;
    s->stop.deadline_ns = 0;
    s->children.restart = false;
    end_kinds(s, MR_KIND_ALL, mr_clock_ns());
}

/* Stop goes before whatever is under way, whose client hears that it was not done; done are a scale
 * that has switched, and a drain. */
static void end_task(struct mr_supervisor *s)
{
    struct mr_err err = {0};
    if (s->task == MR_TASK_SCALE && s->scale.phase < MR_SCALE_RETIRE)
        mr_scale_abort(s, "the instance stops");
    if (s->task == MR_TASK_SCALE && s->scale.phase == MR_SCALE_TAKEN_BACK) {
        mr_supervisor_finish_task(s, &s->scale.failure, "scale");
    } else if (s->task == MR_TASK_SCALE) {
        mr_supervisor_finish_task(s, NULL, "%u shards, and the instance stops",
                                  mr_ring_set_shards(s->scale.to));
    } else if (s->task == MR_TASK_RELOAD ||
               (s->task == MR_TASK_DRAIN && s->stop.phase == MR_STOP_DRAIN)) {
        mr_reject(&err, MR_RETRY, "ended by stop, while the instance was %s", mr_status_word(s));
        mr_supervisor_finish_task(s, &err, "stop");
    }
}

void mr_stop_begin(struct mr_supervisor *s, bool drain_only, uint32_t client, uint64_t now_ns)
{
    end_task(s);
    s->task = drain_only ? MR_TASK_DRAIN : MR_TASK_STOP;
    s->task_client = client;
    s->stop = (struct mr_stop){.phase = MR_STOP_DRAIN,
                               .began_ns = now_ns,
                               .deadline_ns = now_ns + s->config.supervisor_drain_timeout};
    mr_log_info("supervisor", drain_only ? "drain_begins" : "stop_begins", NULL);
    if (!drain_only)
        mr_notify_send(&s->notify, "STOPPING=1\nSTATUS=draining");
    mr_supervisor_direct(s, MR_DIRECTIVE_DRAIN);
    MR_CRASH("drain.directed");
}

/* The puller has read its last, nothing is in the rings, and the checkpoint says so on disk. */
static bool drained(struct mr_supervisor *s, uint64_t now_ns)
{
    const struct mr_cell_shm *puller = &s->board.shm->cells[MR_CELL_PULLER];
    if (s->children.child[MR_CELL_PULLER].life != MR_CHILD_RUNNING ||
        atomic_load_explicit(&puller->state, memory_order_acquire) != MR_STATE_DRAINED ||
        !mr_rings_empty(&s->rings))
        return false;
    uint64_t last = mr_counter_get(puller, MR_COUNTER_LOG_LAST);
    if (s->checkpoint.sequence < last && now_ns - s->checkpoint_ns >= WRITE_AGAIN_NS)
        mr_progress_write(s, now_ns);
    return s->checkpoint.sequence >= last;
}

/* Somebody without whom the rings never run empty will not come back, or never came. */
static bool hopeless(const struct mr_supervisor *s)
{
    return !s->was_ready || mr_children_hopeless(&s->children);
}

static void work_on_drain(struct mr_supervisor *s, uint64_t now_ns)
{
    struct mr_err err = {0};
    if (drained(s, now_ns)) {
        mr_children_wake(&s->children); /* the puller confirms the checkpoint to its source */
        mr_log_info("supervisor", "drained", "sequence=%llu after_ms=%llu",
                    (unsigned long long)s->checkpoint.sequence,
                    (unsigned long long)((now_ns - s->stop.began_ns) / MR_NS_PER_MS));
        s->stop.phase = MR_STOP_DRAINED;
        MR_CRASH("drain.drained");
        if (s->task == MR_TASK_DRAIN) {
            mr_supervisor_finish_task(s, NULL, "drained through sequence %llu",
                                      (unsigned long long)s->checkpoint.sequence);
            s->task = MR_TASK_DRAIN; /* stays so: what follows is stop */
        }
    } else if (s->task == MR_TASK_STOP && !s->was_ready) {
        mr_stop_at_once(s, MR_OK, "stopped before all processes were ready");
    } else if (now_ns >= s->stop.deadline_ns || hopeless(s)) {
        const char *why =
            hopeless(s) ? "not drained, a process has been given up; the log keeps what is left"
                        : "not drained in supervisor.drain_timeout; the log keeps what is left";
        if (s->task == MR_TASK_STOP) {
            mr_stop_at_once(s, MR_RETRY, why);
            return;
        }
        mr_reject(&err, MR_RETRY, "%s", why);
        mr_supervisor_direct(s, MR_DIRECTIVE_RUN);
        mr_supervisor_finish_task(s, &err, "drain");
    }
}

void mr_stop_work(struct mr_supervisor *s, uint64_t now_ns)
{
    struct mr_stop *stop = &s->stop;
    if (stop->phase == MR_STOP_DRAIN)
        work_on_drain(s, now_ns);
    if (s->task != MR_TASK_STOP)
        return;
    if (stop->phase == MR_STOP_DRAINED) {
        s->children.restart = false;
        stop->phase = MR_STOP_PUBLISHER;
        end_kinds(s, MR_KIND_B | MR_KIND_R, now_ns);
    }
    if (stop->phase == MR_STOP_PUBLISHER && gone(s, MR_KIND_B)) {
        stop->phase = MR_STOP_MATCHERS;
        end_kinds(s, MR_KIND_M, now_ns);
    }
    if (stop->phase == MR_STOP_MATCHERS && gone(s, MR_KIND_M)) {
        stop->phase = MR_STOP_PULLER;
        end_kinds(s, MR_KIND_P, now_ns);
    }
    if (stop->phase == MR_STOP_PULLER && gone(s, MR_KIND_ALL))
        s->done = true;
}
