#include "puller/sources/ndjson.h"

#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/bson.h"
#include "puller/sources/rfc3339.h"

struct mr_ndjson_parser {
    bson_t *line; /* the line as BSON; NULL before the first */
    char id[40];  /* an id that was no string */
};

enum mr_rc mr_ndjson_parser_create(struct mr_ndjson_parser **out, struct mr_err *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? MR_OK : mr_fail(err, MR_FATAL, "allocate a parser");
}

void mr_ndjson_parser_destroy(struct mr_ndjson_parser **parser)
{
    if (*parser && (*parser)->line)
        bson_destroy((*parser)->line);
    free(*parser);
    *parser = NULL;
}

static const char *type_name(uint8_t type)
{
    switch (type) {
    case MR_BSON_DOUBLE:
    case MR_BSON_INT32:
    case MR_BSON_INT64:
    case MR_BSON_DECIMAL128:
        return "a number";
    case MR_BSON_STRING:
        return "a string";
    case MR_BSON_DOCUMENT:
        return "an object";
    case MR_BSON_ARRAY:
        return "an array";
    case MR_BSON_BOOL:
        return "true or false";
    case MR_BSON_NULL:
        return "null";
    case MR_BSON_DATE:
        return "a date";
    case MR_BSON_OID:
        return "an ObjectId";
    default:
        return "another type";
    }
}

static enum mr_rc wrong(struct mr_err *err, struct mr_str key, const char *expected,
                        const struct mr_bson_value *value)
{
    return mr_reject(err, MR_USAGE, "\"%.*s\": expected %s, got %s", (int)key.len, key.data,
                     expected, type_name(value->type));
}

static bool is_int(const struct mr_bson_value *value)
{
    return value->type == MR_BSON_INT32 || value->type == MR_BSON_INT64;
}

static int64_t as_int(const struct mr_bson_value *value)
{
    return value->type == MR_BSON_INT32 ? mr_bson_int32(value) : mr_bson_int64(value);
}

static enum mr_rc take_name(struct mr_str *out, size_t len_max, struct mr_str key,
                            const struct mr_bson_value *value, struct mr_err *err)
{
    if (value->type != MR_BSON_STRING)
        return wrong(err, key, "a string", value);
    *out = mr_bson_string(value);
    if (out->len == 0 || out->len > len_max)
        return mr_reject(err, MR_USAGE, "\"%.*s\": expected 1 to %zu bytes, got %zu", (int)key.len,
                         key.data, len_max, out->len);
    return MR_OK;
}

static enum mr_rc take_op(struct mr_event *out, struct mr_str key,
                          const struct mr_bson_value *value, struct mr_err *err)
{
    static const char expected[] = "insert, update, replace, delete or truncate";
    if (value->type != MR_BSON_STRING)
        return wrong(err, key, expected, value);
    struct mr_str text = mr_bson_string(value);
    for (uint8_t op = MR_OP_INSERT; op <= MR_OP_TRUNCATE; op++) {
        if (mr_str_equal(text, mr_str_from(mr_operation_name((enum mr_operation)op)))) {
            out->head.op = op;
            return MR_OK;
        }
    }
    return mr_reject(err, MR_USAGE, "\"op\": expected %s, got \"%.32s\"", expected, text.data);
}

static enum mr_rc take_id(struct mr_ndjson_parser *parser, struct mr_event *out, struct mr_str key,
                          const struct mr_bson_value *value, struct mr_err *err)
{
    if (value->type == MR_BSON_STRING)
        return take_name(&out->document_id, MR_EVENT_NAME_MAX, key, value, err);
    size_t len = 0;
    if (is_int(value)) {
        len = (size_t)snprintf(parser->id, sizeof parser->id, "%" PRId64, as_int(value));
    } else if (value->type == MR_BSON_OID) {
        for (; len < 24; len++)
            parser->id[len] = "0123456789abcdef"[value->data[len / 2] >> (len % 2 ? 0 : 4) & 15];
    } else {
        return wrong(err, key, "a string, a whole number or an ObjectId", value);
    }
    out->document_id = (struct mr_str){parser->id, len};
    return MR_OK;
}

