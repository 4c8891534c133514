/* tools/match.h: the parts of millrace match. */
#ifndef MR_TOOLS_MATCH_H
#define MR_TOOLS_MATCH_H
#include <stdio.h>

#include "cel/normalise.h"
#include "cel/value.h"
#include "matcher/engine/engine.h"

/* One subscription, one event: what a line said. */
struct mr_match_sub {
    char *id; /* as given; heap */
    void *program;
    uint32_t len;
};
struct mr_match_event {
    char *names; /* heap: database, collection, id, then the document */
    uint32_t database_len, collection_len, id_len, document_len;
    bool everyone;
};
struct mr_engine_event mr_match_event_view(const struct mr_match_event *event);

/* ---- input: lines of JSON. Bad ones are told on standard error with their number, and counted. */
struct mr_match_input;
MR_MUST_USE enum mr_rc mr_match_input_open(struct mr_match_input **out, const char *path,
                                           struct mr_err *err);
void mr_match_input_close(struct mr_match_input **input);
/* MR_OK, MR_AGAIN: the end, MR_FATAL. What is in out belongs to the caller. */
MR_MUST_USE enum mr_rc mr_match_next_sub(struct mr_match_input *input,
                                         struct mr_program_compiler *compiler,
                                         struct mr_match_sub *out, struct mr_err *err);
MR_MUST_USE enum mr_rc mr_match_next_event(struct mr_match_input *input, struct mr_match_event *out,
                                           struct mr_err *err);
uint64_t mr_match_bad_lines(const struct mr_match_input *input);

/* ---- shards: an engine and a thread each; an event goes to one of them by its document. */
struct mr_match_shards;
MR_MUST_USE enum mr_rc mr_match_shards_create(struct mr_match_shards **out, uint32_t count,
                                              bool bloom, struct mr_err *err);
void mr_match_shards_destroy(struct mr_match_shards **shards);
/* Every shard gets every subscription; the subscription's id inside is its index. */
MR_MUST_USE enum mr_rc mr_match_shards_load(struct mr_match_shards *shards,
                                            const struct mr_match_sub *subs, uint64_t count,
                                            struct mr_err *err);
/* Match events. matched is called for each of them in order, from this thread. */
typedef void mr_match_result(void *context, uint64_t event, const uint64_t *subs, uint32_t count);
MR_MUST_USE enum mr_rc mr_match_shards_run(struct mr_match_shards *shards,
                                           const struct mr_match_event *events, uint64_t count,
                                           mr_match_result *matched, void *context,
                                           struct mr_err *err);
/* Sums over the shards; memory and anchors of the first. *times_ns: of each event, borrowed. */
void mr_match_shards_stats(const struct mr_match_shards *shards, struct mr_engine_stats *out);

/* ---- explain */
enum mr_rc mr_match_explain(FILE *out, const struct mr_match_sub *sub,
                            const struct mr_match_event *event, struct mr_err *err);
#endif
