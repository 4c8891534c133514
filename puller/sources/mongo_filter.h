/* puller/sources/mongo_filter.h: which collections a source reads: lists of names in which * stands
 * for any run of bytes. Where the whole deployment is read, what stands in front of a name's first
 * dot is the database and the rest the collection, for the server's filter and for ours. */
#ifndef MR_PULLER_SOURCES_MONGO_FILTER_H
#define MR_PULLER_SOURCES_MONGO_FILTER_H
#include "common/bson.h"
#include "common/config.h"

struct mr_mongo_filter {
    const struct mr_config *config; /* borrowed */
    struct mr_str database;         /* empty: the whole deployment, and lists name db.collection */
    struct mr_str collection;       /* the only one, watched by itself; empty: by the lists */
};

/* MR_USAGE: a name that cannot be one. */
MR_MUST_USE enum mr_rc mr_mongo_filter_init(struct mr_mongo_filter *filter,
                                            const struct mr_config *config, struct mr_err *err);
bool mr_mongo_filter_takes(const struct mr_mongo_filter *filter, struct mr_str database,
                           struct mr_str collection);
/* Put the {$match: ...} stage, so that the server sends no more than what is wanted; nothing when
 * all is. Events without a collection always pass. */
void mr_mongo_filter_put_stage(const struct mr_mongo_filter *filter, struct mr_bson_writer *w,
                               struct mr_str key);
#endif
