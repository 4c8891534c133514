#include "tools/client/encode.h"

#include <stdlib.h>

#include "proto/protobuf.h"
#include "proto/streamer_fields.h"

const char *mr_client_operation_name(uint32_t operation)
{
    switch (operation) {
    case 1:
        return "insert";
    case 2:
        return "update";
    case 4:
        return "delete";
    case 100:
        return "truncate";
    case 101:
        return "gap";
    default:
        return "unknown";
    }
}

static size_t value_len(const struct mr_const *value);

static size_t list_len(const struct mr_const *value)
{
    size_t len = 0;
    for (uint32_t i = 0; i < value->list.count; i++)
        len += mr_pb_bytes_size(MR_FIELD_LIST_VALUES, value_len(&value->list.items[i]));
    return len;
}

/* Members of a oneof are written even when they are zero. */
static size_t value_len(const struct mr_const *value)
{
    switch (value->kind) {
    case MR_CONST_STRING:
        return mr_pb_bytes_size(MR_FIELD_VALUE_STRING, value->string.len);
    case MR_CONST_INT:
        return 1 + mr_pb_varint_size((uint64_t)value->integer);
    case MR_CONST_DOUBLE:
        return 1 + sizeof value->number;
    case MR_CONST_BOOL:
        return 2;
    case MR_CONST_LIST:
        return mr_pb_bytes_size(MR_FIELD_VALUE_LIST, list_len(value));
    case MR_CONST_NULL:
    case MR_CONST_DATE:
        break;
    }
    return 0;
}

static uint8_t *put_value(uint8_t *at, const struct mr_const *value)
{
    switch (value->kind) {
    case MR_CONST_STRING:
        return mr_pb_put_bytes(at, MR_FIELD_VALUE_STRING, value->string);
    case MR_CONST_INT:
        at = mr_pb_put_varint(at, mr_pb_tag(MR_FIELD_VALUE_INT, MR_PB_VARINT));
        return mr_pb_put_varint(at, (uint64_t)value->integer);
    case MR_CONST_DOUBLE:
        at = mr_pb_put_varint(at, mr_pb_tag(MR_FIELD_VALUE_DOUBLE, MR_PB_FIXED64));
        memcpy(at, &value->number, sizeof value->number);
        return at + sizeof value->number;
    case MR_CONST_BOOL:
        at = mr_pb_put_varint(at, mr_pb_tag(MR_FIELD_VALUE_BOOL, MR_PB_VARINT));
        return mr_pb_put_varint(at, value->boolean);
    case MR_CONST_LIST:
        at = mr_pb_put_head(at, MR_FIELD_VALUE_LIST, list_len(value));
        for (uint32_t i = 0; i < value->list.count; i++) {
            at = mr_pb_put_head(at, MR_FIELD_LIST_VALUES, value_len(&value->list.items[i]));
            at = put_value(at, &value->list.items[i]);
        }
        return at;
    case MR_CONST_NULL:
    case MR_CONST_DATE:
        break;
    }
    return at;
}

static size_t filter_len(const struct mr_predicate *filter)
{
    return mr_pb_text_size(MR_FIELD_FILTER_FIELD, filter->path) +
           mr_pb_text_size(MR_FIELD_FILTER_OP, mr_str_from(mr_predicate_op_name(filter->op))) +
           mr_pb_bytes_size(MR_FIELD_FILTER_VALUE, value_len(&filter->value));
}

static size_t subscribe_len(const struct mr_client_subscription *s)
{
    size_t len = mr_pb_text_size(MR_FIELD_SUBSCRIBE_ID, s->subscription_id) +
                 mr_pb_text_size(MR_FIELD_SUBSCRIBE_COLLECTION, s->collection) +
                 mr_pb_text_size(MR_FIELD_SUBSCRIBE_DATABASE, s->database) +
                 mr_pb_text_size(MR_FIELD_SUBSCRIBE_AFTER, s->after) +
                 mr_pb_text_size(MR_FIELD_SUBSCRIBE_CEL, s->cel);
    for (uint32_t i = 0; i < s->filter_count; i++)
        len += mr_pb_bytes_size(MR_FIELD_SUBSCRIBE_FILTERS, filter_len(&s->filters[i]));
    return len;
}

