/* puller/sources/pg_stream.h: the replication stream as bytes in, events out: knows transactions,
 * positions and tables, and no connection. One CopyData payload at a time.
 *
 * Exactly once into the intake: an event counts as taken when the intake has taken it, the position
 * says so at once, and what a position covers is skipped when the server sends it again. */
#ifndef MR_PULLER_SOURCES_PG_STREAM_H
#define MR_PULLER_SOURCES_PG_STREAM_H
#include "puller/source.h"
#include "puller/sources/pg_build.h"
#include "puller/sources/pg_position.h"

struct mr_pg_stream {
    struct mr_pg_builder builder;
    struct mr_pg_relations relations;
    struct mr_pg_catalog catalog;
    struct mr_pg_position position; /* behind the last event taken */
    uint64_t position_stated_lsn;   /* lsn of the last position given to the intake */
    uint64_t position_stated_ns;
    uint64_t received_lsn; /* greatest place the server has spoken of */
    bool in_transaction;
    bool binary;          /* tuples have been asked for in binary form */
    bool text_only;       /* some table cannot be read in binary form: never ask for it again */
    bool reply_wanted;    /* the server asked for feedback */
    bool reload;          /* MR_RETRY was for the catalog: reconnect at once */
    uint32_t event_index; /* of the message at hand: how many of its events are done */
    uint64_t skip;        /* events of this transaction that were taken before */
    uint64_t
        transaction_events; /* events of this transaction passed so far, skipped ones included */
    uint64_t commit_lsn;    /* of the transaction under way */
    uint32_t xid;
    int64_t commit_time_us;
    int64_t waited_us; /* from the commit until the server sent the last change, by its own clock */
    struct mr_pg_message message; /* the one at hand */
};

/* position: where reading begins. database is borrowed. */
void mr_pg_stream_init(struct mr_pg_stream *stream, struct mr_str database,
                       const struct mr_pg_position *position);
void mr_pg_stream_fini(struct mr_pg_stream *stream);
/* A new connection: tables will be described again, and the transaction under way sent again. */
void mr_pg_stream_restart(struct mr_pg_stream *stream);

/* Take one payload.
 *   MR_OK: taken. MR_FULL: the intake is full; offer the same payload again.
 *   MR_RETRY: reconnect, reading the catalog anew: something in the payload is newer than it.
 *   MR_CORRUPT, MR_FATAL: no way on. */
MR_MUST_USE enum mr_rc mr_pg_stream_take(struct mr_pg_stream *stream, const void *data, size_t len,
                                         struct mr_intake *intake, uint64_t now_ns,
                                         struct mr_err *err);

/* Whether the catalog explains all of a table's types and its key. MR_OK; MR_RETRY: as above, once
 * for each. */
MR_MUST_USE enum mr_rc mr_pg_stream_knows(struct mr_pg_stream *stream,
                                          const struct mr_pg_relation *relation,
                                          struct mr_err *err);

/* Report that changes between two places are lost, and go on behind them. MR_OK or MR_FULL: again.
 */
MR_MUST_USE enum mr_rc mr_pg_stream_gap(struct mr_pg_stream *stream, const char *cause,
                                        uint64_t to_lsn, struct mr_intake *intake,
                                        struct mr_err *err);

/* Report that a collection's content as of a place is not known, without moving. MR_OK or MR_FULL:
 * again. */
MR_MUST_USE enum mr_rc mr_pg_stream_note(struct mr_pg_stream *stream, struct mr_str collection,
                                         const char *cause, uint64_t lsn, struct mr_intake *intake,
                                         struct mr_err *err);

/* State the position: the snapshot's place in it has moved. */
void mr_pg_stream_state_place(struct mr_pg_stream *stream, struct mr_intake *intake);

/* State the position although no event came, so that it becomes durable and may be acknowledged: at
 * once when force, else at most once a second. Nothing happens when it has not moved. */
void mr_pg_stream_state_position(struct mr_pg_stream *stream, struct mr_intake *intake, bool force,
                                 uint64_t now_ns);

/* The standby status update: what has been received and what is durable. */
enum { MR_PG_FEEDBACK_BYTES = 34 };
void mr_pg_stream_feedback(const struct mr_pg_stream *stream, uint64_t durable_lsn, bool want_reply,
                           int64_t wall_us, uint8_t out[MR_PG_FEEDBACK_BYTES]);
#endif
