/* puller/sources/pg_snapshot.h: the rows that are there, as one history with the stream.
 *
 * A second connection makes a temporary slot, which exports a snapshot of exactly the transactions
 * that commit before one place of the WAL. The stream is read up to that place, leaving out rows
 * that the snapshot will show, and then held, while tables are read in chunks by key. After some
 * seconds the stream goes on and a new snapshot follows, up to the last table. So the position
 * (a place of the WAL, and how far the rows have been taken as of it) is exact at any moment. */
#ifndef MR_PULLER_SOURCES_PG_SNAPSHOT_H
#define MR_PULLER_SOURCES_PG_SNAPSHOT_H
#include "common/config.h"
#include "puller/sources/pg_conn.h"
#include "puller/sources/pg_stream.h"
#include "shm/board.h"

enum mr_pg_snapshot_state {
    MR_PG_SNAPSHOT_OFF,
    MR_PG_SNAPSHOT_CONNECT,
    MR_PG_SNAPSHOT_SESSION,
    MR_PG_SNAPSHOT_BEGIN,
    MR_PG_SNAPSHOT_SLOT,  /* waits for running transactions to end; what commits meanwhile may lie
                           * behind the snapshot's place, so the stream is held */
    MR_PG_SNAPSHOT_REACH, /* for the stream to come to the snapshot's place */
    MR_PG_SNAPSHOT_TABLE, /* which comes next */
    MR_PG_SNAPSHOT_DECLARE,
    MR_PG_SNAPSHOT_FETCH,
    MR_PG_SNAPSHOT_ROWS,
    MR_PG_SNAPSHOT_CLOSE,
    MR_PG_SNAPSHOT_STATE_COUNT
};

struct mr_pg_snapshot {
    /* Given, and borrowed. */
    const struct mr_config *config;
    struct mr_pg_stream *stream; /* its position.place.running says whether there is work */
    struct mr_cell_shm *cell;
    /* Running. */
    enum mr_pg_snapshot_state state;
    struct mr_pg_conn *conn;
    struct mr_pg_result *rows;
    int row;
    uint64_t lsn;      /* what commits before it is in the snapshot */
    uint64_t begun_ns; /* of reading in this snapshot */
    uint64_t table_rows;
    struct mr_pg_relations relations;
    const struct mr_pg_relation *table;
    struct mr_pg_message message;
    char sql[65536];
};

/* One turn. MR_OK; MR_FULL: the intake takes no more; MR_RETRY, MR_USAGE, MR_FATAL as
 * mr_pg_conn_take: stop, and begin again with the next connection. */
MR_MUST_USE enum mr_rc mr_pg_snapshot_poll(struct mr_pg_snapshot *snapshot,
                                           struct mr_intake *intake, uint64_t now_ns,
                                           struct mr_err *err);
void mr_pg_snapshot_stop(struct mr_pg_snapshot *snapshot);

/* The stream must not be read on: rows are being taken as of its place. */
bool mr_pg_snapshot_holds(const struct mr_pg_snapshot *snapshot);
/* Look at a payload before the stream takes it. True: it begins a transaction that is not in the
 * snapshot; keep it for later. */
bool mr_pg_snapshot_reached(struct mr_pg_snapshot *snapshot, const void *payload, size_t len);
/* The stream stands between two transactions: has it come far enough? */
void mr_pg_snapshot_look(struct mr_pg_snapshot *snapshot);
#endif
