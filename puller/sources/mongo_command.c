#include "puller/sources/mongo_command.h"

#include <stdio.h>
#include <string.h>

static void begin(struct mr_bson_writer *w)
{
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
}

static void put_timestamp(struct mr_bson_writer *w, struct mr_str key, uint64_t time)
{
    struct mr_bson_value value = {
        .type = MR_BSON_TIMESTAMP, .data = (const uint8_t *)&time, .len = sizeof time};
    mr_bson_put_value(w, key, &value);
}

static void put_document(struct mr_bson_writer *w, struct mr_str key, struct mr_str bson)
{
    struct mr_bson_value value = {
        .type = MR_BSON_DOCUMENT, .data = (const uint8_t *)bson.data, .len = (uint32_t)bson.len};
    mr_bson_put_value(w, key, &value);
}

static void put_images(struct mr_bson_writer *w, const struct mr_config *config)
{
    static const struct {
        const char *option, *value;
    } modes[] = {{"update_lookup", "updateLookup"},
                 {"when_available", "whenAvailable"},
                 {"required", "required"}};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(config->mongodb_full_document.text, modes[i].option) == 0)
            mr_bson_put_string(w, MR_STR("fullDocument"), mr_str_from(modes[i].value));
        if (strcmp(config->mongodb_before.text, modes[i].option) == 0)
            mr_bson_put_string(w, MR_STR("fullDocumentBeforeChange"), mr_str_from(modes[i].value));
    }
}

static void put_stream(struct mr_bson_writer *w, const struct mr_mongo_filter *filter,
                       const struct mr_mongo_start *start)
{
    mr_bson_begin_document(w, MR_STR("0"));
    mr_bson_begin_document(w, MR_STR("$changeStream"));
    put_images(w, filter->config);
    if (filter->database.len == 0)
        mr_bson_put_bool(w, MR_STR("allChangesForCluster"), true);
    /* startAfter goes on behind an invalidate as well; resumeAfter does not. */
    if (start->token.len > 0)
        put_document(w, MR_STR("startAfter"), start->token);
    else if (start->time > 0)
        put_timestamp(w, MR_STR("startAtOperationTime"), start->time);
    mr_bson_end(w);
    mr_bson_end(w);
}

void mr_mongo_command_watch(struct mr_bson_writer *w, const struct mr_mongo_filter *filter,
                            const struct mr_mongo_start *start, bool split_large)
{
    begin(w);
    if (filter->collection.len > 0)
        mr_bson_put_string(w, MR_STR("aggregate"), filter->collection);
    else
        mr_bson_put_int32(w, MR_STR("aggregate"), 1);
    mr_bson_begin_array(w, MR_STR("pipeline"));
    put_stream(w, filter, start);
    mr_mongo_filter_put_stage(filter, w, MR_STR("1"));
    if (split_large) {
        mr_bson_begin_document(w, MR_STR("2"));
        mr_bson_begin_document(w, MR_STR("$changeStreamSplitLargeEvent"));
        mr_bson_end(w);
        mr_bson_end(w);
    }
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("cursor"));
    mr_bson_put_int32(w, MR_STR("batchSize"), 0); /* the answer's token is where it begins */
    mr_bson_end(w);
    mr_bson_end(w);
}

void mr_mongo_command_more(struct mr_bson_writer *w, int64_t cursor, struct mr_str collection,
                           uint64_t count, uint32_t wait_ms)
{
    begin(w);
    mr_bson_put_int64(w, MR_STR("getMore"), cursor);
    mr_bson_put_string(w, MR_STR("collection"), collection);
    mr_bson_put_int64(w, MR_STR("batchSize"), (int64_t)count);
    mr_bson_put_int64(w, MR_STR("maxTimeMS"), wait_ms);
    mr_bson_end(w);
}

void mr_mongo_command_kill(struct mr_bson_writer *w, int64_t cursor, struct mr_str collection)
{
    begin(w);
    mr_bson_put_string(w, MR_STR("killCursors"), collection);
    mr_bson_begin_array(w, MR_STR("cursors"));
    mr_bson_put_int64(w, MR_STR("0"), cursor);
    mr_bson_end(w);
    mr_bson_end(w);
}

void mr_mongo_command_named(struct mr_bson_writer *w, const char *name)
{
    begin(w);
    mr_bson_put_int32(w, mr_str_from(name), 1);
    mr_bson_end(w);
}

void mr_mongo_command_databases(struct mr_bson_writer *w)
{
    begin(w);
    mr_bson_put_int32(w, MR_STR("listDatabases"), 1);
    mr_bson_put_bool(w, MR_STR("nameOnly"), true);
    mr_bson_end(w);
}

/* Views and time series have no change streams of their own. */
void mr_mongo_command_collections(struct mr_bson_writer *w)
{
    begin(w);
    mr_bson_put_int32(w, MR_STR("listCollections"), 1);
    mr_bson_begin_document(w, MR_STR("filter"));
    mr_bson_put_string(w, MR_STR("type"), MR_STR("collection"));
    mr_bson_end(w);
    mr_bson_put_bool(w, MR_STR("nameOnly"), true);
    mr_bson_begin_document(w, MR_STR("cursor"));
    mr_bson_put_int32(w, MR_STR("batchSize"), 100000);
    mr_bson_end(w);
    mr_bson_end(w);
}

