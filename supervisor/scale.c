/* Another number of shards while events flow: docs/design.md, "Scale". */
#include <inttypes.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "supervisor/supervisor.h"

/* The feed may stand still for so long; then the change is taken back. */
#define PAUSE_MAX_NS     (5 * MR_NS_PER_S)
#define MATCHER_GRACE_NS (5 * MR_NS_PER_S)

static struct mr_cell_shm *cell_at(const struct mr_supervisor *s, uint32_t index)
{
    return &s->board.shm->cells[index];
}

/* Ring set g uses the matchers' bank g & 1, so the next one is of the other parity; and a number
 * whose change was taken back is not used again: somebody may still have its rings mapped. */
static uint32_t next_generation(const struct mr_supervisor *s)
{
    uint32_t current = mr_ring_set_generation(s->rings.ring_set), next = s->generation_last + 1;
    return ((next ^ current) & 1) ? next : next + 1;
}

/* A number that a reload brought and that did not come about still differs for the next one. */
static void not_scaled(struct mr_supervisor *s)
{
    if (s->loaded.matcher_shards == mr_ring_set_shards(s->scale.to))
        s->loaded.matcher_shards = mr_ring_set_shards(s->scale.from);
}

void mr_scale_begin(struct mr_supervisor *s, uint32_t shards, uint32_t client, uint64_t now_ns)
{
    struct mr_err err = {0};
    struct mr_scale *scale = &s->scale;
    s->task_client = client;
    s->task = MR_TASK_SCALE;
    *scale = (struct mr_scale){.phase = MR_SCALE_ATTACH,
                               .from = s->rings.ring_set,
                               .began_ns = now_ns,
                               .deadline_ns = now_ns + s->config.supervisor_start_timeout};
    if (shards == mr_ring_set_shards(scale->from)) {
        mr_supervisor_finish_task(s, NULL, "%u shards already", shards);
        return;
    }
    s->generation_last = next_generation(s);
    scale->to = mr_ring_set_pack(s->generation_last, shards);
    enum mr_rc rc = mr_segments_create_rings(&s->config, s->board.shm->head.epoch, scale->to, &err);
    if (rc == MR_OK &&
        (rc = mr_rings_open(&scale->rings, s->config.instance_name.text, scale->to, &err)) != MR_OK)
        mr_segments_remove_rings(s->config.instance_name.text, scale->to);
    if (rc != MR_OK) {
        not_scaled(s);
        mr_supervisor_finish_task(s, &err, "scale");
        return;
    }
    mr_log_info("supervisor", "scale_begins", "from=%u to=%u generation=%u",
                mr_ring_set_shards(scale->from), shards, s->generation_last);
    MR_CRASH("scale.created");
    atomic_store_explicit(&s->board.shm->ring_set_next, scale->to, memory_order_release);
    for (uint32_t shard = 0; shard < shards; shard++)
        mr_child_want(&s->children, MR_PROCESS_MATCHER, shard, s->generation_last);
    mr_children_wake(&s->children);
    MR_CRASH("scale.announced");
}

/* Tell the matchers of a ring set to leave. */
static void retire_matchers(struct mr_supervisor *s, uint64_t set)
{
    for (uint32_t shard = 0; shard < mr_ring_set_shards(set); shard++)
        mr_child_stop(&s->children, mr_cell_matcher(mr_ring_set_generation(set), shard),
                      MATCHER_GRACE_NS, false);
}

static bool matchers_gone(const struct mr_supervisor *s, uint64_t set)
{
    for (uint32_t shard = 0; shard < mr_ring_set_shards(set); shard++)
        if (s->children.child[mr_cell_matcher(mr_ring_set_generation(set), shard)].life !=
            MR_CHILD_NONE)
            return false;
    return true;
}

/* Back to the old ring set, which was never left. The task ends when the new matchers have: the
 * next change needs their cells. */
void mr_scale_abort(struct mr_supervisor *s, const char *reason)
{
    struct mr_scale *scale = &s->scale;
    atomic_store_explicit(&s->board.shm->ring_set_next, 0, memory_order_release);
    mr_supervisor_direct(s, MR_DIRECTIVE_RUN);
    retire_matchers(s, scale->to);
    mr_rings_close(&scale->rings);
    mr_segments_remove_rings(s->config.instance_name.text, scale->to);
    not_scaled(s);
    mr_reject(&scale->failure, MR_RETRY, "scale to %u: %s; taken back, still %u shards",
              mr_ring_set_shards(scale->to), reason, mr_ring_set_shards(scale->from));
    scale->phase = MR_SCALE_TAKEN_BACK;
}

