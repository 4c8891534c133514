/* puller/sources/mongo_build.h: a change and its layout -> events. What becomes what:
 * docs/mongodb.md. */
#ifndef MR_PULLER_SOURCES_MONGO_BUILD_H
#define MR_PULLER_SOURCES_MONGO_BUILD_H
#include "proto/event.h"
#include "puller/sources/mongo_change.h"
#include "puller/sources/mongo_filter.h"
#include "puller/sources/mongo_id.h"

enum { MR_MONGO_EVENTS_MAX = 2, MR_MONGO_SEEN_MAX = 4096 };

/* Buffers that are kept from change to change, and what has been seen of the cluster time at hand:
 * all changes of a transaction share one, and the same document twice needs two event ids. */
struct mr_mongo_builder {
    const struct mr_mongo_filter *filter; /* borrowed */
    bool syntrix;
    struct mr_bson_writer document, info;
    struct mr_mongo_id id, document_id;
    char event_id[MR_EVENT_ID_MAX];
    uint64_t seen_time, seen_first;
    uint64_t seen[MR_MONGO_SEEN_MAX]; /* hashes of documents; 0 free */
    uint32_t seen_count;
    bool seen_all; /* false: the first ones were taken before this process began */
};

/* The builder is large: not for the stack. */
void mr_mongo_builder_init(struct mr_mongo_builder *builder, const struct mr_mongo_filter *filter);
void mr_mongo_builder_fini(struct mr_mongo_builder *builder);

/* index: how many changes of the same cluster time came before. Sets *count, 0 when the change
 * concerns nobody, and the events but for what the intake fills in; they are borrowed from change
 * and builder until the next call. MR_FATAL: no memory. */
MR_MUST_USE enum mr_rc mr_mongo_build(struct mr_mongo_builder *builder,
                                      const struct mr_mongo_change *change, uint32_t index,
                                      struct mr_event out[MR_MONGO_EVENTS_MAX], uint32_t *count,
                                      struct mr_err *err);
/* A document read for a snapshot as of time. MR_CORRUPT: it has no _id. */
MR_MUST_USE enum mr_rc mr_mongo_build_row(struct mr_mongo_builder *builder, struct mr_str database,
                                          struct mr_str collection, struct mr_str document,
                                          uint64_t time, struct mr_event *out, uint32_t *count,
                                          struct mr_err *err);
/* Changes behind one cluster time are lost, through another one. */
MR_MUST_USE enum mr_rc mr_mongo_build_gap(struct mr_mongo_builder *builder, const char *cause,
                                          uint64_t from, uint64_t to, struct mr_event *out,
                                          struct mr_err *err);
#endif
