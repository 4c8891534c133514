#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "puller/sources/backoff.h"
#include "puller/sources/mongo_build.h"
#include "puller/sources/mongo_command.h"
#include "puller/sources/mongo_conn.h"
#include "puller/sources/mongo_key.h"
#include "puller/sources/mongo_position.h"
#include "puller/sources/mongo_queue.h"
#include "puller/sources/mongo_snapshot.h"

/* {_data: hex} */
static struct mr_str token_of(struct mr_bson_writer *w, const char *hex)
{
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    mr_bson_put_string(w, MR_STR("_data"), mr_str_from(hex));
    mr_bson_end(w);
    return mr_bson_bytes(w);
}

static void a_place_comes_back_as_it_was_stored(void **state)
{
    (void)state;
    static struct mr_mongo_position in, out;
    struct mr_position stored;
    struct mr_bson_writer w;
    struct mr_err err;
    mr_bson_writer_init(&w);
    struct mr_str token = token_of(&w, "8264BEB9F3000000012B0229296E04");
    in.time = UINT64_C(0x64BEB9F300000001);
    in.index = 3;
    in.begun = true;
    assert_true(mr_mongo_position_set_token(&in, token));
    in.snapshot = true;
    strcpy(in.place.ns, "app.orders");
    int32_t id = 7;
    assert_true(mr_mongo_snapshot_set_key(
        &in.place,
        &(struct mr_bson_value){.type = MR_BSON_INT32, .data = (uint8_t *)&id, .len = 4}));
    mr_mongo_position_encode(&in, &stored);
    assert_int_equal(mr_mongo_position_decode(&stored, &out, &err), MR_OK);
    assert_memory_equal(&in, &out, sizeof in);
    assert_int_equal(mr_mongo_token_time(token), in.time);
    assert_true(stored.len < 24 + 10 + 15 + 4 + 1); /* the token in binary */
    /* Every shorter or longer form, and every other magic, is refused. */
    for (uint32_t len = 0; len < stored.len; len++) {
        struct mr_position cut = stored;
        cut.len = len;
        assert_int_equal(mr_mongo_position_decode(&cut, &out, &err), MR_USAGE);
    }
    stored.bytes[0] ^= 1;
    assert_int_equal(mr_mongo_position_decode(&stored, &out, &err), MR_USAGE);
    mr_bson_writer_fini(&w);
}

static void a_token_too_long_to_store_is_left_out(void **state)
{
    (void)state;
    static struct mr_mongo_position in, out;
    struct mr_position stored;
    struct mr_bson_writer w;
    struct mr_err err;
    char hex[4001];
    memset(hex, 'A', sizeof hex - 1);
    hex[sizeof hex - 1] = '\0';
    mr_bson_writer_init(&w);
    in.time = 5;
    in.index = 2;
    assert_true(mr_mongo_position_set_token(&in, token_of(&w, hex)));
    mr_mongo_position_encode(&in, &stored);
    assert_int_equal(mr_mongo_position_decode(&stored, &out, &err), MR_OK);
    assert_int_equal(out.token_len, in.token_len); /* 2,000 bytes still fit */
    in.snapshot = true;
    in.place.key_type = MR_BSON_STRING;
    in.place.key_len = MR_MONGO_KEY_MAX;
    memset(in.place.ns, 'n', MR_MONGO_NS_MAX);
    mr_mongo_position_encode(&in, &stored);
    assert_int_equal(mr_mongo_position_decode(&stored, &out, &err), MR_OK);
    assert_int_equal(out.token_len, 0);
    assert_int_equal(out.time, 5);
    assert_int_equal(out.index, 2);
    assert_int_equal(out.place.key_len, MR_MONGO_KEY_MAX);
    mr_bson_writer_fini(&w);
}

