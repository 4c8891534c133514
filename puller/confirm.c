#include "puller/confirm.h"

#include <stdlib.h>

#include "common/clock.h"

enum { OLD_RECORDS_TURN = 4096 }; /* of the old part of the log in one turn: about a millisecond */

static void leave_old(struct mr_confirm *confirm)
{
    if (confirm->reader)
        mr_log_reader_close(&confirm->reader);
    confirm->have_ahead = false;
}

void mr_confirm_fini(struct mr_confirm *confirm)
{
    leave_old(confirm);
    free(confirm->queue);
    confirm->queue = NULL;
}

static void copy_entry(struct mr_confirm_entry *to, const struct mr_confirm_entry *from)
{
    to->sequence = from->sequence;
    to->seal = from->seal;
    to->position.len = from->position.len;
    memcpy(to->position.bytes, from->position.bytes, from->position.len);
}

/* Every second entry goes, never the newest: positions get further apart, and stay true. */
static void thin_out(struct mr_confirm *confirm)
{
    uint32_t kept = 0;
    for (uint32_t i = 1; i < confirm->count; i += 2)
        copy_entry(&confirm->queue[kept++], &confirm->queue[i]);
    confirm->count = kept;
}

void mr_confirm_add(struct mr_confirm *confirm, uint64_t sequence, uint64_t seal,
                    const struct mr_position *position)
{
    static_assert(MR_CONFIRM_QUEUE % 2 == 0, "the newest entry has an odd index when it is full");
    uint32_t count = confirm->count;
    MR_ASSERT(count == 0 || confirm->queue[count - 1].sequence <= sequence);
    /* Without an event in between the newest position covers as much and more. An older one is kept
     * beside it, which gets to the disk however often the newest is replaced. */
    if (count > 1 && confirm->queue[count - 2].sequence == sequence)
        confirm->count--;
    else if (count == MR_CONFIRM_QUEUE)
        thin_out(confirm);
    struct mr_confirm_entry *last = &confirm->queue[confirm->count++];
    last->sequence = sequence;
    last->seal = seal;
    last->position.len = position->len;
    memcpy(last->position.bytes, position->bytes, position->len);
}

static void take(struct mr_confirm *confirm, const struct mr_confirm_entry *entry)
{
    copy_entry(&confirm->best, entry);
    confirm->have = confirm->fresh = true;
}

enum mr_rc mr_confirm_init(struct mr_confirm *confirm, const char *log_dir, uint64_t checkpoint,
                           const struct mr_log_state *log, struct mr_err *err)
{
    *confirm =
        (struct mr_confirm){.log_dir = log_dir, .old_read = checkpoint, .old_last = log->last};
    confirm->queue = calloc(MR_CONFIRM_QUEUE, sizeof *confirm->queue);
    if (!confirm->queue)
        return mr_fail(err, MR_FATAL, "allocate %d source positions", MR_CONFIRM_QUEUE);
    if (log->last > 0) {
        struct mr_position end = {.len = log->position_len};
        memcpy(end.bytes, log->position, log->position_len);
        mr_confirm_add(confirm, log->last, 0, &end); /* a log that was opened is on disk */
    }
    return MR_OK;
}

static enum mr_rc open_old(struct mr_confirm *confirm, struct mr_err *err)
{
    enum mr_rc rc = mr_log_reader_open(&confirm->reader, confirm->log_dir, err);
    if (rc != MR_OK)
        return rc;
    uint64_t floor = 0;
    rc = mr_log_seek(confirm->reader, confirm->old_read, &floor, err);
    if (rc != MR_USAGE)
        return rc;
    /* Older than the log's floor is certainly confirmed; begin at the floor. */
    confirm->old_read = floor > 0 ? floor - 1 : confirm->old_last;
    return mr_log_seek(confirm->reader, confirm->old_read, &floor, err);
}

static bool same_position(const struct mr_position *a, const struct mr_position *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* Read on in the old part, through the checkpoint. A batch's position counts once its last record
 * is at or before the checkpoint: known when the next record has another position. */
static enum mr_rc read_old(struct mr_confirm *confirm, uint64_t checkpoint, struct mr_err *err)
{
    if (!confirm->reader) {
        enum mr_rc rc = open_old(confirm, err);
        if (rc != MR_OK)
            return rc;
    }
    uint64_t through = checkpoint < confirm->old_last ? checkpoint + 1 : confirm->old_last;
    for (uint32_t i = 0; i < OLD_RECORDS_TURN && confirm->old_read < through; i++) {
        struct mr_log_record record;
        enum mr_rc rc = mr_log_next(confirm->reader, &record, err);
        if (rc != MR_OK)
            return rc;
        struct mr_confirm_entry entry = {.sequence = record.sequence};
        rc = mr_log_position_at(confirm->reader, record.sequence, entry.position.bytes,
                                &entry.position.len, err);
        if (rc != MR_OK)
            return rc;
        if (confirm->have_ahead && !same_position(&confirm->ahead.position, &entry.position))
            take(confirm, &confirm->ahead);
        copy_entry(&confirm->ahead, &entry);
        confirm->have_ahead = true;
        confirm->old_read = record.sequence;
    }
    return MR_OK;
}

static enum mr_rc follow_old(struct mr_confirm *confirm, uint64_t checkpoint, struct mr_err *err)
{
    enum mr_rc rc = read_old(confirm, checkpoint, err);
    /* Retention was faster. What it removes lies at or before the checkpoint, and so does what was
     * read before it; the next turn goes on at the floor. */
    if (rc == MR_USAGE) {
        if (confirm->have_ahead && confirm->ahead.sequence <= checkpoint)
            take(confirm, &confirm->ahead);
        leave_old(confirm);
        return MR_OK;
    }
    return rc == MR_OK || rc == MR_AGAIN ? MR_OK
                                         : mr_err_prefix(err, "look up what the checkpoint allows");
}

/* False: the queue has nothing for this checkpoint. */
static bool follow_queue(struct mr_confirm *confirm, uint64_t checkpoint, uint64_t durable_seals)
{
    uint32_t done = 0;
    while (done < confirm->count && confirm->queue[done].sequence <= checkpoint &&
           confirm->queue[done].seal <= durable_seals)
        done++;
    if (done == 0)
        return false;
    take(confirm, &confirm->queue[done - 1]);
    memmove(confirm->queue, confirm->queue + done,
            (confirm->count - done) * sizeof *confirm->queue);
    confirm->count -= done;
    return true;
}

enum mr_rc mr_confirm_turn(struct mr_confirm *confirm, struct mr_source *source,
                           uint64_t checkpoint, uint64_t durable_seals, uint64_t now_ns,
                           struct mr_err *err)
{
    if (follow_queue(confirm, checkpoint,
                     durable_seals)) { /* no position of the old part is further */
        leave_old(confirm);
        confirm->old_read = UINT64_MAX;
    } else if (confirm->old_read < confirm->old_last && checkpoint >= confirm->old_read) {
        /* old_read starts at the checkpoint: nothing old is worth reading before that moves. */
        enum mr_rc rc = follow_old(confirm, checkpoint, err);
        if (rc != MR_OK)
            return rc;
    }
    bool due = now_ns - confirm->called_ns >= MR_NS_PER_S;
    if (!source->ops->confirm || !confirm->have || (!confirm->fresh && !due))
        return MR_OK;
    confirm->fresh = false;
    confirm->called_ns = now_ns;
    MR_ASSERT(confirm->best.sequence <= checkpoint);
    return source->ops->confirm(source, &confirm->best.position, err);
}
