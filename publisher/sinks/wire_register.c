#include "publisher/sinks/wire_register.h"

#include <stdlib.h>

#include "proto/protobuf.h"
#include "proto/streamer_fields.h"
#include "publisher/spec.h"

/* Everything but the items, and how many there are; there is nothing of them to be freed yet. */
static enum mr_rc count_items(struct mr_str message, struct mr_wire_register *out, uint32_t *count,
                              struct mr_err *err)
{
    struct mr_pb_reader reader = mr_pb_read(message);
    struct mr_pb_field field;
    struct mr_control *control = &out->control;
    *count = 0;
    while (mr_pb_next(&reader, &field)) {
        bool text = field.number == MR_FIELD_REGISTER_GATEWAY_ID ||
                    field.number == MR_FIELD_REGISTER_SUBSCRIPTIONS;
        bool number = field.number == MR_FIELD_REGISTER_TTL_SECONDS ||
                      field.number == MR_FIELD_REGISTER_REQUEST_ID;
        if ((text && field.type != MR_PB_BYTES) || (number && field.type != MR_PB_VARINT))
            return mr_reject(err, MR_CORRUPT, "register: field %u is of another type",
                             field.number);
        if (field.number == MR_FIELD_REGISTER_GATEWAY_ID)
            control->gateway = field.bytes;
        else if (field.number == MR_FIELD_REGISTER_TTL_SECONDS)
            control->ttl_s = field.value > UINT32_MAX ? UINT32_MAX : (uint32_t)field.value;
        else if (field.number == MR_FIELD_REGISTER_REQUEST_ID)
            out->request_id = field.value;
        else if (field.number == MR_FIELD_REGISTER_SUBSCRIPTIONS)
            ++*count;
    }
    if (reader.problem)
        return mr_reject(err, MR_CORRUPT, "register: expected a protobuf message, but %s",
                         reader.problem);
    if (*count > MR_WIRE_REGISTER_MAX)
        return mr_reject(err, MR_CORRUPT,
                         "register.subscriptions: expected at most %d in a message, got %u",
                         MR_WIRE_REGISTER_MAX, *count);
    return MR_OK;
}

/* Not the message's own bytes: what it has beyond what was understood would be kept, too. */
static enum mr_rc keep_spec(struct mr_control_item *item, struct mr_err *err)
{
    if (item->subscribe.problem.len > 0)
        return MR_OK; /* it is refused */
    item->spec.data = mr_spec_encode(&item->subscribe, &item->spec.len);
    return item->spec.data ? MR_OK : mr_reject(err, MR_FATAL, "decode a request: out of memory");
}

enum mr_rc mr_wire_decode_register(struct mr_str message, const struct mr_wire_limits *limits,
                                   struct mr_wire_register *out, struct mr_err *err)
{
    struct mr_control *control = &out->control;
    control->kind = MR_CONTROL_REGISTER;
    uint32_t count;
    enum mr_rc rc = count_items(message, out, &count, err);
    if (rc != MR_OK)
        return rc;
    control->items = calloc(count ? count : 1, sizeof *control->items);
    if (!control->items)
        return mr_reject(err, MR_FATAL, "decode a request: out of memory");
    struct mr_pb_reader reader = mr_pb_read(message);
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field)) {
        if (field.number != MR_FIELD_REGISTER_SUBSCRIPTIONS)
            continue;
        uint32_t index = control->item_count++;
        struct mr_control_item *item = &control->items[index];
        rc = mr_wire_decode_subscribe(field.bytes, limits, &out->arena, &item->subscribe, err);
        if (rc != MR_OK)
            return mr_err_prefix(err, "register.subscriptions[%u]", index);
        rc = keep_spec(item, err);
        if (rc != MR_OK)
            return rc;
    }
    return MR_OK;
}

void mr_wire_register_fini(struct mr_wire_register *r)
{
    mr_control_fini(&r->control);
    for (uint32_t i = 0; i < r->control.item_count; i++)
        free((char *)(uintptr_t)r->control.items[i].spec.data);
    free(r->control.items);
    mr_wire_arena_fini(&r->arena);
}

static size_t failure_len(const struct mr_control_item *item)
{
    return mr_pb_text_size(MR_FIELD_FAILURE_SUBSCRIPTION_ID, item->subscribe.subscription_id) +
           mr_pb_text_size(MR_FIELD_FAILURE_CODE, mr_str_from(mr_control_code_name(item->code))) +
           mr_pb_text_size(MR_FIELD_FAILURE_ERROR, mr_str_from(item->text));
}

static uint8_t *put_failure(uint8_t *at, const struct mr_control_item *item)
{
    at = mr_pb_put_head(at, MR_FIELD_REGISTERED_FAILURES, failure_len(item));
    at = mr_pb_put_text(at, MR_FIELD_FAILURE_SUBSCRIPTION_ID, item->subscribe.subscription_id);
    at = mr_pb_put_text(at, MR_FIELD_FAILURE_CODE, mr_str_from(mr_control_code_name(item->code)));
    return mr_pb_put_text(at, MR_FIELD_FAILURE_ERROR, mr_str_from(item->text));
}

/* When the request as a whole was refused, each of its subscriptions was. */
static void spread_failure(struct mr_control *control)
{
    for (uint32_t i = 0; i < control->item_count && control->code != MR_CONTROL_OK; i++) {
        struct mr_control_item *item = &control->items[i];
        if (item->code != MR_CONTROL_OK)
            continue;
        item->code = control->code;
        item->text = strdup(control->text);
    }
}

static size_t registered_len(const struct mr_wire_register *r, struct mr_str progress,
                             uint32_t *registered)
{
    size_t len = mr_pb_number_size(MR_FIELD_REGISTERED_REQUEST_ID, r->request_id) +
                 mr_pb_text_size(MR_FIELD_REGISTERED_PROGRESS, progress);
    *registered = 0;
    for (uint32_t i = 0; i < r->control.item_count; i++) {
        const struct mr_control_item *item = &r->control.items[i];
        if (item->code == MR_CONTROL_OK)
            ++*registered;
        else
            len += mr_pb_bytes_size(MR_FIELD_REGISTERED_FAILURES, failure_len(item));
    }
    return len + mr_pb_number_size(MR_FIELD_REGISTERED_COUNT, *registered);
}

size_t mr_wire_registered_size(struct mr_wire_register *r)
{
    uint32_t registered;
    spread_failure(&r->control);
    return mr_pb_bytes_size(MR_FIELD_MESSAGE_REGISTER_RESPONSE,
                            registered_len(r, r->progress, &registered));
}

uint8_t *mr_wire_put_registered(uint8_t *at, const struct mr_wire_register *r)
{
    uint32_t registered;
    size_t len = registered_len(r, r->progress, &registered);
    at = mr_pb_put_head(at, MR_FIELD_MESSAGE_REGISTER_RESPONSE, len);
    at = mr_pb_put_number(at, MR_FIELD_REGISTERED_REQUEST_ID, r->request_id);
    at = mr_pb_put_number(at, MR_FIELD_REGISTERED_COUNT, registered);
    for (uint32_t i = 0; i < r->control.item_count; i++)
        if (r->control.items[i].code != MR_CONTROL_OK)
            at = put_failure(at, &r->control.items[i]);
    return mr_pb_put_text(at, MR_FIELD_REGISTERED_PROGRESS, r->progress);
}
