#include "puller/sources/mongo_layout.h"

#include <string.h>

struct stored {
    struct mr_str database, collection, fullpath, data;
    struct mr_bson_value version, updated_at, created_at; /* type 0: absent */
    bool deleted;
};

static struct mr_str text_of(const struct mr_bson_value *v)
{
    return v->type == MR_BSON_STRING ? mr_bson_string(v) : (struct mr_str){NULL, 0};
}

static bool read_stored(struct mr_str document, struct stored *out)
{
    struct mr_bson_iter iter;
    struct mr_bson_element e;
    memset(out, 0, sizeof *out);
    if (document.len == 0 || mr_bson_iter_init(&iter, document.data, document.len) != MR_OK)
        return false;
    while (mr_bson_iter_next(&iter, &e) == MR_OK) {
        if (mr_str_equal(e.key, MR_STR("database")))
            out->database = text_of(&e.value);
        else if (mr_str_equal(e.key, MR_STR("collection")))
            out->collection = text_of(&e.value);
        else if (mr_str_equal(e.key, MR_STR("fullpath")))
            out->fullpath = text_of(&e.value);
        else if (mr_str_equal(e.key, MR_STR("data")) && e.value.type == MR_BSON_DOCUMENT)
            out->data = (struct mr_str){(const char *)e.value.data, e.value.len};
        else if (mr_str_equal(e.key, MR_STR("version")))
            out->version = e.value;
        else if (mr_str_equal(e.key, MR_STR("updated_at")))
            out->updated_at = e.value;
        else if (mr_str_equal(e.key, MR_STR("created_at")))
            out->created_at = e.value;
        else if (mr_str_equal(e.key, MR_STR("deleted")))
            out->deleted = e.value.type == MR_BSON_BOOL && mr_bson_bool(&e.value);
    }
    return true;
}

/* data.id; a soft delete has emptied data, then it is the last part of the path. */
static struct mr_str id_of(const struct stored *stored)
{
    struct mr_bson_value id;
    if (stored->data.len > 0 &&
        mr_bson_find(stored->data.data, stored->data.len, MR_STR("id"), &id) &&
        id.type == MR_BSON_STRING && mr_bson_string(&id).len > 0)
        return mr_bson_string(&id);
    const char *slash =
        stored->fullpath.len > 0 ? memrchr(stored->fullpath.data, '/', stored->fullpath.len) : NULL;
    if (!slash)
        return (struct mr_str){NULL, 0};
    size_t skip = (size_t)(slash + 1 - stored->fullpath.data);
    return (struct mr_str){slash + 1, stored->fullpath.len - skip};
}

static bool is_system(struct mr_str key)
{
    return mr_str_equal(key, MR_STR("id")) || mr_str_equal(key, MR_STR("collection")) ||
           mr_str_equal(key, MR_STR("version")) || mr_str_equal(key, MR_STR("updatedAt")) ||
           mr_str_equal(key, MR_STR("createdAt")) || mr_str_equal(key, MR_STR("deleted"));
}

/* Whole numbers and dates become int64, as syntrix has them. */
static void put_number(struct mr_bson_writer *w, struct mr_str key, const struct mr_bson_value *v)
{
    if (v->type == MR_BSON_INT64 || v->type == MR_BSON_DATE)
        mr_bson_put_int64(w, key, mr_bson_int64(v));
    else if (v->type == MR_BSON_INT32)
        mr_bson_put_int64(w, key, mr_bson_int32(v));
    else if (v->type == MR_BSON_DOUBLE)
        mr_bson_put_double(w, key, mr_bson_double(v));
    else
        mr_bson_put_int64(w, key, 0);
}

/* The user's fields, and over them the system's own. */
static struct mr_str match_document(struct mr_bson_writer *w, const struct stored *stored,
                                    struct mr_str id)
{
    struct mr_bson_iter iter;
    struct mr_bson_element e;
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    if (stored->data.len > 0 &&
        mr_bson_iter_init(&iter, stored->data.data, stored->data.len) == MR_OK)
        while (mr_bson_iter_next(&iter, &e) == MR_OK)
            if (!is_system(e.key))
                mr_bson_put_value(w, e.key, &e.value);
    mr_bson_put_string(w, MR_STR("id"), id);
    mr_bson_put_string(w, MR_STR("collection"), stored->collection);
    put_number(w, MR_STR("version"), &stored->version);
    put_number(w, MR_STR("updatedAt"), &stored->updated_at);
    put_number(w, MR_STR("createdAt"), &stored->created_at);
    if (stored->deleted)
        mr_bson_put_bool(w, MR_STR("deleted"), true);
    mr_bson_end(w);
    return mr_bson_bytes(w);
}

enum mr_rc mr_mongo_layout_apply(struct mr_mongo_builder *b, struct mr_event *event,
                                 uint32_t *count, struct mr_err *err)
{
    struct stored now, before;
    bool purge = event->head.op == MR_OP_DELETE;
    bool had = read_stored(event->before, &before);
    if (!read_stored(purge ? event->before : event->document, &now) || (purge && now.deleted)) {
        *count = 0;
        return MR_OK;
    }
    if (now.database.len > MR_EVENT_NAME_MAX || now.collection.len > MR_EVENT_NAME_MAX)
        return MR_CORRUPT;
    struct mr_str id = id_of(&now);
    mr_mongo_id_of_text(&b->document_id, id);
    event->document_id = (struct mr_str){b->document_id.text, b->document_id.len};
    event->document = match_document(&b->document, &now, id);
    if (had)
        event->before = match_document(&b->info, &before, id_of(&before));
    event->database = now.database;
    event->collection = now.collection;
    if (event->head.op == MR_OP_REPLACE && !now.deleted)
        event->head.op = MR_OP_INSERT; /* a document that was deleted is made anew by a replace */
    bool whole = event->document.len > 0 && (!had || event->before.len > 0);
    return whole ? MR_OK : mr_reject(err, MR_FATAL, "no memory for a change event");
}
