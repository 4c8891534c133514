/* Events as messages of streams say them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/bson.h"
#include "publisher/message.h"

static const struct mr_marker marker = {.log_id = 0x1122334455667788, .sequence = 9};

static void headers_carry_id_operation_position_and_trace(void **state)
{
    (void)state;
    char out[MR_MESSAGE_HEADERS_MAX];
    struct mr_event event = {.head = {.op = MR_OP_UPDATE}, .event_id = MR_STR("1-2-ab")};
    size_t len = mr_message_headers(&event, marker, MR_MESSAGE_FORMAT, out);
    out[len] = '\0';
    assert_non_null(strstr(out, "Millrace-Event-Id: 1-2-ab\r\n"));
    assert_non_null(strstr(out, "Millrace-Operation: update\r\n"));
    assert_non_null(strstr(out, "Millrace-Format: json/1\r\n"));
    assert_non_null(strstr(out, "traceparent: 00-11223344556677880000000000000009-"));
    char position[MR_MARKER_TEXT_MAX + 32] = "Millrace-Position: ";
    mr_marker_format(marker, position + strlen(position));
    assert_non_null(strstr(out, position));
}

static void an_id_cannot_add_a_header(void **state)
{
    (void)state;
    char id[MR_MESSAGE_ID_MAX], out[MR_MESSAGE_HEADERS_MAX];
    struct mr_event event = {.head = {.op = MR_OP_INSERT},
                             .event_id = MR_STR("a\r\nNats-Rollup: all\xff%")};
    size_t len = mr_message_id(&event, id);
    assert_int_equal(len, strlen(id));
    assert_string_equal(id, "a%0D%0ANats-Rollup:%20all%FF%25");
    char longest[MR_EVENT_ID_MAX - 1];
    memset(longest, '\n', sizeof longest);
    event.event_id = (struct mr_str){longest, sizeof longest};
    assert_true(mr_message_headers(&event, marker, MR_MESSAGE_RECORD_FORMAT, out) <= sizeof out);
}

static void an_event_is_one_json_object(void **state)
{
    (void)state;
    uint8_t room[64];
    struct mr_bson_writer w;
    mr_bson_writer_init_fixed(&w, room, sizeof room);
    mr_bson_begin(&w);
    mr_bson_put_int32(&w, MR_STR("n"), 5);
    mr_bson_end(&w);
    struct mr_event event = {.head = {.op = MR_OP_DELETE,
                                      .ingest_time_us = 1500,
                                      .source_time_us = 7,
                                      .transaction = 3,
                                      .flags = MR_EVENT_KEY_ONLY},
                             .database = MR_STR("d\""),
                             .collection = MR_STR("c"),
                             .document_id = MR_STR("i"),
                             .event_id = MR_STR("e"),
                             .document = mr_bson_bytes(&w)};
    struct mr_json json = {0};
    assert_int_equal(mr_message_put_event(&json, &event), MR_OK);
    assert_true(mr_str_equal(
        (struct mr_str){json.data, json.len},
        MR_STR("{\"eventId\":\"e\",\"operation\":\"delete\",\"database\":\"d\\\"\",\"collection\":"
               "\"c\",\"documentId\":\"i\",\"timestamp\":1,\"sourceTimestampUs\":7,"
               "\"transaction\":3,\"keyOnly\":true,\"document\":{\"n\":5}}")));
    mr_json_fini(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_carry_id_operation_position_and_trace),
        cmocka_unit_test(an_id_cannot_add_a_header),
        cmocka_unit_test(an_event_is_one_json_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
