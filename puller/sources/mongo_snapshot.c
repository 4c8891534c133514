#include "puller/sources/mongo_snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void mr_mongo_snapshot_begin(struct mr_mongo_snapshot *snapshot,
                             const struct mr_mongo_filter *filter,
                             const struct mr_mongo_snapshot_place *from)
{
    memset(snapshot, 0, sizeof *snapshot);
    snapshot->filter = filter;
    snapshot->active = true;
    if (from) {
        snapshot->place = *from;
        snapshot->open = from->ns[0] != '\0' && from->key_type != MR_BSON_MAXKEY;
    }
}

bool mr_mongo_snapshot_set_key(struct mr_mongo_snapshot_place *place,
                               const struct mr_bson_value *key)
{
    if (key->len > sizeof place->key)
        return false;
    place->key_type = key->type;
    place->key_len = key->len;
    memcpy(place->key, key->data, key->len);
    return true;
}

struct mr_bson_value mr_mongo_snapshot_key(const struct mr_mongo_snapshot_place *place)
{
    return (struct mr_bson_value){
        .type = place->key_type, .data = place->key, .len = place->key_len};
}

void mr_mongo_snapshot_names(const char *ns, struct mr_str *database, struct mr_str *collection)
{
    const char *dot = strchr(ns, '.');
    MR_ASSERT(dot != NULL);
    *database = (struct mr_str){ns, (size_t)(dot - ns)};
    *collection = mr_str_from(dot + 1);
}

/* A run of names in an answer: each is looked at, the least one behind the place is kept. */
struct search {
    const struct mr_mongo_snapshot *snapshot;
    struct mr_str database; /* whose collections are listed */
    char best[MR_MONGO_NS_MAX + 1];
};

static void consider(struct search *search, struct mr_str collection)
{
    char ns[MR_MONGO_NS_MAX + 1];
    int len = snprintf(ns, sizeof ns, "%.*s.%.*s", (int)search->database.len, search->database.data,
                       (int)collection.len, collection.data);
    bool system = collection.len >= 7 && memcmp(collection.data, "system.", 7) == 0;
    if (len >= (int)sizeof ns || system ||
        !mr_mongo_filter_takes(search->snapshot->filter, search->database, collection))
        return;
    if (strcmp(ns, search->snapshot->place.ns) > 0 &&
        (search->best[0] == '\0' || strcmp(ns, search->best) < 0))
        strcpy(search->best, ns);
}

/* The next {name: ...} of an array. */
static bool next_name(struct mr_bson_iter *iter, struct mr_str *out)
{
    struct mr_bson_element element;
    struct mr_bson_value name;
    while (mr_bson_iter_next(iter, &element) == MR_OK)
        if (element.value.type == MR_BSON_DOCUMENT &&
            mr_bson_find(element.value.data, element.value.len, MR_STR("name"), &name) &&
            name.type == MR_BSON_STRING) {
            *out = mr_bson_string(&name);
            return true;
        }
    return false;
}

static enum mr_rc list_collections(struct search *search, struct mr_mongo_conn *conn,
                                   struct mr_bson_writer *command, struct mr_err *err)
{
    char database[64];
    struct mr_mongo_reply *reply = NULL;
    struct mr_mongo_cursor cursor;
    struct mr_bson_iter iter;
    struct mr_str name;
    snprintf(database, sizeof database, "%.*s", (int)search->database.len, search->database.data);
    mr_mongo_command_collections(command);
    enum mr_rc rc = mr_mongo_conn_run(conn, database, mr_bson_bytes(command), &reply, err);
    if (rc != MR_OK)
        return rc;
    if (mr_mongo_cursor_read(mr_mongo_reply_bytes(reply), &cursor) != MR_OK ||
        mr_bson_iter_init(&iter, cursor.batch.data, cursor.batch.len) != MR_OK)
        rc = mr_reject(err, MR_RETRY, "listCollections on %s: an answer that is none", database);
    else if (cursor.id != 0)
        rc = mr_reject(err, MR_USAGE,
                       "snapshot of %s: more collections than one answer holds; name those that"
                       " are wanted in mongodb.collections",
                       database);
    while (rc == MR_OK && next_name(&iter, &name))
        consider(search, name);
    mr_mongo_reply_free(&reply);
    return rc;
}

