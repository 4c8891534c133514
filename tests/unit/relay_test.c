/* The parts of the relay that need no process: places, lag, pieces and their cache, messages,
 * checkpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "log/log.h"
#include "proto/marker.h"
#include "proto/puller.pb-c.h"
#include "relay/cache.h"
#include "relay/checkpoints.h"
#include "relay/fetch.h"
#include "relay/lag.h"
#include "relay/place.h"

#define S MR_NS_PER_S

static void a_place_is_read_from_our_markers_and_from_upstreams(void **state)
{
    (void)state;
    struct mr_place place;
    char text[MR_MARKER_TEXT_MAX];
    struct mr_str backend = MR_STR("main");
    assert_int_equal(mr_place_parse(MR_STR(""), backend, &place, NULL), MR_OK);
    assert_int_equal(place.kind, MR_PLACE_NOW);
    size_t len = mr_marker_format((struct mr_marker){.log_id = 5, .sequence = 77}, text);
    assert_int_equal(mr_place_parse((struct mr_str){text, len}, backend, &place, NULL), MR_OK);
    assert_int_equal(place.kind, MR_PLACE_MARKER);
    assert_int_equal(place.marker.sequence, 77);
    static const char *const oldest[] = {"e30", "eyJwIjp7fX0",
                                         /* {"p":{"other":"1-2-ab"}} */
                                         "eyJwIjp7Im90aGVyIjoiMS0yLWFiIn19"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mr_place_parse(mr_str_from(oldest[i]), backend, &place, NULL), MR_OK);
        assert_int_equal(place.kind, MR_PLACE_OLDEST);
    }
    /* {"p":{"a":"1-1-x","main":"17-4-00ff"}} */
    const char *event = "eyJwIjp7ImEiOiIxLTEteCIsIm1haW4iOiIxNy00LTAwZmYifX0";
    assert_int_equal(mr_place_parse(mr_str_from(event), backend, &place, NULL), MR_OK);
    assert_int_equal(place.kind, MR_PLACE_EVENT);
    assert_string_equal(place.event_id, "17-4-00ff");
    assert_int_equal(place.source_order, UINT64_C(17) << 32 | 4);
}

static void a_text_that_is_no_place_is_refused(void **state)
{
    (void)state;
    struct mr_place place;
    struct mr_err err;
    static const char *const wrong[] = {"x",
                                        "!!!!",
                                        "AAAA",
                                        "e30=",
                                        "e3",
                                        "W10" /* [] */,
                                        "eyJwIjoxfQ" /* {"p":1} */,
                                        "eyJxIjp7fX0" /* {"q":{}} */,
                                        "eyJwIjp7Im1haW4iOiIxNy0wMGZmIn19" /* "17-00ff" */,
                                        "eyJwIjp7fX1h" /* {"p":{}}a */};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (mr_place_parse(mr_str_from(wrong[i]), MR_STR("main"), &place, &err) != MR_USAGE)
            fail_msg("accepted: %s", wrong[i]);
}

static const struct mr_lag_limits limits = {50, 200, 30 * S, 120 * S};

static void catching_up_is_no_lag_while_it_gets_nearer(void **state)
{
    (void)state;
    struct mr_lag lag;
    mr_lag_begin(&lag, 1000, S);
    assert_false(mr_lag_look(&lag, &limits, 900, 500 * S, 2 * S));
    assert_false(mr_lag_look(&lag, &limits, 700, 500 * S, 500 * S));
    assert_int_equal(lag.level, MR_LAG_NONE);
    assert_false(mr_lag_look(&lag, &limits, 1001, 500 * S, 501 * S));
    assert_true(mr_lag_look(&lag, &limits, 1001, 500 * S, 620 * S)); /* it never gets there */
    assert_int_equal(lag.level, MR_LAG_HARD);
}

static void who_came_nearer_once_and_then_stands_still_is_judged(void **state)
{
    (void)state;
    struct mr_lag lag;
    mr_lag_begin(&lag, 300, S);
    assert_false(mr_lag_look(&lag, &limits, 298, 100 * S, 120 * S));
    assert_false(mr_lag_look(&lag, &limits, 298, 101 * S, 121 * S));
    assert_false(mr_lag_look(&lag, &limits, 298, 220 * S, 240 * S));
    assert_true(mr_lag_look(&lag, &limits, 298, 221 * S, 241 * S));
    assert_int_equal(lag.level, MR_LAG_HARD);
}

