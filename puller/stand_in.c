#include "puller/stand_in.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/bson.h"
#include "common/log.h"
#include "proto/gap.h"

size_t mr_stand_in_make(struct mr_event *event, uint8_t room[MR_STAND_IN_BYTES])
{
    char order[24];
    snprintf(order, sizeof order, "%" PRIu64, event->head.source_order);
    struct mr_bson_writer w;
    mr_bson_writer_init_fixed(&w, room, MR_STAND_IN_BYTES);
    event->head.op = MR_OP_GAP;
    event->head.flags = 0;
    event->document = mr_gap_write(&w, "event larger than a ring (ring.event_size)", order, order);
    MR_ASSERT(w.ok);
    event->update = event->before = (struct mr_str){NULL, 0};
    return mr_event_size(event);
}
