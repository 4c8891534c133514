/* relay/cache.h: the pieces in memory, by sequence: what is live, and what consumers that catch up
 * have asked for lately. Bounded in bytes; what was not used longest goes first. Any thread. */
#ifndef MR_RELAY_CACHE_H
#define MR_RELAY_CACHE_H
#include <pthread.h>

#include "relay/piece.h"

enum { MR_CACHE_BUCKETS = 4096 };

struct mr_cache {
    pthread_mutex_t lock; /* of all below */
    size_t bytes, bytes_max;
    TAILQ_HEAD(, mr_piece) used; /* last: used last */
    SLIST_HEAD(, mr_piece) buckets[MR_CACHE_BUCKETS];
};

void mr_cache_init(struct mr_cache *cache, size_t bytes_max);
void mr_cache_fini(struct mr_cache *cache);
/* The piece that holds sequence, with a reference for the caller; NULL: it is not here. */
struct mr_piece *mr_cache_get(struct mr_cache *cache, uint64_t sequence);
/* Keep a piece of single events; takes a reference of its own. */
void mr_cache_put(struct mr_cache *cache, struct mr_piece *piece);
size_t mr_cache_bytes(struct mr_cache *cache);
#endif