static void who_was_live_is_warned_at_soft_and_told_at_hard(void **state)
{
    (void)state;
    struct mr_lag lag;
    mr_lag_begin(&lag, 0, S);
    assert_false(mr_lag_look(&lag, &limits, 10, 0, 2 * S));
    assert_true(mr_lag_look(&lag, &limits, 50, 0, 3 * S));
    assert_int_equal(lag.level, MR_LAG_SOFT);
    assert_false(mr_lag_look(&lag, &limits, 40, 0, 3 * S)); /* not yet below half */
    assert_true(mr_lag_look(&lag, &limits, 25, 0, 3 * S));
    assert_int_equal(lag.level, MR_LAG_NONE);
    assert_true(mr_lag_look(&lag, &limits, 1, 30 * S, 4 * S));
    assert_int_equal(lag.level, MR_LAG_SOFT);
    assert_true(mr_lag_look(&lag, &limits, 1, 120 * S, 5 * S));
    assert_int_equal(lag.level, MR_LAG_HARD);
}

static void the_clock_knows_how_old_a_place_is(void **state)
{
    (void)state;
    static struct mr_lag_clock clock;
    mr_lag_clock_init(&clock, 120 * S);
    for (uint64_t i = 1; i <= 10000; i++)
        mr_lag_clock_tick(&clock, 10 * i, i * S);
    assert_int_equal(mr_lag_age_ns(&clock, 100000, 10000 * S), 0);
    assert_int_equal(mr_lag_age_ns(&clock, 99999, 10000 * S), 0);
    assert_int_equal(mr_lag_age_ns(&clock, 99990, 10000 * S), 0);
    assert_int_equal(mr_lag_age_ns(&clock, 99980, 10000 * S), S);
    assert_int_equal(mr_lag_age_ns(&clock, 90000, 10000 * S), 999 * S);
    assert_true(mr_lag_age_ns(&clock, 1, 10000 * S) >= 2000 * S); /* as far as it remembers */
    uint64_t count = clock.count;
    mr_lag_clock_tick(&clock, 200000, 10000 * S + 1); /* too soon */
    assert_int_equal(clock.count, count);
}

static const char bson[] = {12, 0, 0, 0, 0x10, 'n', 0, 7, 0, 0, 0, 0};

static struct mr_event sample(uint64_t sequence)
{
    return (struct mr_event){.head = {.sequence = sequence,
                                      .source_order = UINT64_C(9) << 32 | 8,
                                      .transaction = 6,
                                      .source_time_us = 5000001,
                                      .ingest_time_us = 4000000,
                                      .op = MR_OP_REPLACE,
                                      .flags = MR_EVENT_SNAPSHOT},
                             .database = MR_STR("shop"),
                             .collection = MR_STR("orders"),
                             .document_id = MR_STR("17"),
                             .document = {bson, sizeof bson},
                             .update = {bson, sizeof bson},
                             .before = {bson, sizeof bson}};
}

static struct mr_piece *make_piece(uint64_t first, uint32_t count)
{
    struct mr_piece_builder builder = {.backend = MR_STR("postgres"), .log_id = 3};
    struct mr_piece *piece;
    for (uint64_t i = first; i < first + count; i++) {
        struct mr_event event = sample(i);
        assert_int_equal(mr_piece_add(&builder, &event, i, i, NULL), MR_OK);
    }
    assert_int_equal(mr_piece_finish(&builder, first, first + count - 1, &piece, NULL), MR_OK);
    mr_piece_builder_fini(&builder);
    return piece;
}

static void check_change(const Syntrix__Puller__V1__PullerEvent *event)
{
    const Syntrix__Puller__V1__ChangeEvent *change = event->change_event;
    assert_non_null(change);
    assert_string_equal(change->database, "shop");
    assert_string_equal(change->mgo_coll, "orders");
    assert_string_equal(change->mgo_doc_id, "17");
    assert_string_equal(change->op_type, "replace");
    assert_string_equal(change->backend, "postgres");
    assert_int_equal(change->full_doc.len, 7);
    assert_memory_equal(change->full_doc.data, "{\"n\":7}", 7);
    assert_int_equal(change->update_desc.len, 7);
    assert_int_equal(change->before.len, 7);
    assert_int_equal(change->cluster_time->t, 9);
    assert_int_equal(change->cluster_time->i, 8);
    assert_int_equal(change->timestamp, 4000);
    assert_int_equal(change->txn_number, 6);
    assert_int_equal(change->source_timestamp_us, 5000001);
    assert_true(change->snapshot);
    assert_false(change->key_only);
}

