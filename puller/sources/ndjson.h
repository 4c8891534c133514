/* puller/sources/ndjson.h: one line of JSON as an event. What a line may hold: docs/ndjson.md */
#ifndef MR_PULLER_SOURCES_NDJSON_H
#define MR_PULLER_SOURCES_NDJSON_H
#include "proto/event.h"

struct mr_ndjson_parser;
MR_MUST_USE enum mr_rc mr_ndjson_parser_create(struct mr_ndjson_parser **out, struct mr_err *err);
void mr_ndjson_parser_destroy(struct mr_ndjson_parser **parser);

/* Parse one line without its end. database: what the event carries when the line names none.
 * MR_OK: the parts of out are borrowed from the parser until its next call.
 * MR_AGAIN: an empty line. MR_USAGE: no event; err says what was expected. */
MR_MUST_USE enum mr_rc mr_ndjson_parse(struct mr_ndjson_parser *parser, struct mr_str line,
                                       struct mr_str database, struct mr_event *out,
                                       struct mr_err *err);
#endif
