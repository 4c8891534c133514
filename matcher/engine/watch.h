/* matcher/engine/watch.h: what an event means for each subscription: for those that ask only what
 * concerns them, an engine; for those that want to be told what enters and leaves their result set,
 * another one, which sees the image before as well. Same rules as for engines: no process, no I/O,
 * one thread. What is told without an image: docs/matching.md, "Enter and leave" */
#ifndef MR_MATCHER_ENGINE_WATCH_H
#define MR_MATCHER_ENGINE_WATCH_H
#include "matcher/engine/engine.h"
#include "proto/event.h"
#include "proto/match.h"

struct mr_watch;

MR_MUST_USE enum mr_rc mr_watch_create(struct mr_watch **out, struct mr_err *err);
void mr_watch_destroy(struct mr_watch **watch);
/* As mr_engine_set_pulse. */
void mr_watch_set_pulse(struct mr_watch *watch, mr_engine_pulse *pulse, void *context);

/* Add a subscription, whose id has no tag. flags: enum mr_subscribe_flag. Results as of
 * mr_engine_add. */
MR_MUST_USE enum mr_rc mr_watch_add(struct mr_watch *watch, uint64_t subscription, uint32_t flags,
                                    const void *program, uint32_t len);
/* MR_AGAIN: no such subscription. */
enum mr_rc mr_watch_remove(struct mr_watch *watch, uint64_t subscription);

/* Match one event. *ids: with their tags (proto/match.h), ascending by what they are without them,
 * none twice, borrowed until the next call; returns how many. */
uint32_t mr_watch_match(struct mr_watch *watch, const struct mr_event *event, const uint64_t **ids);
/* Of both engines in sum; an event counts once. */
void mr_watch_stats(const struct mr_watch *watch, struct mr_engine_stats *out);
#endif