static void a_piece_is_read_by_generated_code_as_a_batch_and_one_by_one(void **state)
{
    (void)state;
    struct mr_piece *piece = make_piece(11, 3);
    const uint8_t *slab = GRPC_SLICE_START_PTR(piece->slab);
    Syntrix__Puller__V1__PullerEvent *batch = syntrix__puller__v1__puller_event__unpack(
        NULL, piece->items[2].end - piece->items[1].at, slab + piece->items[1].at);
    assert_non_null(batch);
    assert_int_equal(batch->n_batch, 2);
    check_change(batch->batch[0]);
    struct mr_marker marker;
    assert_int_equal(mr_marker_parse(mr_str_from(batch->batch[1]->progress), &marker, NULL), MR_OK);
    assert_int_equal(marker.sequence, 13);
    assert_int_equal(marker.log_id, 3);
    syntrix__puller__v1__puller_event__free_unpacked(batch, NULL);
    Syntrix__Puller__V1__PullerEvent *one = syntrix__puller__v1__puller_event__unpack(
        NULL, piece->items[0].end - piece->items[0].body, slab + piece->items[0].body);
    check_change(one);
    syntrix__puller__v1__puller_event__free_unpacked(one, NULL);
    assert_memory_equal(slab + piece->items[1].collection_at, "orders", 6);
    assert_int_equal(mr_piece_find(piece, 10), 0);
    assert_int_equal(mr_piece_find(piece, 11), 1);
    assert_int_equal(mr_piece_find(piece, 13), 3);
    mr_piece_unref(piece);
}

static void notices_are_read_by_generated_code(void **state)
{
    (void)state;
    uint8_t bytes[MR_WIRE_NOTICE_MAX];
    const struct mr_wire_lag lag = {2, 300, 4000};
    size_t len = mr_wire_put_lag(bytes, MR_STR("here"), &lag);
    Syntrix__Puller__V1__PullerEvent *event =
        syntrix__puller__v1__puller_event__unpack(NULL, len, bytes);
    assert_string_equal(event->progress, "here");
    assert_int_equal(event->lag->level, SYNTRIX__PULLER__V1__LAG_LEVEL__LAG_LEVEL_HARD);
    assert_int_equal(event->lag->events, 300);
    assert_int_equal(event->lag->milliseconds, 4000);
    syntrix__puller__v1__puller_event__free_unpacked(event, NULL);
    len = mr_wire_put_rebuild(bytes, MR_STR("here"), MR_STR("lag"), MR_STR("there"));
    event = syntrix__puller__v1__puller_event__unpack(NULL, len, bytes);
    assert_string_equal(event->rebuild->cause, "lag");
    assert_string_equal(event->rebuild->resume, "there");
    syntrix__puller__v1__puller_event__free_unpacked(event, NULL);
    len = mr_wire_put_acknowledged(bytes, MR_STR("there"), true, MR_STR("end"));
    Syntrix__Puller__V1__AcknowledgeResponse *answer =
        syntrix__puller__v1__acknowledge_response__unpack(NULL, len, bytes);
    assert_string_equal(answer->progress, "there");
    assert_true(answer->rebuild_required);
    assert_string_equal(answer->head, "end");
    syntrix__puller__v1__acknowledge_response__free_unpacked(answer, NULL);
}

