#include "puller/sources/mongo_reader.h"

#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "puller/sources/backoff.h"
#include "puller/sources/mongo_snapshot.h"

enum { AWAIT_MS = 1000, DRAIN_MS = 1 };
#define HEALTHY_NS (UINT64_C(2) * MR_NS_PER_S)
#define STOP_NS    (UINT64_C(2) * MR_NS_PER_S)

struct mr_mongo_reader {
    pthread_t thread;
    struct mr_mongo_queue queue;
    /* Everything below is the thread's own once it runs. */
    const struct mr_config *config;
    const struct mr_mongo_filter *filter;
    struct mr_mongo_conn *conn;
    struct mr_bson_writer command;
    struct mr_mongo_snapshot snapshot;
    uint8_t *token; /* where the stream goes on; NULL: at start_time */
    uint32_t token_len;
    uint64_t start_time;  /* 0: now */
    uint64_t stream_time; /* through which the last answer shows the stream to be read */
    int64_t cursor;
    bool begun;       /* it is decided where to begin */
    bool lost;        /* the next stream begins behind a gap; lost_why says why */
    bool ever_opened; /* what is refused now was once allowed */
    bool split_large; /* the server can split events over 16 MiB */
    uint32_t attempts;
    uint64_t opened_ns;
    uint64_t random;
    struct mr_err lost_why;
};

static enum mr_rc run(struct mr_mongo_reader *r, const char *database, struct mr_mongo_reply **out,
                      struct mr_err *err)
{
    return mr_mongo_conn_run(r->conn, database, mr_bson_bytes(&r->command), out, err);
}

/* The database that stream commands go to, and the name that its cursor has there. */
static const char *stream_database(const struct mr_mongo_reader *r)
{
    return r->filter->database.len > 0 ? r->config->mongodb_database.text : "admin";
}

static struct mr_str stream_collection(const struct mr_mongo_reader *r)
{
    return r->filter->collection.len > 0 ? r->filter->collection : MR_STR("$cmd.aggregate");
}

static int part(struct mr_str reply, const char *path)
{
    struct mr_bson_value value;
    if (!mr_bson_find(reply.data, reply.len, mr_str_from(path), &value) ||
        value.type != MR_BSON_INT32)
        return 0;
    return mr_bson_int32(&value);
}

/* $changeStreamSplitLargeEvent came with 7.0, and with 6.0.9. */
static enum mr_rc ask_version(struct mr_mongo_reader *r, struct mr_err *err)
{
    struct mr_mongo_reply *reply = NULL;
    mr_mongo_command_named(&r->command, "buildInfo");
    enum mr_rc rc = run(r, "admin", &reply, err);
    if (rc != MR_OK)
        return rc;
    struct mr_str bytes = mr_mongo_reply_bytes(reply);
    int major = part(bytes, "versionArray.0"), minor = part(bytes, "versionArray.1");
    r->split_large = major >= 7 || (major == 6 && minor == 0 && part(bytes, "versionArray.2") >= 9);
    mr_mongo_reply_free(&reply);
    return MR_OK;
}

/* The time of the oldest entry of the oplog. Through mongos, and without the right to read it, the
 * beginning of time has to do: a server whose oplog is not from there refuses that. */
static enum mr_rc ask_oldest(struct mr_mongo_reader *r, struct mr_err *err)
{
    struct mr_mongo_reply *reply = NULL;
    struct mr_bson_value ts;
    r->start_time = UINT64_C(1) << 32 | 1;
    mr_mongo_command_oldest(&r->command);
    enum mr_rc rc = run(r, "local", &reply, err);
    if (rc != MR_OK)
        return rc == MR_RETRY || rc == MR_FATAL ? rc : MR_OK;
    struct mr_str bytes = mr_mongo_reply_bytes(reply);
    if (mr_bson_find(bytes.data, bytes.len, MR_STR("cursor.firstBatch.0.ts"), &ts) &&
        ts.type == MR_BSON_TIMESTAMP)
        r->start_time = (uint64_t)mr_bson_int64(&ts);
    mr_mongo_reply_free(&reply);
    return MR_OK;
}

static enum mr_rc begin(struct mr_mongo_reader *r, struct mr_err *err)
{
    if (strcmp(r->config->source_start.text, "snapshot") == 0)
        mr_mongo_snapshot_begin(&r->snapshot, r->filter, NULL);
    if (strcmp(r->config->source_start.text, "from_beginning") == 0) {
        enum mr_rc rc = ask_oldest(r, err);
        if (rc != MR_OK)
            return rc;
    }
    r->begun = true;
    return MR_OK;
}

static enum mr_rc keep_token(struct mr_mongo_reader *r, struct mr_str token, struct mr_err *err)
{
    if (token.len == 0)
        return MR_OK;
    uint8_t *room = realloc(r->token, token.len);
    if (!room)
        return mr_reject(err, MR_FATAL, "no memory for a resume token of %zu bytes", token.len);
    memcpy(room, token.data, token.len);
    r->token = room;
    r->token_len = (uint32_t)token.len;
    return MR_OK;
}

