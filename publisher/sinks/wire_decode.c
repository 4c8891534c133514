#include <stdio.h>
#include <stdlib.h>

#include "proto/protobuf.h"
#include "proto/streamer_fields.h"
#include "publisher/sinks/wire.h"

/* Results inside this file: MR_CORRUPT: the message is broken, the stream ends. MR_USAGE: this one
 * subscription cannot be, which is its problem alone. Both with err's text. */
struct decoder {
    const struct mr_wire_limits *limits;
    struct mr_wire_arena *arena;
    struct mr_err *err;
};

struct mr_wire_block {
    struct mr_wire_block *next;
    _Alignas(max_align_t) unsigned char bytes[];
};

static void *allocate(struct decoder *d, size_t size)
{
    struct mr_wire_block *block = calloc(1, sizeof *block + size);
    if (!block) {
        (void)mr_reject(d->err, MR_FATAL, "decode a request: out of memory");
        return NULL;
    }
    block->next = d->arena->blocks;
    d->arena->blocks = block;
    return block->bytes;
}

void mr_wire_arena_fini(struct mr_wire_arena *arena)
{
    while (arena->blocks) {
        struct mr_wire_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}

/* How many bytes the character at the front has; 0: it is no UTF-8 (RFC 3629). */
static size_t utf8_char(const uint8_t *at, size_t left)
{
    static const struct {
        uint8_t first_min, first_max, second_min, second_max, len;
    } rows[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (at[0] < rows[i].first_min || at[0] > rows[i].first_max || left < rows[i].len)
            continue;
        if (rows[i].len > 1 && (at[1] < rows[i].second_min || at[1] > rows[i].second_max))
            return 0;
        for (size_t j = 2; j < rows[i].len; j++) {
            if ((at[j] & 0xc0) != 0x80)
                return 0;
        }
        return rows[i].len;
    }
    return 0;
}

static bool is_utf8(struct mr_str text)
{
    const uint8_t *at = (const uint8_t *)text.data;
    for (size_t i = 0; i < text.len;) {
        size_t len = utf8_char(at + i, text.len - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

static const char *type_name(uint32_t type)
{
    switch (type) {
    case MR_PB_VARINT:
        return "a number";
    case MR_PB_BYTES:
        return "a string or message";
    default:
        return "a fixed-width number";
    }
}

static enum mr_rc want(struct decoder *d, const struct mr_pb_field *field, enum mr_pb_type type,
                       const char *where)
{
    if (field->type == (uint32_t)type)
        return MR_OK;
    return mr_reject(d->err, MR_CORRUPT, "%s: expected %s, got %s", where, type_name(type),
                     type_name(field->type));
}

static enum mr_rc get_text(struct decoder *d, const struct mr_pb_field *field, const char *where,
                           struct mr_str *out)
{
    enum mr_rc rc = want(d, field, MR_PB_BYTES, where);
    if (rc != MR_OK)
        return rc;
    if (!is_utf8(field->bytes))
        return mr_reject(d->err, MR_CORRUPT, "%s: expected UTF-8 text", where);
    *out = field->bytes;
    return MR_OK;
}

static enum mr_rc get_flag(struct decoder *d, const struct mr_pb_field *field, const char *where,
                           bool *out)
{
    enum mr_rc rc = want(d, field, MR_PB_VARINT, where);
    *out = rc == MR_OK && field->value != 0;
    return rc;
}

static enum mr_rc finish(struct decoder *d, const struct mr_pb_reader *reader, const char *what)
{
    if (!reader->problem)
        return MR_OK;
    return mr_reject(d->err, MR_CORRUPT, "%s: expected a protobuf message, but %s", what,
                     reader->problem);
}

static enum mr_rc check_len(struct decoder *d, struct mr_str text, size_t max, const char *where)
{
    if (text.len <= max)
        return MR_OK;
    return mr_reject(d->err, MR_USAGE, "%s: expected at most %zu bytes, got %zu", where, max,
                     text.len);
}

/* How many fields of this number a message has; what breaks it is found when it is read. */
static uint32_t count_fields(struct mr_str message, uint32_t number)
{
    struct mr_pb_reader reader = mr_pb_read(message);
    struct mr_pb_field field;
    uint32_t count = 0;
    while (mr_pb_next(&reader, &field))
        count += field.number == number;
    return count;
}

static enum mr_rc get_value(struct decoder *d, struct mr_str bytes, const char *where, bool in_list,
                            struct mr_const *out);

static enum mr_rc get_list(struct decoder *d, struct mr_str bytes, const char *where,
                           struct mr_const *out)
{
    uint32_t count = count_fields(bytes, MR_FIELD_LIST_VALUES);
    if (count > MR_WIRE_LIST_MAX)
        return mr_reject(d->err, MR_USAGE, "%s.list_value: expected at most %d values, got %u",
                         where, MR_WIRE_LIST_MAX, count);
    struct mr_const *items = allocate(d, count * sizeof *items);
    if (!items)
        return MR_FATAL;
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    uint32_t at = 0;
    while (mr_pb_next(&reader, &field)) {
        if (field.number != MR_FIELD_LIST_VALUES)
            continue;
        char item[128];
        snprintf(item, sizeof item, "%s.list_value.values[%u]", where, at);
        enum mr_rc rc = want(d, &field, MR_PB_BYTES, item);
        if (rc == MR_OK)
            rc = get_value(d, field.bytes, item, true, &items[at++]);
        if (rc != MR_OK)
            return rc;
    }
    *out = (struct mr_const){.kind = MR_CONST_LIST};
    out->list.items = items;
    out->list.count = at;
    return finish(d, &reader, where);
}

/* One member of the oneof. */
static enum mr_rc get_kind(struct decoder *d, const struct mr_pb_field *field, const char *where,
                           struct mr_const *out)
{
    static const enum mr_pb_type types[] = {
        [MR_FIELD_VALUE_STRING] = MR_PB_BYTES,   [MR_FIELD_VALUE_INT] = MR_PB_VARINT,
        [MR_FIELD_VALUE_DOUBLE] = MR_PB_FIXED64, [MR_FIELD_VALUE_BOOL] = MR_PB_VARINT,
        [MR_FIELD_VALUE_LIST] = MR_PB_BYTES,
    };
    enum mr_rc rc = want(d, field, types[field->number], where);
    if (rc != MR_OK)
        return rc;
    switch (field->number) {
    case MR_FIELD_VALUE_STRING:
        *out = (struct mr_const){.kind = MR_CONST_STRING};
        rc = get_text(d, field, where, &out->string);
        return rc == MR_OK ? check_len(d, out->string, d->limits->value_bytes_max, where) : rc;
    case MR_FIELD_VALUE_INT:
        *out = (struct mr_const){.kind = MR_CONST_INT, .integer = (int64_t)field->value};
        return MR_OK;
    case MR_FIELD_VALUE_DOUBLE:
        *out = (struct mr_const){.kind = MR_CONST_DOUBLE};
        memcpy(&out->number, &field->value, sizeof out->number);
        return MR_OK;
    case MR_FIELD_VALUE_BOOL:
        *out = (struct mr_const){.kind = MR_CONST_BOOL, .boolean = field->value != 0};
        return MR_OK;
    default:
        return get_list(d, field->bytes, where, out);
    }
}

/* A list inside a list is refused at once: the recursion is two deep at most. */
static enum mr_rc get_value(struct decoder *d, struct mr_str bytes, const char *where, bool in_list,
                            struct mr_const *out)
{
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    *out = (struct mr_const){0};
    while (mr_pb_next(&reader, &field)) {
        if (field.number < MR_FIELD_VALUE_STRING || field.number > MR_FIELD_VALUE_LIST)
            continue;
        if (in_list && field.number == MR_FIELD_VALUE_LIST)
            return mr_reject(d->err, MR_USAGE, "%s: expected no list inside a list", where);
        enum mr_rc rc = get_kind(d, &field, where, out);
        if (rc != MR_OK)
            return rc;
    }
    enum mr_rc rc = finish(d, &reader, where);
    if (rc != MR_OK || out->kind != 0)
        return rc;
    return mr_reject(
        d->err, MR_USAGE,
        "%s: expected string_value, int_value, double_value, bool_value or list_value, "
        "got none",
        where);
}

static enum mr_rc get_filter_value(struct decoder *d, const struct mr_pb_field *field,
                                   const char *where, struct mr_predicate *out)
{
    enum mr_rc rc = want(d, field, MR_PB_BYTES, where);
    return rc == MR_OK ? get_value(d, field->bytes, where, false, &out->value) : rc;
}

static enum mr_rc check_filter(struct decoder *d, uint32_t index, struct mr_str op, bool has_value,
                               struct mr_predicate *out)
{
    char where[48];
    snprintf(where, sizeof where, "filters[%u].field", index);
    if (out->path.len == 0)
        return mr_reject(d->err, MR_USAGE, "%s: expected a dotted path such as author.id, got \"\"",
                         where);
    enum mr_rc rc = check_len(d, out->path, d->limits->value_bytes_max, where);
    if (rc != MR_OK)
        return rc;
    if (!mr_predicate_op_parse(op, &out->op))
        return mr_reject(
            d->err, MR_USAGE,
            "filters[%u].op: expected ==, !=, >, >=, <, <=, in or contains, got \"%.*s\"", index,
            (int)(op.len < 32 ? op.len : 32), op.data ? op.data : "");
    if (!has_value)
        return mr_reject(d->err, MR_USAGE, "filters[%u].value: expected a value, got none", index);
    return MR_OK;
}

static enum mr_rc get_filter(struct decoder *d, struct mr_str bytes, uint32_t index,
                             struct mr_predicate *out)
{
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    struct mr_str op = {NULL, 0};
    bool has_value = false;
    char where[48];
    while (mr_pb_next(&reader, &field)) {
        enum mr_rc rc = MR_OK;
        snprintf(where, sizeof where, "filters[%u].%s", index,
                 field.number == MR_FIELD_FILTER_FIELD ? "field"
                 : field.number == MR_FIELD_FILTER_OP  ? "op"
                                                       : "value");
        if (field.number == MR_FIELD_FILTER_FIELD) {
            rc = get_text(d, &field, where, &out->path);
        } else if (field.number == MR_FIELD_FILTER_OP) {
            rc = get_text(d, &field, where, &op);
        } else if (field.number == MR_FIELD_FILTER_VALUE) {
            rc = get_filter_value(d, &field, where, out);
            has_value = true;
        }
        if (rc != MR_OK)
            return rc;
    }
    snprintf(where, sizeof where, "filters[%u]", index);
    enum mr_rc rc = finish(d, &reader, where);
    return rc == MR_OK ? check_filter(d, index, op, has_value, out) : rc;
}

static enum mr_rc get_filters(struct decoder *d, struct mr_str bytes, struct mr_request *out)
{
    uint32_t count = count_fields(bytes, MR_FIELD_SUBSCRIBE_FILTERS);
    if (count > d->limits->filters_max)
        return mr_reject(d->err, MR_USAGE, "filters: expected at most %u, got %u",
                         d->limits->filters_max, count);
    struct mr_predicate *predicates = allocate(d, count * sizeof *predicates);
    if (!predicates)
        return MR_FATAL;
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    uint32_t at = 0;
    while (mr_pb_next(&reader, &field)) {
        if (field.number != MR_FIELD_SUBSCRIBE_FILTERS)
            continue;
        char where[48];
        snprintf(where, sizeof where, "filters[%u]", at);
        enum mr_rc rc = want(d, &field, MR_PB_BYTES, where);
        if (rc == MR_OK)
            rc = get_filter(d, field.bytes, at, &predicates[at]);
        if (rc != MR_OK)
            return rc;
        at++;
    }
    out->predicates = predicates;
    out->predicate_count = at;
    return MR_OK; /* the texts' pass has seen all of it */
}

/* First pass: texts, so that a refusal can name its subscription whatever the order of the fields.
 */
static enum mr_rc get_texts(struct decoder *d, struct mr_str bytes, struct mr_request *out)
{
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field)) {
        enum mr_rc rc = MR_OK;
        if (field.number == MR_FIELD_SUBSCRIBE_ID)
            rc = get_text(d, &field, "subscribe.subscription_id", &out->subscription_id);
        else if (field.number == MR_FIELD_SUBSCRIBE_COLLECTION)
            rc = get_text(d, &field, "subscribe.collection", &out->collection);
        else if (field.number == MR_FIELD_SUBSCRIBE_DATABASE)
            rc = get_text(d, &field, "subscribe.database", &out->database);
        else if (field.number == MR_FIELD_SUBSCRIBE_AFTER)
            rc = get_text(d, &field, "subscribe.after", &out->after);
        else if (field.number == MR_FIELD_SUBSCRIBE_CEL)
            rc = get_text(d, &field, "subscribe.cel", &out->cel);
        else if (field.number == MR_FIELD_SUBSCRIBE_TRANSITIONS)
            rc = get_flag(d, &field, "subscribe.transitions", &out->transitions);
        else if (field.number == MR_FIELD_SUBSCRIBE_SNAPSHOT)
            rc = get_flag(d, &field, "subscribe.snapshot", &out->snapshot);
        if (rc != MR_OK)
            return rc;
    }
    return finish(d, &reader, "subscribe");
}

static enum mr_rc check_texts(struct decoder *d, const struct mr_request *request)
{
    enum mr_rc rc =
        check_len(d, request->subscription_id, d->limits->value_bytes_max, "subscription_id");
    if (rc == MR_OK)
        rc = check_len(d, request->collection, MR_EVENT_NAME_MAX, "collection");
    if (rc == MR_OK)
        rc = check_len(d, request->database, MR_EVENT_NAME_MAX, "database");
    if (rc == MR_OK)
        rc = check_len(d, request->after, d->limits->value_bytes_max, "after");
    return rc;
}

static enum mr_rc get_subscribe(struct decoder *d, struct mr_str bytes, struct mr_request *out)
{
    out->kind = MR_REQUEST_SUBSCRIBE;
    enum mr_rc rc = get_texts(d, bytes, out);
    if (rc == MR_OK)
        rc = check_texts(d, out);
    if (rc == MR_OK)
        rc = get_filters(d, bytes, out);
    if (rc != MR_USAGE)
        return rc;
    size_t len = strlen(d->err->text);
    char *text = allocate(d, len);
    if (!text)
        return MR_FATAL;
    memcpy(text, d->err->text, len);
    out->problem = (struct mr_str){text, len};
    out->predicates = NULL;
    out->predicate_count = 0;
    return MR_OK;
}

static enum mr_rc get_unsubscribe(struct decoder *d, struct mr_str bytes, struct mr_request *out)
{
    out->kind = MR_REQUEST_UNSUBSCRIBE;
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field)) {
        if (field.number != MR_FIELD_UNSUBSCRIBE_ID)
            continue;
        enum mr_rc rc = get_text(d, &field, "unsubscribe.subscription_id", &out->subscription_id);
        if (rc != MR_OK)
            return rc;
    }
    enum mr_rc rc = finish(d, &reader, "unsubscribe");
    if (rc == MR_OK && out->subscription_id.len == 0)
        return mr_reject(
            d->err, MR_CORRUPT,
            "unsubscribe.subscription_id: expected the id of a subscription, got \"\"");
    return rc;
}

