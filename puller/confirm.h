/* puller/confirm.h: which source position belongs to the checkpoint. A queue of (sequence,
 * position), one a batch, thinned out when it is full; what a predecessor logged before its last
 * batch is looked up in the log. */
#ifndef MR_PULLER_CONFIRM_H
#define MR_PULLER_CONFIRM_H
#include "puller/source.h"

enum { MR_CONFIRM_QUEUE = 512 };

struct mr_confirm {
    struct mr_confirm_entry {
        uint64_t
            sequence;  /* every event of the source through position has a sequence through this */
        uint64_t seal; /* of the batch that holds position: on disk when so many are */
        struct mr_position position;
    } * queue;
    uint32_t count;
    bool have;                    /* best is set */
    bool fresh;                   /* best has not been confirmed yet */
    struct mr_confirm_entry best; /* the furthest entry at or before the checkpoint */
    /* What the log held at start: read on demand, as far as the checkpoint has come. */
    struct mr_log_reader *reader;
    const char *log_dir;
    uint64_t old_read, old_last;   /* read through, and the last sequence of the old part */
    struct mr_confirm_entry ahead; /* the batch being read: confirmed once the next one begins */
    bool have_ahead;
    uint64_t called_ns;
};

/* checkpoint, log: as they are at start. */
MR_MUST_USE enum mr_rc mr_confirm_init(struct mr_confirm *confirm, const char *log_dir,
                                       uint64_t checkpoint, const struct mr_log_state *log,
                                       struct mr_err *err);
void mr_confirm_fini(struct mr_confirm *confirm);
/* A batch that ends in sequence was sealed with this position, as the log's seal number seal. */
void mr_confirm_add(struct mr_confirm *confirm, uint64_t sequence, uint64_t seal,
                    const struct mr_position *position);
/* Tell the source what the checkpoint allows and the disk holds: when that is another position, and
 * once a second.
 *   durable_seals  as the log's state says */
MR_MUST_USE enum mr_rc mr_confirm_turn(struct mr_confirm *confirm, struct mr_source *source,
                                       uint64_t checkpoint, uint64_t durable_seals, uint64_t now_ns,
                                       struct mr_err *err);
#endif
