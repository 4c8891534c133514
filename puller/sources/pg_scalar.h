/* puller/sources/pg_scalar.h: single PostgreSQL values; see pg_types.h. */
#ifndef MR_PULLER_SOURCES_PG_SCALAR_H
#define MR_PULLER_SOURCES_PG_SCALAR_H
#include "puller/sources/pg_types.h"

/* Append a value that is not NULL. Results as mr_pg_put. */
MR_MUST_USE enum mr_rc mr_pg_scalar_put_text(struct mr_bson_writer *w, struct mr_str key,
                                             enum mr_pg_kind kind, const struct mr_pg_value *value,
                                             struct mr_pg_scratch *scratch);
MR_MUST_USE enum mr_rc mr_pg_scalar_put_binary(struct mr_bson_writer *w, struct mr_str key,
                                               enum mr_pg_kind kind,
                                               const struct mr_pg_value *value,
                                               struct mr_pg_scratch *scratch);
/* The text form of a binary value. */
MR_MUST_USE enum mr_rc mr_pg_scalar_text(enum mr_pg_kind kind, const struct mr_pg_value *value,
                                         struct mr_pg_scratch *scratch, struct mr_str *out);

/* A string, or, when the bytes are no UTF-8, a binary of subtype 0. */
void mr_pg_put_string(struct mr_bson_writer *w, struct mr_str key, struct mr_str text);
#endif
