/* puller/sources/pg_array.h: PostgreSQL arrays into BSON arrays, nested by dimension; lower bounds
 * are not kept. Results as mr_pg_put. */
#ifndef MR_PULLER_SOURCES_PG_ARRAY_H
#define MR_PULLER_SOURCES_PG_ARRAY_H
#include "puller/sources/pg_types.h"

MR_MUST_USE enum mr_rc mr_pg_array_put_text(struct mr_bson_writer *w, struct mr_str key,
                                            struct mr_pg_type type, const struct mr_pg_value *value,
                                            struct mr_pg_scratch *scratch);
MR_MUST_USE enum mr_rc mr_pg_array_put_binary(struct mr_bson_writer *w, struct mr_str key,
                                              struct mr_pg_type type,
                                              const struct mr_pg_value *value,
                                              struct mr_pg_scratch *scratch);
#endif