static enum mr_rc get_heartbeat(struct decoder *d, struct mr_str bytes, struct mr_request *out)
{
    out->kind = MR_REQUEST_HEARTBEAT;
    struct mr_pb_reader reader = mr_pb_read(bytes);
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field)) {
        enum mr_rc rc = MR_OK;
        if (field.number == MR_FIELD_HEARTBEAT_GATEWAY_ID)
            rc = get_text(d, &field, "heartbeat.gateway_id", &out->gateway_name);
        else if (field.number == MR_FIELD_HEARTBEAT_AFTER)
            rc = get_text(d, &field, "heartbeat.after", &out->after);
        else if (field.number == MR_FIELD_HEARTBEAT_TIMESTAMP)
            rc = want(d, &field, MR_PB_VARINT, "heartbeat.timestamp");
        if (rc != MR_OK)
            return rc;
        if (field.number == MR_FIELD_HEARTBEAT_TIMESTAMP)
            out->timestamp_ms = (int64_t)field.value;
    }
    return finish(d, &reader, "heartbeat");
}

enum mr_rc mr_wire_decode_subscribe(struct mr_str message, const struct mr_wire_limits *limits,
                                    struct mr_wire_arena *arena, struct mr_request *out,
                                    struct mr_err *err)
{
    struct decoder d = {limits, arena, err};
    *out = (struct mr_request){0};
    return get_subscribe(&d, message, out);
}