size_t mr_client_subscribe_size(const struct mr_client_subscription *s)
{
    return mr_pb_bytes_size(MR_FIELD_GATEWAY_SUBSCRIBE, subscribe_len(s));
}

uint8_t *mr_client_put_subscribe(uint8_t *at, const struct mr_client_subscription *s)
{
    at = mr_pb_put_head(at, MR_FIELD_GATEWAY_SUBSCRIBE, subscribe_len(s));
    at = mr_pb_put_text(at, MR_FIELD_SUBSCRIBE_ID, s->subscription_id);
    at = mr_pb_put_text(at, MR_FIELD_SUBSCRIBE_COLLECTION, s->collection);
    for (uint32_t i = 0; i < s->filter_count; i++) {
        const struct mr_predicate *filter = &s->filters[i];
        at = mr_pb_put_head(at, MR_FIELD_SUBSCRIBE_FILTERS, filter_len(filter));
        at = mr_pb_put_text(at, MR_FIELD_FILTER_FIELD, filter->path);
        at = mr_pb_put_text(at, MR_FIELD_FILTER_OP, mr_str_from(mr_predicate_op_name(filter->op)));
        at = mr_pb_put_head(at, MR_FIELD_FILTER_VALUE, value_len(&filter->value));
        at = put_value(at, &filter->value);
    }
    at = mr_pb_put_text(at, MR_FIELD_SUBSCRIBE_DATABASE, s->database);
    at = mr_pb_put_text(at, MR_FIELD_SUBSCRIBE_AFTER, s->after);
    return mr_pb_put_text(at, MR_FIELD_SUBSCRIBE_CEL, s->cel);
}

size_t mr_client_unsubscribe_size(struct mr_str subscription_id)
{
    return mr_pb_bytes_size(MR_FIELD_GATEWAY_UNSUBSCRIBE,
                            mr_pb_text_size(MR_FIELD_UNSUBSCRIBE_ID, subscription_id));
}

uint8_t *mr_client_put_unsubscribe(uint8_t *at, struct mr_str subscription_id)
{
    at = mr_pb_put_head(at, MR_FIELD_GATEWAY_UNSUBSCRIBE,
                        mr_pb_text_size(MR_FIELD_UNSUBSCRIBE_ID, subscription_id));
    return mr_pb_put_text(at, MR_FIELD_UNSUBSCRIBE_ID, subscription_id);
}

size_t mr_client_heartbeat_size(int64_t timestamp_ms)
{
    return mr_pb_bytes_size(
        MR_FIELD_GATEWAY_HEARTBEAT,
        mr_pb_number_size(MR_FIELD_HEARTBEAT_TIMESTAMP, (uint64_t)timestamp_ms));
}

uint8_t *mr_client_put_heartbeat(uint8_t *at, int64_t timestamp_ms)
{
    at = mr_pb_put_head(at, MR_FIELD_GATEWAY_HEARTBEAT,
                        mr_pb_number_size(MR_FIELD_HEARTBEAT_TIMESTAMP, (uint64_t)timestamp_ms));
    return mr_pb_put_number(at, MR_FIELD_HEARTBEAT_TIMESTAMP, (uint64_t)timestamp_ms);
}

/* Receiving. A field of an unexpected type reads as empty or zero. */

static bool read_event(struct mr_str bytes, struct mr_client_delivery *out)
{
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field)) {
        switch (field.number) {
        case MR_FIELD_EVENT_ID:
            out->event_id = field.bytes;
            break;
        case MR_FIELD_EVENT_DATABASE:
            out->database = field.bytes;
            break;
        case MR_FIELD_EVENT_COLLECTION:
            out->collection = field.bytes;
            break;
        case MR_FIELD_EVENT_DOCUMENT_ID:
            out->document_id = field.bytes;
            break;
        case MR_FIELD_EVENT_OPERATION:
            out->operation = (uint32_t)field.value;
            break;
        case MR_FIELD_EVENT_DOCUMENT_DATA:
            out->document_json = field.bytes;
            break;
        case MR_FIELD_EVENT_TIMESTAMP:
            out->timestamp_ms = (int64_t)field.value;
            break;
        case MR_FIELD_EVENT_SOURCE_TIMESTAMP_US:
            out->source_timestamp_us = (int64_t)field.value;
            break;
        case MR_FIELD_EVENT_KEY_ONLY:
            out->key_only = field.value != 0;
            break;
        default:
            break;
        }
    }
    return reader.problem == NULL;
}

