/* puller/stand_in.h: what takes the place of an event that fits into no ring. */
#ifndef MR_PULLER_STAND_IN_H
#define MR_PULLER_STAND_IN_H
#include "proto/event.h"

enum { MR_STAND_IN_BYTES = 512 };

/* Such an event would stop the pipeline for good. It becomes a gap of its collection instead, which
 * subscribers see: they know which document to read anew. Everything but op, flags and documents
 * stays. room is borrowed by the event. Returns mr_event_size. */
size_t mr_stand_in_make(struct mr_event *event, uint8_t room[MR_STAND_IN_BYTES]);
#endif
