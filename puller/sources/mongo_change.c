#include "puller/sources/mongo_change.h"

#include <string.h>

static const char *const names[MR_MONGO_CHANGE_COUNT] = {"other",   "insert",       "update",
                                                         "replace", "delete",       "drop",
                                                         "rename",  "dropDatabase", "invalidate"};

const char *mr_mongo_change_name(enum mr_mongo_change_kind kind)
{
    return names[kind];
}

static struct mr_str bytes_of(const struct mr_bson_value *v)
{
    if (v->type != MR_BSON_DOCUMENT)
        return (struct mr_str){NULL, 0};
    return (struct mr_str){(const char *)v->data, v->len};
}

static struct mr_str text_of(const struct mr_bson_value *v)
{
    return v->type == MR_BSON_STRING ? mr_bson_string(v) : (struct mr_str){NULL, 0};
}

static int64_t int_of(const struct mr_bson_value *v)
{
    if (v->type == MR_BSON_INT32)
        return mr_bson_int32(v);
    if (v->type == MR_BSON_INT64)
        return mr_bson_int64(v);
    return 0;
}

static void take_kind(const struct mr_bson_value *v, struct mr_mongo_change *out)
{
    struct mr_str name = text_of(v);
    for (int kind = MR_MONGO_INSERT; kind < MR_MONGO_CHANGE_COUNT; kind++)
        if (mr_str_equal(name, mr_str_from(names[kind])))
            out->kind = (enum mr_mongo_change_kind)kind;
}

static void take_namespace(const struct mr_bson_value *v, struct mr_str *database,
                           struct mr_str *collection)
{
    struct mr_bson_value part;
    struct mr_str ns = bytes_of(v);
    if (ns.len == 0 || mr_bson_validate(ns.data, ns.len) != MR_OK)
        return; /* names go into texts: they must be some */
    if (mr_bson_find(ns.data, ns.len, MR_STR("db"), &part))
        *database = text_of(&part);
    if (mr_bson_find(ns.data, ns.len, MR_STR("coll"), &part))
        *collection = text_of(&part);
}

static void take_key(const struct mr_bson_value *v, struct mr_mongo_change *out)
{
    out->document_key = bytes_of(v);
    if (!mr_bson_find(out->document_key.data, out->document_key.len, MR_STR("_id"), &out->id))
        out->id.type = 0;
}

static void take_fragment(const struct mr_bson_value *v, struct mr_mongo_change *out)
{
    struct mr_bson_value part;
    struct mr_str split = bytes_of(v);
    if (mr_bson_find(split.data, split.len, MR_STR("fragment"), &part))
        out->fragment = (uint32_t)int_of(&part);
    if (mr_bson_find(split.data, split.len, MR_STR("of"), &part))
        out->fragments = (uint32_t)int_of(&part);
}

/* A date that microseconds can hold; 0, unknown, for what no clock says. */
static int64_t sane_ms(int64_t ms)
{
    return ms > -INT64_MAX / 1000 && ms < INT64_MAX / 1000 ? ms : 0;
}

static void take_member(const struct mr_bson_element *e, struct mr_mongo_change *out)
{
    const struct mr_bson_value *v = &e->value;
    if (mr_str_equal(e->key, MR_STR("_id")))
        out->token = bytes_of(v);
    else if (mr_str_equal(e->key, MR_STR("operationType")))
        take_kind(v, out);
    else if (mr_str_equal(e->key, MR_STR("ns")))
        take_namespace(v, &out->database, &out->collection);
    else if (mr_str_equal(e->key, MR_STR("to")))
        take_namespace(v, &out->to_database, &out->to_collection);
    else if (mr_str_equal(e->key, MR_STR("documentKey")))
        take_key(v, out);
    else if (mr_str_equal(e->key, MR_STR("fullDocument")))
        out->document = bytes_of(v);
    else if (mr_str_equal(e->key, MR_STR("fullDocumentBeforeChange")))
        out->before = bytes_of(v);
    else if (mr_str_equal(e->key, MR_STR("updateDescription")))
        out->update = bytes_of(v);
    else if (mr_str_equal(e->key, MR_STR("clusterTime")))
        out->time = v->type == MR_BSON_TIMESTAMP ? (uint64_t)mr_bson_int64(v) : 0;
    else if (mr_str_equal(e->key, MR_STR("wallTime")))
        out->wall_ms = v->type == MR_BSON_DATE ? sane_ms(mr_bson_int64(v)) : 0;
    else if (mr_str_equal(e->key, MR_STR("txnNumber")))
        out->transaction = int_of(v);
    else if (mr_str_equal(e->key, MR_STR("splitEvent")))
        take_fragment(v, out);
}

