#include "puller/sources/mongo_build.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/doc_hash.h"
#include "proto/gap.h"
#include "puller/sources/mongo_layout.h"
#include "puller/sources/mongo_position.h"

void mr_mongo_builder_init(struct mr_mongo_builder *builder, const struct mr_mongo_filter *filter)
{
    memset(builder, 0, sizeof *builder);
    builder->filter = filter;
    builder->syntrix = strcmp(filter->config->mongodb_layout.text, "syntrix") == 0;
    mr_bson_writer_init(&builder->document);
    mr_bson_writer_init(&builder->info);
}

void mr_mongo_builder_fini(struct mr_mongo_builder *builder)
{
    mr_bson_writer_fini(&builder->document);
    mr_bson_writer_fini(&builder->info);
}

static enum mr_rc out_of_memory(struct mr_err *err)
{
    return mr_reject(err, MR_FATAL, "no memory for a change event");
}

/* Insert into the table. True: it was there, or the table is full. */
static bool seen_add(struct mr_mongo_builder *b, uint64_t hash)
{
    if (b->seen_count >= MR_MONGO_SEEN_MAX / 2)
        return true;
    for (uint32_t at = (uint32_t)(hash >> 32);; at++) {
        uint64_t *slot = &b->seen[at % MR_MONGO_SEEN_MAX];
        if (*slot == hash)
            return true;
        if (*slot == 0) {
            *slot = hash;
            b->seen_count++;
            return false;
        }
    }
}

/* Remember a document of this cluster time. True: it may have been there before. Most changes have
 * a time of their own: the table is used from the second one on. */
static bool seen_before(struct mr_mongo_builder *b, const struct mr_mongo_change *change,
                        uint32_t index)
{
    struct mr_str id = {b->id.text, b->id.len};
    uint64_t hash = mr_doc_hash(change->database, change->collection, id) | 1;
    if (index == 0 || b->seen_time != change->time) {
        b->seen_time = change->time;
        b->seen_all = index == 0;
        b->seen_first = hash;
        if (b->seen_count > 0)
            memset(b->seen, 0, sizeof b->seen);
        b->seen_count = 0;
        return index != 0;
    }
    if (b->seen_count == 0)
        (void)seen_add(b, b->seen_first);
    return seen_add(b, hash) || !b->seen_all;
}

/* The id that syntrix would give, by names of the database; with the number in the transaction
 * where that alone is not unique. */
static struct mr_str event_id(struct mr_mongo_builder *b, const struct mr_mongo_change *change,
                              uint32_t index)
{
    struct mr_event named = {.head.source_order = change->time,
                             .collection = change->collection,
                             .document_id = {b->id.text, b->id.len}};
    /* A drop and the invalidate behind it share their time, and have no document. */
    bool repeated = change->kind < MR_MONGO_DROP ? seen_before(b, change, index) : index > 0;
    if (!repeated && !b->syntrix)
        return (struct mr_str){NULL, 0}; /* derived from the event itself: the same */
    size_t len = mr_event_id(&named, b->event_id);
    if (repeated)
        len += (size_t)snprintf(b->event_id + len, sizeof b->event_id - len, "-%" PRIu32, index);
    return (struct mr_str){b->event_id, len};
}

static void put_head(const struct mr_mongo_change *change, struct mr_event *event)
{
    event->head = (struct mr_event_head){
        .source_order = change->time,
        .transaction = (uint64_t)change->transaction,
        .source_time_us =
            change->wall_ms != 0 ? change->wall_ms * 1000 : (int64_t)(change->time >> 32) * 1000000,
    };
    event->database = change->database;
    event->collection = change->collection;
}

/* The new name's documents come without an event each: whoever follows it must read it. */
static enum mr_rc rename_gap(struct mr_mongo_builder *b, const struct mr_mongo_change *change,
                             struct mr_event *event, struct mr_err *err)
{
    char cause[2 * MR_MONGO_NS_MAX];
    snprintf(cause, sizeof cause, "a collection was renamed to this one: %.*s.%.*s",
             (int)change->database.len, change->database.data, (int)change->collection.len,
             change->collection.data);
    struct mr_mongo_time_text time = mr_mongo_time_format(change->time);
    put_head(change, event);
    event->head.op = MR_OP_GAP;
    event->database = change->to_database;
    event->collection = change->to_collection;
    event->document = mr_gap_write(&b->info, cause, time.text, time.text);
    return event->document.len > 0 ? MR_OK : out_of_memory(err);
}