/* All changes of a transaction share a cluster time, and an answer may end in the middle of them:
 * a token of a change says only that those before its time are in. Its time is complete with a
 * high-water mark, or when the server looked for more and had none. A mongos may say that before
 * all of its shards have answered. */
static uint64_t time_through(const struct mr_mongo_reader *r, enum mr_mongo_item_kind kind,
                             const struct mr_mongo_cursor *cursor)
{
    enum { EMPTY_ARRAY_BYTES = 5 };
    uint64_t time = mr_mongo_token_time(cursor->token);
    bool none_left = cursor->batch.len == EMPTY_ARRAY_BYTES && !mr_mongo_conn_is_router(r->conn);
    bool whole =
        kind == MR_MONGO_ITEM_BATCH && (none_left || mr_mongo_token_is_mark(cursor->token));
    return time > 0 && !whole ? time - 1 : time;
}

/* What a cursor's answer says about the stream; then hand it over. */
static enum mr_rc pass_on(struct mr_mongo_reader *r, struct mr_mongo_item *item, struct mr_err *err)
{
    struct mr_mongo_cursor cursor;
    enum mr_rc rc = mr_mongo_cursor_read(mr_mongo_reply_bytes(item->reply), &cursor);
    if (rc == MR_OK && cursor.token.len == 0)
        rc = MR_CORRUPT;
    if (rc != MR_OK)
        rc = mr_reject(err, MR_USAGE,
                       "change stream: an answer without postBatchResumeToken; MongoDB gives it"
                       " from 4.2 on");
    else
        rc = keep_token(r, cursor.token, err);
    r->cursor = rc == MR_OK ? cursor.id : 0;
    if (rc == MR_OK)
        r->stream_time = item->time = time_through(r, item->kind, &cursor);
    if (rc == MR_OK)
        rc = mr_mongo_queue_put(&r->queue, item);
    if (rc != MR_OK)
        mr_mongo_reply_free(&item->reply);
    return rc;
}

static enum mr_rc open_stream(struct mr_mongo_reader *r, struct mr_err *err)
{
    struct mr_mongo_start start = {.token = {(const char *)r->token, r->token_len},
                                   .time = r->start_time};
    struct mr_mongo_item item = {.kind = MR_MONGO_ITEM_OPENED, .lost = r->lost};
    mr_mongo_command_watch(&r->command, r->filter, &start, r->split_large);
    if (!r->command.ok)
        return mr_reject(err, MR_FATAL, "no memory for a command");
    enum mr_rc rc = run(r, stream_database(r), &item.reply, err);
    if (rc != MR_OK)
        return rc;
    item.snapshot = r->snapshot.active && r->snapshot.place.ns[0] == '\0' && r->snapshot.time == 0;
    item.err = r->lost_why;
    rc = pass_on(r, &item, err);
    if (rc != MR_OK)
        return rc;
    r->lost = false;
    r->ever_opened = true;
    r->opened_ns = mr_clock_ns();
    return MR_OK;
}

static enum mr_rc read_more(struct mr_mongo_reader *r, struct mr_err *err)
{
    struct mr_mongo_item item = {.kind = MR_MONGO_ITEM_BATCH};
    /* An invalidated stream is closed; it goes on behind the invalidate. */
    if (r->cursor == 0)
        return open_stream(r, err);
    mr_mongo_command_more(&r->command, r->cursor, stream_collection(r),
                          r->config->mongodb_batch_events,
                          r->snapshot.active ? DRAIN_MS : AWAIT_MS);
    enum mr_rc rc = run(r, stream_database(r), &item.reply, err);
    return rc == MR_OK ? pass_on(r, &item, err) : rc;
}

static enum mr_rc read_snapshot(struct mr_mongo_reader *r, struct mr_err *err)
{
    struct mr_mongo_item item;
    if (r->stream_time == 0)
        return mr_reject(err, MR_FATAL,
                         "snapshot: the server's resume tokens do not say of which time they are");
    enum mr_rc rc = mr_mongo_snapshot_next(&r->snapshot, r->conn, &r->command, &item, err);
    if (rc != MR_OK)
        return rc;
    rc = mr_mongo_queue_put(&r->queue, &item);
    if (rc != MR_OK)
        mr_mongo_reply_free(&item.reply);
    return rc;
}

/* One connection, until it ends. */
static enum mr_rc serve(struct mr_mongo_reader *r, struct mr_err *err)
{
    enum mr_rc rc = mr_mongo_conn_open(&r->conn, r->config->mongodb_url.text, err);
    if (rc == MR_OK)
        rc = ask_version(r, err);
    if (rc == MR_USAGE && r->ever_opened)
        rc = MR_RETRY; /* a password being changed, a member being set up anew */
    if (rc == MR_OK && !r->begun)
        rc = begin(r, err);
    if (rc == MR_OK)
        rc = open_stream(r, err);
    while (rc == MR_OK && !mr_mongo_queue_stopping(&r->queue)) {
        if (r->snapshot.active && r->stream_time >= r->snapshot.time)
            rc = read_snapshot(r, err);
        if (rc == MR_OK)
            rc = read_more(r, err);
    }
    return rc;
}