static void a_high_water_mark_is_told_from_the_token_of_a_change(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        bool mark;
    } tokens[] = {{"8263515EAC000000022B0429296E1404", true}, /* of a 6.0 */
                  {"8260A5D1E3000000012B0229296E04", true},   /* of a 4.4 */
                  {"8263515EAC000000022B042C0100296E5A1004", false},
                  {"8263515EAC000000022B022C0100296E5A1004", false},
                  {"8263515EAC0000000246645F696400", false}, /* of a 4.0: has no kind */
                  {"8263515EAC000000022B04", false}};
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
        assert_int_equal(mr_mongo_token_is_mark(token_of(&w, tokens[i].hex)), tokens[i].mark);
    assert_false(mr_mongo_token_is_mark(MR_STR("")));
    mr_bson_writer_fini(&w);
}

/* One value of each kind, and more within some, in MongoDB's order. */
static void put_keys(struct mr_bson_writer *w)
{
    const uint8_t oid[12] = {1}, later_oid[12] = {2};
    mr_bson_begin(w);
    mr_bson_put_value(w, MR_STR("a"), &(struct mr_bson_value){.type = MR_BSON_MINKEY});
    mr_bson_put_null(w, MR_STR("b"));
    mr_bson_put_double(w, MR_STR("c"), __builtin_nan(""));
    mr_bson_put_double(w, MR_STR("d"), -__builtin_inf());
    mr_bson_put_int32(w, MR_STR("e"), -5);
    mr_bson_put_double(w, MR_STR("f"), 0.5);
    mr_bson_put_int64(w, MR_STR("g"), INT64_MAX - 1);
    mr_bson_put_int64(w, MR_STR("h"), INT64_MAX);
    mr_bson_put_string(w, MR_STR("i"), MR_STR(""));
    mr_bson_put_string(w, MR_STR("j"), MR_STR("a"));
    mr_bson_put_string(w, MR_STR("k"), MR_STR("ab"));
    mr_bson_put_string(w, MR_STR("l"), MR_STR("b"));
    mr_bson_begin_document(w, MR_STR("m"));
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("n"));
    mr_bson_put_int32(w, MR_STR("a"), 1);
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("o"));
    mr_bson_put_int32(w, MR_STR("b"), 0);
    mr_bson_end(w);
    mr_bson_put_binary(w, MR_STR("p"), 0, MR_STR("z"));
    mr_bson_put_binary(w, MR_STR("q"), 4, MR_STR("a"));
    mr_bson_put_binary(w, MR_STR("r"), 0, MR_STR("aa"));
    mr_bson_put_value(w, MR_STR("s"), &(struct mr_bson_value){MR_BSON_OID, oid, 12});
    mr_bson_put_value(w, MR_STR("t"), &(struct mr_bson_value){MR_BSON_OID, later_oid, 12});
    mr_bson_put_bool(w, MR_STR("u"), false);
    mr_bson_put_bool(w, MR_STR("v"), true);
    mr_bson_put_date_ms(w, MR_STR("w"), -1);
    mr_bson_put_date_ms(w, MR_STR("x"), 1);
    mr_bson_put_value(w, MR_STR("y"), &(struct mr_bson_value){.type = MR_BSON_MAXKEY});
    mr_bson_end(w);
}

static void keys_have_the_order_of_the_manual(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    struct mr_bson_iter iter;
    struct mr_bson_element keys[32];
    int count = 0;
    mr_bson_writer_init(&w);
    put_keys(&w);
    assert_true(w.ok);
    assert_int_equal(mr_bson_iter_init(&iter, w.data, w.len), MR_OK);
    while (mr_bson_iter_next(&iter, &keys[count]) == MR_OK)
        count++;
    assert_int_equal(count, 25);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < count; j++) {
            int order = mr_mongo_key_compare(&keys[i].value, &keys[j].value);
            if ((order > 0) - (order < 0) != (i > j) - (i < j))
                fail_msg("%c and %c compare as %d", keys[i].key.data[0], keys[j].key.data[0],
                         order);
        }
    assert_true(mr_mongo_key_is_nan(&keys[2].value));
    assert_false(mr_mongo_key_is_nan(&keys[3].value));
    mr_bson_writer_fini(&w);
}

