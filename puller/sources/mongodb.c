/* The mongodb source: a change stream over a collection, a database or a deployment, and snapshots
 * that fit into it without a gap or a repeat. A thread reads (mongo_reader.h); here its queue is
 * turned into events. What it does when: docs/mongodb.md.
 *
 * A chunk of a snapshot was read at a cluster time of its own. It is emitted when all changes
 * through that time have been, and before any later one. Until then a change of a document that the
 * snapshot has not reached is passed over: the chunk that will hold the document shows it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "puller/sources/mongo_build.h"
#include "puller/sources/mongo_command.h"
#include "puller/sources/mongo_reader.h"
#include "puller/sources/mongo_snapshot.h"

#define TURN_NS (UINT64_C(1) * MR_NS_PER_MS)
#define SAY_NS  (UINT64_C(500) * MR_NS_PER_MS)
enum { STEPS_PER_CLOCK = 32 };

/* What the events at hand were built from. */
enum origin { FROM_NOTHING, FROM_CHANGE, FROM_ROW, FROM_LOSS };

struct mongo_source {
    struct mr_source base;
    struct mr_mongo_filter filter;
    struct mr_mongo_reader *reader;
    struct mr_mongo_builder builder;
    struct mr_mongo_splice splice;
    struct mr_mongo_position position; /* behind the last event taken */
    uint32_t skip;                     /* changes of position.time that were taken before */
    struct mr_mongo_item item;         /* at hand; kind NONE: none */
    struct mr_bson_iter iter;          /* over its changes */
    struct mr_str token;               /* of its end */
    struct mr_mongo_change change;     /* the next one of it */
    bool have_change;
    struct mr_mongo_item chunk; /* waits for its time; kind NONE: none */
    struct mr_bson_iter chunk_iter;
    struct mr_str row; /* of the chunk, being emitted */
    struct mr_event events[MR_MONGO_EVENTS_MAX];
    uint32_t events_count, events_taken;
    enum origin origin;
    bool ever_connected;
    bool blocked;  /* the intake is full */
    bool more;     /* the last turn ended before the input did */
    uint64_t rows; /* emitted of the collection under way */
    uint64_t said_ns;
};

static struct mongo_source *of(struct mr_source *source)
{
    return (struct mongo_source *)source;
}

static enum mr_rc check_config(const struct mr_config *config, struct mr_mongo_filter *filter,
                               struct mr_err *err)
{
    if (!config->mongodb_url.text[0])
        return mr_reject(err, MR_USAGE,
                         "mongodb.url: is empty; give a mongodb:// connection string");
    enum mr_rc rc = mr_mongo_conn_check(config->mongodb_url.text, err);
    return rc == MR_OK ? mr_mongo_filter_init(filter, config, err) : rc;
}

static void mongo_close(struct mr_source *source)
{
    struct mongo_source *s = of(source);
    if (!mr_mongo_reader_stop(&s->reader)) {
        /* Still inside of a call to the server, with our configuration in its hands. */
        mr_log_warn("mongodb", "left", "why=\"the server does not answer\"");
        return;
    }
    mr_mongo_reply_free(&s->item.reply);
    mr_mongo_reply_free(&s->chunk.reply);
    mr_mongo_builder_fini(&s->builder);
    mr_mongo_splice_fini(&s->splice);
    free(s);
}

