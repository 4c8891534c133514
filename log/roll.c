/* Segments as the writer sees them: made in advance, begun, synced, retired. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/fault.h"
#include "log/writer.h"

static enum mr_rc random_salt(uint64_t *out)
{
    do {
        if (getrandom(out, sizeof *out, 0) != sizeof *out)
            return MR_FATAL;
    } while (*out == 0);
    return MR_OK;
}

/* Append to the list of all segments. */
static enum mr_rc add_part(struct mr_log_writer *w, uint64_t first_sequence, int64_t created_us,
                           struct mr_err *err)
{
    if (w->state.segments == w->parts_max) {
        uint32_t wanted = w->parts_max ? w->parts_max * 2 : 64;
        struct mr_log_part *larger = realloc(w->parts, wanted * sizeof *larger);
        if (!larger)
            return mr_fail(err, MR_FATAL, "begin segment in log %s", w->options.dir);
        w->parts = larger;
        w->parts_max = wanted;
    }
    w->parts[w->state.segments++] = (struct mr_log_part){.first_sequence = first_sequence,
                                                         .size = w->options.segment_bytes,
                                                         .created_us = created_us};
    w->state.size_bytes += w->options.segment_bytes;
    return MR_OK;
}

/* A file that is longer than was reserved counts as what it is. */
static void grow_part(struct mr_log_writer *w)
{
    struct mr_log_part *part = &w->parts[w->state.segments - 1];
    uint64_t end = mr_log_current(w)->end;
    if (end > part->size) {
        w->state.size_bytes += end - part->size;
        part->size = end;
    }
}

static void spare_failed(struct mr_log_writer *w, int result)
{
    errno = -result;
    (void)mr_fail(&w->spare_err, MR_FATAL, "make segment %s/" MR_LOG_SPARE_NAME, w->options.dir);
    if (w->spare_fd >= 0)
        close(w->spare_fd);
    w->spare_fd = -1;
    w->spare_state = MR_LOG_SPARE_FAILED;
}

/* Reserve the room; then write the head, which leaves the first sequence open. Returns 0 or an
 * errno. */
static int spare_begin(struct mr_log_writer *w)
{
    w->spare_head = (struct mr_log_segment_head){
        .magic = MR_LOG_SEGMENT_MAGIC, .version = MR_LOG_VERSION, .log_id = w->state.log_id};
    if (random_salt(&w->spare_head.salt) != MR_OK)
        return errno;
    mr_log_head_seal(&w->spare_head);
    if (mr_log_pwrite(w->spare_fd, &w->spare_head, sizeof w->spare_head, 0) != MR_OK)
        return errno;
    return 0;
}

void mr_log_roll_spare_step(struct mr_log_writer *w)
{
    struct mr_log_op *op = &w->op_spare;
    int result = op->result;
    /* A file system that cannot reserve is no failure: writes extend the file, and cost more. */
    if (result == -EOPNOTSUPP && w->spare_state == MR_LOG_SPARE_ALLOCATING)
        result = 0;
    if (result >= 0 && w->spare_state == MR_LOG_SPARE_ALLOCATING)
        result = -spare_begin(w);
    if (result < 0) {
        spare_failed(w, result);
        return;
    }
    switch (w->spare_state) {
    case MR_LOG_SPARE_OPENING:
        w->spare_fd = result;
        w->spare_state = MR_LOG_SPARE_ALLOCATING;
        *op = (struct mr_log_op){
            .kind = MR_LOG_OP_ALLOCATE, .fd = w->spare_fd, .len = w->options.segment_bytes};
        break;
    case MR_LOG_SPARE_ALLOCATING:
        w->spare_state = MR_LOG_SPARE_SYNCING;
        *op = (struct mr_log_op){.kind = MR_LOG_OP_SYNC, .fd = w->spare_fd};
        break;
    case MR_LOG_SPARE_FILLING:
        w->spare_state = MR_LOG_SPARE_FILLED;
        return;
    default:
        MR_ASSERT(w->spare_state == MR_LOG_SPARE_SYNCING);
        w->spare_state = MR_LOG_SPARE_READY;
        return;
    }
    mr_log_io_submit(w->io, op);
}

void mr_log_roll_spare(struct mr_log_writer *w)
{
    if (w->spare_state != MR_LOG_SPARE_NONE)
        return;
    w->spare_state = MR_LOG_SPARE_OPENING;
    w->op_spare =
        (struct mr_log_op){.kind = MR_LOG_OP_OPEN, .fd = w->dir_fd, .name = MR_LOG_SPARE_NAME};
    mr_log_io_submit(w->io, &w->op_spare);
}

bool mr_log_roll_wanted(const struct mr_log_writer *w, uint32_t length)
{
    const struct mr_log_live *current = &w->live[w->live_count - 1];
    return current->end > MR_LOG_DATA_OFFSET && current->end + length > w->options.segment_bytes;
}

