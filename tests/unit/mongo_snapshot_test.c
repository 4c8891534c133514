/* The reading side of a snapshot against a server of a few lines that holds one collection, in
 * which a second document appears at a chosen moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "puller/sources/mongo_snapshot.h"

struct mr_mongo_reply {
    struct mr_bson_writer bson;
};

static struct {
    uint64_t time;          /* one more with each read */
    uint64_t inserted_time; /* of the second document */
    uint64_t failing_time;  /* the connection breaks at this read */
    int long_row;           /* of three rows this one has a key of 2,000 bytes; 0: no such rows */
} server;

static void put_three_rows(struct mr_bson_writer *w)
{
    char key[2001];
    for (int row = 1; row <= 3; row++) {
        snprintf(key, sizeof key, "%d%0*d", row, row == server.long_row ? 1999 : 9, 0);
        mr_bson_begin_document(w, row == 1 ? MR_STR("0") : row == 2 ? MR_STR("1") : MR_STR("2"));
        mr_bson_put_string(w, MR_STR("_id"), mr_str_from(key));
        mr_bson_end(w);
    }
}

static void put_chunk(struct mr_bson_writer *w, int64_t after)
{
    mr_bson_begin_array(w, MR_STR("firstBatch"));
    if (server.long_row > 0)
        put_three_rows(w);
    for (int32_t id = 1, n = 0; id <= 2 && server.long_row == 0; id++)
        if (id > after && (id == 1 || server.time >= server.inserted_time)) {
            mr_bson_begin_document(w, n++ == 0 ? MR_STR("0") : MR_STR("1"));
            mr_bson_put_int32(w, MR_STR("_id"), id);
            mr_bson_end(w);
        }
    mr_bson_end(w);
    const struct mr_bson_value time = {
        .type = MR_BSON_TIMESTAMP, .data = (const uint8_t *)&server.time, .len = 8};
    mr_bson_put_value(w, MR_STR("atClusterTime"), &time);
}

/* Behind which number a find is to read; the collection holds keys of no other kind. */
static int64_t bound_of(struct mr_str command)
{
    struct mr_bson_value bound;
    if (mr_bson_find(command.data, command.len, MR_STR("filter._id.$gt"), &bound) ||
        mr_bson_find(command.data, command.len, MR_STR("filter.$or.0._id.$gt"), &bound))
        return mr_bson_int32(&bound);
    return mr_bson_find(command.data, command.len, MR_STR("filter._id"), &bound) ? INT64_MAX : 0;
}

enum mr_rc mr_mongo_conn_run(struct mr_mongo_conn *conn, const char *database,
                             struct mr_str command, struct mr_mongo_reply **out, struct mr_err *err)
{
    struct mr_bson_value unused;
    (void)conn;
    (void)database;
    bool find = mr_bson_find(command.data, command.len, MR_STR("find"), &unused);
    if (find && ++server.time == server.failing_time)
        return mr_reject(err, MR_RETRY, "the connection is broken");
    struct mr_mongo_reply *reply = calloc(1, sizeof *reply);
    assert_non_null(reply);
    struct mr_bson_writer *w = &reply->bson;
    mr_bson_writer_init(w);
    mr_bson_begin(w);
    mr_bson_begin_document(w, MR_STR("cursor"));
    mr_bson_put_int64(w, MR_STR("id"), 0);
    if (find) {
        put_chunk(w, bound_of(command));
    } else { /* listCollections; a count finds no n in it */
        mr_bson_begin_array(w, MR_STR("firstBatch"));
        mr_bson_begin_document(w, MR_STR("0"));
        mr_bson_put_string(w, MR_STR("name"), MR_STR("c"));
        mr_bson_end(w);
        mr_bson_end(w);
    }
    mr_bson_end(w);
    mr_bson_end(w);
    assert_true(w->ok);
    *out = reply;
    return MR_OK;
}

struct mr_str mr_mongo_reply_bytes(const struct mr_mongo_reply *reply)
{
    return mr_bson_bytes(&reply->bson);
}