static enum mr_rc mongo_open(struct mr_source **out, const struct mr_config *config,
                             struct mr_cell_shm *cell, const struct mr_position *after,
                             struct mr_err *err)
{
    struct mongo_source *s = calloc(1, sizeof *s);
    if (!s)
        return mr_fail(err, MR_FATAL, "open the mongodb source");
    s->base = (struct mr_source){&mr_source_mongodb, config, cell};
    enum mr_rc rc = check_config(config, &s->filter, err);
    if (rc == MR_OK && after->len > 0)
        rc = mr_mongo_position_decode(after, &s->position, err);
    if (rc == MR_OK)
        rc = mr_mongo_reader_start(&s->reader, config, &s->filter,
                                   after->len > 0 ? &s->position : NULL, err);
    if (rc != MR_OK) {
        free(s);
        return rc;
    }
    mr_mongo_builder_init(&s->builder, &s->filter);
    mr_mongo_splice_init(&s->splice);
    s->skip = s->position.token_len == 0 ? s->position.index : 0;
    mr_gauge(cell, MR_COUNTER_SOURCE_SNAPSHOT, s->position.snapshot);
    mr_cell_say(cell, "mongodb: connecting");
    *out = &s->base;
    return MR_OK;
}

static void state_position(struct mongo_source *s, struct mr_intake *intake)
{
    struct mr_position position;
    mr_mongo_position_encode(&s->position, &position);
    mr_intake_position(intake, &position);
}

/* A token too long to keep is none: then the time and the count say where we are. */
static void take_token(struct mongo_source *s, struct mr_str token)
{
    if (!mr_mongo_position_set_token(&s->position, token))
        s->position.token_len = 0;
}

/* Whether the snapshot will show what this name and key hold. key NULL: all of the collection. */
static bool ahead_of_snapshot(const struct mongo_source *s, struct mr_str database,
                              struct mr_str collection, const struct mr_bson_value *key)
{
    const struct mr_mongo_snapshot_place *place = &s->position.place;
    struct mr_str place_database, place_collection;
    if (!s->position.snapshot)
        return false;
    if (place->ns[0] == '\0')
        return true;
    char ns[MR_MONGO_NS_MAX + 1];
    if (database.len + 1 + collection.len > MR_MONGO_NS_MAX)
        return false; /* no snapshot reads such a name */
    mr_mongo_snapshot_names(place->ns, &place_database, &place_collection);
    if (mr_str_equal(database, place_database) && mr_str_equal(collection, place_collection)) {
        struct mr_bson_value reached = mr_mongo_snapshot_key(place);
        return reached.type == 0 || (key && mr_mongo_key_compare(key, &reached) > 0);
    }
    memcpy(ns, database.data, database.len);
    ns[database.len] = '.';
    if (collection.len > 0)
        memcpy(ns + database.len + 1, collection.data, collection.len);
    ns[database.len + 1 + collection.len] = '\0';
    return strcmp(ns, place->ns) > 0;
}

/* Leave out what the snapshot will show. */
static void drop_ahead(struct mongo_source *s)
{
    const struct mr_mongo_change *c = &s->change;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->events_count; i++) {
        bool target = c->kind == MR_MONGO_RENAME && s->events[i].head.op == MR_OP_GAP;
        bool named = c->kind != MR_MONGO_INVALIDATE && c->kind != MR_MONGO_DROP_DATABASE;
        bool ahead = named && ahead_of_snapshot(s, target ? c->to_database : c->database,
                                                target ? c->to_collection : c->collection,
                                                c->id.type != 0 ? &c->id : NULL);
        if (!ahead)
            s->events[kept++] = s->events[i];
    }
    s->events_count = kept;
}

static uint32_t index_of(const struct mongo_source *s, const struct mr_mongo_change *change)
{
    return change->time == s->position.time ? s->position.index : 0;
}

/* The change at hand is done with: the place is behind it. */
static void pass_change(struct mongo_source *s, struct mr_intake *intake)
{
    s->position.index = index_of(s, &s->change) + 1;
    s->position.time = s->change.time;
    s->position.begun = false;
    take_token(s, s->change.token);
    s->have_change = false;
    state_position(s, intake);
}

