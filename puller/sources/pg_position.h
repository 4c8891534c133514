/* puller/sources/pg_position.h: a place in a PostgreSQL slot, as it is stored in the log.
 *
 * Reading goes on at lsn, the end of the last transaction of which everything has been taken. When
 * the transaction that commits at commit_lsn is under way, its first events_taken events have been
 * taken already and are skipped: a restart inside of a transaction of any size neither loses nor
 * repeats. */
#ifndef MR_PULLER_SOURCES_PG_POSITION_H
#define MR_PULLER_SOURCES_PG_POSITION_H
#include "puller/source.h"
#include "puller/sources/pg_place.h"

struct mr_pg_position {
    uint64_t system;          /* the cluster's system identifier */
    uint32_t timeline;        /* of the cluster when this was written; 0 not known */
    uint32_t era;             /* gaps before: places of two eras may not be compared */
    uint64_t lsn;             /* end of the last complete transaction */
    uint64_t commit_lsn;      /* of the transaction under way; 0 none */
    uint64_t events_taken;    /* of the transaction under way */
    struct mr_pg_place place; /* what a snapshot has taken, as of this place in the stream */
};

void mr_pg_position_encode(const struct mr_pg_position *position, struct mr_position *out);
/* MR_USAGE: these bytes were written by another kind of source or another version. */
MR_MUST_USE enum mr_rc mr_pg_position_decode(const struct mr_position *in,
                                             struct mr_pg_position *out, struct mr_err *err);

/* The server's log that this place is in goes at least so far. */
uint64_t mr_pg_position_reach(const struct mr_pg_position *position);
/* Where a server's history, a timeline history file, leaves a timeline. False: it never was on it.
 */
bool mr_pg_history_leaves(const char *history, uint32_t timeline, uint64_t *out);

/* "16/B374D848": how PostgreSQL writes a place in its log. parse: false when text is none. */
struct mr_pg_lsn_text {
    char text[24];
};
struct mr_pg_lsn_text mr_pg_lsn_format(uint64_t lsn);
bool mr_pg_lsn_parse(const char *text, uint64_t *out);
#endif