static enum mr_rc take_time(struct mr_event *out, struct mr_str key,
                            const struct mr_bson_value *value, struct mr_err *err)
{
    static const char expected[] = "RFC 3339 text, {\"$date\": ...} or milliseconds since 1970";
    int64_t ms = 0;
    if (is_int(value))
        ms = as_int(value);
    else if (value->type == MR_BSON_DATE)
        ms = mr_bson_int64(value);
    else if (value->type != MR_BSON_STRING)
        return wrong(err, key, expected, value);
    else if (mr_rfc3339_parse(mr_bson_string(value), &out->head.source_time_us))
        return MR_OK;
    else
        return mr_reject(err, MR_USAGE, "\"time\": expected %s, got \"%.40s\"", expected,
                         mr_bson_string(value).data);
    if (__builtin_mul_overflow(ms, INT64_C(1000), &out->head.source_time_us))
        return mr_reject(err, MR_USAGE, "\"time\": %" PRId64 " milliseconds are out of range", ms);
    return MR_OK;
}

static enum mr_rc take_document(struct mr_str *out, struct mr_str key,
                                const struct mr_bson_value *value, struct mr_err *err)
{
    if (value->type != MR_BSON_DOCUMENT)
        return wrong(err, key, "an object", value);
    *out = (struct mr_str){(const char *)value->data, value->len};
    return MR_OK;
}

static enum mr_rc take_transaction(struct mr_event *out, struct mr_str key,
                                   const struct mr_bson_value *value, struct mr_err *err)
{
    if (!is_int(value) || as_int(value) < 0)
        return wrong(err, key, "a whole number, 0 or more", value);
    out->head.transaction = (uint64_t)as_int(value);
    return MR_OK;
}

static enum mr_rc take_member(struct mr_ndjson_parser *parser, struct mr_event *out,
                              const struct mr_bson_element *element, struct mr_err *err)
{
    struct mr_str key = element->key;
    const struct mr_bson_value *value = &element->value;
    if (mr_str_equal(key, MR_STR("op")))
        return take_op(out, key, value, err);
    if (mr_str_equal(key, MR_STR("database")))
        return take_name(&out->database, MR_EVENT_NAME_MAX, key, value, err);
    if (mr_str_equal(key, MR_STR("collection")))
        return take_name(&out->collection, MR_EVENT_NAME_MAX, key, value, err);
    if (mr_str_equal(key, MR_STR("id")))
        return take_id(parser, out, key, value, err);
    if (mr_str_equal(key, MR_STR("doc")))
        return take_document(&out->document, key, value, err);
    if (mr_str_equal(key, MR_STR("before")))
        return take_document(&out->before, key, value, err);
    if (mr_str_equal(key, MR_STR("update")))
        return take_document(&out->update, key, value, err);
    if (mr_str_equal(key, MR_STR("time")))
        return take_time(out, key, value, err);
    if (mr_str_equal(key, MR_STR("event_id")))
        return take_name(&out->event_id, MR_EVENT_ID_MAX - 1, key, value, err);
    if (mr_str_equal(key, MR_STR("txn")))
        return take_transaction(out, key, value, err);
    return mr_reject(err, MR_USAGE,
                     "\"%.*s\": unknown; expected op, database, collection, id, doc, before, "
                     "update, time, event_id or txn",
                     (int)(key.len < 64 ? key.len : 64), key.data);
}

