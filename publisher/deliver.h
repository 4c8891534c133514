/* publisher/deliver.h: one event to everyone whom it concerns: gathered by gateway, encoded once,
 * handed to the sink with each gateway's subscriptions in the order of their registration. One
 * thread. */
#ifndef MR_PUBLISHER_DELIVER_H
#define MR_PUBLISHER_DELIVER_H
#include "publisher/subscriptions.h"

struct mr_deliverer {
    struct mr_sink *sink;
    struct mr_cell_shm *cell;
    uint64_t log_id;
    int64_t turn_us;             /* wall clock of this turn */
    struct mr_gateway **touched; /* that have hits */
    uint32_t touched_count, touched_max;
    struct mr_str *ids; /* of one delivery, and the transition of each */
    enum mr_transition *transitions;
    uint32_t id_max;
    bool snapshot; /* the event is part of a snapshot: nobody goes on behind it */
    bool queued;   /* something was handed to the sink since this was cleared: flush is due */
};

void mr_deliverer_fini(struct mr_deliverer *deliverer);

/* What the tag of a match says (proto/match.h): one more subscription of the event that is being
 * gathered, or trouble to tell its owner, or both. MR_FATAL: out of memory. */
MR_MUST_USE enum mr_rc mr_deliverer_add(struct mr_deliverer *deliverer,
                                        struct mr_subscription *subscription, uint32_t tag,
                                        struct mr_err *err);
/* Tell its owner what is wrong with a confirmed subscription, if there is trouble and somebody is
 * there. */
void mr_deliverer_tell_trouble(struct mr_deliverer *deliverer,
                               const struct mr_subscription *subscription);
/* Deliver the event to what was gathered, and begin anew. Does nothing when nothing was. */
MR_MUST_USE enum mr_rc mr_deliverer_send(struct mr_deliverer *deliverer,
                                         const struct mr_event *event, struct mr_err *err);
/* Answer a subscribe request; progress is the sequence of the marker. */
void mr_deliverer_confirm(struct mr_deliverer *deliverer,
                          const struct mr_subscription *subscription, uint64_t progress);
/* later: for now only, for want of room. */
void mr_deliverer_refuse(struct mr_deliverer *deliverer, mr_gateway_id gateway,
                         struct mr_str client_id, const char *why, bool later);
#endif
