#include "relay/cache.h"

#include <stdlib.h>

static uint64_t bucket_of(uint64_t sequence)
{
    return sequence / MR_PIECE_EVENTS_MAX % MR_CACHE_BUCKETS;
}

void mr_cache_init(struct mr_cache *cache, size_t bytes_max)
{
    *cache = (struct mr_cache){.bytes_max = bytes_max};
    pthread_mutex_init(&cache->lock, NULL);
    TAILQ_INIT(&cache->used);
}

/* Lock held. */
static void drop(struct mr_cache *cache, struct mr_piece *piece)
{
    TAILQ_REMOVE(&cache->used, piece, used);
    SLIST_REMOVE(&cache->buckets[bucket_of(piece->first)], piece, mr_piece, bucket);
    cache->bytes -= piece->bytes;
    mr_piece_unref(piece);
}

void mr_cache_fini(struct mr_cache *cache)
{
    while (!TAILQ_EMPTY(&cache->used))
        drop(cache, TAILQ_FIRST(&cache->used));
    pthread_mutex_destroy(&cache->lock);
}

struct mr_piece *mr_cache_get(struct mr_cache *cache, uint64_t sequence)
{
    struct mr_piece *piece;
    pthread_mutex_lock(&cache->lock);
    SLIST_FOREACH(piece, &cache->buckets[bucket_of(sequence)], bucket)
    {
        if (piece->first > sequence || piece->through < sequence)
            continue;
        TAILQ_REMOVE(&cache->used, piece, used);
        TAILQ_INSERT_TAIL(&cache->used, piece, used);
        mr_piece_ref(piece);
        break;
    }
    pthread_mutex_unlock(&cache->lock);
    return piece;
}

void mr_cache_put(struct mr_cache *cache, struct mr_piece *piece)
{
    MR_ASSERT(bucket_of(piece->first) == bucket_of(piece->through));
    mr_piece_ref(piece);
    pthread_mutex_lock(&cache->lock);
    TAILQ_INSERT_TAIL(&cache->used, piece, used);
    SLIST_INSERT_HEAD(&cache->buckets[bucket_of(piece->first)], piece, bucket);
    cache->bytes += piece->bytes;
    /* The newest always stays: whoever asked for it is about to use it. */
    while (cache->bytes > cache->bytes_max && TAILQ_FIRST(&cache->used) != piece)
        drop(cache, TAILQ_FIRST(&cache->used));
    pthread_mutex_unlock(&cache->lock);
}

size_t mr_cache_bytes(struct mr_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    size_t bytes = cache->bytes;
    pthread_mutex_unlock(&cache->lock);
    return bytes;
}
