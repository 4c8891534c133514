/* matcher/engine/engine.h: which subscriptions does an event concern? A library: no process, no
 * I/O, no clock. Used by the matchers, by the publisher to catch up from the log, and by tools. One
 * engine belongs to one thread. Algorithm: docs/matching.md */
#ifndef MR_MATCHER_ENGINE_ENGINE_H
#define MR_MATCHER_ENGINE_ENGINE_H
#include "cel/program.h"

struct mr_engine;

struct mr_engine_stats {
    uint64_t subscriptions, filters; /* equal programs are one filter with many subscriptions */
    uint64_t events, hits, pairs, errors;
    uint64_t candidates;  /* filters evaluated, because their anchor did not say it all */
    uint64_t evaluations; /* leaves evaluated for them */
    uint64_t anchors[3];  /* places of filters: found by a key, by a path's presence, always */
    uint64_t code_runs, code_errors; /* code leaves: evaluations; those without a value */
    uint64_t quarantined;            /* code leaves that are not evaluated any more */
    uint64_t moved;                  /* filters that were hung on something rarer */
    uint64_t bytes;                  /* memory held */
    uint64_t bloom_lookups, bloom_rejected, bloom_false, bloom_rebuilds, bloom_bytes;
};

/* What the engine needs to know of an event. document may be empty. */
struct mr_engine_event {
    struct mr_str database, collection, document_id;
    struct mr_str
        document;  /* BSON that was checked by the producer; damage is "no match", counted */
    bool everyone; /* TRUNCATE, GAP: concerns every subscription of the collection, filters or
                    * not; with an empty collection every subscription of the database, with
                    * both empty all of them */
};

MR_MUST_USE enum mr_rc mr_engine_create(struct mr_engine **out, struct mr_err *err);
void mr_engine_destroy(struct mr_engine **engine);
/* Bloom filters in front of the keys of each collection; of tables made from now on. Off. */
void mr_engine_set_bloom(struct mr_engine *engine, bool on);
/* One event can take seconds, when many filters ask for all that code may do. Call this in between,
 * about once in MR_ENGINE_PULSE_STEPS steps of code or the like (a millisecond): who watches the
 * caller is to see that it works. It must not call the engine. NULL: none. */
enum { MR_ENGINE_PULSE_STEPS = 50000 };
typedef void mr_engine_pulse(void *context);
void mr_engine_set_pulse(struct mr_engine *engine, mr_engine_pulse *pulse, void *context);

/* Add a subscription. The program is copied. MR_CORRUPT: the bytes are no program; MR_USAGE: the id
 * is there already. */
MR_MUST_USE enum mr_rc mr_engine_add(struct mr_engine *engine, uint64_t subscription,
                                     const void *program, uint32_t len);
/* MR_AGAIN: no such subscription. */
enum mr_rc mr_engine_remove(struct mr_engine *engine, uint64_t subscription);

/* Match one event. *ids: ascending, without repeats, borrowed until the next call; returns how
 * many. */
uint32_t mr_engine_match(struct mr_engine *engine, const struct mr_engine_event *event,
                         const uint64_t **ids);
/* Subscriptions whose code was quarantined since they were last asked for, one a call: it exhausted
 * its budget MR_ENGINE_STRIKES_MAX times (*budget), or failed MR_ENGINE_ERRORS_MAX times in a row
 * with something else than a missing field. From then on that part of the filter never holds. Who
 * adds a subscription with such a filter is told when an event meets it, and the others again.
 * False: none. Between events only. */
enum { MR_ENGINE_STRIKES_MAX = 8, MR_ENGINE_ERRORS_MAX = 1000, MR_ENGINE_STEPS_MAX = 100000 };
bool mr_engine_offender(struct mr_engine *engine, uint64_t *subscription, bool *budget);
void mr_engine_stats(const struct mr_engine *engine, struct mr_engine_stats *out);
#endif
