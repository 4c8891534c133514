/* puller/sources/pg_place.h: how far a snapshot of PostgreSQL has come: everything in front of
 * (collection, id) has been taken. Tables come in the order of their names, rows in that of their
 * keys: numbers by value when the key is one integer column, else ids byte by byte, as far as they
 * are kept when they are cut. */
#ifndef MR_PULLER_SOURCES_PG_PLACE_H
#define MR_PULLER_SOURCES_PG_PLACE_H
#include "proto/event.h"
#include "puller/sources/pg_relation.h"

enum {
    MR_PG_COLLECTION_MAX = 160,    /* two names of 63 bytes, a dot */
    MR_PG_PLACE_ORDER_BYTES = 896, /* of an id: mr_pg_build_ids keeps at least so many */
};

enum mr_pg_place_state {
    MR_PG_PLACE_NONE,  /* nothing of the table is taken */
    MR_PG_PLACE_ROW,   /* all through id */
    MR_PG_PLACE_TABLE, /* all of it */
    MR_PG_PLACE_ALIKE, /* all through id, and all that are alike in the bytes that are ordered */
    MR_PG_PLACE_STATE_COUNT
};
struct mr_pg_place {
    bool running;  /* a snapshot is under way; else the rest means nothing */
    uint8_t state; /* enum mr_pg_place_state */
    uint16_t collection_len, id_len;
    char collection[MR_PG_COLLECTION_MAX];
    char id[MR_EVENT_NAME_MAX];
};

/* Whether the key is all columns, for want of a primary key: they can be NULL. */
bool mr_pg_place_whole(const struct mr_pg_relation *relation);
/* Whether rows of the table are ordered by number. */
bool mr_pg_place_numeric(const struct mr_pg_relation *relation);
/* Behind which number the rows of such a table are still to be taken. */
long long mr_pg_place_number(const struct mr_pg_place *place);
/* Whether the snapshot will show the row; without an id (NULL data): any row of the table that is
 * not taken yet. Rows without identity are in no snapshot. */
bool mr_pg_place_ahead(const struct mr_pg_place *place, const struct mr_pg_relation *relation,
                       struct mr_str id);
/* Whether the row, behind the one that was taken last, is ordered like it: both have long ids. */
bool mr_pg_place_alike(const struct mr_pg_place *place, const struct mr_pg_relation *relation,
                       struct mr_str id);
/* Move behind a row, or behind the table. */
void mr_pg_place_pass(struct mr_pg_place *place, struct mr_str collection, struct mr_str id);
void mr_pg_place_pass_table(struct mr_pg_place *place, struct mr_str collection);
#endif