/* What no single member can tell. */
static enum mr_rc check_event(const struct mr_event *event, struct mr_err *err)
{
    const char *op = mr_operation_name((enum mr_operation)event->head.op);
    if (event->collection.len == 0)
        return mr_reject(err, MR_USAGE, "\"collection\": missing");
    if (event->head.op == MR_OP_TRUNCATE) {
        if (event->document_id.len || event->document.len || event->before.len || event->update.len)
            return mr_reject(err, MR_USAGE, "a truncate has no id, doc, before or update");
        return MR_OK;
    }
    if (event->document_id.len == 0)
        return mr_reject(err, MR_USAGE, "\"id\": missing");
    if (event->head.op != MR_OP_DELETE && event->document.len == 0)
        return mr_reject(err, MR_USAGE, "\"doc\": missing; %s needs it", op);
    if (event->head.op == MR_OP_INSERT && event->before.len > 0)
        return mr_reject(err, MR_USAGE, "\"before\": an insert has none");
    if (event->head.op != MR_OP_UPDATE && event->update.len > 0)
        return mr_reject(err, MR_USAGE, "\"update\": only an update has one");
    return MR_OK;
}

static bool is_blank(struct mr_str line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] != ' ' && line.data[i] != '\t' && line.data[i] != '\r')
            return false;
    return true;
}

/* Index behind the brace that closes the one at first; 0: there is none. */
static size_t object_end(struct mr_str line, size_t first)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = first; i < line.len; i++) {
        char c = line.data[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && c == '{')
            depth++;
        else if (!in_string && c == '}' && --depth == 0)
            return i + 1;
    }
    return 0;
}

/* libbson reads one document and is content: what stands around it is ours to check, or a second
 * event on the line would be lost without a word. */
static enum mr_rc check_frame(struct mr_str line, struct mr_err *err)
{
    const char *nul = memchr(line.data, 0, line.len);
    if (nul)
        return mr_reject(err, MR_USAGE, "a zero byte at column %zu", (size_t)(nul - line.data) + 1);
    size_t first = 0;
    while (line.data[first] == ' ' || line.data[first] == '\t')
        first++; /* the line is not blank */
    if (line.data[first] != '{')
        return mr_reject(err, MR_USAGE, "expected an object in braces, got \"%.*s\"",
                         line.len - first < 16 ? (int)(line.len - first) : 16, line.data + first);
    size_t end = object_end(line, first);
    if (end == 0)
        return mr_reject(err, MR_USAGE, "the object has no end");
    if (!is_blank((struct mr_str){line.data + end, line.len - end}))
        return mr_reject(err, MR_USAGE, "more behind the object, at column %zu", end + 1);
    return MR_OK;
}

static enum mr_rc read_json(struct mr_ndjson_parser *parser, struct mr_str line, struct mr_err *err)
{
    bson_error_t error = {0};
    if (parser->line)
        bson_destroy(parser->line);
    parser->line = bson_new_from_json((const uint8_t *)line.data, (ssize_t)line.len, &error);
    if (!parser->line)
        return mr_reject(err, MR_USAGE, "no JSON: %s",
                         error.message[0] ? error.message : "cut off");
    if (mr_bson_validate(bson_get_data(parser->line), parser->line->len) != MR_OK)
        return mr_reject(err, MR_USAGE, "text that is no UTF-8, or objects nested deeper than %d",
                         MR_BSON_DEPTH_MAX);
    return MR_OK;
}

enum mr_rc mr_ndjson_parse(struct mr_ndjson_parser *parser, struct mr_str line,
                           struct mr_str database, struct mr_event *out, struct mr_err *err)
{
    if (is_blank(line))
        return MR_AGAIN;
    enum mr_rc rc = check_frame(line, err);
    if (rc == MR_OK)
        rc = read_json(parser, line, err);
    if (rc != MR_OK)
        return rc;
    *out = (struct mr_event){.head.op = MR_OP_INSERT, .database = database};
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    rc = mr_bson_iter_init(&iter, bson_get_data(parser->line), parser->line->len);
    while (rc == MR_OK && (rc = mr_bson_iter_next(&iter, &element)) == MR_OK)
        rc = take_member(parser, out, &element, err);
    return rc == MR_AGAIN ? check_event(out, err) : rc;
}
