/* What the sink reads and writes by hand, against the code that protobuf-c generates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/protobuf.h"
#include "proto/streamer.pb-c.h"
#include "proto/streamer_fields.h"
#include "publisher/sinks/wire_register.h"

typedef Syntrix__Streamer__V1__GatewayMessage gateway_message;
typedef Syntrix__Streamer__V1__StreamerMessage streamer_message;
typedef Syntrix__Streamer__V1__SubscribeRequest subscribe_request;
typedef Syntrix__Streamer__V1__Filter wire_filter;
typedef Syntrix__Streamer__V1__Value wire_value;
typedef Syntrix__Streamer__V1__ListValue wire_list;

static const struct mr_wire_limits limits = {.filters_max = 4, .value_bytes_max = 64};

static void assert_str(struct mr_str text, const char *want)
{
    assert_int_equal(text.len, strlen(want));
    assert_memory_equal(text.data, want, text.len);
}

/* Pack a message; the bytes are malloc'd. */
static struct mr_str pack(const gateway_message *message)
{
    size_t len = syntrix__streamer__v1__gateway_message__get_packed_size(message);
    uint8_t *bytes = malloc(len + 1);
    syntrix__streamer__v1__gateway_message__pack(message, bytes);
    return (struct mr_str){(const char *)bytes, len};
}

static struct mr_str pack_subscribe(subscribe_request *subscribe)
{
    gateway_message message = SYNTRIX__STREAMER__V1__GATEWAY_MESSAGE__INIT;
    message.payload_case = SYNTRIX__STREAMER__V1__GATEWAY_MESSAGE__PAYLOAD_SUBSCRIBE;
    message.subscribe = subscribe;
    return pack(&message);
}

static void subscribe_with_every_kind_of_value_is_read_as_it_was_packed(void **state)
{
    (void)state;
    wire_value string = SYNTRIX__STREAMER__V1__VALUE__INIT, number = string, item = string,
               list_value = string;
    string.kind_case = SYNTRIX__STREAMER__V1__VALUE__KIND_STRING_VALUE;
    string.string_value = (char[]){"Z\xc3\xbcrich"};
    number.kind_case = SYNTRIX__STREAMER__V1__VALUE__KIND_DOUBLE_VALUE;
    number.double_value = -1.5e300;
    item.kind_case = SYNTRIX__STREAMER__V1__VALUE__KIND_INT_VALUE;
    item.int_value = INT64_MIN;
    wire_value flag = SYNTRIX__STREAMER__V1__VALUE__INIT;
    flag.kind_case = SYNTRIX__STREAMER__V1__VALUE__KIND_BOOL_VALUE;
    flag.bool_value = 1;
    wire_list list = SYNTRIX__STREAMER__V1__LIST_VALUE__INIT;
    list.n_values = 2;
    list.values = (wire_value *[]){&item, &flag};
    list_value.kind_case = SYNTRIX__STREAMER__V1__VALUE__KIND_LIST_VALUE;
    list_value.list_value = &list;
    wire_filter a = SYNTRIX__STREAMER__V1__FILTER__INIT, b = a, c = a;
    a.field = (char[]){"city"}, a.op = (char[]){"=="}, a.value = &string;
    b.field = (char[]){"depth.m"}, b.op = (char[]){"<="}, b.value = &number;
    c.field = (char[]){"tags"}, c.op = (char[]){"in"}, c.value = &list_value;
    subscribe_request subscribe = SYNTRIX__STREAMER__V1__SUBSCRIBE_REQUEST__INIT;
    subscribe.subscription_id = (char[]){"s-1"};
    subscribe.collection = (char[]){"rooms/r1/messages"};
    subscribe.database = (char[]){"default"};
    subscribe.after = (char[]){"AQ"};
    subscribe.n_filters = 3;
    subscribe.filters = (wire_filter *[]){&a, &b, &c};
    struct mr_str bytes = pack_subscribe(&subscribe);

    struct mr_wire_arena arena = {0};
    struct mr_request r;
    assert_int_equal(mr_wire_decode(bytes, &limits, &arena, &r, NULL), MR_OK);
    assert_int_equal(r.kind, MR_REQUEST_SUBSCRIBE);
    assert_int_equal(r.problem.len, 0);
    assert_str(r.subscription_id, "s-1");
    assert_str(r.collection, "rooms/r1/messages");
    assert_str(r.database, "default");
    assert_str(r.after, "AQ");
    assert_int_equal(r.predicate_count, 3);
    assert_str(r.predicates[0].path, "city");
    assert_int_equal(r.predicates[0].op, MR_PRED_EQ);
    assert_str(r.predicates[0].value.string, "Z\xc3\xbcrich");
    assert_int_equal(r.predicates[1].op, MR_PRED_LE);
    assert_true(r.predicates[1].value.number == -1.5e300);
    assert_int_equal(r.predicates[2].value.kind, MR_CONST_LIST);
    assert_int_equal(r.predicates[2].value.list.count, 2);
    assert_true(r.predicates[2].value.list.items[0].integer == INT64_MIN);
    assert_int_equal(r.predicates[2].value.list.items[1].kind, MR_CONST_BOOL);
    assert_true(r.predicates[2].value.list.items[1].boolean);
    mr_wire_arena_fini(&arena);
    free((void *)(uintptr_t)bytes.data);
}

