/* puller/control.h: what the supervisor wants, as the board says it, and the ring sets it names. */
#ifndef MR_PULLER_CONTROL_H
#define MR_PULLER_CONTROL_H
#include "puller/feed.h"
#include "puller/rings.h"
#include "shm/process.h"

struct mr_control {
    struct mr_process *process; /* borrowed */
    struct mr_feed *feed;       /* borrowed */
    uint64_t log_last;          /* of the log at start, for rings that know more */
    struct mr_rings sets[2];    /* in force, and the next one while it is being prepared */
    uint32_t current;           /* index of the set in force */
    uint64_t set, set_next;     /* as attached; 0: none */
    uint64_t directive_number;  /* obeyed */
    enum mr_directive directive;
    bool paused; /* QUIESCE: the feed stands still */
};

/* Attach to the ring set in force, wherever its predecessor has left it. log: as it is at start. */
MR_MUST_USE enum mr_rc mr_control_open(struct mr_control *control, struct mr_process *process,
                                       const struct mr_log_state *log, struct mr_err *err);
void mr_control_close(struct mr_control *control);
/* Follow the board. Between two turns of the feed: all that was put is published. */
MR_MUST_USE enum mr_rc mr_control_turn(struct mr_control *control, struct mr_err *err);
struct mr_rings *mr_control_rings(struct mr_control *control);
#endif
