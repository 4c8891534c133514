/* Shards of millrace match: as matchers are, but threads. */
#include <pthread.h>
#include <stdlib.h>

#include "common/doc_hash.h"
#include "tools/match.h"

/* What one shard found: for each of its events in order how many, and all ids behind each other. */
struct shard {
    struct mr_engine *engine;
    uint32_t index, count; /* of shards */
    const struct mr_match_sub *subs;
    uint64_t sub_count;
    const struct mr_match_event *events;
    uint64_t event_count;
    uint32_t *counts; /* by event; of all events, only its own are set */
    uint64_t *ids;
    uint64_t id_count, id_capacity, read;
    struct mr_err err;
    enum mr_rc rc;
};
struct mr_match_shards {
    uint32_t count;
    uint32_t *counts; /* shared: each shard writes its own events' */
    uint64_t capacity;
    struct shard shards[];
};

enum mr_rc mr_match_shards_create(struct mr_match_shards **out, uint32_t count, bool bloom,
                                  struct mr_err *err)
{
    struct mr_match_shards *all = calloc(1, sizeof *all + count * sizeof all->shards[0]);
    if (!all)
        return mr_fail(err, MR_FATAL, "create %u shards", count);
    for (uint32_t i = 0; i < count; i++) {
        struct shard *shard = &all->shards[i];
        shard->index = i;
        shard->count = count;
        all->count = i + 1;
        enum mr_rc rc = mr_engine_create(&shard->engine, err);
        if (rc != MR_OK) {
            mr_match_shards_destroy(&all);
            return rc;
        }
        mr_engine_set_bloom(shard->engine, bloom);
    }
    *out = all;
    return MR_OK;
}

void mr_match_shards_destroy(struct mr_match_shards **out)
{
    struct mr_match_shards *all = *out;
    if (!all)
        return;
    for (uint32_t i = 0; i < all->count; i++) {
        mr_engine_destroy(&all->shards[i].engine);
        free(all->shards[i].ids);
    }
    free(all->counts);
    free(all);
    *out = NULL;
}

/* Run work on every shard, each in a thread; with one shard, here. */
static enum mr_rc on_all(struct mr_match_shards *all, void *(*work)(void *), struct mr_err *err)
{
    pthread_t threads[64];
    bool started[64] = {false};
    MR_ASSERT(all->count <= 64);
    for (uint32_t i = 1; i < all->count; i++)
        started[i] = pthread_create(&threads[i], NULL, work, &all->shards[i]) == 0;
    (void)work(&all->shards[0]);
    enum mr_rc rc = MR_OK;
    for (uint32_t i = 0; i < all->count; i++) {
        struct shard *shard = &all->shards[i];
        if (started[i])
            (void)pthread_join(threads[i], NULL);
        else if (i > 0)
            (void)work(shard);
        if (shard->rc != MR_OK && rc == MR_OK) {
            rc = shard->rc;
            *err = shard->err;
        }
    }
    return rc;
}

static void *load(void *context)
{
    struct shard *shard = context;
    shard->rc = MR_OK;
    for (uint64_t i = 0; shard->rc == MR_OK && i < shard->sub_count; i++) {
        shard->rc = mr_engine_add(shard->engine, i, shard->subs[i].program, shard->subs[i].len);
        if (shard->rc != MR_OK)
            shard->rc = mr_reject(&shard->err, MR_FATAL, "add subscription %s to the index: %s",
                                  shard->subs[i].id, mr_rc_name(shard->rc));
    }
    return NULL;
}

enum mr_rc mr_match_shards_load(struct mr_match_shards *all, const struct mr_match_sub *subs,
                                uint64_t count, struct mr_err *err)
{
    for (uint32_t i = 0; i < all->count; i++) {
        all->shards[i].subs = subs;
        all->shards[i].sub_count = count;
    }
    return on_all(all, load, err);
}

static bool is_mine(const struct shard *shard, const struct mr_engine_event *event)
{
    if (shard->count == 1)
        return true;
    return mr_doc_hash(event->database, event->collection, event->document_id) % shard->count ==
           shard->index;
}

static bool keep(struct shard *shard, const uint64_t *ids, uint32_t count)
{
    if (shard->id_count + count > shard->id_capacity) {
        uint64_t capacity = (shard->id_count + count) * 2;
        uint64_t *grown = realloc(shard->ids, capacity * sizeof *grown);
        if (!grown)
            return false;
        shard->ids = grown;
        shard->id_capacity = capacity;
    }
    if (count > 0)
        memcpy(shard->ids + shard->id_count, ids, count * sizeof *ids);
    shard->id_count += count;
    return true;
}

static void *match(void *context)
{
    struct shard *shard = context;
    shard->rc = MR_OK;
    shard->id_count = shard->read = 0;
    for (uint64_t i = 0; i < shard->event_count; i++) {
        struct mr_engine_event event = mr_match_event_view(&shard->events[i]);
        if (!is_mine(shard, &event))
            continue;
        const uint64_t *ids;
        shard->counts[i] = mr_engine_match(shard->engine, &event, &ids);
        if (!keep(shard, ids, shard->counts[i])) {
            shard->rc = mr_fail(&shard->err, MR_FATAL, "keep the matches of %u subscriptions",
                                shard->counts[i]);
            return NULL;
        }
    }
    return NULL;
}

enum mr_rc mr_match_shards_run(struct mr_match_shards *all, const struct mr_match_event *events,
                               uint64_t count, mr_match_result *matched, void *context,
                               struct mr_err *err)
{
    if (count > all->capacity) {
        free(all->counts);
        all->counts = calloc(count, sizeof *all->counts);
        all->capacity = all->counts ? count : 0;
        if (!all->counts)
            return mr_fail(err, MR_FATAL, "match %llu events", (unsigned long long)count);
    }
    for (uint32_t i = 0; i < all->count; i++) {
        all->shards[i].events = events;
        all->shards[i].event_count = count;
        all->shards[i].counts = all->counts;
    }
    enum mr_rc rc = on_all(all, match, err);
    for (uint64_t i = 0; rc == MR_OK && matched && i < count; i++) {
        struct mr_engine_event event = mr_match_event_view(&events[i]);
        struct shard *shard = &all->shards[0];
        while (!is_mine(shard, &event))
            shard++;
        matched(context, i, shard->ids + shard->read, all->counts[i]);
        shard->read += all->counts[i];
    }
    return rc;
}

void mr_match_shards_stats(const struct mr_match_shards *all, struct mr_engine_stats *out)
{
    mr_engine_stats(all->shards[0].engine, out);
    for (uint32_t i = 1; i < all->count; i++) {
        struct mr_engine_stats one;
        mr_engine_stats(all->shards[i].engine, &one);
        out->events += one.events;
        out->hits += one.hits;
        out->pairs += one.pairs;
        out->errors += one.errors;
        out->candidates += one.candidates;
        out->evaluations += one.evaluations;
        out->code_runs += one.code_runs;
        out->code_errors += one.code_errors;
        out->bloom_lookups += one.bloom_lookups;
        out->bloom_rejected += one.bloom_rejected;
        out->bloom_false += one.bloom_false;
        out->bloom_rebuilds += one.bloom_rebuilds;
    }
}