enum mr_rc mr_wire_decode(struct mr_str message, const struct mr_wire_limits *limits,
                          struct mr_wire_arena *arena, struct mr_request *out, struct mr_err *err)
{
    struct decoder d = {limits, arena, err};
    struct mr_pb_reader reader = mr_pb_read(message);
    struct mr_pb_field field, payload = {0};
    *out = (struct mr_request){0};
    while (mr_pb_next(&reader, &field)) {
        if ((field.number >= MR_FIELD_GATEWAY_SUBSCRIBE &&
             field.number <= MR_FIELD_GATEWAY_HEARTBEAT) ||
            field.number == MR_FIELD_GATEWAY_REGISTER)
            payload = field; /* of a oneof, the last one counts */
    }
    enum mr_rc rc = finish(&d, &reader, "GatewayMessage");
    if (rc != MR_OK)
        return rc;
    if (payload.number == 0)
        return mr_reject(err, MR_CORRUPT,
                         "payload: expected subscribe, unsubscribe, heartbeat or register, "
                         "got none");
    rc = want(&d, &payload, MR_PB_BYTES, "payload");
    if (rc != MR_OK)
        return rc;
    switch (payload.number) {
    case MR_FIELD_GATEWAY_SUBSCRIBE:
        return get_subscribe(&d, payload.bytes, out);
    case MR_FIELD_GATEWAY_UNSUBSCRIBE:
        return get_unsubscribe(&d, payload.bytes, out);
    case MR_FIELD_GATEWAY_REGISTER:
        out->kind = MR_REQUEST_REGISTER;
        out->payload = payload.bytes;
        return MR_OK;
    default:
        return get_heartbeat(&d, payload.bytes, out);
    }
}