void mr_mongo_reply_free(struct mr_mongo_reply **reply)
{
    if (!*reply)
        return;
    mr_bson_writer_fini(&(*reply)->bson);
    free(*reply);
    *reply = NULL;
}

static uint32_t count_of(struct mr_str reply)
{
    struct mr_mongo_cursor cursor;
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    uint32_t count = 0;
    assert_int_equal(mr_mongo_cursor_read(reply, &cursor), MR_OK);
    assert_int_equal(mr_bson_iter_init(&iter, cursor.batch.data, cursor.batch.len), MR_OK);
    while (mr_bson_iter_next(&iter, &element) == MR_OK)
        count++;
    return count;
}

/* Read all of the snapshot. Returns the documents in it; *end is the time of its last chunk. */
static uint32_t read_all(const struct mr_mongo_filter *filter, uint64_t *end)
{
    static struct mr_mongo_snapshot snapshot;
    static struct mr_mongo_item item;
    struct mr_bson_writer command;
    struct mr_err err;
    uint32_t count = 0;
    mr_bson_writer_init(&command);
    mr_mongo_snapshot_begin(&snapshot, filter, NULL);
    for (;;) {
        enum mr_rc rc = mr_mongo_snapshot_next(&snapshot, NULL, &command, &item, &err);
        if (rc == MR_RETRY) /* as the reader does with the next connection */
            continue;
        assert_int_equal(rc, MR_OK);
        if (item.kind == MR_MONGO_ITEM_SNAPSHOT_DONE)
            break;
        *end = item.time;
        count += count_of(mr_mongo_reply_bytes(item.reply));
        mr_mongo_reply_free(&item.reply);
    }
    mr_bson_writer_fini(&command);
    return count;
}

/* The stream's changes through the time of a chunk are left out: the chunk shows what they led to.
 */
static void what_is_inserted_behind_the_last_key_is_in_a_chunk_or_later_than_all_of_them(
    void **state)
{
    (void)state;
    static struct mr_config config;
    struct mr_mongo_filter filter;
    struct mr_err err;
    mr_config_init(&config);
    assert_int_equal(mr_config_set(&config, "mongodb.database", "app", &err), MR_OK);
    assert_int_equal(mr_mongo_filter_init(&filter, &config, &err), MR_OK);
    for (uint64_t inserted = 1; inserted < 6; inserted++)
        for (uint64_t failing = 0; failing < 6; failing++) {
            uint64_t end = 0;
            server.time = 0;
            server.inserted_time = inserted;
            server.failing_time = failing;
            uint32_t count = read_all(&filter, &end);
            if (count != (inserted <= end ? 2 : 1))
                fail_msg("inserted at %d, read %d failed: %u documents through %d", (int)inserted,
                         (int)failing, count, (int)end);
        }
}

static void a_key_that_is_too_long_to_be_passed_stops_the_snapshot_wherever_it_stands(void **state)
{
    (void)state;
    static struct mr_config config;
    static struct mr_mongo_snapshot snapshot;
    static struct mr_mongo_item item;
    struct mr_mongo_filter filter;
    struct mr_bson_writer command;
    struct mr_err err;
    mr_config_init(&config);
    assert_int_equal(mr_config_set(&config, "mongodb.database", "app", &err), MR_OK);
    assert_int_equal(mr_mongo_filter_init(&filter, &config, &err), MR_OK);
    mr_bson_writer_init(&command);
    server.failing_time = 0;
    for (server.long_row = 1; server.long_row <= 3; server.long_row++) {
        mr_mongo_snapshot_begin(&snapshot, &filter, NULL);
        assert_int_equal(mr_mongo_snapshot_next(&snapshot, NULL, &command, &item, &err), MR_FATAL);
        assert_non_null(strstr(err.text, "at most 1700 can be passed"));
    }
    mr_bson_writer_fini(&command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            what_is_inserted_behind_the_last_key_is_in_a_chunk_or_later_than_all_of_them),
        cmocka_unit_test(a_key_that_is_too_long_to_be_passed_stops_the_snapshot_wherever_it_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