static void requests_of_generated_code_are_read(void **state)
{
    (void)state;
    uint8_t bytes[512];
    char name_a[] = "orders", name_b[] = "rooms", id[] = "me", after[] = "e30";
    char *collections[] = {name_a, name_b};
    Syntrix__Puller__V1__SubscribeRequest request = SYNTRIX__PULLER__V1__SUBSCRIBE_REQUEST__INIT;
    request.consumer_id = id;
    request.after = after;
    request.coalesce_on_catch_up = request.batch = request.from_checkpoint = request.rebuild =
        request.atomic_progress = 1;
    request.n_collections = 2;
    request.collections = collections;
    size_t len = syntrix__puller__v1__subscribe_request__pack(&request, bytes);
    struct mr_follow follow;
    struct mr_err err;
    assert_int_equal(mr_wire_read_follow((struct mr_str){(char *)bytes, len}, &follow, &err),
                     MR_OK);
    assert_true(follow.coalesce && follow.batch && follow.from_checkpoint && follow.rebuild &&
                follow.atomic_progress);
    assert_int_equal(follow.collection_count, 2);
    assert_true(mr_str_equal(follow.collections[1], MR_STR("rooms")));
    assert_true(mr_str_equal(follow.after, MR_STR("e30")));
    assert_int_equal(mr_wire_read_follow(MR_STR("\x0a\x05"), &follow, &err), MR_CORRUPT);
    assert_int_equal(mr_wire_read_follow(MR_STR("\x08\x05"), &follow, &err), MR_CORRUPT);
    struct mr_acknowledge acknowledge;
    assert_int_equal(mr_wire_read_acknowledge(MR_STR("\x20\x01"), &acknowledge, &err), MR_CORRUPT);
    assert_non_null(strstr(err.text, "consumer_id"));
}

static void the_cache_drops_what_was_not_used_longest(void **state)
{
    (void)state;
    struct mr_cache cache;
    struct mr_piece *piece = make_piece(1, 100);
    mr_cache_init(&cache, 3 * piece->bytes + 100);
    mr_cache_put(&cache, piece);
    mr_piece_unref(piece);
    for (uint64_t first = 257; first < 4 * 256; first += 256) {
        struct mr_piece *used = mr_cache_get(&cache, 50);
        assert_non_null(used);
        mr_piece_unref(used);
        piece = make_piece(first, 100);
        mr_cache_put(&cache, piece);
        mr_piece_unref(piece);
    }
    assert_null(mr_cache_get(&cache, 257)); /* 1 was used after it */
    piece = mr_cache_get(&cache, 100);
    assert_non_null(piece);
    assert_null(mr_cache_get(&cache, 101));
    assert_true(mr_cache_bytes(&cache) <= cache.bytes_max);
    mr_cache_fini(&cache);
    assert_int_equal(piece->first, 1); /* a reference outlives the cache */
    mr_piece_unref(piece);
}

static _Atomic int written;
static void count_written(struct mr_checkpoint_write *write)
{
    (void)write;
    atomic_fetch_add(&written, 1);
}

static void count_fetched(struct mr_fetch *fetch)
{
    (void)fetch;
    atomic_fetch_add(&written, 1);
}

static struct mr_checkpoint_value put_of(struct mr_checkpoints *store, const char *collection,
                                         enum mr_checkpoint_change change, uint64_t log_id,
                                         uint64_t sequence)
{
    struct mr_checkpoint_write write = {
        .change = change, .value = {.log_id = log_id, .sequence = sequence}, .done = count_written};
    mr_checkpoint_key(&write.key, MR_STR("me"), mr_str_from(collection));
    atomic_store(&written, 0);
    mr_checkpoints_put(store, &write);
    while (atomic_load(&written) == 0)
        usleep(100);
    assert_int_equal(write.rc, MR_OK);
    return write.value;
}

static struct mr_checkpoint_value put(struct mr_checkpoints *store,
                                      enum mr_checkpoint_change change, uint64_t log_id,
                                      uint64_t sequence)
{
    return put_of(store, "", change, log_id, sequence);
}

