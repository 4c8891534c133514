/* puller/sources/mongo_change.h: one change event of MongoDB (manual, "Change Events"), taken
 * apart. */
#ifndef MR_PULLER_SOURCES_MONGO_CHANGE_H
#define MR_PULLER_SOURCES_MONGO_CHANGE_H
#include "common/bson.h"

enum mr_mongo_change_kind {
    MR_MONGO_OTHER, /* not of our concern: index builds and the like */
    MR_MONGO_INSERT,
    MR_MONGO_UPDATE,
    MR_MONGO_REPLACE,
    MR_MONGO_DELETE,
    MR_MONGO_DROP,
    MR_MONGO_RENAME,
    MR_MONGO_DROP_DATABASE,
    MR_MONGO_INVALIDATE,
    MR_MONGO_CHANGE_COUNT
};

/* Parts that are absent are empty; a fullDocument that is null is absent. All point into the
 * event. */
struct mr_mongo_change {
    enum mr_mongo_change_kind kind;
    struct mr_str token, database, collection, to_database, to_collection;
    struct mr_str document_key, document, before, update;
    struct mr_bson_value id; /* documentKey._id; type 0: absent */
    uint64_t time;           /* cluster time, seconds << 32 | increment; 0 absent */
    int64_t wall_ms;         /* 0 absent */
    int64_t transaction;
    uint32_t fragment, fragments; /* of an event that was split; 0: it was not */
};

/* MR_CORRUPT: no change event. Does not look inside of documents. */
MR_MUST_USE enum mr_rc mr_mongo_change_read(struct mr_str event, struct mr_mongo_change *out);
/* "drop", ...: MongoDB's own operationType. */
const char *mr_mongo_change_name(enum mr_mongo_change_kind kind);

/* Puts an event together that came in fragments. */
struct mr_mongo_splice {
    struct mr_bson_writer whole;
    uint32_t next; /* the fragment that is expected; 0: none is under way */
};
void mr_mongo_splice_init(struct mr_mongo_splice *splice);
void mr_mongo_splice_fini(struct mr_mongo_splice *splice);
/* Take a fragment. MR_AGAIN: more are to come; MR_OK: *event is the whole, until the next call;
 * MR_CORRUPT: out of turn. */
MR_MUST_USE enum mr_rc mr_mongo_splice_take(struct mr_mongo_splice *splice, struct mr_str event,
                                            const struct mr_mongo_change *fragment,
                                            struct mr_str *whole);
#endif
