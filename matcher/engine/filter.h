/* matcher/engine/filter.h: filters: found by what they state, hung on what is most selective. */
#ifndef MR_MATCHER_ENGINE_FILTER_H
#define MR_MATCHER_ENGINE_FILTER_H
#include "matcher/engine/index.h"

/* The filter of a program, made when it is new. MR_FATAL: out of memory, nothing changed. A new
 * filter has no subscription yet: append one or drop it. */
MR_MUST_USE enum mr_rc mr_filter_get(struct mr_engine *engine, struct mr_group *group,
                                     const struct mr_program *program, struct mr_filter **out);
/* Remove a filter without subscriptions. */
void mr_filter_drop(struct mr_engine *engine, struct mr_filter *filter);

/* Append an id; *at its place. False: out of memory. */
MR_MUST_USE bool mr_filter_append(struct mr_engine *engine, struct mr_filter *filter, uint64_t id,
                                  uint32_t *at);
/* Take out the id at a place. The id that takes the place is in *moved; false: none does. */
bool mr_filter_take(struct mr_engine *engine, struct mr_filter *filter, uint32_t at,
                    uint64_t *moved);
static inline const uint64_t *mr_filter_ids(const struct mr_filter *filter)
{
    return filter->sub_capacity > 1 ? filter->subs.many : &filter->subs.one;
}
#endif