/* New matchers ready, and both ends of the rings mapped by those who use them. */
static bool attached(const struct mr_supervisor *s)
{
    uint32_t generation = mr_ring_set_generation(s->scale.to);
    for (uint32_t shard = 0; shard < mr_ring_set_shards(s->scale.to); shard++)
        if (s->children.child[mr_cell_matcher(generation, shard)].life != MR_CHILD_RUNNING)
            return false;
    return atomic_load_explicit(&cell_at(s, MR_CELL_PULLER)->rings_attached,
                                memory_order_acquire) == generation &&
           atomic_load_explicit(&cell_at(s, MR_CELL_PUBLISHER)->rings_attached,
                                memory_order_acquire) == generation;
}

static bool feed_paused(const struct mr_supervisor *s)
{
    uint64_t number = atomic_load_explicit(&s->board.shm->directive_number, memory_order_relaxed);
    return s->children.child[MR_CELL_PULLER].life == MR_CHILD_RUNNING &&
           atomic_load_explicit(&cell_at(s, MR_CELL_PULLER)->feed_paused, memory_order_acquire) ==
               number + 1;
}

/* Nothing is in the old rings and nothing comes: from here on the new ones count. */
static void switch_over(struct mr_supervisor *s, uint64_t now_ns)
{
    struct mr_scale *scale = &s->scale;
    mr_progress_write(s, now_ns); /* the last word of the old rings; the new ones have none yet */
    atomic_store_explicit(&s->board.shm->ring_set, scale->to, memory_order_release);
    MR_CRASH("scale.named");
    atomic_store_explicit(&s->board.shm->ring_set_next, 0, memory_order_release);
    mr_supervisor_direct(s, MR_DIRECTIVE_RUN);
    MR_CRASH("scale.switched");
    mr_rings_close(&s->rings);
    s->rings = scale->rings;
    scale->rings = (struct mr_rings){0};
    s->config.matcher_shards = mr_ring_set_shards(scale->to);
    mr_gauge(s->cell, MR_COUNTER_SCALE_PAUSE, now_ns - scale->paused_ns);
    mr_count(s->cell, MR_COUNTER_SCALES, 1);
    retire_matchers(s, scale->from);
    scale->paused_ns = now_ns - scale->paused_ns;
    scale->phase = MR_SCALE_RETIRE;
}

static void finish(struct mr_supervisor *s, uint64_t now_ns)
{
    struct mr_scale *scale = &s->scale;
    mr_segments_remove_rings(s->config.instance_name.text, scale->from);
    MR_CRASH("scale.removed");
    mr_supervisor_finish_task(
        s, NULL, "%u shards, feed held for %" PRIu64 ".%03" PRIu64 " ms, %" PRIu64 " ms in all",
        mr_ring_set_shards(scale->to), scale->paused_ns / MR_NS_PER_MS,
        scale->paused_ns / MR_NS_PER_US % 1000, (now_ns - scale->began_ns) / MR_NS_PER_MS);
}

void mr_scale_work(struct mr_supervisor *s, uint64_t now_ns)
{
    struct mr_scale *scale = &s->scale;
    switch (scale->phase) {
    case MR_SCALE_ATTACH:
        if (attached(s)) {
            scale->phase = MR_SCALE_QUIESCE;
            scale->paused_ns = now_ns;
            scale->deadline_ns = now_ns + PAUSE_MAX_NS;
            mr_supervisor_direct(s, MR_DIRECTIVE_QUIESCE);
            MR_CRASH("scale.quiesced");
        } else if (mr_children_hopeless(&s->children)) {
            mr_scale_abort(s, "a process has been given up (millrace status says why)");
        } else if (now_ns >= scale->deadline_ns) {
            mr_scale_abort(s, "not all processes took the new rings in time");
        }
        break;
    case MR_SCALE_QUIESCE:
        if (feed_paused(s) && mr_rings_empty(&s->rings))
            switch_over(s, now_ns);
        else if (now_ns >= scale->deadline_ns)
            mr_scale_abort(s, "the old rings did not run empty in time");
        break;
    case MR_SCALE_RETIRE:
        if (matchers_gone(s, scale->from))
            finish(s, now_ns);
        break;
    case MR_SCALE_TAKEN_BACK:
        if (matchers_gone(s, scale->to))
            mr_supervisor_finish_task(s, &scale->failure, "scale");
        break;
    }
}