static void unsubscribe_and_heartbeat_are_read_as_they_were_packed(void **state)
{
    (void)state;
    Syntrix__Streamer__V1__UnsubscribeRequest unsubscribe =
        SYNTRIX__STREAMER__V1__UNSUBSCRIBE_REQUEST__INIT;
    unsubscribe.subscription_id = (char[]){"s-9"};
    gateway_message message = SYNTRIX__STREAMER__V1__GATEWAY_MESSAGE__INIT;
    message.payload_case = SYNTRIX__STREAMER__V1__GATEWAY_MESSAGE__PAYLOAD_UNSUBSCRIBE;
    message.unsubscribe = &unsubscribe;
    struct mr_wire_arena arena = {0};
    struct mr_request r;
    struct mr_str bytes = pack(&message);
    assert_int_equal(mr_wire_decode(bytes, &limits, &arena, &r, NULL), MR_OK);
    assert_int_equal(r.kind, MR_REQUEST_UNSUBSCRIBE);
    assert_str(r.subscription_id, "s-9");
    free((void *)(uintptr_t)bytes.data);

    Syntrix__Streamer__V1__Heartbeat heartbeat = SYNTRIX__STREAMER__V1__HEARTBEAT__INIT;
    heartbeat.gateway_id = (char[]){"g"};
    heartbeat.timestamp = -7;
    message.payload_case = SYNTRIX__STREAMER__V1__GATEWAY_MESSAGE__PAYLOAD_HEARTBEAT;
    message.heartbeat = &heartbeat;
    bytes = pack(&message);
    assert_int_equal(mr_wire_decode(bytes, &limits, &arena, &r, NULL), MR_OK);
    assert_int_equal(r.kind, MR_REQUEST_HEARTBEAT);
    assert_true(r.timestamp_ms == -7);
    free((void *)(uintptr_t)bytes.data);
    mr_wire_arena_fini(&arena);
}

/* Messages that no correct encoder makes, as literal bytes. */
struct broken {
    const char *bytes;
    size_t len;
    const char *text; /* part of the error, or of the problem */
};
#define BYTES(literal) literal, sizeof(literal) - 1

