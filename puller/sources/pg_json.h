/* puller/sources/pg_json.h: JSON text into BSON, in one pass and without a tree. */
#ifndef MR_PULLER_SOURCES_PG_JSON_H
#define MR_PULLER_SOURCES_PG_JSON_H
#include "puller/sources/pg_types.h"

/* Append JSON text (RFC 8259) under key. Objects become documents, arrays arrays. A number without
 * fraction and exponent that fits 64 bits is an integer (int32 where it fits), any other a double.
 * Escapes of half surrogate pairs become U+FFFD. Text that is no JSON, is nested deeper than BSON
 * may be, or has a NUL in a member name is kept whole as a string. MR_OK; MR_FATAL: no memory. */
MR_MUST_USE enum mr_rc mr_pg_json_put(struct mr_bson_writer *w, struct mr_str key,
                                      struct mr_str json, struct mr_pg_scratch *scratch);
#endif