enum mr_rc mr_mongo_change_read(struct mr_str event, struct mr_mongo_change *out)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    *out = (struct mr_mongo_change){.kind = MR_MONGO_OTHER};
    enum mr_rc rc = mr_bson_iter_init(&iter, event.data, event.len);
    if (rc != MR_OK)
        return rc;
    while ((rc = mr_bson_iter_next(&iter, &element)) == MR_OK)
        take_member(&element, out);
    if (rc != MR_AGAIN || out->token.len == 0)
        return MR_CORRUPT;
    bool of_document = out->kind >= MR_MONGO_INSERT && out->kind <= MR_MONGO_DELETE;
    bool of_collection = out->kind == MR_MONGO_DROP || out->kind == MR_MONGO_RENAME;
    if (out->fragments > 0)
        return MR_OK; /* whatever is missing may be in another one */
    if (of_document && (out->id.type == 0 || out->collection.len == 0))
        return MR_CORRUPT;
    if (of_collection && out->collection.len == 0)
        return MR_CORRUPT;
    return MR_OK;
}

void mr_mongo_splice_init(struct mr_mongo_splice *splice)
{
    *splice = (struct mr_mongo_splice){.next = 0};
    mr_bson_writer_init(&splice->whole);
}

void mr_mongo_splice_fini(struct mr_mongo_splice *splice)
{
    mr_bson_writer_fini(&splice->whole);
}

/* All members but those that are each fragment's own. */
static enum mr_rc add_members(struct mr_mongo_splice *splice, struct mr_str event)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    enum mr_rc rc = mr_bson_iter_init(&iter, event.data, event.len);
    if (rc != MR_OK)
        return rc;
    while ((rc = mr_bson_iter_next(&iter, &element)) == MR_OK)
        if (!mr_str_equal(element.key, MR_STR("_id")) &&
            !mr_str_equal(element.key, MR_STR("splitEvent")))
            mr_bson_put_value(&splice->whole, element.key, &element.value);
    return rc == MR_AGAIN ? MR_OK : MR_CORRUPT;
}

enum mr_rc mr_mongo_splice_take(struct mr_mongo_splice *splice, struct mr_str event,
                                const struct mr_mongo_change *fragment, struct mr_str *whole)
{
    if (fragment->fragment == 1) {
        mr_bson_writer_reset(&splice->whole);
        mr_bson_begin(&splice->whole);
        splice->next = 1;
    }
    if (splice->next == 0 || fragment->fragment != splice->next)
        return MR_CORRUPT;
    enum mr_rc rc = add_members(splice, event);
    if (rc != MR_OK)
        return rc;
    if (splice->next++ < fragment->fragments)
        return MR_AGAIN;
    splice->next = 0;
    struct mr_bson_value token = {.type = MR_BSON_DOCUMENT,
                                  .data = (const uint8_t *)fragment->token.data,
                                  .len = (uint32_t)fragment->token.len};
    mr_bson_put_value(&splice->whole, MR_STR("_id"), &token);
    mr_bson_end(&splice->whole);
    *whole = mr_bson_bytes(&splice->whole);
    return whole->len > 0 ? MR_OK : MR_CORRUPT;
}