/* {type: "rename", to: {db, coll}}: why all documents are gone. */
static enum mr_rc truncate_event(struct mr_mongo_builder *b, const struct mr_mongo_change *change,
                                 struct mr_event *event, struct mr_err *err)
{
    struct mr_bson_writer *w = &b->document;
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    mr_bson_put_string(w, MR_STR("type"), mr_str_from(mr_mongo_change_name(change->kind)));
    if (change->kind == MR_MONGO_RENAME) {
        mr_bson_begin_document(w, MR_STR("to"));
        mr_bson_put_string(w, MR_STR("db"), change->to_database);
        mr_bson_put_string(w, MR_STR("coll"), change->to_collection);
        mr_bson_end(w);
    }
    mr_bson_end(w);
    put_head(change, event);
    event->head.op = MR_OP_TRUNCATE;
    if (change->kind == MR_MONGO_INVALIDATE) { /* says no name itself: what was watched */
        event->database = b->filter->database;
        event->collection = b->filter->collection;
    }
    event->document = mr_bson_bytes(w);
    return event->document.len > 0 ? MR_OK : out_of_memory(err);
}

static enum mr_rc build_ddl(struct mr_mongo_builder *b, const struct mr_mongo_change *change,
                            uint32_t index, struct mr_event *out, uint32_t *count,
                            struct mr_err *err)
{
    const struct mr_mongo_filter *filter = b->filter;
    enum mr_rc rc = MR_OK;
    bool named = change->kind == MR_MONGO_DROP || change->kind == MR_MONGO_RENAME;
    if (!named || mr_mongo_filter_takes(filter, change->database, change->collection)) {
        rc = truncate_event(b, change, &out[(*count)++], err);
        b->id.len = 0;
        if (index > 0)
            out[0].event_id = event_id(b, change, index);
    }
    if (rc == MR_OK && change->kind == MR_MONGO_RENAME &&
        mr_mongo_filter_takes(filter, change->to_database, change->to_collection))
        rc = rename_gap(b, change, &out[(*count)++], err);
    return rc;
}

static bool readable(struct mr_str part)
{
    return part.len == 0 || mr_bson_validate(part.data, part.len) == MR_OK;
}

/* A document that no reader could take: its change becomes a gap of the collection that names it.
 */
static enum mr_rc make_gap(struct mr_mongo_builder *b, struct mr_event *event, const char *why,
                           struct mr_err *err)
{
    char cause[MR_EVENT_NAME_MAX + 80];
    struct mr_mongo_time_text time = mr_mongo_time_format(event->head.source_order);
    snprintf(cause, sizeof cause, "document %.*s: %s", (int)b->id.len, b->id.text, why);
    event->head.op = MR_OP_GAP;
    event->document = mr_gap_write(&b->info, cause, time.text, time.text);
    event->before = event->update = (struct mr_str){NULL, 0};
    return event->document.len > 0 ? MR_OK : out_of_memory(err);
}

static enum mr_rc unreadable(struct mr_mongo_builder *b, struct mr_event *event, struct mr_err *err)
{
    char why[64];
    snprintf(why, sizeof why, "no valid BSON, or nested deeper than %d levels", MR_BSON_DEPTH_MAX);
    return make_gap(b, event, why, err);
}

static enum mr_rc apply_layout(struct mr_mongo_builder *b, struct mr_event *event, uint32_t *count,
                               struct mr_err *err)
{
    char why[64];
    enum mr_rc rc = mr_mongo_layout_apply(b, event, count, err);
    if (rc != MR_CORRUPT)
        return rc;
    snprintf(why, sizeof why, "its database or collection has over %d bytes", MR_EVENT_NAME_MAX);
    return make_gap(b, event, why, err);
}

