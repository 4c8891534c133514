/* puller/sources/mongo_id.h: a document's key as text. */
#ifndef MR_PULLER_SOURCES_MONGO_ID_H
#define MR_PULLER_SOURCES_MONGO_ID_H
#include "common/bson.h"
#include "proto/event.h"

struct mr_mongo_id {
    char text[MR_EVENT_NAME_MAX];
    size_t len;
};

/* A string as it is, an ObjectId as 24 hex digits, numbers in decimal, a UUID in its usual form.
 * Anything else as Go's %v shows it, which is what syntrix puts into event ids: {a: 1} becomes
 * "map[a:1]". Over MR_EVENT_NAME_MAX bytes: the beginning, "~" and a hash of all. */
void mr_mongo_id_of(struct mr_mongo_id *out, const struct mr_bson_value *key);
/* A text, cut in the same way. */
void mr_mongo_id_of_text(struct mr_mongo_id *out, struct mr_str text);
/* For a key that is no valid BSON: "~" and a hash. */
void mr_mongo_id_of_damaged(struct mr_mongo_id *out, const struct mr_bson_value *key);
#endif
