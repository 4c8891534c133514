/* log/writer.h: the writer's insides, shared by writer.c (batches) and roll.c (segments, fsync,
 * retention). Private to log/. */
#ifndef MR_LOG_WRITER_H
#define MR_LOG_WRITER_H
#include "log/io.h"
#include "log/recover.h"

enum {
    MR_LOG_OPEN_MAX = 8, /* segments with bytes that are not on disk yet */
    MR_LOG_UNSYNCED_BYTES_MAX = 256 * 1024 * 1024,
    MR_LOG_OP_COUNT = 4,
};
static_assert((int)MR_LOG_OP_COUNT <= (int)MR_LOG_IO_OPS_MAX, "each may be under way");

/* A segment that has a name and is not yet on disk as a whole; the last one is being written. */
struct mr_log_live {
    int fd;
    uint64_t salt;
    uint64_t first_sequence;
    uint64_t end, end_sequence;       /* written */
    uint64_t end_seals;               /* state.seals with the last batch in it */
    uint64_t synced, synced_sequence; /* on disk, as far as this segment goes */
};

enum mr_log_spare_state {
    MR_LOG_SPARE_NONE,
    MR_LOG_SPARE_OPENING,
    MR_LOG_SPARE_ALLOCATING,
    MR_LOG_SPARE_SYNCING,
    MR_LOG_SPARE_READY,
    MR_LOG_SPARE_FILLING, /* a position is written to it and on its way to the disk */
    MR_LOG_SPARE_FILLED,  /* and is there: mr_log_roll_replace is due */
    MR_LOG_SPARE_FAILED,  /* counts when it is needed; tried again when retention made room */
};

struct mr_log_writer {
    struct mr_log_options options; /* dir is ours */
    struct mr_log_state state;
    struct mr_err failure; /* rc MR_OK: none; otherwise final */
    int dir_fd, lock_fd;
    struct mr_log_io *io;

    /* The batch being built, or sealed last until the next claim. */
    uint8_t *small,
        *batch; /* small: batch_bytes; batch is small, or the room of one large record */
    size_t small_bytes, batch_bytes;
    uint32_t used, count;
    uint32_t *offsets; /* of each record's frame in batch */
    uint32_t offsets_max;
    uint32_t claimed; /* bytes of the open claim */
    bool sealed;
    uint64_t batch_first;

    struct mr_log_live live[MR_LOG_OPEN_MAX];
    uint32_t live_count;
    struct mr_log_part *parts; /* all segments, ascending; the last one is being written */
    uint32_t parts_max;

    struct mr_log_op op_sync, op_spare, op_unlink, op_timer;
    char unlink_name[MR_LOG_NAME_MAX];
    uint64_t sync_end, sync_sequence, sync_seals; /* what the running fdatasync covers of live[0] */
    uint64_t sync_started_ns;
    uint64_t unsynced_bytes;
    bool dir_dirty; /* a name was given or removed since the directory was synced */
    enum mr_log_spare_state spare_state;
    int spare_fd;
    struct mr_log_segment_head spare_head;
    struct mr_log_live fill; /* FILLING: the spare as it will be when it replaces the current one */
    struct mr_err spare_err;
};

static inline struct mr_log_live *mr_log_current(struct mr_log_writer *w)
{
    return &w->live[w->live_count - 1];
}

/* First segment of a new log, or the last one of a recovered log. Blocks: called by open. */
MR_MUST_USE enum mr_rc mr_log_roll_open(struct mr_log_writer *w, struct mr_log_recovered *found,
                                        struct mr_err *err);
/* Should the next batch, of length bytes, go into a new segment; is one ready? */
bool mr_log_roll_wanted(const struct mr_log_writer *w, uint32_t length);
bool mr_log_roll_possible(const struct mr_log_writer *w);
/* Begin the segment that is ready, behind the current one. */
MR_MUST_USE enum mr_rc mr_log_roll(struct mr_log_writer *w, struct mr_err *err);
/* Begin it instead of the current one, which holds positions and no record: write the sealed batch
 * to it, a position alone, and start its sync; when that has ended, replace. */
MR_MUST_USE enum mr_rc mr_log_roll_fill(struct mr_log_writer *w, struct mr_err *err);
MR_MUST_USE enum mr_rc mr_log_roll_replace(struct mr_log_writer *w, struct mr_err *err);
MR_MUST_USE enum mr_rc mr_log_roll_write(struct mr_log_writer *w, struct mr_log_live *live,
                                         struct mr_err *err);
/* Make the next segment in the background; a step of that has ended. */
void mr_log_roll_spare(struct mr_log_writer *w);
void mr_log_roll_spare_step(struct mr_log_writer *w);
void mr_log_roll_close(struct mr_log_writer *w);

/* Start the fsync that is due; with force, any that is needed. */
void mr_log_durable_start(struct mr_log_writer *w, uint64_t now_ns, bool force);
bool mr_log_durable_all(const struct mr_log_writer *w);
/* Take in one operation that has ended; wait: block for it. MR_AGAIN: none. */
MR_MUST_USE enum mr_rc mr_log_durable_reap(struct mr_log_writer *w, bool wait, struct mr_err *err);
/* Remove the oldest segment when retention says so and all its records are at or before releasable.
 */
void mr_log_durable_retire(struct mr_log_writer *w, uint64_t releasable);
#endif
