/* puller/feed.h: from the log to the event rings, in order of sequence. While the rings keep up it
 * takes the batch sealed last from memory; when they do not, it follows in the log's files. */
#ifndef MR_PULLER_FEED_H
#define MR_PULLER_FEED_H
#include "log/log.h"
#include "puller/rings.h"

enum { MR_FEED_TIMES = 64 };

struct mr_feed {
    struct mr_rings *rings; /* borrowed; the set in force */
    struct mr_log_writer *log;
    struct mr_log_reader *reader; /* NULL: none needed so far */
    const char *log_dir;
    struct mr_cell_shm *cell;
    uint64_t sequence; /* looked at through; the rings may hold more (mr_rings_fed) */
    uint64_t read_at;  /* the reader's next record is the one behind this */
    bool held;         /* record was read and found no room */
    bool stalled;      /* the last turn ended at a full ring */
    struct mr_log_record record;
    uint32_t
        time_count; /* runs of events that were read at the same time, since the last publication */
    struct mr_feed_time {
        uint64_t read_ns, events;
    } times[MR_FEED_TIMES];
    uint64_t events, bytes; /* since the last publication */
};

void mr_feed_init(struct mr_feed *feed, struct mr_rings *rings, struct mr_log_writer *log,
                  const char *log_dir, struct mr_cell_shm *cell);
void mr_feed_fini(struct mr_feed *feed);
/* Another ring set, or the first: go on behind what it holds. */
void mr_feed_use(struct mr_feed *feed, struct mr_rings *rings);

/* Feed at most events_max of the events through last. *fed: how many. MR_OK also when a ring is
 * full (stalled) or nothing is there. What is fed is published before this returns. */
MR_MUST_USE enum mr_rc mr_feed_turn(struct mr_feed *feed, uint64_t last, uint32_t events_max,
                                    uint32_t *fed, struct mr_err *err);
#endif