bool mr_log_roll_possible(const struct mr_log_writer *w)
{
    return w->spare_state == MR_LOG_SPARE_READY && w->live_count < MR_LOG_OPEN_MAX;
}

/* Write the head with the sequence, then give the spare its name: whoever sees the name sees a
 * head. */
static enum mr_rc name_spare(struct mr_log_writer *w, uint64_t first, struct mr_err *err)
{
    char name[MR_LOG_NAME_MAX];
    mr_log_segment_name(name, first);
    w->spare_head.first_sequence = first;
    w->spare_head.created_us = mr_clock_wall_us();
    mr_log_head_seal(&w->spare_head);
    if (mr_log_pwrite(w->spare_fd, &w->spare_head, sizeof w->spare_head, 0) != MR_OK)
        return mr_fail(err, MR_FATAL, "write head of segment %s/%s", w->options.dir, name);
    if (MR_FAULT("log.rename"))
        errno = EIO;
    else if (renameat(w->dir_fd, MR_LOG_SPARE_NAME, w->dir_fd, name) == 0)
        return MR_OK;
    return mr_fail(err, MR_FATAL, "name segment %s/%s", w->options.dir, name);
}

static void begin_live(struct mr_log_writer *w)
{
    w->live[w->live_count++] = (struct mr_log_live){.fd = w->spare_fd,
                                                    .salt = w->spare_head.salt,
                                                    .first_sequence = w->spare_head.first_sequence,
                                                    .end = MR_LOG_DATA_OFFSET,
                                                    .end_sequence = w->batch_first - 1,
                                                    .end_seals = w->state.seals,
                                                    .synced = MR_LOG_DATA_OFFSET,
                                                    .synced_sequence = w->batch_first - 1};
    w->spare_fd = -1;
    w->spare_state = MR_LOG_SPARE_NONE;
    w->dir_dirty = true;
}

enum mr_rc mr_log_roll(struct mr_log_writer *w, struct mr_err *err)
{
    MR_ASSERT(mr_log_roll_possible(w));
    if (w->live_count > 0)
        grow_part(w);
    /* state.last counts the batch that is about to be written: it begins at batch_first. */
    enum mr_rc rc = name_spare(w, w->batch_first, err);
    MR_CRASH("log.named");
    if (rc == MR_OK)
        rc = add_part(w, w->spare_head.first_sequence, w->spare_head.created_us, err);
    if (rc == MR_OK)
        begin_live(w);
    return rc;
}

/* Write the sealed batch behind what live holds. */
enum mr_rc mr_log_roll_write(struct mr_log_writer *w, struct mr_log_live *live, struct mr_err *err)
{
    struct mr_log_batch_head *head = (struct mr_log_batch_head *)w->batch;
    head->crc = mr_log_batch_crc(head, live->salt, live->end);
    if (MR_FAULT("log.write"))
        errno = EIO;
    else if (mr_log_pwrite(live->fd, head, head->length, live->end) == MR_OK) {
        MR_CRASH("log.written");
        live->end += head->length;
        live->end_sequence = head->first_sequence + head->count - 1;
        live->end_seals = w->state.seals + 1;
        return MR_OK;
    }
    return mr_fail(err, MR_FATAL,
                   "write %" PRIu32 " bytes at offset %" PRIu64 " of segment %s/%020" PRIu64
                   ".mrlog",
                   head->length, live->end, w->options.dir, live->first_sequence);
}

/* The full segment holds positions and no record: the new one has the same first sequence and takes
 * its name. A position is on disk in it before that, so that some position always is. The disk may
 * take its time: until then the current segment runs over its size. */
enum mr_rc mr_log_roll_fill(struct mr_log_writer *w, struct mr_err *err)
{
    MR_ASSERT(w->spare_state == MR_LOG_SPARE_READY && !w->op_sync.busy);
    uint64_t first = mr_log_current(w)->first_sequence;
    w->fill = (struct mr_log_live){.fd = w->spare_fd,
                                   .salt = w->spare_head.salt,
                                   .first_sequence = first,
                                   .end = MR_LOG_DATA_OFFSET,
                                   .synced = MR_LOG_DATA_OFFSET,
                                   .synced_sequence = first - 1};
    enum mr_rc rc = mr_log_roll_write(w, &w->fill, err);
    if (rc != MR_OK)
        return rc;
    w->spare_state = MR_LOG_SPARE_FILLING;
    w->op_spare = (struct mr_log_op){.kind = MR_LOG_OP_SYNC_DATA, .fd = w->spare_fd};
    mr_log_io_submit(w->io, &w->op_spare);
    return MR_OK;
}

/* The newest position follows into the new segment. It may have been written since, but not synced:
 * no fsync is started meanwhile. */
static enum mr_rc catch_up(struct mr_log_writer *w, struct mr_err *err)
{
    const struct mr_log_live *current = mr_log_current(w);
    enum mr_rc rc = MR_OK;
    if (w->fill.end_seals != current->end_seals)
        rc = mr_log_roll_write(w, &w->fill, err);
    w->fill.end_seals = current->end_seals;
    return rc;
}

