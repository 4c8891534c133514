/* puller/intake.h: the puller's end of a source: events come in one by one, get their sequence,
 * hash and times, and are written straight into the batch that the log is building. */
#ifndef MR_PULLER_INTAKE_H
#define MR_PULLER_INTAKE_H
#include "puller/source.h"

struct mr_intake {
    struct mr_log_writer *log;
    struct mr_cell_shm *cell;
    struct mr_str deleted_field; /* top-level or dotted; empty: no soft delete */
    uint32_t event_bytes_max;    /* a larger event becomes a gap */
    uint64_t batch_count;        /* events in the batch being built */
    uint64_t batch_ns;           /* when its first event was read */
    uint64_t now_ns;             /* the clocks, as read for the last few events */
    int64_t wall_us;
    uint32_t clock_uses;         /* events until they are read again */
    bool position_moved;         /* since the last seal */
    struct mr_position position; /* behind the last event taken */
};

void mr_intake_init(struct mr_intake *intake, struct mr_log_writer *log, struct mr_cell_shm *cell,
                    const struct mr_config *config);
/* Before each poll: read the clocks anew. */
void mr_intake_begin(struct mr_intake *intake, uint64_t now_ns);
/* Hand the batch to the log. A position that moved without an event is recorded, too. */
MR_MUST_USE enum mr_rc mr_intake_seal(struct mr_intake *intake, uint64_t now_ns,
                                      struct mr_err *err);
#endif
