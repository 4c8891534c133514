/* puller/sources/pg_catalog.h: what the replication stream does not tell and the server's catalog
 * does: how types made by users are built, and the primary keys of tables with REPLICA IDENTITY
 * FULL. Read at each connect. The stream may speak of something newer; then the source reconnects,
 * once for each. */
#ifndef MR_PULLER_SOURCES_PG_CATALOG_H
#define MR_PULLER_SOURCES_PG_CATALOG_H
#include "puller/sources/pg_types.h"

struct mr_pg_catalog_type {
    uint32_t oid;
    uint32_t of;  /* domain: the type below it; array: its elements; else 0 */
    char variety; /* 'e' enum, 'd' domain, 'A' array, 't' sent like text, anything else opaque */
};
struct mr_pg_catalog_key {
    uint32_t relation;
    char column[64]; /* empty: the table has no primary key */
};
struct mr_pg_catalog {
    struct mr_pg_catalog_type *types; /* sorted by oid after mr_pg_catalog_sort */
    size_t type_count, type_capacity;
    struct mr_pg_catalog_key *keys; /* sorted by relation */
    size_t key_count, key_capacity;
    uint64_t *asked; /* what a reconnect has been spent on */
    size_t asked_count, asked_capacity;
};

/* Forget types and keys, keep what has been asked for. */
void mr_pg_catalog_clear(struct mr_pg_catalog *catalog);
void mr_pg_catalog_fini(struct mr_pg_catalog *catalog);
/* False: no memory. */
bool mr_pg_catalog_add_type(struct mr_pg_catalog *catalog, const struct mr_pg_catalog_type *type);
bool mr_pg_catalog_add_key(struct mr_pg_catalog *catalog, const struct mr_pg_catalog_key *key);
/* After the last add, before the first find. */
void mr_pg_catalog_sort(struct mr_pg_catalog *catalog);

/* False: this catalog does not know the type (out is OPAQUE). */
bool mr_pg_catalog_type(const struct mr_pg_catalog *catalog, uint32_t oid, struct mr_pg_type *out);
/* Primary-key columns of a table with REPLICA IDENTITY FULL; *count 0 and NULL: it is not known. */
const struct mr_pg_catalog_key *mr_pg_catalog_keys(const struct mr_pg_catalog *catalog,
                                                   uint32_t relation, size_t *count);

/* True once for each form (0, or what it looks like) of each object: reading the catalog anew is
 * worth a reconnect. */
enum mr_pg_object { MR_PG_OBJECT_TYPE = 1, MR_PG_OBJECT_RELATION };
bool mr_pg_catalog_ask(struct mr_pg_catalog *catalog, enum mr_pg_object object, uint32_t oid,
                       uint64_t form);
#endif