static enum mr_rc build_change(struct mongo_source *s, struct mr_intake *intake, struct mr_err *err)
{
    if (s->skip > 0) { /* read again because the place had no token */
        bool again = s->change.time == s->position.time;
        s->skip = again ? s->skip - 1 : 0;
        if (again) {
            s->have_change = false;
            return MR_OK;
        }
    }
    enum mr_rc rc = mr_mongo_build(&s->builder, &s->change, index_of(s, &s->change), s->events,
                                   &s->events_count, err);
    if (rc != MR_OK)
        return rc;
    if (s->change.kind == MR_MONGO_INVALIDATE)
        mr_log_info("mongodb", "invalidated", "time=%s", mr_mongo_time_format(s->change.time).text);
    drop_ahead(s);
    s->events_taken = s->position.begun && s->events_count > 1 ? 1 : 0;
    s->origin = FROM_CHANGE;
    if (s->events_count == 0)
        pass_change(s, intake);
    return MR_OK;
}

static enum mr_rc read_change(struct mongo_source *s, const struct mr_bson_element *element,
                              struct mr_err *err)
{
    struct mr_str event = {(const char *)element->value.data, element->value.len};
    enum mr_rc rc = element->value.type == MR_BSON_DOCUMENT
                        ? mr_mongo_change_read(event, &s->change)
                        : MR_CORRUPT;
    if (rc == MR_OK && s->change.fragments > 0) {
        struct mr_str whole;
        rc = mr_mongo_splice_take(&s->splice, event, &s->change, &whole);
        if (rc == MR_AGAIN)
            return MR_OK;
        if (rc == MR_OK)
            rc = mr_mongo_change_read(whole, &s->change);
    }
    if (rc != MR_OK)
        return mr_reject(err, MR_FATAL, "change stream: an event behind %s that is none",
                         mr_mongo_time_format(s->position.time).text);
    s->have_change = true;
    return MR_OK;
}

/* Nothing more was in the collection at the chunk's time: what came there since is a change. */
static void pass_collection(struct mongo_source *s, struct mr_intake *intake)
{
    struct mr_mongo_snapshot_place *place = &s->position.place;
    memcpy(place->ns, s->chunk.ns, sizeof place->ns);
    place->key_type = MR_BSON_MAXKEY;
    place->key_len = 0;
    s->rows = 0;
    state_position(s, intake);
}

/* The next document of the chunk, or the end of it. */
static enum mr_rc build_row(struct mongo_source *s, struct mr_intake *intake, struct mr_err *err)
{
    struct mr_bson_element element;
    struct mr_str database, collection;
    enum mr_rc rc = mr_bson_iter_next(&s->chunk_iter, &element);
    if (rc == MR_AGAIN) {
        if (s->chunk.last)
            pass_collection(s, intake);
        mr_mongo_reply_free(&s->chunk.reply);
        s->chunk.kind = MR_MONGO_ITEM_NONE;
        return MR_OK;
    }
    if (rc != MR_OK || element.value.type != MR_BSON_DOCUMENT)
        return mr_reject(err, MR_FATAL, "snapshot of %s: an answer that is none", s->chunk.ns);
    s->row = (struct mr_str){(const char *)element.value.data, element.value.len};
    mr_mongo_snapshot_names(s->chunk.ns, &database, &collection);
    s->origin = FROM_ROW;
    return mr_mongo_build_row(&s->builder, database, collection, s->row, s->chunk.time, s->events,
                              &s->events_count, err);
}

static void pass_row(struct mongo_source *s, struct mr_intake *intake)
{
    struct mr_mongo_snapshot_place *place = &s->position.place;
    struct mr_bson_value key;
    bool found = mr_bson_find(s->row.data, s->row.len, MR_STR("_id"), &key);
    MR_ASSERT(found); /* build_row has seen it */
    if (strcmp(place->ns, s->chunk.ns) != 0) {
        memcpy(place->ns, s->chunk.ns, sizeof place->ns);
        s->rows = 0;
    }
    bool fits = mr_mongo_snapshot_set_key(place, &key);
    MR_ASSERT(fits); /* the reader has seen each */
    state_position(s, intake);
    s->rows++;
    mr_count(s->base.cell, MR_COUNTER_SOURCE_SNAPSHOT_ROWS, 1);
}

