/* puller/meter.h: how long events take from the source to the log's file and to its disk: one entry
 * a batch, timed from its first event. */
#ifndef MR_PULLER_METER_H
#define MR_PULLER_METER_H
#include "shm/board.h"

enum { MR_METER_BATCHES = 1024 };

struct mr_meter {
    struct mr_cell_shm *cell;
    uint64_t added, written,
        durable; /* batches ever; an entry's place is its number modulo the size */
    struct mr_meter_batch {
        uint64_t last_sequence, events, read_ns;
    } batches[MR_METER_BATCHES];
};

/* While the disk is so far behind that there is no place, batches go unmeasured. */
void mr_meter_add(struct mr_meter *meter, uint64_t last_sequence, uint64_t events,
                  uint64_t read_ns);
void mr_meter_follow(struct mr_meter *meter, uint64_t written, uint64_t durable, uint64_t now_ns);
#endif