/* 1 as int32, int64, double and decimal128 are one key. */
static void numbers_of_all_types_are_one_kind(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    struct mr_bson_iter iter;
    struct mr_bson_element keys[4];
    mr_bson_writer_init(&w);
    mr_bson_begin(&w);
    mr_bson_put_int32(&w, MR_STR("a"), 1);
    mr_bson_put_int64(&w, MR_STR("b"), 1);
    mr_bson_put_double(&w, MR_STR("c"), 1.0);
    mr_bson_put_decimal128(&w, MR_STR("d"), 1, UINT64_C(0x3040000000000000));
    mr_bson_end(&w);
    assert_int_equal(mr_bson_iter_init(&iter, w.data, w.len), MR_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(mr_bson_iter_next(&iter, &keys[i]), MR_OK);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            assert_int_equal(mr_mongo_key_compare(&keys[i].value, &keys[j].value), 0);
    mr_bson_writer_fini(&w);
}

static void filter_takes(const char *database, const char *collections, const char *exclude,
                         const char *in_database, const char *name, bool expected)
{
    static struct mr_config config;
    struct mr_mongo_filter filter;
    struct mr_err err;
    mr_config_init(&config);
    assert_int_equal(mr_config_set(&config, "mongodb.database", database, &err), MR_OK);
    assert_int_equal(mr_config_set(&config, "mongodb.collections", collections, &err), MR_OK);
    assert_int_equal(mr_config_set(&config, "mongodb.exclude", exclude, &err), MR_OK);
    assert_int_equal(mr_mongo_filter_init(&filter, &config, &err), MR_OK);
    if (mr_mongo_filter_takes(&filter, mr_str_from(in_database), mr_str_from(name)) != expected)
        fail_msg("%s / %s / %s: %s.%s", database, collections, exclude, in_database, name);
}

static void lists_choose_collections_and_exclude_wins(void **state)
{
    (void)state;
    filter_takes("app", "", "", "app", "c", true);
    filter_takes("app", "", "", "other", "c", false);
    filter_takes("app", "c", "", "app", "cc", false);
    filter_takes("app", "c*", "", "app", "c", true);
    filter_takes("app", "a*b*c", "", "app", "a-b-b-c", true);
    filter_takes("app", "a*b*c", "", "app", "a-b-b-d", false);
    filter_takes("app", "*", "tmp*", "app", "tmp1", false);
    filter_takes("app", "*.x", "", "app", "y.x", true);
    filter_takes("", "app.c", "", "app", "c", true);
    filter_takes("", "app.c", "", "appc", "c", false);
    filter_takes("", "a*.c", "app.*", "abc", "c", true);
    filter_takes("", "a*.c", "app.*", "app", "c", false);
}

static void of_a_pattern_the_part_in_front_of_its_first_dot_is_the_database(void **state)
{
    (void)state; /* as the server is asked to match it: a database's name has no dot */
    filter_takes("", "*.files", "", "app", "files", true);
    filter_takes("", "*.files", "", "app", "fs.files", false);
    filter_takes("", "*.fs.files", "", "app", "fs.files", true);
    filter_takes("", "*.*files", "", "app", "fs.files", true);
    filter_takes("", "app*.c", "", "app", "x.c", false);
    filter_takes("", "", "*.files", "app", "fs.files", true);
}

static void errors_of_a_server_are_of_three_classes(void **state)
{
    (void)state;
    assert_int_equal(mr_mongo_error_class(286), MR_CLOSED);
    assert_int_equal(mr_mongo_error_class(280), MR_CLOSED);
    assert_int_equal(mr_mongo_error_class(13), MR_USAGE);
    assert_int_equal(mr_mongo_error_class(40573), MR_USAGE);
    assert_int_equal(mr_mongo_error_class(10107), MR_RETRY);
    assert_int_equal(mr_mongo_error_class(43), MR_RETRY);
    assert_int_equal(mr_mongo_error_class(999999), MR_RETRY);
}

static void put_fragment(struct mr_bson_writer *w, int32_t number, int32_t of, const char *name)
{
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    mr_bson_begin_document(w, MR_STR("_id"));
    mr_bson_put_int32(w, MR_STR("_data"), number);
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("splitEvent"));
    mr_bson_put_int32(w, MR_STR("fragment"), number);
    mr_bson_put_int32(w, MR_STR("of"), of);
    mr_bson_end(w);
    mr_bson_put_string(w, mr_str_from(name), MR_STR("x"));
    mr_bson_end(w);
}

