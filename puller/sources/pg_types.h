/* puller/sources/pg_types.h: PostgreSQL values, in text or binary form, into BSON and into key
 * text. The mapping is listed in docs/postgres.md. Text output is expected as the session asks for
 * it: DateStyle ISO, TimeZone UTC, IntervalStyle postgres, bytea_output hex, UTF-8. */
#ifndef MR_PULLER_SOURCES_PG_TYPES_H
#define MR_PULLER_SOURCES_PG_TYPES_H
#include "common/bson.h"
#include "puller/sources/pg_decode.h"

enum mr_pg_kind {
    MR_PG_OPAQUE, /* text form becomes a string; binary form cannot be read */
    MR_PG_TEXT,   /* both forms are the text itself: text, varchar, enum, name */
    MR_PG_BOOL,
    MR_PG_INT2,
    MR_PG_INT4,
    MR_PG_INT8,
    MR_PG_OID,
    MR_PG_FLOAT4,
    MR_PG_FLOAT8,
    MR_PG_NUMERIC,
    MR_PG_BYTEA,
    MR_PG_DATE,
    MR_PG_TIME,
    MR_PG_TIMETZ,
    MR_PG_TIMESTAMP,
    MR_PG_TIMESTAMPTZ,
    MR_PG_INTERVAL,
    MR_PG_UUID,
    MR_PG_JSON,
    MR_PG_JSONB,
    MR_PG_KIND_COUNT
};
struct mr_pg_type {
    uint8_t kind; /* enum mr_pg_kind; of an array: of its elements */
    bool array;
};

/* A built-in type by its fixed object id. False: none that is known here (out is OPAQUE). */
bool mr_pg_type_builtin(uint32_t oid, struct mr_pg_type *out);
enum { MR_PG_FIRST_USER_OID = 16384 }; /* types below are the same in every database */

/* Memory for unescaping and formatting: grows to the largest value met and is kept. */
struct mr_pg_scratch {
    char *data;
    size_t capacity;
};
char *mr_pg_scratch_reserve(struct mr_pg_scratch *scratch, size_t len); /* NULL: no memory */
void mr_pg_scratch_fini(struct mr_pg_scratch *scratch);

/* Append one value under key. A text form that does not read as its type is kept as a string; a
 * value that is no UTF-8 is kept as binary. MR_OK; MR_CORRUPT: a binary form of impossible length
 * or content, or one of an OPAQUE type; MR_FATAL: no memory. */
MR_MUST_USE enum mr_rc mr_pg_put(struct mr_bson_writer *w, struct mr_str key,
                                 struct mr_pg_type type, const struct mr_pg_value *value,
                                 struct mr_pg_scratch *scratch);

/* The value as the server's text output would give it: the same for both forms. *out points into
 * the value or the scratch memory. Arrays in binary form are not supported: MR_CORRUPT. */
MR_MUST_USE enum mr_rc mr_pg_text(struct mr_pg_type type, const struct mr_pg_value *value,
                                  struct mr_pg_scratch *scratch, struct mr_str *out);
#endif
