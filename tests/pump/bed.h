/* tests/pump/bed.h: an instance within one process: board, rings, journals and log are real; a
 * puller and matchers that do as docs/design.md says, step by step, so that a test decides who
 * moves when. */
#ifndef MR_TESTS_PUMP_BED_H
#define MR_TESTS_PUMP_BED_H
#include "log/log.h"
#include "matcher/engine/engine.h"
#include "publisher/rings.h"
#include "shm/journal.h"
#include "shm/process.h"

enum { BED_COLLECTIONS = 3, BED_VALUES = 8 };

/* What the test remembers of an event: number sequence - 1. */
struct bed_event {
    uint8_t collection, value, shard;
    uint8_t everyone;
};

struct bed_matcher {
    struct mr_ring_consumer events, control;
    struct mr_ring_producer matches;
    struct mr_journal journals[2];
    struct mr_engine *engine;
    uint64_t generation, applied, matched;
    struct mr_cell_shm *cell;
    /* The event whose matches did not all fit into the match ring. */
    uint64_t *waiting;
    uint32_t waiting_count, written;
};

struct bed {
    char instance[MR_INSTANCE_MAX], dir[64];
    struct mr_process process; /* of the publisher */
    struct mr_board board;
    uint32_t generation, shard_count;
    struct mr_ring_producer events[MR_SHARDS_MAX];
    struct bed_matcher matchers[MR_SHARDS_MAX];
    struct mr_log_writer *log;
    struct bed_event *history;
    uint64_t count, capacity; /* in the log; history[0..count) */
    uint64_t fed;             /* in the rings */
    uint64_t seed;
    bool idle_last; /* leave the last shard without events */
};

uint64_t bed_random(struct bed *bed, uint64_t below);

enum { BED_JOURNAL_BYTES = 4 << 20 };
extern uint64_t bed_journal_bytes; /* of each journal of the next instance */

/* A fresh instance. start_sequence events are in the log already and count as released. */
void bed_open(struct bed *bed, uint32_t shard_count, uint64_t seed, uint64_t start_sequence);
void bed_close(struct bed *bed);

/* Puller: append events to the log; feed at most max of them to the rings, with or without stating
 * through. */
void bed_append(struct bed *bed, uint32_t count);
void bed_feed(struct bed *bed, uint64_t max, bool state_through);

/* Matcher: take announcements; match at most max events. */
void bed_apply(struct bed *bed, uint32_t shard);
void bed_match(struct bed *bed, uint32_t shard, uint32_t max);
/* Die and come back: the engine is gone, the journal is read again. */
void bed_restart_matcher(struct bed *bed, uint32_t shard);
void bed_attach_matchers(struct bed *bed);
void bed_detach_matchers(struct bed *bed);

/* One random step of one of them. */
void bed_step(struct bed *bed);

/* Make rings of a set; the supervisor's part of a change of the number of shards. */
void bed_create_rings(struct bed *bed, uint32_t generation, uint32_t shard_count);

bool bed_concerns(const struct bed_event *event, uint32_t collection, int64_t value);
#endif