static bool is_internal(struct mr_str database)
{
    return mr_str_equal(database, MR_STR("admin")) || mr_str_equal(database, MR_STR("config")) ||
           mr_str_equal(database, MR_STR("local"));
}

static enum mr_rc list_databases(struct search *search, struct mr_mongo_conn *conn,
                                 struct mr_bson_writer *command, struct mr_err *err)
{
    struct mr_mongo_reply *reply = NULL;
    struct mr_bson_value databases;
    struct mr_bson_iter iter;
    mr_mongo_command_databases(command);
    enum mr_rc rc = mr_mongo_conn_run(conn, "admin", mr_bson_bytes(command), &reply, err);
    if (rc != MR_OK)
        return rc;
    struct mr_str bytes = mr_mongo_reply_bytes(reply);
    if (!mr_bson_find(bytes.data, bytes.len, MR_STR("databases"), &databases) ||
        mr_bson_iter_init(&iter, databases.data, databases.len) != MR_OK)
        rc = mr_reject(err, MR_RETRY, "listDatabases: an answer that is none");
    while (rc == MR_OK && next_name(&iter, &search->database))
        if (!is_internal(search->database))
            rc = list_collections(search, conn, command, err);
    mr_mongo_reply_free(&reply);
    return rc;
}

/* Listed anew each time: what was made since the snapshot began is found as well. */
static enum mr_rc next_collection(struct mr_mongo_snapshot *snapshot, struct mr_mongo_conn *conn,
                                  struct mr_bson_writer *command, struct mr_err *err)
{
    struct search search = {.snapshot = snapshot, .database = snapshot->filter->database};
    enum mr_rc rc = search.database.len > 0 ? list_collections(&search, conn, command, err)
                                            : list_databases(&search, conn, command, err);
    if (rc != MR_OK)
        return rc;
    snapshot->open = search.best[0] != '\0';
    snapshot->active = snapshot->open;
    snapshot->total = 0;
    memset(&snapshot->place, 0, sizeof snapshot->place);
    memcpy(snapshot->place.ns, search.best, sizeof search.best);
    return MR_OK;
}

/* For people only: a server that does not say is no trouble. */
static uint64_t estimate(const char *database, struct mr_str collection, struct mr_mongo_conn *conn,
                         struct mr_bson_writer *command)
{
    struct mr_mongo_reply *reply = NULL;
    struct mr_bson_value n;
    struct mr_err ignored;
    uint64_t total = 0;
    mr_bson_writer_reset(command);
    mr_bson_begin(command);
    mr_bson_put_string(command, MR_STR("count"), collection);
    mr_bson_end(command);
    if (mr_mongo_conn_run(conn, database, mr_bson_bytes(command), &reply, &ignored) != MR_OK)
        return 0;
    struct mr_str bytes = mr_mongo_reply_bytes(reply);
    if (mr_bson_find(bytes.data, bytes.len, MR_STR("n"), &n))
        total = n.type == MR_BSON_INT32   ? (uint64_t)mr_bson_int32(&n)
                : n.type == MR_BSON_INT64 ? (uint64_t)mr_bson_int64(&n)
                                          : 0;
    mr_mongo_reply_free(&reply);
    return total;
}

/* The key of a document, which a place can hold: reading may have to go on behind any of them. */
static enum mr_rc key_of(const struct mr_mongo_snapshot *snapshot,
                         const struct mr_bson_value *document, struct mr_bson_value *key,
                         struct mr_err *err)
{
    if (document->type != MR_BSON_DOCUMENT ||
        !mr_bson_find(document->data, document->len, MR_STR("_id"), key))
        return mr_reject(err, MR_FATAL, "snapshot of %s: a document without _id",
                         snapshot->place.ns);
    if (key->len > MR_MONGO_KEY_MAX)
        return mr_reject(err, MR_FATAL,
                         "snapshot of %s: an _id of %" PRIu32 " bytes; at most %d"
                         " can be passed",
                         snapshot->place.ns, key->len, MR_MONGO_KEY_MAX);
    return MR_OK;
}

