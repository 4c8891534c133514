/* puller/sources/mongo_snapshot.h: the reading side of a snapshot: all collections that are wanted,
 * in the order of their names, each in the order of its keys, one chunk at a time. */
#ifndef MR_PULLER_SOURCES_MONGO_SNAPSHOT_H
#define MR_PULLER_SOURCES_MONGO_SNAPSHOT_H
#include "puller/sources/mongo_command.h"
#include "puller/sources/mongo_conn.h"
#include "puller/sources/mongo_queue.h"

struct mr_mongo_snapshot {
    const struct mr_mongo_filter *filter; /* borrowed */
    bool active;
    bool open;     /* place.ns is being read; else what comes behind it is next */
    uint64_t time; /* of the last chunk */
    uint64_t total;
    struct mr_mongo_snapshot_place place; /* behind the last document read */
};

/* Begin anew, or behind a place. */
void mr_mongo_snapshot_begin(struct mr_mongo_snapshot *snapshot,
                             const struct mr_mongo_filter *filter,
                             const struct mr_mongo_snapshot_place *from);
/* Read on. MR_OK: out is a CHUNK, or, when all has been read, SNAPSHOT_DONE, and active is false.
 * Others as mr_mongo_conn_run. */
MR_MUST_USE enum mr_rc mr_mongo_snapshot_next(struct mr_mongo_snapshot *snapshot,
                                              struct mr_mongo_conn *conn,
                                              struct mr_bson_writer *command,
                                              struct mr_mongo_item *out, struct mr_err *err);

/* Copy a key into a place. False: it is over MR_MONGO_KEY_MAX. */
bool mr_mongo_snapshot_set_key(struct mr_mongo_snapshot_place *place,
                               const struct mr_bson_value *key);
struct mr_bson_value mr_mongo_snapshot_key(const struct mr_mongo_snapshot_place *place);
/* Split "database.collection". */
void mr_mongo_snapshot_names(const char *ns, struct mr_str *database, struct mr_str *collection);
#endif