static void checkpoints_go_forward_and_are_there_again(void **state)
{
    (void)state;
    char dir[] = "/tmp/checkpoints-XXXXXX", command[64];
    struct mr_checkpoints *store;
    struct mr_checkpoint_key key;
    struct mr_checkpoint_value value;
    struct mr_err err;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(mr_checkpoints_open(&store, dir, &err), MR_OK);
    mr_checkpoint_key(&key, MR_STR("me"), MR_STR(""));
    assert_int_equal(mr_checkpoints_get(store, &key, &value, &err), MR_AGAIN);
    assert_int_equal(put(store, MR_CHECKPOINT_ADVANCE, 1, 10).sequence, 10);
    assert_int_equal(put(store, MR_CHECKPOINT_ADVANCE, 1, 7).sequence, 10);
    assert_true(put(store, MR_CHECKPOINT_MARK, 1, 0).rebuild);
    assert_true(put(store, MR_CHECKPOINT_ADVANCE, 1, 20).rebuild);
    mr_checkpoints_close(&store);
    assert_int_equal(mr_checkpoints_open(&store, dir, &err), MR_OK);
    assert_int_equal(mr_checkpoints_get(store, &key, &value, &err), MR_OK);
    assert_true(value.sequence == 20 && value.rebuild && value.written_us > 0);
    value = put(store, MR_CHECKPOINT_REBUILT, 1, 15);
    assert_true(value.sequence == 15 && !value.rebuild);
    assert_int_equal(put(store, MR_CHECKPOINT_ADVANCE, 2, 3).sequence, 3); /* another log */
    mr_checkpoint_key(&key, MR_STR("me"), MR_STR("orders"));
    assert_int_equal(mr_checkpoints_get(store, &key, &value, &err), MR_AGAIN);
    mr_checkpoints_close(&store);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static void a_mark_is_no_place_and_a_rebuilt_collection_clears_it(void **state)
{
    (void)state;
    char dir[] = "/tmp/checkpoints-XXXXXX", command[64];
    struct mr_checkpoints *store;
    struct mr_checkpoint_key key;
    struct mr_checkpoint_value value;
    struct mr_err err;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(mr_checkpoints_open(&store, dir, &err), MR_OK);
    mr_checkpoint_key(&key, MR_STR("me"), MR_STR(""));
    value = put(store, MR_CHECKPOINT_MARK, 1, 10);
    assert_true(value.log_id == 0 && value.rebuild);
    assert_false(put_of(store, "orders", MR_CHECKPOINT_ADVANCE, 1, 20).rebuild);
    assert_int_equal(mr_checkpoints_get(store, &key, &value, &err), MR_OK);
    put_of(store, "orders", MR_CHECKPOINT_REBUILT, 1, 15);
    assert_int_equal(mr_checkpoints_get(store, &key, &value, &err), MR_AGAIN);
    put(store, MR_CHECKPOINT_ADVANCE, 1, 10);
    put(store, MR_CHECKPOINT_MARK, 0, 0);
    put_of(store, "orders", MR_CHECKPOINT_REBUILT, 1, 30);
    assert_int_equal(mr_checkpoints_get(store, &key, &value, &err), MR_OK);
    assert_true(value.log_id == 1 && value.sequence == 10 && !value.rebuild);
    mr_checkpoints_close(&store);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static void what_comes_after_the_stop_is_told_so_at_once(void **state)
{
    (void)state;
    char dir[] = "/tmp/checkpoints-XXXXXX", command[64];
    struct mr_checkpoints *store;
    struct mr_fetcher *fetcher;
    struct mr_cache cache;
    struct mr_checkpoint_value value;
    struct mr_err err;
    assert_non_null(mkdtemp(dir));
    mr_cache_init(&cache, 1 << 20);
    const struct mr_fetcher_options options = {
        .dir = dir, .backend = MR_STR("main"), .cache = &cache, .piece_bytes = 1 << 16};
    assert_int_equal(mr_checkpoints_open(&store, dir, &err), MR_OK);
    assert_int_equal(mr_fetcher_open(&fetcher, &options, &err), MR_OK);
    put(store, MR_CHECKPOINT_ADVANCE, 1, 10);
    mr_checkpoints_stop(store);
    mr_fetcher_stop(fetcher);
    struct mr_checkpoint_write write = {.value = {.log_id = 1, .sequence = 20},
                                        .done = count_written};
    mr_checkpoint_key(&write.key, MR_STR("me"), MR_STR(""));
    atomic_store(&written, 0);
    mr_checkpoints_put(store, &write);
    assert_int_equal(atomic_load(&written), 1);
    assert_int_equal(write.rc, MR_RETRY);
    assert_non_null(strstr(write.err.text, "stopping"));
    assert_int_equal(mr_checkpoints_get(store, &write.key, &value, &err), MR_OK);
    assert_int_equal(value.sequence, 10);
    struct mr_fetch fetch = {.sequence = 1, .through = 9, .done = count_fetched};
    mr_fetch(fetcher, &fetch);
    assert_int_equal(atomic_load(&written), 2);
    assert_int_equal(fetch.rc, MR_CLOSED);
    mr_fetcher_close(&fetcher);
    mr_checkpoints_close(&store);
    mr_cache_fini(&cache);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* Batches of events as the puller writes them. */
static void write_log(const char *dir, uint32_t batches)
{
    struct mr_err err = {.rc = MR_OK};
    struct mr_log_writer *writer;
    struct mr_log_options options = {.dir = dir,
                                     .segment_bytes = 64 << 20,
                                     .batch_bytes = 1 << 20,
                                     .retention_bytes = UINT64_MAX,
                                     .retention_age_ns = UINT64_MAX,
                                     .commit_interval_ns = 5 * MR_NS_PER_MS};
    assert_int_equal(mr_log_writer_open(&writer, &options, &err), MR_OK);
    while (batches-- > 0) {
        for (uint32_t i = 0; i < 1000; i++) {
            struct mr_event event = sample(mr_log_next_sequence(writer));
            size_t len = mr_event_size(&event);
            void *room;
            assert_int_equal(mr_log_claim(writer, (uint32_t)len, &room), MR_OK);
            mr_event_encode(&event, room);
            mr_log_commit(writer, (uint32_t)len);
        }
        assert_int_equal(mr_log_seal(writer, "p", 1, mr_clock_ns(), &err), MR_OK);
        assert_int_equal(mr_log_sync(writer, &err), MR_OK);
    }
    assert_int_equal(mr_log_writer_close(&writer, &err), MR_OK);
}

static void an_event_is_not_looked_for_any_more_when_nobody_wants_it(void **state)
{
    (void)state;
    char dir[] = "/tmp/locate-XXXXXX", command[64];
    struct mr_fetcher *fetcher;
    struct mr_cache cache;
    struct mr_err err;
    assert_non_null(mkdtemp(dir));
    write_log(dir, 70); /* more than is looked at in one turn */
    mr_cache_init(&cache, 1 << 20);
    const struct mr_fetcher_options options = {
        .dir = dir, .backend = MR_STR("main"), .cache = &cache, .piece_bytes = 1 << 16};
    assert_int_equal(mr_fetcher_open(&fetcher, &options, &err), MR_OK);
    for (int left = 0; left < 2; left++) {
        struct mr_place place = {.kind = MR_PLACE_EVENT, .event_id = "1-1-none"};
        struct mr_fetch fetch = {.kind = MR_FETCH_LOCATE,
                                 .sequence = 1,
                                 .through = 70000,
                                 .place = &place,
                                 .left = left == 1,
                                 .done = count_fetched};
        atomic_store(&written, 0);
        mr_fetch(fetcher, &fetch);
        while (atomic_load(&written) == 0)
            usleep(100);
        assert_int_equal(fetch.rc, left ? MR_CLOSED : MR_USAGE);
        assert_true(left ? fetch.sequence < 70000 : fetch.sequence == 70001);
    }
    mr_fetcher_close(&fetcher);
    mr_cache_fini(&cache);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_place_is_read_from_our_markers_and_from_upstreams),
        cmocka_unit_test(a_text_that_is_no_place_is_refused),
        cmocka_unit_test(catching_up_is_no_lag_while_it_gets_nearer),
        cmocka_unit_test(who_came_nearer_once_and_then_stands_still_is_judged),
        cmocka_unit_test(who_was_live_is_warned_at_soft_and_told_at_hard),
        cmocka_unit_test(the_clock_knows_how_old_a_place_is),
        cmocka_unit_test(a_piece_is_read_by_generated_code_as_a_batch_and_one_by_one),
        cmocka_unit_test(notices_are_read_by_generated_code),
        cmocka_unit_test(requests_of_generated_code_are_read),
        cmocka_unit_test(the_cache_drops_what_was_not_used_longest),
        cmocka_unit_test(checkpoints_go_forward_and_are_there_again),
        cmocka_unit_test(a_mark_is_no_place_and_a_rebuilt_collection_clears_it),
        cmocka_unit_test(what_comes_after_the_stop_is_told_so_at_once),
        cmocka_unit_test(an_event_is_not_looked_for_any_more_when_nobody_wants_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