static void say_progress(struct mongo_source *s, uint64_t now_ns)
{
    if (s->chunk.kind == MR_MONGO_ITEM_NONE || now_ns - s->said_ns < SAY_NS)
        return;
    s->said_ns = now_ns;
    mr_cell_say(s->base.cell, "mongodb: snapshot of %s: %" PRIu64 " of about %" PRIu64, s->chunk.ns,
                s->rows, s->chunk.total);
}

static void connected(struct mongo_source *s)
{
    if (s->ever_connected)
        mr_count(s->base.cell, MR_COUNTER_SOURCE_RECONNECTS, 1);
    s->ever_connected = true;
    mr_gauge(s->base.cell, MR_COUNTER_SOURCE_CONNECTED, 1);
    mr_cell_say(s->base.cell, "mongodb: streaming");
    mr_log_info("mongodb", "streaming", "database=%s collection=%s from=%s",
                s->filter.database.len > 0 ? s->base.config->mongodb_database.text : "*",
                s->filter.collection.len > 0 ? s->filter.collection.data : "*",
                mr_mongo_time_format(mr_mongo_token_time(s->token)).text);
}

static enum mr_rc give_up(struct mongo_source *s, struct mr_err *err)
{
    *err = s->item.err;
    mr_gauge(s->base.cell, MR_COUNTER_SOURCE_CONNECTED, 0);
    mr_cell_say(s->base.cell, "mongodb: %s", err->text);
    return err->rc;
}

static void waiting(struct mongo_source *s)
{
    const struct mr_mongo_item *item = &s->item;
    uint64_t wait_ms = item->wait_ns / MR_NS_PER_MS;
    mr_gauge(s->base.cell, MR_COUNTER_SOURCE_CONNECTED, 0);
    mr_log_warn("mongodb", "reconnect", "attempt=%" PRIu32 " wait_ms=%" PRIu64 " why=\"%s\"",
                item->attempt, wait_ms, item->err.text);
    mr_cell_say(s->base.cell, "mongodb: waiting %" PRIu64 " ms, attempt %" PRIu32 ": %s", wait_ms,
                item->attempt, item->err.text);
}

static void end_snapshot(struct mongo_source *s, struct mr_intake *intake)
{
    MR_ASSERT(s->chunk.kind == MR_MONGO_ITEM_NONE); /* the reader waits for each chunk's time */
    s->position.snapshot = false;
    memset(&s->position.place, 0, sizeof s->position.place);
    state_position(s, intake);
    mr_gauge(s->base.cell, MR_COUNTER_SOURCE_SNAPSHOT, 0);
    mr_cell_say(s->base.cell, "mongodb: streaming");
    mr_log_info("mongodb", "snapshot_done", NULL);
}

static enum mr_rc begin_batch(struct mongo_source *s, struct mr_err *err)
{
    struct mr_mongo_cursor cursor;
    if (mr_mongo_cursor_read(mr_mongo_reply_bytes(s->item.reply), &cursor) != MR_OK ||
        mr_bson_iter_init(&s->iter, cursor.batch.data, cursor.batch.len) != MR_OK)
        return mr_reject(err, MR_FATAL, "change stream: an answer that is none");
    s->token = cursor.token;
    return MR_OK;
}

static enum mr_rc begin_chunk(struct mongo_source *s, struct mr_err *err)
{
    struct mr_mongo_cursor cursor;
    s->chunk = s->item;
    s->item.reply = NULL;
    if (mr_mongo_cursor_read(mr_mongo_reply_bytes(s->chunk.reply), &cursor) != MR_OK ||
        mr_bson_iter_init(&s->chunk_iter, cursor.batch.data, cursor.batch.len) != MR_OK)
        return mr_reject(err, MR_FATAL, "snapshot of %s: an answer that is none", s->chunk.ns);
    return MR_OK;
}