void mr_mongo_command_oldest(struct mr_bson_writer *w)
{
    begin(w);
    mr_bson_put_string(w, MR_STR("find"), MR_STR("oplog.rs"));
    mr_bson_begin_document(w, MR_STR("sort"));
    mr_bson_put_int32(w, MR_STR("$natural"), 1);
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("projection"));
    mr_bson_put_int32(w, MR_STR("ts"), 1);
    mr_bson_end(w);
    mr_bson_put_int32(w, MR_STR("limit"), 1);
    mr_bson_put_bool(w, MR_STR("singleBatch"), true);
    mr_bson_end(w);
}

static void put_behind(struct mr_bson_writer *w, const struct mr_bson_value *after)
{
    mr_bson_begin_document(w, MR_STR("_id"));
    if (mr_mongo_key_is_nan(after)) /* nothing is greater, and all numbers come behind it */
        mr_bson_put_double(w, MR_STR("$gte"), -__builtin_inf());
    else
        mr_bson_put_value(w, MR_STR("$gt"), after);
    mr_bson_end(w);
}

/* From this kind on; there is one. */
static void put_kinds(struct mr_bson_writer *w, int kind)
{
    char key[12];
    mr_bson_begin_document(w, MR_STR("_id"));
    mr_bson_begin_array(w, MR_STR("$type"));
    for (int i = 0; kind < MR_MONGO_KIND_COUNT; i++, kind++) {
        snprintf(key, sizeof key, "%d", i);
        mr_bson_put_string(w, mr_str_from(key),
                           mr_str_from(mr_mongo_kind_name((enum mr_mongo_kind)kind)));
    }
    mr_bson_end(w);
    mr_bson_end(w);
}

/* $gt finds values of the same kind only; the later kinds are asked for by name. In one read: two
 * would be as of two times, and a document that came between them would be in neither. */
static void put_range(struct mr_bson_writer *w, const struct mr_bson_value *after)
{
    int later = (int)mr_mongo_kind_of(after->type) + 1;
    mr_bson_begin_array(w, MR_STR("$or"));
    mr_bson_begin_document(w, MR_STR("0"));
    put_behind(w, after);
    mr_bson_end(w);
    if (later < MR_MONGO_KIND_COUNT) {
        mr_bson_begin_document(w, MR_STR("1"));
        put_kinds(w, later);
        mr_bson_end(w);
    }
    mr_bson_end(w);
}

void mr_mongo_command_chunk(struct mr_bson_writer *w, struct mr_str collection,
                            const struct mr_bson_value *after, uint64_t count)
{
    begin(w);
    mr_bson_put_string(w, MR_STR("find"), collection);
    mr_bson_begin_document(w, MR_STR("filter"));
    if (after)
        put_range(w, after);
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("sort"));
    mr_bson_put_int32(w, MR_STR("_id"), 1);
    mr_bson_end(w);
    mr_bson_put_int64(w, MR_STR("limit"), (int64_t)count);
    mr_bson_put_int64(w, MR_STR("batchSize"), (int64_t)count);
    mr_bson_put_bool(w, MR_STR("singleBatch"), true);
    mr_bson_put_bool(w, MR_STR("allowDiskUse"), true);
    /* The order that mongo_key.h knows, whatever the collection's own is. */
    mr_bson_begin_document(w, MR_STR("collation"));
    mr_bson_put_string(w, MR_STR("locale"), MR_STR("simple"));
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("readConcern"));
    mr_bson_put_string(w, MR_STR("level"), MR_STR("snapshot"));
    mr_bson_end(w);
    mr_bson_end(w);
}

static bool find(struct mr_str reply, struct mr_str path, uint8_t type, struct mr_bson_value *out)
{
    return mr_bson_find(reply.data, reply.len, path, out) && out->type == type;
}

enum mr_rc mr_mongo_cursor_read(struct mr_str reply, struct mr_mongo_cursor *out)
{
    struct mr_bson_value value;
    *out = (struct mr_mongo_cursor){.id = 0};
    if (!find(reply, MR_STR("cursor.id"), MR_BSON_INT64, &value))
        return MR_CORRUPT;
    out->id = mr_bson_int64(&value);
    if (!find(reply, MR_STR("cursor.nextBatch"), MR_BSON_ARRAY, &value) &&
        !find(reply, MR_STR("cursor.firstBatch"), MR_BSON_ARRAY, &value))
        return MR_CORRUPT;
    out->batch = (struct mr_str){(const char *)value.data, value.len};
    if (find(reply, MR_STR("cursor.postBatchResumeToken"), MR_BSON_DOCUMENT, &value))
        out->token = (struct mr_str){(const char *)value.data, value.len};
    if (find(reply, MR_STR("cursor.atClusterTime"), MR_BSON_TIMESTAMP, &value))
        out->time = (uint64_t)mr_bson_int64(&value);
    return MR_OK;
}
