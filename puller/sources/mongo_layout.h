/* puller/sources/mongo_layout.h: documents as syntrix stores them -> events as its subscribers know
 * them. The stored document and the mapping: docs/mongodb.md. */
#ifndef MR_PULLER_SOURCES_MONGO_LAYOUT_H
#define MR_PULLER_SOURCES_MONGO_LAYOUT_H
#include "puller/sources/mongo_build.h"

/* Turn a plain event into one of the logical collection that the stored document names. *count
 * becomes 0 when it concerns nobody: a purge of what was reported deleted, a change whose document
 * is not there any more. MR_CORRUPT: it names a database or a collection in more than
 * MR_EVENT_NAME_MAX bytes, and the event is as it was. MR_FATAL: no memory. */
MR_MUST_USE enum mr_rc mr_mongo_layout_apply(struct mr_mongo_builder *builder,
                                             struct mr_event *event, uint32_t *count,
                                             struct mr_err *err);
#endif
