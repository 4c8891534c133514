/* puller/sources/pg_build.h: a decoded change and its table -> events. How rows become documents
 * and keys become ids: docs/postgres.md. */
#ifndef MR_PULLER_SOURCES_PG_BUILD_H
#define MR_PULLER_SOURCES_PG_BUILD_H
#include "proto/event.h"
#include "puller/sources/pg_relation.h"

struct mr_pg_id {
    char text[MR_EVENT_NAME_MAX];
    size_t len;
};
/* Buffers that are kept from change to change: nothing is allocated once they have grown. */
struct mr_pg_builder {
    struct mr_str database; /* borrowed */
    struct mr_bson_writer document, update, before;
    struct mr_pg_scratch scratch;
    struct mr_pg_id id, old_id;
    bool cut;     /* the document built last lacks values that are too large */
    bool rekeyed; /* the update at hand changes the id: a delete and an insert */
};

void mr_pg_builder_init(struct mr_pg_builder *builder, struct mr_str database);
void mr_pg_builder_fini(struct mr_pg_builder *builder);

/* Find the ids that an insert, update or delete concerns. lsn and index name a row without a key.
 * *count: events that it makes, 1 or 2. MR_CORRUPT: the row does not fit the table; MR_FATAL. */
MR_MUST_USE enum mr_rc mr_pg_build_ids(struct mr_pg_builder *builder,
                                       const struct mr_pg_relation *relation,
                                       const struct mr_pg_message *message, uint32_t *count,
                                       struct mr_err *err);
/* Name for a row of a table without identity, after mr_pg_build_ids: unique, and the same when the
 * stream is read again. */
void mr_pg_build_unkeyed_id(struct mr_pg_builder *builder, uint64_t commit_lsn, uint64_t index);
/* Event index of what mr_pg_build_ids has counted. Sets op, flags and all parts of out but the
 * times and numbers of its head; they are borrowed from the builder until the next call. */
MR_MUST_USE enum mr_rc mr_pg_build_event(struct mr_pg_builder *builder,
                                         const struct mr_pg_relation *relation,
                                         const struct mr_pg_message *message, uint32_t index,
                                         struct mr_event *out, struct mr_err *err);
#endif
