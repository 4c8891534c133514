/* relay/coalesce.h: merge the changes of one document within a run of events, for consumers that
 * are behind and want the state rather than its history. What is promised, and why nothing is lost
 * when the consumer stops in the middle: docs/consumers.md, "Coalescing". */
#ifndef MR_RELAY_COALESCE_H
#define MR_RELAY_COALESCE_H
#include <stdbool.h>
#include <stdint.h>

#include "proto/event.h"

enum { MR_COALESCE_MAX = 256 };

/* One event that is left. It stands at the place of the first that went into it. A consumer who
 * stops behind it goes on behind `through`; 0: it must not stop here (atomic, and not the last). */
struct mr_coalesced {
    struct mr_event event; /* parts borrowed from the events that went in */
    uint64_t first, through;
    bool fresh; /* begins with an insert of the stream: the document was not there before */
    bool dropped;
};

struct mr_coalesce {
    bool
        atomic; /* the whole run is applied at once, or nothing of it: insert + delete may vanish */
    uint32_t count;
    uint32_t barrier; /* nothing before this one is merged into */
    struct mr_coalesced items[MR_COALESCE_MAX];
    uint16_t slots[2 * MR_COALESCE_MAX]; /* hash of the document -> item + 1 */
};

void mr_coalesce_begin(struct mr_coalesce *c, bool atomic);
/* Take the next event; its parts must stay until the end. At most MR_COALESCE_MAX. */
void mr_coalesce_add(struct mr_coalesce *c, const struct mr_event *event);
/* The run ends through this sequence: settle what each item stands for. Returns how many are left,
 * at the front of items. */
uint32_t mr_coalesce_end(struct mr_coalesce *c, uint64_t through);
#endif
