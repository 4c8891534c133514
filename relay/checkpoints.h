/* relay/checkpoints.h: where consumers stand, by id and on disk (LMDB): DATA_DIR/consumers. Writes
 * are gathered: a thread makes what has come meanwhile durable in one transaction. Reading waits
 * for nobody. */
#ifndef MR_RELAY_CHECKPOINTS_H
#define MR_RELAY_CHECKPOINTS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/err.h"
#include "common/str.h"

struct mr_checkpoint_value {
    uint64_t log_id, sequence; /* 0: no place has been acknowledged, there is only the mark */
    int64_t written_us;        /* wall clock */
    bool rebuild;              /* the consumer has been told to rebuild and has not done so */
};

enum { MR_CHECKPOINT_KEY_MAX = 511 };
struct mr_checkpoint_key {
    uint32_t len;
    char bytes[MR_CHECKPOINT_KEY_MAX]; /* consumer id, NUL, collection */
};
void mr_checkpoint_key(struct mr_checkpoint_key *out, struct mr_str consumer_id,
                       struct mr_str collection);

enum mr_checkpoint_change {
    MR_CHECKPOINT_ADVANCE, /* keep the later one; of another log: the new one */
    /* Take it as it is, and clear the mark: of a collection's place the one of the id, too. */
    MR_CHECKPOINT_REBUILT,
    MR_CHECKPOINT_MARK, /* set the mark; the place stays */
};
/* A write. Owned by the caller; the store's until done is called, which must not block. */
struct mr_checkpoint_write {
    struct mr_checkpoint_key key;
    enum mr_checkpoint_change change;
    struct mr_checkpoint_value value; /* in; out: what is on disk now */
    enum mr_rc rc;
    struct mr_err err;
    void (*done)(struct mr_checkpoint_write *write); /* that thread, or mr_checkpoints_put's own */
    STAILQ_ENTRY(mr_checkpoint_write) link;
};

struct mr_checkpoints;
/* dir is made when it is missing. */
MR_MUST_USE enum mr_rc mr_checkpoints_open(struct mr_checkpoints **out, const char *dir,
                                           struct mr_err *err);
/* End the thread; writes that wait are done first. Those that come from then on get MR_RETRY, until
 * close; reading goes on. checkpoints may be NULL. */
void mr_checkpoints_stop(struct mr_checkpoints *checkpoints);
/* Stop, if that has not been done, and free. Nobody may use it any more. */
void mr_checkpoints_close(struct mr_checkpoints **checkpoints);
/* MR_AGAIN: there is none. Any thread. */
MR_MUST_USE enum mr_rc mr_checkpoints_get(struct mr_checkpoints *checkpoints,
                                          const struct mr_checkpoint_key *key,
                                          struct mr_checkpoint_value *out, struct mr_err *err);
/* Any thread. */
void mr_checkpoints_put(struct mr_checkpoints *checkpoints, struct mr_checkpoint_write *write);
#endif
