/* puller/sources/pg_sql.h: SQL text built piece by piece, values quoted. */
#ifndef MR_PULLER_SOURCES_PG_SQL_H
#define MR_PULLER_SOURCES_PG_SQL_H
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

struct mr_pg_sql {
    char *text; /* NUL-terminated */
    size_t size, len;
    bool cut; /* it did not fit */
};
void mr_pg_sql_init(struct mr_pg_sql *sql, char *text, size_t size);
void mr_pg_sql_add(struct mr_pg_sql *sql, const char *text);
void mr_pg_sql_literal(struct mr_pg_sql *sql, const char *value);   /* 'it''s' */
void mr_pg_sql_identifier(struct mr_pg_sql *sql, const char *name); /* "a ""b""" */
/* Give a session the settings on which the text of values depends, and others that a server may
 * have otherwise. One statement: a walsender takes no several. */
void mr_pg_sql_session(struct mr_pg_sql *sql);
/* "schema.table" as two identifiers; without a dot the schema is public. */
void mr_pg_sql_table(struct mr_pg_sql *sql, const char *table);
/* The two parts of "schema.table". */
void mr_pg_sql_split(const char *table, char schema[128], char name[128]);
/* The condition that column a (pg_attribute) is one of index i's (pg_index) key. */
const char *mr_pg_sql_in_key(int server_version);
#endif
