/* supervisor/checkpoint.h: the checkpoint file: through which sequence every shard has released, so
 * that a start from nothing but the disk goes no further back. Written to a new file, synced,
 * renamed over the old one, and the directory synced: a crash leaves the old one or the new one. */
#ifndef MR_SUPERVISOR_CHECKPOINT_H
#define MR_SUPERVISOR_CHECKPOINT_H
#include <stdint.h>

#include "common/err.h"

struct mr_checkpoint {
    char instance[32];
    uint64_t log_id;   /* the log that sequence counts in */
    uint64_t sequence; /* every event through this one has been released by all shards */
    int64_t wall_us;   /* when */
};

/* Read directory/checkpoint. MR_AGAIN: there is none. MR_CORRUPT: its bytes are no checkpoint
 * (size, magic, version, checksum); the text names the file and what is wrong. MR_FATAL: cannot be
 * read. */
MR_MUST_USE enum mr_rc mr_checkpoint_read(const char *directory, struct mr_checkpoint *out,
                                          struct mr_err *err);

/* Replaces the file without blocking: the disk may take seconds for an fsync, and meanwhile a
 * process may die that has to be replaced at once. One write at a time. */
struct mr_checkpoint_writer {
    const char *directory;
    uint64_t context; /* of the kernel's asynchronous I/O; 0: not available, fsync is waited for */
    int event_fd;     /* readable when mr_checkpoint_work has something to do */
    int fd;           /* what is being synced; -1: nothing */
    enum { MR_CHECKPOINT_IDLE, MR_CHECKPOINT_FILE, MR_CHECKPOINT_DIRECTORY } phase;
    struct mr_checkpoint next; /* what is being written */
};
/* directory: borrowed until close. */
MR_MUST_USE enum mr_rc mr_checkpoint_open(struct mr_checkpoint_writer *writer,
                                          const char *directory, struct mr_err *err);
/* Waits for a write that is under way. */
void mr_checkpoint_close(struct mr_checkpoint_writer *writer);

/* Begin to write. Only when the phase is IDLE. MR_OK: begun; MR_RETRY: not written (disk full,
 * ...), and the old one is whole. */
MR_MUST_USE enum mr_rc mr_checkpoint_begin(struct mr_checkpoint_writer *writer,
                                           const struct mr_checkpoint *checkpoint,
                                           struct mr_err *err);
/* Take the next step if there is one. MR_AGAIN: not done, or nothing to do; MR_OK: next is durable
 * and the writer idle; MR_RETRY: as above, and idle. */
MR_MUST_USE enum mr_rc mr_checkpoint_work(struct mr_checkpoint_writer *writer, struct mr_err *err);

/* Move a broken one aside, to directory/checkpoint.broken, for someone to look at. */
MR_MUST_USE enum mr_rc mr_checkpoint_set_aside(const char *directory, struct mr_err *err);
#endif