static enum mr_rc build_plain(struct mr_mongo_builder *b, const struct mr_mongo_change *change,
                              struct mr_event *event, struct mr_err *err)
{
    static const uint8_t ops[] = {[MR_MONGO_INSERT] = MR_OP_INSERT,
                                  [MR_MONGO_UPDATE] = MR_OP_UPDATE,
                                  [MR_MONGO_REPLACE] = MR_OP_REPLACE,
                                  [MR_MONGO_DELETE] = MR_OP_DELETE};
    put_head(change, event);
    event->head.op = ops[change->kind];
    event->document_id = (struct mr_str){b->id.text, b->id.len};
    event->document = change->document;
    event->before = change->before;
    event->update = change->update;
    if (change->kind == MR_MONGO_DELETE) {
        event->document = change->before.len > 0 ? change->before : change->document_key;
        event->head.flags = change->before.len > 0 ? 0 : MR_EVENT_KEY_ONLY;
    }
    if (!readable(event->document) || !readable(event->before) || !readable(event->update))
        return unreadable(b, event, err);
    return MR_OK;
}

enum mr_rc mr_mongo_build(struct mr_mongo_builder *b, const struct mr_mongo_change *change,
                          uint32_t index, struct mr_event out[MR_MONGO_EVENTS_MAX], uint32_t *count,
                          struct mr_err *err)
{
    *count = 0;
    memset(out, 0, sizeof out[0] * MR_MONGO_EVENTS_MAX);
    if (change->kind == MR_MONGO_OTHER)
        return MR_OK;
    if (change->kind >= MR_MONGO_DROP)
        return build_ddl(b, change, index, out, count, err);
    if (!mr_mongo_filter_takes(b->filter, change->database, change->collection))
        return MR_OK;
    if (readable(change->document_key))
        mr_mongo_id_of(&b->id, &change->id);
    else
        mr_mongo_id_of_damaged(&b->id, &change->id);
    struct mr_str id = event_id(b, change, index);
    enum mr_rc rc = build_plain(b, change, out, err);
    if (rc != MR_OK)
        return rc;
    out->event_id = id;
    *count = 1;
    if (b->syntrix && out->head.op != MR_OP_GAP)
        return apply_layout(b, out, count, err);
    return MR_OK;
}

enum mr_rc mr_mongo_build_row(struct mr_mongo_builder *b, struct mr_str database,
                              struct mr_str collection, struct mr_str document, uint64_t time,
                              struct mr_event *out, uint32_t *count, struct mr_err *err)
{
    struct mr_mongo_change change = {.kind = MR_MONGO_INSERT,
                                     .database = database,
                                     .collection = collection,
                                     .document = document,
                                     .time = time};
    *count = 0;
    if (!mr_bson_find(document.data, document.len, MR_STR("_id"), &change.id))
        return mr_reject(err, MR_CORRUPT, "snapshot of %.*s.%.*s: a document without _id",
                         (int)database.len, database.data, (int)collection.len, collection.data);
    memset(out, 0, sizeof *out);
    if (readable(document))
        mr_mongo_id_of(&b->id, &change.id);
    else
        mr_mongo_id_of_damaged(&b->id, &change.id);
    enum mr_rc rc = build_plain(b, &change, out, err);
    if (rc != MR_OK)
        return rc;
    *count = 1;
    out->head.flags |= MR_EVENT_SNAPSHOT;
    if (b->syntrix && out->head.op != MR_OP_GAP) {
        struct mr_event named = {.head.source_order = time,
                                 .collection = collection,
                                 .document_id = {b->id.text, b->id.len}};
        out->event_id = (struct mr_str){b->event_id, mr_event_id(&named, b->event_id)};
        return apply_layout(b, out, count, err);
    }
    return MR_OK;
}

enum mr_rc mr_mongo_build_gap(struct mr_mongo_builder *b, const char *cause, uint64_t from,
                              uint64_t to, struct mr_event *out, struct mr_err *err)
{
    struct mr_mongo_time_text first = mr_mongo_time_format(from), last = mr_mongo_time_format(to);
    memset(out, 0, sizeof *out);
    out->head.op = MR_OP_GAP;
    out->head.source_order = to;
    out->head.source_time_us = (int64_t)(to >> 32) * 1000000;
    out->database = b->filter->database;
    out->document = mr_gap_write(&b->info, cause, first.text, last.text);
    return out->document.len > 0 ? MR_OK : out_of_memory(err);
}