static void broken_messages_are_refused_with_the_field_and_the_expectation(void **state)
{
    (void)state;
    static const struct broken rows[] = {
        {BYTES(""), "payload: expected subscribe, unsubscribe, heartbeat or register, got none"},
        {BYTES("\xd2\x05\x01x"), "payload"},
        {BYTES("\x08\x01"), "payload: expected a string or message, got a number"},
        {BYTES("\x0a\x05"), "a field is longer than the message"},
        {BYTES("\x0a"), "it ends within a number"},
        {BYTES("\x0a\x80"), "it ends within a number"},
        {BYTES("\x00\x00"), "a field number is out of range"},
        {BYTES("\x0b"), "a field has an unknown wire type"},
        {BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "more than 64 bits"},
        {BYTES("\x0a\x03\x12\x01\xff"), "subscribe.collection: expected UTF-8"},
        {BYTES("\x0a\x05\x0a\x03\xed\xa0\x80"), "subscribe.subscription_id: expected UTF-8"},
        {BYTES("\x0a\x04\x22\x02\xc0\x80"), "subscribe.database: expected UTF-8"},
        {BYTES("\x0a\x02\x10\x01"), "subscribe.collection: expected a string or message"},
        {BYTES("\x0a\x02\x1a\x05"),
         "subscribe: expected a protobuf message, but a field is longer"},
        {BYTES("\x0a\x04\x1a\x02\x0a\x05"), "filters[0]: expected a protobuf message"},
        {BYTES("\x0a\x05\x1a\x03\x0a\x01\xfe"), "filters[0].field: expected UTF-8"},
        {BYTES("\x0a\x06\x1a\x04\x1a\x02\x10\x80"),
         "filters[0].value: expected a protobuf message"},
        {BYTES("\x0a\x06\x1a\x04\x1a\x02\x18\x00"),
         "filters[0].value: expected a fixed-width number"},
        {BYTES("\x12\x00"), "unsubscribe.subscription_id: expected the id"},
        {BYTES("\x1a\x03\x12\x01x"), "heartbeat.timestamp: expected a number"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_wire_arena arena = {0};
        struct mr_request r;
        struct mr_err err = {0};
        struct mr_str bytes = {rows[i].bytes, rows[i].len};
        enum mr_rc rc = mr_wire_decode(bytes, &limits, &arena, &r, &err);
        if (rc != MR_CORRUPT || !strstr(err.text, rows[i].text))
            fail_msg("row %zu: got %s \"%s\", expected MR_CORRUPT \"%s\"", i, mr_rc_name(rc),
                     err.text, rows[i].text);
        mr_wire_arena_fini(&arena);
    }
}

static struct mr_request decode_subscribe(subscribe_request *subscribe, struct mr_wire_arena *arena,
                                          struct mr_str *bytes)
{
    struct mr_request r;
    struct mr_err err = {0};
    *bytes = pack_subscribe(subscribe);
    assert_int_equal(mr_wire_decode(*bytes, &limits, arena, &r, &err), MR_OK);
    assert_int_equal(r.kind, MR_REQUEST_SUBSCRIBE);
    return r;
}

static void assert_problem(subscribe_request *subscribe, const char *want)
{
    struct mr_wire_arena arena = {0};
    struct mr_str bytes;
    struct mr_request r = decode_subscribe(subscribe, &arena, &bytes);
    char text[512];
    snprintf(text, sizeof text, "%.*s", (int)r.problem.len, r.problem.data ? r.problem.data : "");
    if (!strstr(text, want))
        fail_msg("problem is \"%s\", expected \"%s\"", text, want);
    assert_int_equal(r.predicate_count, 0);
    mr_wire_arena_fini(&arena);
    free((void *)(uintptr_t)bytes.data);
}

static void subscriptions_that_cannot_be_say_which_field_and_keep_their_id(void **state)
{
    (void)state;
    char too_long[66];
    memset(too_long, 'x', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
    wire_value value = SYNTRIX__STREAMER__V1__VALUE__INIT, none = value;
    value.kind_case = SYNTRIX__STREAMER__V1__VALUE__KIND_STRING_VALUE;
    value.string_value = (char[]){"v"};
    wire_filter good = SYNTRIX__STREAMER__V1__FILTER__INIT, bad = good;
    good.field = (char[]){"a"}, good.op = (char[]){"=="}, good.value = &value;
    subscribe_request s = SYNTRIX__STREAMER__V1__SUBSCRIBE_REQUEST__INIT;
    s.subscription_id = (char[]){"s-1"};
    s.filters = (wire_filter *[]){&good, &bad, &good, &good, &good};
    s.n_filters = 5;
    assert_problem(&s, "filters: expected at most 4, got 5");
    s.n_filters = 2;
    bad = good, bad.field = (char[]){""};
    assert_problem(&s, "filters[1].field: expected a dotted path");
    bad = good, bad.op = (char[]){"eq"};
    assert_problem(&s, "filters[1].op: expected ==, !=, >, >=, <, <=, in or contains, got \"eq\"");
    bad = good, bad.value = NULL;
    assert_problem(&s, "filters[1].value: expected a value, got none");
    bad = good, bad.value = &none;
    assert_problem(&s, "filters[1].value: expected string_value");
    bad = good, bad.field = too_long;
    assert_problem(&s, "filters[1].field: expected at most 64 bytes, got 65");
    wire_value long_value = value;
    long_value.string_value = too_long;
    bad = good, bad.value = &long_value;
    assert_problem(&s, "filters[1].value: expected at most 64 bytes, got 65");
    s.n_filters = 0;
    s.subscription_id = too_long;
    assert_problem(&s, "subscription_id: expected at most 64 bytes, got 65");
}

static void lists_are_bounded_and_do_not_nest(void **state)
{
    (void)state;
    wire_value item = SYNTRIX__STREAMER__V1__VALUE__INIT, inner = item, outer = item;
    item.kind_case = SYNTRIX__STREAMER__V1__VALUE__KIND_BOOL_VALUE;
    wire_list list = SYNTRIX__STREAMER__V1__LIST_VALUE__INIT, nested = list;
    static wire_value *many[MR_WIRE_LIST_MAX + 1];
    for (size_t i = 0; i <= MR_WIRE_LIST_MAX; i++)
        many[i] = &item;
    list.values = many;
    list.n_values = MR_WIRE_LIST_MAX + 1;
    inner.kind_case = outer.kind_case = SYNTRIX__STREAMER__V1__VALUE__KIND_LIST_VALUE;
    inner.list_value = &list;
    outer.list_value = &nested;
    nested.values = (wire_value *[]){&item, &inner};
    nested.n_values = 2;
    wire_filter filter = SYNTRIX__STREAMER__V1__FILTER__INIT;
    filter.field = (char[]){"a"}, filter.op = (char[]){"in"}, filter.value = &inner;
    subscribe_request s = SYNTRIX__STREAMER__V1__SUBSCRIBE_REQUEST__INIT;
    s.filters = (wire_filter *[]){&filter};
    s.n_filters = 1;
    assert_problem(&s, "filters[0].value.list_value: expected at most 4096 values, got 4097");
    list.n_values = 1;
    filter.value = &outer;
    assert_problem(&s, "filters[0].value.list_value.values[1]: expected no list inside a list");

    list.n_values = MR_WIRE_LIST_MAX;
    filter.value = &inner;
    struct mr_wire_arena arena = {0};
    struct mr_str bytes;
    struct mr_request r = decode_subscribe(&s, &arena, &bytes);
    assert_int_equal(r.problem.len, 0);
    assert_int_equal(r.predicates[0].value.list.count, MR_WIRE_LIST_MAX);
    mr_wire_arena_fini(&arena);
    free((void *)(uintptr_t)bytes.data);
}

static void text_keeps_its_zero_bytes_and_the_last_of_a_oneof_counts(void **state)
{
    (void)state;
    struct mr_wire_arena arena = {0};
    struct mr_request r;
    assert_int_equal(mr_wire_decode((struct mr_str){BYTES("\x0a\x05\x12\x03"
                                                          "a\0b")},
                                    &limits, &arena, &r, NULL),
                     MR_OK);
    assert_int_equal(r.collection.len, 3);
    assert_memory_equal(r.collection.data, "a\0b", 3);
    assert_int_equal(mr_wire_decode((struct mr_str){BYTES("\x0a\x00\x1a\x02\x10\x05")}, &limits,
                                    &arena, &r, NULL),
                     MR_OK);
    assert_int_equal(r.kind, MR_REQUEST_HEARTBEAT);
    assert_int_equal(r.timestamp_ms, 5);
    mr_wire_arena_fini(&arena);
}

static streamer_message *unpack(const uint8_t *bytes, const uint8_t *end)
{
    streamer_message *message =
        syntrix__streamer__v1__streamer_message__unpack(NULL, (size_t)(end - bytes), bytes);
    assert_non_null(message);
    return message;
}

static void delivery_unpacks_to_what_was_encoded(void **state)
{
    (void)state;
    const struct mr_str ids[] = {MR_STR("s-1"), MR_STR(""), MR_STR("s-3")};
    struct mr_event event = {.database = MR_STR("db"),
                             .collection = MR_STR("public.orders"),
                             .document_id = MR_STR("7")};
    event.head.op = MR_OP_DELETE;
    event.head.flags = MR_EVENT_KEY_ONLY;
    event.head.ingest_time_us = 1700000000123456;
    event.head.source_time_us = -1;
    struct mr_wire_event e = {
        .event = &event, .event_id = MR_STR("1-2-3"), .document_json = MR_STR("{\"id\":7}")};
    const enum mr_transition transitions[] = {MR_TRANSITION_NONE, MR_TRANSITION_LEAVE,
                                              MR_TRANSITION_UNKNOWN};
    const struct mr_delivery delivery = {.subscription_ids = ids,
                                         .transitions = transitions,
                                         .count = 3,
                                         .progress = MR_STR("marker")};
    struct mr_wire_head h = {.delivery = &delivery};
    h.event_size = mr_wire_event_size(&e);
    size_t head_size = mr_wire_head_size(&h);
    uint8_t bytes[512];
    uint8_t *end = mr_wire_put_head(bytes, &h);
    assert_int_equal(end - bytes, head_size);
    end = mr_wire_put_event(end, &e);
    assert_int_equal(end - bytes, head_size + h.event_size);

    streamer_message *m = unpack(bytes, end);
    assert_int_equal(m->payload_case, SYNTRIX__STREAMER__V1__STREAMER_MESSAGE__PAYLOAD_DELIVERY);
    assert_int_equal(m->delivery->n_subscription_ids, 3);
    assert_string_equal(m->delivery->subscription_ids[0], "s-1");
    assert_string_equal(m->delivery->subscription_ids[1], "");
    assert_string_equal(m->delivery->subscription_ids[2], "s-3");
    assert_int_equal(m->delivery->n_transitions, 3);
    assert_int_equal(m->delivery->transitions[0],
                     SYNTRIX__STREAMER__V1__TRANSITION__TRANSITION_UNSPECIFIED);
    assert_int_equal(m->delivery->transitions[1],
                     SYNTRIX__STREAMER__V1__TRANSITION__TRANSITION_LEAVE);
    assert_int_equal(m->delivery->transitions[2],
                     SYNTRIX__STREAMER__V1__TRANSITION__TRANSITION_UNKNOWN);
    assert_string_equal(m->delivery->progress, "marker");
    assert_string_equal(m->delivery->event->event_id, "1-2-3");
    assert_string_equal(m->delivery->event->database, "db");
    assert_string_equal(m->delivery->event->collection, "public.orders");
    assert_string_equal(m->delivery->event->document_id, "7");
    assert_int_equal(m->delivery->event->operation,
                     SYNTRIX__STREAMER__V1__OPERATION_TYPE__OPERATION_TYPE_DELETE);
    assert_int_equal(m->delivery->event->document_data.len, 8);
    assert_memory_equal(m->delivery->event->document_data.data, "{\"id\":7}", 8);
    assert_true(m->delivery->event->timestamp == 1700000000123);
    assert_true(m->delivery->event->source_timestamp_us == -1);
    assert_true(m->delivery->event->key_only);
    syntrix__streamer__v1__streamer_message__free_unpacked(m, NULL);
}

static void every_operation_has_its_number(void **state)
{
    (void)state;
    static const struct {
        enum mr_operation op;
        Syntrix__Streamer__V1__OperationType number;
    } rows[] = {
        {MR_OP_INSERT, SYNTRIX__STREAMER__V1__OPERATION_TYPE__OPERATION_TYPE_INSERT},
        {MR_OP_UPDATE, SYNTRIX__STREAMER__V1__OPERATION_TYPE__OPERATION_TYPE_UPDATE},
        {MR_OP_REPLACE, SYNTRIX__STREAMER__V1__OPERATION_TYPE__OPERATION_TYPE_UPDATE},
        {MR_OP_DELETE, SYNTRIX__STREAMER__V1__OPERATION_TYPE__OPERATION_TYPE_DELETE},
        {MR_OP_TRUNCATE, SYNTRIX__STREAMER__V1__OPERATION_TYPE__OPERATION_TYPE_TRUNCATE},
        {MR_OP_GAP, SYNTRIX__STREAMER__V1__OPERATION_TYPE__OPERATION_TYPE_GAP},
    };
    assert_int_equal(sizeof rows / sizeof rows[0], MR_OP_COUNT - 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_event event = {0};
        event.head.op = (uint8_t)rows[i].op;
        struct mr_wire_event e = {.event = &event};
        const struct mr_delivery nobody = {.count = 0};
        struct mr_wire_head h = {.delivery = &nobody, .event_size = mr_wire_event_size(&e)};
        uint8_t bytes[64];
        assert_true(mr_wire_head_size(&h) + h.event_size <= sizeof bytes);
        streamer_message *m = unpack(bytes, mr_wire_put_event(mr_wire_put_head(bytes, &h), &e));
        assert_int_equal(m->delivery->event->operation, rows[i].number);
        syntrix__streamer__v1__streamer_message__free_unpacked(m, NULL);
    }
}

static void answers_unpack_to_what_was_encoded(void **state)
{
    (void)state;
    const struct mr_response response = {.subscription_id = MR_STR("s-1"),
                                         .success = true,
                                         .resync = true,
                                         .error = MR_STR("why"),
                                         .progress = MR_STR("m")};
    uint8_t bytes[128];
    uint8_t *end = mr_wire_put_response(bytes, &response);
    assert_int_equal(end - bytes, mr_wire_response_size(&response));
    streamer_message *m = unpack(bytes, end);
    assert_int_equal(m->payload_case,
                     SYNTRIX__STREAMER__V1__STREAMER_MESSAGE__PAYLOAD_SUBSCRIBE_RESPONSE);
    assert_string_equal(m->subscribe_response->subscription_id, "s-1");
    assert_true(m->subscribe_response->success && m->subscribe_response->resync);
    assert_string_equal(m->subscribe_response->error, "why");
    assert_string_equal(m->subscribe_response->progress, "m");
    syntrix__streamer__v1__streamer_message__free_unpacked(m, NULL);

    const struct mr_wire_ack ack = {INT64_MIN, MR_STR("p"), true};
    end = mr_wire_put_ack(bytes, &ack);
    assert_int_equal(end - bytes, mr_wire_ack_size(&ack));
    m = unpack(bytes, end);
    assert_int_equal(m->payload_case,
                     SYNTRIX__STREAMER__V1__STREAMER_MESSAGE__PAYLOAD_HEARTBEAT_ACK);
    assert_true(m->heartbeat_ack->timestamp == INT64_MIN);
    assert_string_equal(m->heartbeat_ack->progress, "p");
    assert_true(m->heartbeat_ack->resync);
    syntrix__streamer__v1__streamer_message__free_unpacked(m, NULL);

    const struct mr_notice notice = {
        .subscription_id = MR_STR("s-1"), .code = MR_STR("CODE"), .text = MR_STR("why")};
    end = mr_wire_put_notice(bytes, &notice);
    assert_int_equal(end - bytes, mr_wire_notice_size(&notice));
    m = unpack(bytes, end);
    assert_int_equal(m->payload_case, SYNTRIX__STREAMER__V1__STREAMER_MESSAGE__PAYLOAD_NOTICE);
    assert_string_equal(m->notice->subscription_id, "s-1");
    assert_string_equal(m->notice->code, "CODE");
    assert_string_equal(m->notice->text, "why");
    syntrix__streamer__v1__streamer_message__free_unpacked(m, NULL);
}

static void numbers_of_every_size_survive_their_encoding(void **state)
{
    (void)state;
    for (uint32_t shift = 0; shift < 64; shift++) {
        uint64_t around[] = {(UINT64_C(1) << shift) - 1, UINT64_C(1) << shift, UINT64_MAX >> shift};
        for (size_t i = 0; i < 3; i++) {
            uint8_t bytes[MR_PB_VARINT_MAX];
            uint8_t *end = mr_pb_put_varint(bytes, around[i]);
            assert_int_equal(end - bytes, mr_pb_varint_size(around[i]));
            struct mr_pb_reader reader =
                mr_pb_read((struct mr_str){(const char *)bytes, (size_t)(end - bytes)});
            uint64_t back;
            assert_true(mr_pb_get_varint(&reader, &back));
            assert_true(back == around[i]);
            assert_ptr_equal(reader.at, end);
        }
    }
}

static void a_registration_keeps_what_it_understands_of_a_message_and_no_more(void **state)
{
    (void)state;
    enum { UNKNOWN = 1000, BYTES = 100000 };
    struct mr_err err = {0};
    wire_value value = SYNTRIX__STREAMER__V1__VALUE__INIT;
    value.kind_case = SYNTRIX__STREAMER__V1__VALUE__KIND_INT_VALUE;
    value.int_value = 7;
    wire_filter filter = SYNTRIX__STREAMER__V1__FILTER__INIT, *filters[] = {&filter};
    filter.field = (char[]){"n"};
    filter.op = (char[]){">="};
    filter.value = &value;
    subscribe_request subscribe = SYNTRIX__STREAMER__V1__SUBSCRIBE_REQUEST__INIT;
    subscribe.subscription_id = (char[]){"s1"};
    subscribe.database = (char[]){"db"};
    subscribe.collection = (char[]){"c0"};
    subscribe.n_filters = 1;
    subscribe.filters = filters;
    uint8_t *item = calloc(1, BYTES + 256);
    size_t known = syntrix__streamer__v1__subscribe_request__pack(&subscribe, item);
    uint8_t *end = mr_pb_put_head(item + known, UNKNOWN, BYTES) + BYTES;
    struct mr_str bytes = {(const char *)item, (size_t)(end - item)};
    uint8_t *message = malloc(bytes.len + 16);
    end = mr_pb_put_bytes(message, MR_FIELD_REGISTER_SUBSCRIPTIONS, bytes);
    struct mr_wire_register out = {0};
    assert_int_equal(
        mr_wire_decode_register((struct mr_str){(const char *)message, (size_t)(end - message)},
                                &limits, &out, &err),
        MR_OK);
    assert_int_equal(out.control.item_count, 1);
    struct mr_str spec = out.control.items[0].spec;
    assert_int_equal(spec.len, known);
    struct mr_wire_arena arena = {0};
    struct mr_request back;
    assert_int_equal(mr_wire_decode_subscribe(spec, &limits, &arena, &back, &err), MR_OK);
    assert_str(back.subscription_id, "s1");
    assert_int_equal(back.predicate_count, 1);
    assert_int_equal(back.predicates[0].value.integer, 7);
    mr_wire_arena_fini(&arena);
    mr_wire_register_fini(&out);
    out = (struct mr_wire_register){0};
    struct mr_str cut = {(const char *)message, (size_t)(end - message) - 1};
    assert_int_equal(mr_wire_decode_register(cut, &limits, &out, &err), MR_CORRUPT);
    mr_wire_register_fini(&out);
    free(message);
    free(item);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subscribe_with_every_kind_of_value_is_read_as_it_was_packed),
        cmocka_unit_test(unsubscribe_and_heartbeat_are_read_as_they_were_packed),
        cmocka_unit_test(broken_messages_are_refused_with_the_field_and_the_expectation),
        cmocka_unit_test(subscriptions_that_cannot_be_say_which_field_and_keep_their_id),
        cmocka_unit_test(lists_are_bounded_and_do_not_nest),
        cmocka_unit_test(text_keeps_its_zero_bytes_and_the_last_of_a_oneof_counts),
        cmocka_unit_test(delivery_unpacks_to_what_was_encoded),
        cmocka_unit_test(every_operation_has_its_number),
        cmocka_unit_test(answers_unpack_to_what_was_encoded),
        cmocka_unit_test(numbers_of_every_size_survive_their_encoding),
        cmocka_unit_test(a_registration_keeps_what_it_understands_of_a_message_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