/* Move the place behind the last document of a chunk. MR_AGAIN: there is no document in it. */
static enum mr_rc pass(struct mr_mongo_snapshot *snapshot, struct mr_str batch, struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    struct mr_bson_value key;
    bool any = false;
    enum mr_rc rc = mr_bson_iter_init(&iter, batch.data, batch.len);
    while (rc == MR_OK && (rc = mr_bson_iter_next(&iter, &element)) == MR_OK) {
        any = true;
        rc = key_of(snapshot, &element.value, &key, err);
        if (rc != MR_OK)
            return rc;
    }
    if (rc != MR_AGAIN)
        return mr_reject(err, MR_RETRY, "snapshot of %s: an answer that is none",
                         snapshot->place.ns);
    if (!any)
        return MR_AGAIN;
    bool fits = mr_mongo_snapshot_set_key(&snapshot->place, &key);
    MR_ASSERT(fits);
    return MR_OK;
}

static void fill(const struct mr_mongo_snapshot *snapshot, struct mr_mongo_item *out)
{
    out->kind = MR_MONGO_ITEM_CHUNK;
    out->time = snapshot->time;
    out->total = snapshot->total;
    memcpy(out->ns, snapshot->place.ns, sizeof out->ns);
}

/* One read. MR_AGAIN: it found nothing; the answer is kept all the same. */
static enum mr_rc read_chunk(struct mr_mongo_snapshot *snapshot, struct mr_mongo_conn *conn,
                             struct mr_bson_writer *command, struct mr_mongo_item *out,
                             struct mr_err *err)
{
    struct mr_str database, collection;
    struct mr_bson_value key = mr_mongo_snapshot_key(&snapshot->place);
    struct mr_mongo_cursor cursor;
    char name[64];
    mr_mongo_snapshot_names(snapshot->place.ns, &database, &collection);
    snprintf(name, sizeof name, "%.*s", (int)database.len, database.data);
    if (snapshot->total == 0)
        snapshot->total = estimate(name, collection, conn, command);
    mr_mongo_command_chunk(command, collection, key.type != 0 ? &key : NULL,
                           snapshot->filter->config->source_snapshot_rows);
    enum mr_rc rc = mr_mongo_conn_run(conn, name, mr_bson_bytes(command), &out->reply, err);
    if (rc != MR_OK)
        return rc == MR_USAGE ? mr_err_prefix(err, "snapshot (of a MongoDB from 5.0 on)") : rc;
    if (mr_mongo_cursor_read(mr_mongo_reply_bytes(out->reply), &cursor) != MR_OK ||
        cursor.time == 0)
        rc = mr_reject(err, MR_USAGE,
                       "snapshot of %s: the server does not say of which cluster time it is;"
                       " MongoDB does from 5.0 on",
                       snapshot->place.ns);
    else
        rc = pass(snapshot, cursor.batch, err);
    if (rc == MR_OK || rc == MR_AGAIN)
        snapshot->time = cursor.time;
    else
        mr_mongo_reply_free(&out->reply);
    return rc;
}

enum mr_rc mr_mongo_snapshot_next(struct mr_mongo_snapshot *snapshot, struct mr_mongo_conn *conn,
                                  struct mr_bson_writer *command, struct mr_mongo_item *out,
                                  struct mr_err *err)
{
    memset(out, 0, sizeof *out);
    enum mr_rc rc = snapshot->open ? MR_OK : next_collection(snapshot, conn, command, err);
    if (rc != MR_OK)
        return rc;
    if (!snapshot->active) {
        out->kind = MR_MONGO_ITEM_SNAPSHOT_DONE;
        return MR_OK;
    }
    rc = read_chunk(snapshot, conn, command, out, err);
    if (rc != MR_OK && rc != MR_AGAIN)
        return rc;
    fill(snapshot, out);
    if (rc == MR_AGAIN) {
        out->last = true;
        snapshot->open = false;
    }
    return MR_OK;
}