static void begin_snapshot(struct mongo_source *s)
{
    s->item.snapshot = false;
    s->position.snapshot = true;
    memset(&s->position.place, 0, sizeof s->position.place);
    mr_mongo_reply_free(&s->chunk.reply); /* of one that was under way */
    s->chunk.kind = MR_MONGO_ITEM_NONE;
    mr_gauge(s->base.cell, MR_COUNTER_SOURCE_SNAPSHOT, 1);
    mr_log_info("mongodb", "snapshot", NULL);
}

/* Take the next item of the queue. MR_AGAIN: there is none. */
static enum mr_rc take_item(struct mongo_source *s, struct mr_intake *intake, struct mr_err *err)
{
    enum mr_rc rc = mr_mongo_queue_take(mr_mongo_reader_queue(s->reader), &s->item);
    if (rc != MR_OK)
        return rc;
    switch (s->item.kind) {
    case MR_MONGO_ITEM_OPENED:
        rc = begin_batch(s, err);
        if (rc == MR_OK)
            connected(s);
        return rc;
    case MR_MONGO_ITEM_BATCH:
        return begin_batch(s, err);
    case MR_MONGO_ITEM_CHUNK:
        MR_ASSERT(s->chunk.kind == MR_MONGO_ITEM_NONE);
        rc = begin_chunk(s, err);
        break;
    case MR_MONGO_ITEM_SNAPSHOT_DONE:
        end_snapshot(s, intake);
        break;
    case MR_MONGO_ITEM_WAITING:
        waiting(s);
        break;
    case MR_MONGO_ITEM_GIVEN_UP:
        return give_up(s, err);
    case MR_MONGO_ITEM_NONE:
        MR_ASSERT(false);
    }
    s->item.kind = MR_MONGO_ITEM_NONE;
    return rc;
}

/* What is lost is told before anything that comes behind it, once: the place moves with it. */
static enum mr_rc build_loss(struct mongo_source *s, struct mr_intake *intake, struct mr_err *err)
{
    uint64_t from = mr_mongo_token_time(
        (struct mr_str){(const char *)s->position.token, s->position.token_len});
    if (s->chunk.kind != MR_MONGO_ITEM_NONE && !s->item.snapshot)
        return build_row(s, intake, err);
    s->events_count = 1;
    s->origin = FROM_LOSS;
    mr_log_warn("mongodb", "history_lost", "why=\"%s\"", s->item.err.text);
    return mr_mongo_build_gap(&s->builder, s->item.err.text, from > 0 ? from : s->position.time,
                              mr_mongo_token_time(s->token), s->events, err);
}

static void pass_loss(struct mongo_source *s, struct mr_intake *intake)
{
    s->item.lost = false;
    s->splice.next = 0;
    s->position.time = mr_mongo_token_time(s->token);
    s->position.index = 0;
    s->position.begun = false;
    take_token(s, s->token);
    if (s->item.snapshot)
        begin_snapshot(s);
    state_position(s, intake);
}

/* Offer what was built. MR_FULL: the intake takes no more. */
static enum mr_rc emit(struct mongo_source *s, struct mr_intake *intake, struct mr_err *err)
{
    while (s->events_taken < s->events_count) {
        enum mr_rc rc = mr_intake_emit(intake, &s->events[s->events_taken], err);
        if (rc != MR_OK)
            return rc;
        if (++s->events_taken < s->events_count) { /* the batch may end here */
            s->position.begun = true;
            state_position(s, intake);
        }
    }
    s->events_count = s->events_taken = 0;
    enum origin origin = s->origin;
    s->origin = FROM_NOTHING;
    if (origin == FROM_CHANGE)
        pass_change(s, intake);
    else if (origin == FROM_ROW)
        pass_row(s, intake);
    else if (origin == FROM_LOSS)
        pass_loss(s, intake);
    return MR_OK;
}

