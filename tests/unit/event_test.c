#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/event.h"

static const char empty_document[] = {5, 0, 0, 0, 0};
static const char bool_document[] = {9, 0, 0, 0, 8, 'a', 0, 1, 0};

static struct mr_event sample(void)
{
    struct mr_event event = {
        .head = {.sequence = 1,
                 .source_order = 2,
                 .document_hash = 3,
                 .transaction = 4,
                 .source_time_us = -5,
                 .ingest_time_us = 6,
                 .ingest_ns = 7,
                 .op = MR_OP_UPDATE,
                 .flags = MR_EVENT_SOFT},
        .database = MR_STR("db"),
        .collection = MR_STR("rooms/r1/messages"),
        .document_id = MR_STR("m"),
        .event_id = MR_STR("e-1"),
        .document = {bool_document, sizeof bool_document},
        .update = {empty_document, sizeof empty_document},
        .before = {bool_document, sizeof bool_document},
    };
    return event;
}

static void *encode(const struct mr_event *event, size_t *size)
{
    *size = mr_event_size(event);
    assert_true(*size > 0 && *size % 8 == 0);
    unsigned char *bytes = malloc(*size + 1);
    memset(bytes, 0xee, *size + 1);
    mr_event_encode(event, bytes);
    assert_int_equal(bytes[*size], 0xee);
    return bytes;
}

static void assert_same(struct mr_str a, struct mr_str b)
{
    assert_true(mr_str_equal(a, b));
}

static void what_was_encoded_decodes_to_the_same_parts(void **state)
{
    (void)state;
    struct mr_event in = sample(), out;
    size_t size;
    char *bytes = encode(&in, &size);
    assert_int_equal(mr_event_decode(bytes, size, &out), MR_OK);
    assert_int_equal(out.head.sequence, 1);
    assert_int_equal(out.head.source_order, 2);
    assert_int_equal(out.head.document_hash, 3);
    assert_int_equal(out.head.transaction, 4);
    assert_int_equal(out.head.source_time_us, -5);
    assert_int_equal(out.head.ingest_time_us, 6);
    assert_int_equal(out.head.ingest_ns, 7);
    assert_int_equal(out.head.op, MR_OP_UPDATE);
    assert_int_equal(out.head.flags, MR_EVENT_SOFT);
    assert_same(out.database, in.database);
    assert_same(out.collection, in.collection);
    assert_same(out.document_id, in.document_id);
    assert_same(out.event_id, in.event_id);
    assert_same(out.document, in.document);
    assert_same(out.update, in.update);
    assert_same(out.before, in.before);
    assert_int_equal((uintptr_t)out.document.data % 8, 0);
    assert_int_equal((uintptr_t)out.before.data % 8, 0);
    free(bytes);
}

static void an_event_of_nothing_but_its_head_is_88_bytes(void **state)
{
    (void)state;
    struct mr_event in = {.head.op = MR_OP_GAP}, out;
    size_t size;
    void *bytes = encode(&in, &size);
    assert_int_equal(size, 88);
    assert_int_equal(mr_event_decode(bytes, size, &out), MR_OK);
    assert_int_equal(out.document.len, 0);
    free(bytes);
}

static void padding_and_reserved_bytes_are_zero(void **state)
{
    (void)state;
    struct mr_event in = {.head.op = MR_OP_INSERT, .collection = MR_STR("abc")};
    memset(in.head.reserved, 0xff, sizeof in.head.reserved);
    size_t size;
    char *bytes = encode(&in, &size);
    assert_int_equal(size, 96);
    assert_memory_equal(bytes + 91, "\0\0\0\0\0", 5);
    assert_memory_equal(bytes + 82, "\0\0\0\0\0\0", 6);
    free(bytes);
}

static void a_part_over_its_limit_has_no_size(void **state)
{
    (void)state;
    char *big = calloc(1, MR_EVENT_BYTES_MAX + 1u);
    struct mr_event e = sample();
    e.document_id = (struct mr_str){big, MR_EVENT_NAME_MAX};
    assert_int_not_equal(mr_event_size(&e), 0);
    e.document_id.len++;
    assert_int_equal(mr_event_size(&e), 0);
    e = sample();
    e.event_id = (struct mr_str){big, MR_EVENT_ID_MAX};
    assert_int_equal(mr_event_size(&e), 0);
    e = sample();
    e.document = (struct mr_str){big, MR_EVENT_BYTES_MAX};
    assert_int_equal(mr_event_size(&e), 0);
    e.document.len = SIZE_MAX - 3;
    assert_int_equal(mr_event_size(&e), 0);
    free(big);
}

static void every_wrong_length_is_corrupt(void **state)
{
    (void)state;
    struct mr_event in = sample(), out;
    size_t size;
    char *bytes = encode(&in, &size);
    for (size_t len = 0; len < size; len++)
        assert_int_equal(mr_event_decode(bytes, len, &out), MR_CORRUPT);
    static const size_t fields[] = {
        offsetof(struct mr_event_head, document_len), offsetof(struct mr_event_head, update_len),
        offsetof(struct mr_event_head, before_len), offsetof(struct mr_event_head, database_len),
        offsetof(struct mr_event_head, collection_len)};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        char kept = bytes[fields[i]];
        bytes[fields[i]] = (char)0xf0;
        assert_int_equal(mr_event_decode(bytes, size, &out), MR_CORRUPT);
        bytes[fields[i]] = kept;
    }
    assert_int_equal(mr_event_decode(bytes, size, &out), MR_OK);
    free(bytes);
}

static void wrong_operations_and_documents_are_corrupt(void **state)
{
    (void)state;
    struct mr_event in = sample(), out;
    size_t size;
    char *bytes = encode(&in, &size);
    char *op = bytes + offsetof(struct mr_event_head, op);
    *op = 0;
    assert_int_equal(mr_event_decode(bytes, size, &out), MR_CORRUPT);
    *op = MR_OP_COUNT;
    assert_int_equal(mr_event_decode(bytes, size, &out), MR_CORRUPT);
    *op = MR_OP_INSERT;
    assert_int_equal(mr_event_decode(bytes, size, &out), MR_OK);
    char *document = bytes + (out.document.data - bytes);
    document[0] = 8; /* states another length */
    assert_int_equal(mr_event_decode(bytes, size, &out), MR_CORRUPT);
    document[0] = 9;
    document[8] = 1; /* does not end in a zero byte */
    assert_int_equal(mr_event_decode(bytes, size, &out), MR_CORRUPT);
    free(bytes);
}

static void operations_have_upstreams_names(void **state)
{
    (void)state;
    assert_string_equal(mr_operation_name(MR_OP_INSERT), "insert");
    assert_string_equal(mr_operation_name(MR_OP_DELETE), "delete");
    assert_string_equal(mr_operation_name(MR_OP_GAP), "gap");
    assert_string_equal(mr_operation_name((enum mr_operation)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_encoded_decodes_to_the_same_parts),
        cmocka_unit_test(an_event_of_nothing_but_its_head_is_88_bytes),
        cmocka_unit_test(padding_and_reserved_bytes_are_zero),
        cmocka_unit_test(a_part_over_its_limit_has_no_size),
        cmocka_unit_test(every_wrong_length_is_corrupt),
        cmocka_unit_test(wrong_operations_and_documents_are_corrupt),
        cmocka_unit_test(operations_have_upstreams_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
