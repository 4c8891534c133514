/* matcher/engine/match.h: the steps of matching one event. */
#ifndef MR_MATCHER_ENGINE_MATCH_H
#define MR_MATCHER_ENGINE_MATCH_H
#include "matcher/engine/index.h"

/* Append to engine->ids what the event concerns in one group; all of a group; sort them. */
void mr_match_group(struct mr_engine *engine, struct mr_group *group,
                    const struct mr_engine_event *event);
void mr_match_all_of(struct mr_engine *engine, const struct mr_group *group);
void mr_match_sort(struct mr_engine *engine);
#endif
