/* How far all shards have come, made durable as the checkpoint. */
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "supervisor/supervisor.h"

/* Each checkpoint is two fsyncs: under load "every N events" must not mean all the time. */
#define PAUSE_NS (20 * MR_NS_PER_MS)

/* A broken checkpoint is set aside and the rings are fed from the oldest event in the log on. That
 * is always safe, it only takes time: subscribers resume by marker, so nobody gets anything twice.
 * To refuse the start would leave the service down for a file that the log can replace. */
enum mr_rc mr_progress_open(struct mr_supervisor *s, struct mr_err *err)
{
    const char *directory = s->config.instance_data_dir.text;
    struct mr_err why = {0};
    enum mr_rc rc = mr_checkpoint_read(directory, &s->checkpoint, &why);
    if (rc == MR_CORRUPT) {
        mr_log_error("supervisor", "checkpoint_broken",
                     "why=\"%s\" effect=\"set aside as %s/checkpoint.broken; "
                     "fed again from the log's oldest event\"",
                     why.text, directory);
        rc = mr_checkpoint_set_aside(directory, err);
        if (rc != MR_OK)
            return rc;
        rc = MR_AGAIN;
    }
    if (rc == MR_AGAIN) {
        s->checkpoint = (struct mr_checkpoint){0};
        rc = MR_OK;
    } else if (rc != MR_OK) {
        *err = why;
    } else {
        mr_log_info("supervisor", "checkpoint_read", "sequence=%" PRIu64 " log_id=%016" PRIx64,
                    s->checkpoint.sequence, s->checkpoint.log_id);
    }
    return rc == MR_OK ? mr_checkpoint_open(&s->writer, directory, err) : rc;
}

/* Released by all shards, and safe wherever the publisher sends it to by itself. */
static uint64_t safe_through(const struct mr_supervisor *s)
{
    uint64_t through = mr_rings_released_through(&s->rings);
    for (int holder = 0; holder < MR_HOLDER_COUNT; holder++) {
        uint64_t held =
            atomic_load_explicit(&s->board.shm->held_through[holder], memory_order_acquire);
        if (held != 0 && held - 1 < through)
            through = held - 1;
    }
    return through;
}

static void tell_failure(struct mr_supervisor *s, const struct mr_err *err)
{
    mr_count(s->cell, MR_COUNTER_CHECKPOINT_ERRORS, 1);
    mr_log_error("supervisor", "checkpoint_not_written",
                 "why=\"%s\" effect=\"the source is not acknowledged\"", err->text);
}

void mr_progress_write(struct mr_supervisor *s, uint64_t now_ns)
{
    struct mr_board_shm *board = s->board.shm;
    uint64_t log_id = atomic_load_explicit(&board->log_id, memory_order_acquire);
    uint64_t through = safe_through(s);
    uint64_t durable = mr_counter_get(&board->cells[MR_CELL_PULLER], MR_COUNTER_LOG_DURABLE);
    through = durable < through ? durable : through;
    if (s->writer.phase != MR_CHECKPOINT_IDLE || log_id == 0 || log_id != s->checkpoint.log_id ||
        through <= s->checkpoint.sequence)
        return;
    struct mr_checkpoint next = {
        .log_id = log_id, .sequence = through, .wall_us = mr_clock_wall_us()};
    struct mr_err err = {0};
    strcpy(next.instance, s->config.instance_name.text);
    s->checkpoint_ns = now_ns;
    if (mr_checkpoint_begin(&s->writer, &next, &err) != MR_OK)
        tell_failure(s, &err);
}

void mr_progress_step(struct mr_supervisor *s)
{
    struct mr_err err = {0};
    enum mr_rc rc = mr_checkpoint_work(&s->writer, &err);
    if (rc == MR_AGAIN)
        return;
    if (rc != MR_OK) {
        tell_failure(s, &err);
        return;
    }
    s->checkpoint = s->writer.next;
    atomic_store_explicit(&s->board.shm->checkpoint, s->checkpoint.sequence, memory_order_release);
    mr_gauge(s->cell, MR_COUNTER_CHECKPOINT_SEQUENCE, s->checkpoint.sequence);
    mr_count(s->cell, MR_COUNTER_CHECKPOINTS, 1);
}

/* The puller has opened its log: does the checkpoint belong to it? Another log counts otherwise:
 * events could be skipped in silence. */
static bool adopt_log(struct mr_supervisor *s, uint64_t log_id)
{
    char reason[400];
    if (s->checkpoint.log_id == 0) {
        s->checkpoint.log_id = log_id;
        return true;
    }
    if (s->checkpoint.log_id == log_id)
        return true;
    snprintf(reason, sizeof reason,
             "checkpoint %.200s/checkpoint belongs to log %016" PRIx64 ", but the log "
             "there is %016" PRIx64
             ": put the right log back, or remove the checkpoint to feed this one from "
             "its beginning",
             s->config.instance_data_dir.text, s->checkpoint.log_id, log_id);
    mr_stop_at_once(s, MR_USAGE, reason);
    return false;
}

void mr_progress_work(struct mr_supervisor *s, uint64_t now_ns)
{
    uint64_t log_id = atomic_load_explicit(&s->board.shm->log_id, memory_order_acquire);
    if (log_id == 0 || now_ns - s->checkpoint_ns < PAUSE_NS ||
        (log_id != s->checkpoint.log_id && !adopt_log(s, log_id)))
        return;
    uint64_t through = safe_through(s);
    bool many = through >= s->checkpoint.sequence + s->config.checkpoint_events;
    if (many || now_ns - s->checkpoint_ns >= s->config.checkpoint_interval)
        mr_progress_write(s, now_ns);
}

bool mr_progress_idle(const struct mr_supervisor *s)
{
    return s->writer.phase == MR_CHECKPOINT_IDLE && safe_through(s) <= s->checkpoint.sequence;
}