static bool add_id(struct mr_client_ids *ids, uint32_t index, struct mr_str id)
{
    if (index == ids->capacity) {
        uint32_t capacity = ids->capacity ? ids->capacity * 2 : 16;
        struct mr_str *items = realloc(ids->items, capacity * sizeof *items);
        if (!items)
            return false;
        ids->items = items;
        ids->capacity = capacity;
    }
    ids->items[index] = id;
    return true;
}

static bool read_delivery(struct mr_str bytes, const struct mr_client_handlers *handlers,
                          struct mr_client_ids *ids)
{
    struct mr_client_delivery delivery = {0};
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    bool ok = true;
    while (ok && mr_pb_next(&reader, &field)) {
        if (field.number == MR_FIELD_DELIVERY_SUBSCRIPTION_ID)
            ok = add_id(ids, delivery.count++, field.bytes);
        else if (field.number == MR_FIELD_DELIVERY_EVENT)
            ok = read_event(field.bytes, &delivery);
        else if (field.number == MR_FIELD_DELIVERY_PROGRESS)
            delivery.progress = field.bytes;
    }
    delivery.subscription_ids = ids->items;
    ok = ok && !reader.problem;
    if (ok && handlers->delivery)
        handlers->delivery(handlers->context, &delivery);
    return ok;
}

static bool read_batch(struct mr_str bytes, const struct mr_client_handlers *handlers,
                       struct mr_client_ids *ids)
{
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    bool ok = true;
    while (ok && mr_pb_next(&reader, &field)) {
        if (field.number == MR_FIELD_BATCH_DELIVERIES)
            ok = read_delivery(field.bytes, handlers, ids);
    }
    return ok && !reader.problem;
}

static bool read_ack(struct mr_str bytes, const struct mr_client_handlers *handlers)
{
    struct mr_client_ack ack = {0};
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field)) {
        if (field.number == MR_FIELD_ACK_TIMESTAMP)
            ack.timestamp_ms = (int64_t)field.value;
        else if (field.number == MR_FIELD_ACK_PROGRESS)
            ack.progress = field.bytes;
    }
    if (!reader.problem && handlers->ack)
        handlers->ack(handlers->context, &ack);
    return !reader.problem;
}

static bool read_response(struct mr_str bytes, const struct mr_client_handlers *handlers)
{
    struct mr_client_response response = {0};
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field)) {
        if (field.number == MR_FIELD_RESPONSE_SUBSCRIPTION_ID)
            response.subscription_id = field.bytes;
        else if (field.number == MR_FIELD_RESPONSE_SUCCESS)
            response.success = field.value != 0;
        else if (field.number == MR_FIELD_RESPONSE_ERROR)
            response.error = field.bytes;
        else if (field.number == MR_FIELD_RESPONSE_PROGRESS)
            response.progress = field.bytes;
        else if (field.number == MR_FIELD_RESPONSE_RESYNC)
            response.resync = field.value != 0;
    }
    if (!reader.problem && handlers->response)
        handlers->response(handlers->context, &response);
    return !reader.problem;
}

enum mr_rc mr_client_dispatch(struct mr_str message, const struct mr_client_handlers *handlers,
                              struct mr_client_ids *ids, struct mr_err *err)
{
    struct mr_pb_reader reader = mr_pb_read(message);
    struct mr_pb_field field;
    bool ok = true;
    while (ok && mr_pb_next(&reader, &field)) {
        if (field.number == MR_FIELD_MESSAGE_DELIVERY)
            ok = read_delivery(field.bytes, handlers, ids);
        else if (field.number == MR_FIELD_MESSAGE_BATCH)
            ok = read_batch(field.bytes, handlers, ids);
        else if (field.number == MR_FIELD_MESSAGE_HEARTBEAT_ACK)
            ok = read_ack(field.bytes, handlers);
        else if (field.number == MR_FIELD_MESSAGE_SUBSCRIBE_RESPONSE)
            ok = read_response(field.bytes, handlers);
    }
    if (ok && !reader.problem)
        return MR_OK;
    return mr_reject(err, MR_CORRUPT,
                     "message from the publisher: expected a StreamerMessage, but %s",
                     reader.problem ? reader.problem : "one of its fields is broken");
}
