/* puller/sources/mongo_key.h: the order of _id values, as MongoDB's indexes have it (simple
 * collation). MongoDB manual, "Comparison/Sort Order". */
#ifndef MR_PULLER_SOURCES_MONGO_KEY_H
#define MR_PULLER_SOURCES_MONGO_KEY_H
#include "common/bson.h"

/* Kinds in their order; numbers of all types are one kind, strings and symbols another. */
enum mr_mongo_kind {
    MR_MONGO_MIN,
    MR_MONGO_NULL,
    MR_MONGO_NUMBER,
    MR_MONGO_STRING,
    MR_MONGO_OBJECT,
    MR_MONGO_ARRAY,
    MR_MONGO_BINARY,
    MR_MONGO_OID,
    MR_MONGO_BOOL,
    MR_MONGO_DATE,
    MR_MONGO_TIMESTAMP,
    MR_MONGO_REGEX,
    MR_MONGO_POINTER,
    MR_MONGO_CODE,
    MR_MONGO_CODE_SCOPE,
    MR_MONGO_MAX,
    MR_MONGO_KIND_COUNT
};
enum mr_mongo_kind mr_mongo_kind_of(uint8_t type);
/* What $type calls a kind. */
const char *mr_mongo_kind_name(enum mr_mongo_kind kind);

/* Below, at or above 0. Values inside of documents that are damaged compare as missing. */
int mr_mongo_key_compare(const struct mr_bson_value *a, const struct mr_bson_value *b);
bool mr_mongo_key_is_nan(const struct mr_bson_value *key);
#endif