enum mr_rc mr_log_roll_replace(struct mr_log_writer *w, struct mr_err *err)
{
    MR_ASSERT(w->spare_state == MR_LOG_SPARE_FILLED && !w->op_sync.busy);
    struct mr_log_live *current = mr_log_current(w);
    /* The segment was full, so mr_log_claim has taken no record since. */
    MR_ASSERT(w->sealed && current->end_sequence < current->first_sequence);
    int old_fd = current->fd;
    uint64_t old_end = current->end, old_synced = current->synced;
    enum mr_rc rc = catch_up(w, err);
    if (rc == MR_OK)
        rc = name_spare(w, w->fill.first_sequence, err);
    if (rc != MR_OK)
        return rc;
    *current = w->fill;
    w->unsynced_bytes += current->end - current->synced;
    w->unsynced_bytes -= old_end - old_synced;
    struct mr_log_part *part = &w->parts[w->state.segments - 1];
    w->state.size_bytes += w->options.segment_bytes - part->size;
    part->size = w->options.segment_bytes;
    part->created_us = w->spare_head.created_us;
    close(old_fd);
    w->spare_fd = -1;
    w->spare_state = MR_LOG_SPARE_NONE;
    w->dir_dirty = true;
    return MR_OK;
}

/* The first segment of a new log, step by step and on disk when this returns. */
static enum mr_rc create_first(struct mr_log_writer *w, struct mr_err *err)
{
    if (random_salt(&w->state.log_id) != MR_OK)
        return mr_fail(err, MR_FATAL, "draw the id of log %s", w->options.dir);
    mr_log_roll_spare(w);
    while (w->op_spare.busy) {
        struct mr_log_op *op = mr_log_io_reap(w->io, true);
        MR_ASSERT(op == &w->op_spare);
        mr_log_roll_spare_step(w);
    }
    if (w->spare_state == MR_LOG_SPARE_FAILED) {
        *err = w->spare_err;
        return err->rc;
    }
    return mr_log_roll(w, err);
}

/* Go on in the last segment; reserve again what the cut has freed. */
static enum mr_rc reopen_last(struct mr_log_writer *w, struct mr_log_recovered *found,
                              struct mr_err *err)
{
    uint64_t room = w->options.segment_bytes;
    if (found->end < room && fallocate(found->last.fd, 0, 0, (off_t)room) != 0 &&
        errno != EOPNOTSUPP)
        return mr_fail(err, MR_FATAL, "reserve room for segment %s/%020" PRIu64 ".mrlog",
                       w->options.dir, found->last.first_sequence);
    w->parts = found->parts;
    w->parts_max = w->state.segments = found->count;
    found->parts = NULL;
    w->parts[w->state.segments - 1].size = found->end > room ? found->end : room;
    for (uint32_t i = 0; i < w->state.segments; i++)
        w->state.size_bytes += w->parts[i].size;
    w->live[0] = (struct mr_log_live){.fd = found->last.fd,
                                      .salt = found->last.head.salt,
                                      .first_sequence = found->last.first_sequence,
                                      .end = found->end,
                                      .end_sequence = found->next_sequence - 1,
                                      .synced = found->end,
                                      .synced_sequence = found->next_sequence - 1};
    w->live_count = 1;
    found->last.fd = -1;
    return MR_OK;
}

enum mr_rc mr_log_roll_open(struct mr_log_writer *w, struct mr_log_recovered *found,
                            struct mr_err *err)
{
    w->state.log_id = found->log_id;
    w->state.last = w->state.written = w->state.durable = found->next_sequence - 1;
    w->state.torn_bytes = found->torn_bytes;
    w->state.position_len = found->position_len;
    memcpy(w->state.position, found->position, found->position_len);
    enum mr_rc rc = found->log_id == 0 ? create_first(w, err) : reopen_last(w, found, err);
    if (rc == MR_OK && fsync(w->dir_fd) != 0)
        rc = mr_fail(err, MR_FATAL, "sync log directory %s", w->options.dir);
    if (rc != MR_OK)
        return rc;
    w->dir_dirty = false;
    w->state.floor = w->parts[0].first_sequence;
    mr_log_roll_spare(w);
    return MR_OK;
}

void mr_log_roll_close(struct mr_log_writer *w)
{
    while (w->op_sync.busy || w->op_spare.busy || w->op_unlink.busy) {
        struct mr_log_op *op = mr_log_io_reap(w->io, true);
        if (op == &w->op_spare && op->kind == MR_LOG_OP_OPEN && op->result >= 0)
            w->spare_fd = op->result;
    }
    if (w->spare_fd >= 0)
        close(w->spare_fd);
    if (w->spare_state != MR_LOG_SPARE_NONE)
        (void)unlinkat(w->dir_fd, MR_LOG_SPARE_NAME, 0); /* the next open removes it, if not we */
    for (uint32_t i = 0; i < w->live_count; i++)
        close(w->live[i].fd);
    free(w->parts);
}
