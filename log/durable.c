/* How bytes become durable (fsync by group, one at a time, oldest segment first) and how they go.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crash.h"
#include "log/writer.h"

/* Is there anything that no fsync has covered? */
bool mr_log_durable_all(const struct mr_log_writer *w)
{
    return !w->op_sync.busy && !w->dir_dirty && w->unsynced_bytes == 0;
}

/* Wake the owner when the next fsync is due: nothing else might. */
static void arm_timer(struct mr_log_writer *w, uint64_t after_ns)
{
    if (w->op_timer.busy)
        return;
    w->op_timer = (struct mr_log_op){.kind = MR_LOG_OP_TIMER, .len = after_ns};
    mr_log_io_submit(w->io, &w->op_timer);
}

void mr_log_durable_start(struct mr_log_writer *w, uint64_t now_ns, bool force)
{
    if (w->op_sync.busy || mr_log_durable_all(w) || w->spare_state == MR_LOG_SPARE_FILLING)
        return;
    /* The first write after a pause is synced at once; what follows within the interval is grouped.
     */
    uint64_t passed_ns = now_ns > w->sync_started_ns ? now_ns - w->sync_started_ns : 0;
    bool sealed_segment = w->live_count > 1;
    if (!force && !sealed_segment && passed_ns < w->options.commit_interval_ns) {
        arm_timer(w, w->options.commit_interval_ns - passed_ns);
        return;
    }
    const struct mr_log_live *oldest = &w->live[0];
    w->sync_started_ns = now_ns;
    if (w->dir_dirty) /* data in a file without a name is not durable: the name comes first */
        w->op_sync = (struct mr_log_op){.kind = MR_LOG_OP_SYNC, .fd = w->dir_fd};
    else
        w->op_sync = (struct mr_log_op){.kind = MR_LOG_OP_SYNC_DATA, .fd = oldest->fd};
    w->sync_end = oldest->end;
    w->sync_sequence = oldest->end_sequence;
    w->sync_seals = oldest->end_seals;
    if (w->dir_dirty)
        w->dir_dirty = false; /* what is named from now on needs another one */
    mr_log_io_submit(w->io, &w->op_sync);
}

static enum mr_rc write_mark(struct mr_log_writer *w, const struct mr_log_live *live,
                             struct mr_err *err)
{
    struct mr_log_mark mark = {.offset = live->synced, .sequence = live->synced_sequence};
    mr_log_mark_seal(&mark, live->salt);
    if (mr_log_pwrite(live->fd, &mark, sizeof mark, MR_LOG_MARK_OFFSET) != MR_OK)
        return mr_fail(err, MR_FATAL, "write durable mark in log %s", w->options.dir);
    return MR_OK;
}

static enum mr_rc data_synced(struct mr_log_writer *w, struct mr_err *err)
{
    struct mr_log_live *oldest = &w->live[0];
    w->unsynced_bytes -= w->sync_end - oldest->synced;
    oldest->synced = w->sync_end;
    oldest->synced_sequence = w->sync_sequence;
    w->state.durable = w->sync_sequence;
    w->state.durable_seals = w->sync_seals;
    w->state.syncs++;
    MR_CRASH("log.synced");
    enum mr_rc rc = write_mark(w, oldest, err);
    MR_CRASH("log.marked");
    if (rc == MR_OK && w->live_count > 1 && oldest->synced == oldest->end) {
        close(oldest->fd);
        w->live_count--;
        memmove(&w->live[0], &w->live[1], w->live_count * sizeof w->live[0]);
    }
    return rc;
}

static void removed(struct mr_log_writer *w)
{
    w->state.size_bytes -= w->parts[0].size;
    w->state.segments--;
    memmove(&w->parts[0], &w->parts[1], w->state.segments * sizeof w->parts[0]);
    w->dir_dirty = true;
    if (w->spare_state == MR_LOG_SPARE_FAILED)
        w->spare_state = MR_LOG_SPARE_NONE; /* there is room again, perhaps */
}

enum mr_rc mr_log_durable_reap(struct mr_log_writer *w, bool wait, struct mr_err *err)
{
    struct mr_log_op *op = mr_log_io_reap(w->io, wait);
    if (!op)
        return MR_AGAIN;
    if (op == &w->op_spare) {
        mr_log_roll_spare_step(w);
        return w->spare_state == MR_LOG_SPARE_FILLED ? mr_log_roll_replace(w, err) : MR_OK;
    }
    if (op == &w->op_timer)
        return MR_OK;
    bool gone = op == &w->op_unlink && op->result == -ENOENT;
    if (op->result < 0 && !gone) { /* a segment that someone else has removed is removed */
        errno = -op->result;
        return mr_fail(err, MR_FATAL, "%s log %s",
                       op == &w->op_unlink ? "remove the oldest segment of" : "fsync",
                       w->options.dir);
    }
    if (op == &w->op_unlink) {
        removed(w);
        return MR_OK;
    }
    MR_ASSERT(op == &w->op_sync);
    enum mr_rc rc = op->kind == MR_LOG_OP_SYNC_DATA ? data_synced(w, err) : MR_OK;
    /* Go on with what this one left when it has waited already: the data behind a name, the next
     * segment behind one that has ended. */
    if (rc == MR_OK && (op->kind == MR_LOG_OP_SYNC || w->live_count > 1))
        mr_log_durable_start(w, mr_clock_ns(), true);
    return rc;
}

void mr_log_durable_retire(struct mr_log_writer *w, uint64_t releasable)
{
    /* One at a time, each made durable before the next: a power loss leaves no hole in the middle.
     */
    bool dir_syncing = w->op_sync.busy && w->op_sync.kind == MR_LOG_OP_SYNC;
    if (w->op_unlink.busy || w->dir_dirty || dir_syncing || w->state.segments <= w->live_count)
        return;
    uint64_t next_first = w->parts[1].first_sequence;
    int64_t age_us = mr_clock_wall_us() - w->parts[1].created_us;
    bool old = age_us > 0 && (uint64_t)age_us > w->options.retention_age_ns / MR_NS_PER_US;
    if (next_first - 1 > releasable || next_first - 1 > w->state.durable ||
        (!old && w->state.size_bytes <= w->options.retention_bytes))
        return;
    w->state.floor = next_first;
    mr_log_segment_name(w->unlink_name, w->parts[0].first_sequence);
    w->op_unlink =
        (struct mr_log_op){.kind = MR_LOG_OP_UNLINK, .fd = w->dir_fd, .name = w->unlink_name};
    mr_log_io_submit(w->io, &w->op_unlink);
}