static enum mr_rc splice(struct mr_mongo_splice *into, struct mr_bson_writer *w, int32_t number,
                         int32_t of, struct mr_str *whole)
{
    struct mr_mongo_change change;
    char name[] = {(char)('a' + number), '\0'};
    put_fragment(w, number, of, name);
    assert_int_equal(mr_mongo_change_read(mr_bson_bytes(w), &change), MR_OK);
    return mr_mongo_splice_take(into, mr_bson_bytes(w), &change, whole);
}

static void fragments_make_one_event_and_only_in_their_order(void **state)
{
    (void)state;
    struct mr_mongo_splice into;
    struct mr_bson_writer w;
    struct mr_bson_value value;
    struct mr_str whole;
    mr_mongo_splice_init(&into);
    mr_bson_writer_init(&w);
    assert_int_equal(splice(&into, &w, 2, 3, &whole), MR_CORRUPT);
    assert_int_equal(splice(&into, &w, 1, 3, &whole), MR_AGAIN);
    assert_int_equal(splice(&into, &w, 3, 3, &whole), MR_CORRUPT);
    assert_int_equal(splice(&into, &w, 1, 3, &whole), MR_AGAIN);
    assert_int_equal(splice(&into, &w, 2, 3, &whole), MR_AGAIN);
    assert_int_equal(splice(&into, &w, 3, 3, &whole), MR_OK);
    assert_int_equal(mr_bson_validate(whole.data, whole.len), MR_OK);
    assert_true(mr_bson_find(whole.data, whole.len, MR_STR("b"), &value));
    assert_true(mr_bson_find(whole.data, whole.len, MR_STR("c"), &value));
    assert_true(mr_bson_find(whole.data, whole.len, MR_STR("d"), &value));
    assert_false(mr_bson_find(whole.data, whole.len, MR_STR("splitEvent"), &value));
    assert_true(mr_bson_find(whole.data, whole.len, MR_STR("_id._data"), &value));
    assert_int_equal(mr_bson_int32(&value), 3); /* goes on behind the last one */
    mr_bson_writer_fini(&w);
    mr_mongo_splice_fini(&into);
}

static void a_document_that_is_no_bson_becomes_a_gap_that_names_it(void **state)
{
    (void)state;
    static struct mr_config config;
    static struct mr_mongo_builder builder;
    struct mr_mongo_filter filter;
    struct mr_event events[MR_MONGO_EVENTS_MAX];
    struct mr_err err;
    uint32_t count = 0;
    const int32_t id = 7;
    const uint8_t damaged[] = {14, 0, 0, 0, MR_BSON_STRING, 's', 0, 2, 0, 0, 0, 0xff, 0, 0};
    mr_config_init(&config);
    assert_int_equal(mr_mongo_filter_init(&filter, &config, &err), MR_OK);
    mr_mongo_builder_init(&builder, &filter);
    struct mr_mongo_change change = {.kind = MR_MONGO_INSERT,
                                     .database = MR_STR("app"),
                                     .collection = MR_STR("c"),
                                     .document = {(const char *)damaged, sizeof damaged},
                                     .id = {MR_BSON_INT32, (const uint8_t *)&id, 4},
                                     .time = 1};
    assert_int_equal(mr_mongo_build(&builder, &change, 0, events, &count, &err), MR_OK);
    assert_int_equal(count, 1);
    assert_int_equal(events[0].head.op, MR_OP_GAP);
    struct mr_bson_value cause;
    assert_true(
        mr_bson_find(events[0].document.data, events[0].document.len, MR_STR("cause"), &cause));
    assert_memory_equal(mr_bson_string(&cause).data, "document 7:", 11);
    mr_mongo_builder_fini(&builder);
}

