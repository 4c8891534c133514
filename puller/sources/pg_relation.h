/* puller/sources/pg_relation.h: the tables that the stream has spoken of, as Relation messages
 * describe them. A new message for a table replaces the old one: that is how a change of schema
 * arrives. */
#ifndef MR_PULLER_SOURCES_PG_RELATION_H
#define MR_PULLER_SOURCES_PG_RELATION_H
#include "puller/sources/pg_catalog.h"

struct mr_pg_column {
    struct mr_str name;
    uint32_t type_oid;
    struct mr_pg_type type;
    bool key; /* part of the document id */
};
struct mr_pg_relation {
    uint64_t form; /* hash of the description: another one when a column is renamed */
    uint32_t oid;
    uint32_t column_count;
    uint32_t key_count; /* 0: rows have no identity */
    uint32_t
        unknown_type; /* a user's type that the catalog read at connect does not know; 0 none */
    uint8_t identity; /* 'd' default, 'n' nothing, 'f' full, 'i' index */
    bool key_unknown; /* identity 'f', and the primary key is not known by these names */
    bool needs_text;  /* has columns of which the binary form cannot be read */
    struct mr_str collection; /* "table" in schema public, else "schema.table" */
    struct mr_pg_column columns[];
};

struct mr_pg_relations {
    struct mr_pg_relation **slots; /* open addressing, a power of two */
    size_t capacity, count;
    struct mr_pg_relation *last; /* found last: rows come in runs */
};

void mr_pg_relations_clear(struct mr_pg_relations *relations);
/* Take the body of a Relation message. *out is borrowed until the table's next message or clear.
 * MR_OK; MR_CORRUPT: not such a message; MR_FATAL: no memory. */
MR_MUST_USE enum mr_rc mr_pg_relations_take(struct mr_pg_relations *relations, struct mr_str body,
                                            const struct mr_pg_catalog *catalog,
                                            const struct mr_pg_relation **out, struct mr_err *err);
/* NULL: the stream has not described it. */
const struct mr_pg_relation *mr_pg_relations_find(struct mr_pg_relations *relations, uint32_t oid);
#endif
