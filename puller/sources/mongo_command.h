/* puller/sources/mongo_command.h: the commands that the source sends, and what it looks for in
 * their answers. */
#ifndef MR_PULLER_SOURCES_MONGO_COMMAND_H
#define MR_PULLER_SOURCES_MONGO_COMMAND_H
#include "puller/sources/mongo_filter.h"
#include "puller/sources/mongo_key.h"

/* Where a change stream is to begin: behind token, or at time, or, with neither, now. */
struct mr_mongo_start {
    struct mr_str token;
    uint64_t time;
};

/* Each writes one command into w, which is reset first. */
void mr_mongo_command_watch(struct mr_bson_writer *w, const struct mr_mongo_filter *filter,
                            const struct mr_mongo_start *start, bool split_large);
void mr_mongo_command_more(struct mr_bson_writer *w, int64_t cursor, struct mr_str collection,
                           uint64_t count, uint32_t wait_ms);
void mr_mongo_command_kill(struct mr_bson_writer *w, int64_t cursor, struct mr_str collection);
void mr_mongo_command_named(struct mr_bson_writer *w, const char *name); /* {name: 1} */
void mr_mongo_command_databases(struct mr_bson_writer *w);
void mr_mongo_command_collections(struct mr_bson_writer *w);
/* The first entry of the oplog. */
void mr_mongo_command_oldest(struct mr_bson_writer *w);

/* The next documents of a collection in the order of their keys, as of one cluster time.
 *   after  the last key read, NULL: none yet */
void mr_mongo_command_chunk(struct mr_bson_writer *w, struct mr_str collection,
                            const struct mr_bson_value *after, uint64_t count);

/* A cursor's answer. Absent parts are 0 or empty. MR_CORRUPT: it is none. */
struct mr_mongo_cursor {
    int64_t id;
    struct mr_str batch; /* BSON array */
    struct mr_str token; /* postBatchResumeToken */
    uint64_t time;       /* atClusterTime */
};
MR_MUST_USE enum mr_rc mr_mongo_cursor_read(struct mr_str reply, struct mr_mongo_cursor *out);
#endif
