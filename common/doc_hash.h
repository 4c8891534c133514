/* common/doc_hash.h: the hash that places a document in a shard. */
#ifndef MR_COMMON_DOC_HASH_H
#define MR_COMMON_DOC_HASH_H
#include <stdint.h>

#include "common/str.h"

/* XXH3-64 (xxhash.com) over database, collection and document id, each followed by a zero byte.
 * Stored in the log and compared across versions: the definition never changes. */
uint64_t mr_doc_hash(struct mr_str database, struct mr_str collection, struct mr_str document_id);
#endif
