/* matcher/matcher.h: one shard: events in, matches out. Its rings, the subscription journal and
 * nothing else: no sockets, no files, no locks. The agreements with its peers: docs/design.md */
#ifndef MR_MATCHER_MATCHER_H
#define MR_MATCHER_MATCHER_H
#include "shm/process.h"

struct mr_matcher;

/* Attach the rings of the process's shard and apply the whole current journal: no event is matched
 * against half a set. MR_CLOSED: told to stop meanwhile. */
MR_MUST_USE enum mr_rc mr_matcher_open(struct mr_matcher **out, struct mr_process *process,
                                       struct mr_err *err);
void mr_matcher_close(struct mr_matcher **matcher);

/* One turn: subscriptions, then at most one batch of events. *done: how much was done. Anything but
 * MR_OK is final. */
MR_MUST_USE enum mr_rc mr_matcher_work(struct mr_matcher *matcher, uint64_t now_ns, uint64_t *done,
                                       struct mr_err *err);

/* Is there anything to do? For mr_process_idle; context is the matcher. */
bool mr_matcher_look(void *context);
/* How long it may sleep: short while it waits for room that no bell announces. */
uint64_t mr_matcher_sleep_ns(const struct mr_matcher *matcher);
#endif