/* Leave nothing behind on the server, when it can still be told. */
static void leave(struct mr_mongo_reader *r, bool connected)
{
    struct mr_mongo_reply *reply = NULL;
    struct mr_err ignored;
    if (connected && r->conn && r->cursor != 0) {
        mr_mongo_command_kill(&r->command, r->cursor, stream_collection(r));
        if (run(r, stream_database(r), &reply, &ignored) == MR_OK)
            mr_mongo_reply_free(&reply);
    }
    r->cursor = 0;
    mr_mongo_conn_close(&r->conn);
}

/* The stream cannot go on where it was: by source.on_unresumable. */
static enum mr_rc forget(struct mr_mongo_reader *r, struct mr_err *err)
{
    const char *policy = r->config->source_on_unresumable.text;
    if (strcmp(policy, "fail") == 0 || (!r->token && r->start_time == 0)) {
        mr_err_prefix(err, "the change stream cannot go on where it was");
        err->rc = MR_FATAL;
        return MR_FATAL;
    }
    free(r->token);
    r->token = NULL;
    r->token_len = 0;
    r->start_time = 0;
    r->stream_time = 0;
    r->lost = true;
    r->lost_why = *err;
    if (strcmp(policy, "snapshot") == 0)
        mr_mongo_snapshot_begin(&r->snapshot, r->filter, NULL);
    return MR_OK;
}

static bool wait_and_retry(struct mr_mongo_reader *r, const struct mr_err *err)
{
    struct mr_mongo_item item = {.kind = MR_MONGO_ITEM_WAITING, .err = *err};
    if (r->opened_ns != 0 && mr_clock_ns() - r->opened_ns >= HEALTHY_NS)
        r->attempts = 0;
    r->opened_ns = 0;
    item.attempt = ++r->attempts;
    item.wait_ns = mr_source_backoff_ns(r->config, r->attempts, &r->random);
    return mr_mongo_queue_put(&r->queue, &item) == MR_OK &&
           mr_mongo_queue_sleep(&r->queue, item.wait_ns);
}

static void *thread_main(void *argument)
{
    struct mr_mongo_reader *r = argument;
    for (;;) {
        struct mr_err err = {.rc = MR_OK};
        enum mr_rc rc = serve(r, &err);
        leave(r, rc == MR_OK || rc == MR_CLOSED);
        if (mr_mongo_queue_stopping(&r->queue))
            break;
        if (rc == MR_CLOSED)
            rc = forget(r, &err);
        if (rc == MR_OK || (rc == MR_RETRY && wait_and_retry(r, &err)))
            continue;
        if (rc != MR_RETRY) {
            struct mr_mongo_item item = {.kind = MR_MONGO_ITEM_GIVEN_UP, .err = err};
            item.err.rc = rc;
            (void)!mr_mongo_queue_put(&r->queue, &item);
        }
        break;
    }
    return NULL;
}

static void destroy(struct mr_mongo_reader *r)
{
    mr_mongo_queue_fini(&r->queue);
    mr_bson_writer_fini(&r->command);
    free(r->token);
    free(r);
}

static enum mr_rc take_position(struct mr_mongo_reader *r, const struct mr_mongo_position *from,
                                struct mr_err *err)
{
    r->begun = true;
    r->start_time = from->time;
    if (from->snapshot)
        mr_mongo_snapshot_begin(&r->snapshot, r->filter, &from->place);
    struct mr_str token = {(const char *)from->token, from->token_len};
    return keep_token(r, token, err);
}

enum mr_rc mr_mongo_reader_start(struct mr_mongo_reader **out, const struct mr_config *config,
                                 const struct mr_mongo_filter *filter,
                                 const struct mr_mongo_position *from, struct mr_err *err)
{
    struct mr_mongo_reader *r = calloc(1, sizeof *r);
    if (!r)
        return mr_fail(err, MR_FATAL, "open the mongodb source");
    r->config = config;
    r->filter = filter;
    r->random = mr_clock_ns() | 1;
    mr_bson_writer_init(&r->command);
    enum mr_rc rc = mr_mongo_queue_init(&r->queue, err);
    if (rc != MR_OK) {
        free(r);
        return rc;
    }
    if (from)
        rc = take_position(r, from, err);
    if (rc == MR_OK) {
        errno = pthread_create(&r->thread, NULL, thread_main, r);
        if (errno != 0)
            rc = mr_fail(err, MR_FATAL, "start the thread of the mongodb source");
    }
    if (rc != MR_OK) {
        destroy(r);
        return rc;
    }
    *out = r;
    return MR_OK;
}

bool mr_mongo_reader_stop(struct mr_mongo_reader **reader)
{
    struct mr_mongo_reader *r = *reader;
    struct timespec until;
    if (!r)
        return true;
    *reader = NULL;
    mr_mongo_queue_stop(&r->queue);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(STOP_NS / MR_NS_PER_S);
    if (pthread_timedjoin_np(r->thread, NULL, &until) != 0) {
        pthread_detach(r->thread);
        return false;
    }
    destroy(r);
    return true;
}

struct mr_mongo_queue *mr_mongo_reader_queue(struct mr_mongo_reader *reader)
{
    return &reader->queue;
}