static void a_stored_document_with_a_name_too_long_is_a_gap_and_a_long_id_is_cut_with_a_hash(
    void **state)
{
    (void)state;
    static struct mr_config config;
    static struct mr_mongo_builder builder;
    struct mr_mongo_filter filter;
    struct mr_event events[MR_MONGO_EVENTS_MAX];
    struct mr_err err;
    struct mr_bson_writer w;
    struct mr_bson_value value;
    uint32_t count = 0;
    const int32_t key = 7;
    static char text[MR_EVENT_NAME_MAX + 1];
    memset(text, 'n', sizeof text);
    memcpy(text + 899, "\xc3\xa4", 2); /* a character where the id is cut */
    const struct mr_str name = {text, sizeof text}, fits = {text, MR_EVENT_NAME_MAX};
    mr_config_init(&config);
    assert_int_equal(mr_config_set(&config, "mongodb.layout", "syntrix", &err), MR_OK);
    assert_int_equal(mr_mongo_filter_init(&filter, &config, &err), MR_OK);
    mr_mongo_builder_init(&builder, &filter);
    mr_bson_writer_init(&w);
    for (int i = 0; i < 4; i++) {
        mr_bson_writer_reset(&w);
        mr_bson_begin(&w);
        mr_bson_put_int32(&w, MR_STR("_id"), key);
        mr_bson_put_string(&w, MR_STR("database"), i == 0 ? name : fits);
        mr_bson_put_string(&w, MR_STR("collection"), i == 1 ? name : fits);
        mr_bson_begin_document(&w, MR_STR("data"));
        mr_bson_put_string(&w, MR_STR("id"), i == 3 ? name : fits);
        mr_bson_end(&w);
        mr_bson_end(&w);
        assert_int_equal(mr_mongo_build_row(&builder, MR_STR("app"), MR_STR("documents"),
                                            mr_bson_bytes(&w), 1, events, &count, &err),
                         MR_OK);
        assert_int_equal(count, 1);
        assert_int_equal(events[0].head.op, i < 2 ? MR_OP_GAP : MR_OP_INSERT);
        assert_true(mr_str_equal(events[0].database, i < 2 ? MR_STR("app") : fits));
        if (i >= 2)
            assert_int_equal(events[0].document_id.len,
                             i == 2 ? MR_EVENT_NAME_MAX : 899 + sizeof "~" - 1 + 32);
        if (i == 3) {
            assert_int_equal(events[0].document_id.data[899], '~');
            assert_true(mr_bson_find(events[0].document.data, events[0].document.len, MR_STR("id"),
                                     &value));
            assert_true(mr_str_equal(mr_bson_string(&value), name));
        }
    }
    mr_bson_writer_fini(&w);
    mr_mongo_builder_fini(&builder);
}

static void a_document_changed_twice_at_one_time_gets_two_event_ids(void **state)
{
    (void)state;
    enum { DOCUMENTS = 6000 }; /* more than are remembered: then every id has its number */
    static struct mr_config config;
    static struct mr_mongo_builder builder;
    struct mr_mongo_filter filter;
    struct mr_event events[MR_MONGO_EVENTS_MAX];
    struct mr_err err;
    mr_config_init(&config);
    assert_int_equal(mr_mongo_filter_init(&filter, &config, &err), MR_OK);
    mr_mongo_builder_init(&builder, &filter);
    for (uint32_t index = 0; index < DOCUMENTS; index++) {
        int32_t id = index == 5 ? 3 : (int32_t)index;
        uint32_t count;
        struct mr_mongo_change change = {.kind = MR_MONGO_DELETE,
                                         .database = MR_STR("app"),
                                         .collection = MR_STR("c"),
                                         .id = {MR_BSON_INT32, (const uint8_t *)&id, 4},
                                         .time = 9};
        assert_int_equal(mr_mongo_build(&builder, &change, index, events, &count, &err), MR_OK);
        assert_int_equal(count, 1);
        bool numbered = events[0].event_id.len > 0;
        assert_int_equal(numbered, index == 5 || index > MR_MONGO_SEEN_MAX / 2);
        if (index == 5)
            assert_memory_equal(events[0].event_id.data + events[0].event_id.len - 2, "-5", 2);
    }
    mr_mongo_builder_fini(&builder);
}

