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

/* Replace it, durably. MR_RETRY: not written (disk full, ...), the old one is whole. */
MR_MUST_USE enum mr_rc mr_checkpoint_write(const char *directory,
                                           const struct mr_checkpoint *checkpoint,
                                           struct mr_err *err);

/* Move a broken one aside, to directory/checkpoint.broken, for someone to look at. */
MR_MUST_USE enum mr_rc mr_checkpoint_set_aside(const char *directory, struct mr_err *err);
#endif