/* All changes of the batch are taken. What its token says beyond them counts too: that is how an
 * idle or wholly filtered stream advances. */
static enum mr_rc end_batch(struct mongo_source *s, struct mr_intake *intake, struct mr_err *err)
{
    if (s->chunk.kind != MR_MONGO_ITEM_NONE && s->item.time >= s->chunk.time)
        return build_row(s, intake, err);
    struct mr_str stated = {(const char *)s->position.token, s->position.token_len};
    if (s->splice.next == 0 && s->token.len > 0 && !mr_str_equal(stated, s->token)) {
        take_token(s, s->token);
        state_position(s, intake);
    }
    mr_mongo_reply_free(&s->item.reply);
    s->item.kind = MR_MONGO_ITEM_NONE;
    return MR_OK;
}

/* One thing: offer what is built, or build what comes next. */
static enum mr_rc step(struct mongo_source *s, struct mr_intake *intake, struct mr_err *err)
{
    struct mr_bson_element element;
    if (s->events_count > 0)
        return emit(s, intake, err);
    if (s->item.kind == MR_MONGO_ITEM_NONE)
        return take_item(s, intake, err);
    if (s->item.lost)
        return build_loss(s, intake, err);
    if (s->item.snapshot)
        begin_snapshot(s);
    if (!s->have_change) {
        enum mr_rc rc = mr_bson_iter_next(&s->iter, &element);
        if (rc == MR_AGAIN)
            return end_batch(s, intake, err);
        rc = rc == MR_OK ? read_change(s, &element, err)
                         : mr_reject(err, MR_FATAL, "change stream: an answer that is none");
        if (rc != MR_OK || !s->have_change)
            return rc;
    }
    if (s->chunk.kind != MR_MONGO_ITEM_NONE && s->change.time > s->chunk.time)
        return build_row(s, intake, err);
    return build_change(s, intake, err);
}

static enum mr_rc mongo_poll(struct mr_source *source, struct mr_intake *intake, uint64_t now_ns,
                             struct mr_err *err)
{
    struct mongo_source *s = of(source);
    enum mr_rc rc = MR_OK;
    s->more = s->blocked = false;
    for (uint32_t n = 1; rc == MR_OK && !s->more; n++) {
        rc = step(s, intake, err);
        s->more = rc == MR_OK && n % STEPS_PER_CLOCK == 0 && mr_clock_ns() - now_ns >= TURN_NS;
    }
    say_progress(s, now_ns);
    s->blocked = rc == MR_FULL;
    return rc == MR_AGAIN || rc == MR_FULL ? MR_OK : rc;
}

static void mongo_wait(struct mr_source *source, struct pollfd *fd, uint64_t *wake_ns)
{
    struct mongo_source *s = of(source);
    *fd = (struct pollfd){.fd = mr_mongo_reader_queue(s->reader)->event_fd, .events = POLLIN};
    *wake_ns = s->more ? 0 : UINT64_MAX;
    if (s->blocked) /* the caller knows when there is room */
        fd->fd = -1;
}

/* MongoDB keeps no place for us: its oplog is as long as it is. */
static enum mr_rc mongo_confirm(struct mr_source *source, const struct mr_position *position,
                                struct mr_err *err)
{
    struct mr_mongo_position confirmed;
    if (position->len == 0)
        return MR_OK;
    enum mr_rc rc = mr_mongo_position_decode(position, &confirmed, err);
    if (rc == MR_OK)
        mr_gauge(source->cell, MR_COUNTER_SOURCE_CONFIRMED,
                 mr_mongo_token_time(
                     (struct mr_str){(const char *)confirmed.token, confirmed.token_len}));
    return rc;
}

const struct mr_source_ops mr_source_mongodb = {.name = "mongodb",
                                                .open = mongo_open,
                                                .poll = mongo_poll,
                                                .wait = mongo_wait,
                                                .confirm = mongo_confirm,
                                                .close = mongo_close};