static void a_wait_grows_and_stays_within_its_bounds(void **state)
{
    (void)state;
    static struct mr_config config;
    uint64_t random = 1;
    mr_config_init(&config);
    for (uint32_t attempt = 1; attempt < 100; attempt++) {
        uint64_t most = config.source_backoff_min;
        for (uint32_t i = 1; i < attempt && most < config.source_backoff_max; i++)
            most *= 2;
        most = most < config.source_backoff_max ? most : config.source_backoff_max;
        uint64_t wait = mr_source_backoff_ns(&config, attempt, &random);
        assert_in_range(wait, most / 2, most);
    }
}

struct producer {
    struct mr_mongo_queue queue;
    pthread_t thread;
};
enum { ITEMS = 20000 };

static void *produce(void *argument)
{
    struct producer *p = argument;
    for (uint32_t i = 1; i <= ITEMS; i++) {
        struct mr_mongo_item item = {.kind = MR_MONGO_ITEM_WAITING, .attempt = i};
        if (mr_mongo_queue_put(&p->queue, &item) != MR_OK)
            return NULL;
    }
    (void)!mr_mongo_queue_sleep(&p->queue, UINT64_C(60000000000));
    return NULL;
}

static void items_pass_the_queue_in_order_and_no_wake_is_missed(void **state)
{
    (void)state;
    struct producer p;
    struct mr_mongo_item item;
    struct mr_err err;
    assert_int_equal(mr_mongo_queue_init(&p.queue, &err), MR_OK);
    assert_int_equal(pthread_create(&p.thread, NULL, produce, &p), 0);
    for (uint32_t i = 1; i <= ITEMS; i++) {
        while (mr_mongo_queue_take(&p.queue, &item) != MR_OK) {
            struct pollfd fd = {.fd = p.queue.event_fd, .events = POLLIN};
            assert_int_equal(poll(&fd, 1, 10000), 1);
        }
        assert_int_equal(item.attempt, i);
    }
    mr_mongo_queue_stop(&p.queue);
    pthread_join(p.thread, NULL);
    assert_int_equal(mr_mongo_queue_put(&p.queue, &item), MR_CLOSED);
    mr_mongo_queue_fini(&p.queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_place_comes_back_as_it_was_stored),
        cmocka_unit_test(a_token_too_long_to_store_is_left_out),
        cmocka_unit_test(a_high_water_mark_is_told_from_the_token_of_a_change),
        cmocka_unit_test(keys_have_the_order_of_the_manual),
        cmocka_unit_test(numbers_of_all_types_are_one_kind),
        cmocka_unit_test(lists_choose_collections_and_exclude_wins),
        cmocka_unit_test(of_a_pattern_the_part_in_front_of_its_first_dot_is_the_database),
        cmocka_unit_test(errors_of_a_server_are_of_three_classes),
        cmocka_unit_test(fragments_make_one_event_and_only_in_their_order),
        cmocka_unit_test(a_document_that_is_no_bson_becomes_a_gap_that_names_it),
        cmocka_unit_test(
            a_stored_document_with_a_name_too_long_is_a_gap_and_a_long_id_is_cut_with_a_hash),
        cmocka_unit_test(a_document_changed_twice_at_one_time_gets_two_event_ids),
        cmocka_unit_test(a_wait_grows_and_stays_within_its_bounds),
        cmocka_unit_test(items_pass_the_queue_in_order_and_no_wake_is_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
