#include "publisher/sinks/jetstream_file.h"

#include <bson/bson.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/bson.h"

static void free_one(struct mr_js_wanted *wanted)
{
    for (uint32_t i = 0; i < wanted->predicate_count; i++)
        if (wanted->predicates[i].value.kind == MR_CONST_LIST)
            free((void *)(uintptr_t)wanted->predicates[i].value.list.items);
    free(wanted->predicates);
    free(wanted->bytes);
}

void mr_js_wanted_fini(struct mr_js_wanted_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        free_one(&list->items[i]);
    free(list->items);
    *list = (struct mr_js_wanted_list){0};
}

static enum mr_rc take_text(const struct mr_bson_element *element, struct mr_str *out,
                            struct mr_err *err)
{
    if (element->value.type != MR_BSON_STRING)
        return mr_reject(err, MR_USAGE, "\"%.*s\": expected a text", (int)element->key.len,
                         element->key.data);
    *out = mr_bson_string(&element->value);
    return MR_OK;
}

static bool take_scalar(const struct mr_bson_value *value, struct mr_const *out)
{
    switch (value->type) {
    case MR_BSON_STRING:
        *out = (struct mr_const){.kind = MR_CONST_STRING, .string = mr_bson_string(value)};
        return true;
    case MR_BSON_INT32:
        *out = (struct mr_const){.kind = MR_CONST_INT, .integer = mr_bson_int32(value)};
        return true;
    case MR_BSON_INT64:
        *out = (struct mr_const){.kind = MR_CONST_INT, .integer = mr_bson_int64(value)};
        return true;
    case MR_BSON_DOUBLE:
        *out = (struct mr_const){.kind = MR_CONST_DOUBLE, .number = mr_bson_double(value)};
        return true;
    case MR_BSON_BOOL:
        *out = (struct mr_const){.kind = MR_CONST_BOOL, .boolean = mr_bson_bool(value)};
        return true;
    default:
        return false;
    }
}

static enum mr_rc take_list(const struct mr_bson_value *value, struct mr_const *out,
                            struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    enum mr_rc rc = mr_bson_iter_init(&iter, value->data, value->len);
    /* An element takes at least three bytes: an upper bound for their number. */
    struct mr_const *items = calloc(value->len / 3 + 1, sizeof *items);
    uint32_t count = 0;
    if (!items)
        return mr_fail(err, MR_FATAL, "read a list");
    while (rc == MR_OK && (rc = mr_bson_iter_next(&iter, &element)) == MR_OK)
        if (!take_scalar(&element.value, &items[count++]))
            rc = MR_USAGE;
    if (rc != MR_AGAIN) {
        free(items);
        return mr_reject(err, MR_USAGE, "\"value\": expected a list of texts, numbers or booleans");
    }
    *out = (struct mr_const){.kind = MR_CONST_LIST};
    out->list.items = items;
    out->list.count = count;
    return MR_OK;
}

static enum mr_rc take_filter(const struct mr_bson_value *value, struct mr_predicate *out,
                              struct mr_err *err)
{
    struct mr_bson_value field, op, operand;
    if (value->type != MR_BSON_DOCUMENT ||
        !mr_bson_find(value->data, value->len, MR_STR("field"), &field) ||
        !mr_bson_find(value->data, value->len, MR_STR("op"), &op) ||
        !mr_bson_find(value->data, value->len, MR_STR("value"), &operand) ||
        field.type != MR_BSON_STRING || op.type != MR_BSON_STRING)
        return mr_reject(err, MR_USAGE, "expected {\"field\":text,\"op\":text,\"value\":...}");
    struct mr_str op_text = mr_bson_string(&op);
    out->path = mr_bson_string(&field);
    if (!mr_predicate_op_parse(op_text, &out->op))
        return mr_reject(err, MR_USAGE, "\"op\": unsupported operator: %.*s",
                         (int)(op_text.len < 40 ? op_text.len : 40), op_text.data);
    if (operand.type == MR_BSON_ARRAY)
        return take_list(&operand, &out->value, err);
    if (!take_scalar(&operand, &out->value))
        return mr_reject(err, MR_USAGE,
                         "\"value\": expected a text, a number, a boolean or a list of these");
    return MR_OK;
}

static enum mr_rc take_filters(const struct mr_bson_value *value, struct mr_js_wanted *out,
                               struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    if (value->type != MR_BSON_ARRAY || mr_bson_iter_init(&iter, value->data, value->len) != MR_OK)
        return mr_reject(err, MR_USAGE, "\"filters\": expected a list");
    out->predicates = calloc(value->len / 3 + 1, sizeof *out->predicates);
    if (!out->predicates)
        return mr_fail(err, MR_FATAL, "read filters");
    while (mr_bson_iter_next(&iter, &element) == MR_OK) {
        enum mr_rc rc = take_filter(&element.value, &out->predicates[out->predicate_count], err);
        if (rc != MR_OK)
            return mr_err_prefix(err, "filters[%u]", out->predicate_count);
        out->predicate_count++;
    }
    return MR_OK;
}

static enum mr_rc take_member(const struct mr_bson_element *element, struct mr_js_wanted *out,
                              struct mr_err *err)
{
    if (mr_str_equal(element->key, MR_STR("gatewayId")))
        return take_text(element, &out->gateway_id, err);
    if (mr_str_equal(element->key, MR_STR("subscriptionId")))
        return take_text(element, &out->subscription_id, err);
    if (mr_str_equal(element->key, MR_STR("database")) ||
        mr_str_equal(element->key, MR_STR("tenant")))
        return take_text(element, &out->database, err);
    if (mr_str_equal(element->key, MR_STR("collection")))
        return take_text(element, &out->collection, err);
    if (mr_str_equal(element->key, MR_STR("cel")))
        return take_text(element, &out->cel, err);
    if (mr_str_equal(element->key, MR_STR("filters")))
        return take_filters(&element->value, out, err);
    return mr_reject(err, MR_USAGE,
                     "\"%.*s\": unknown; expected gatewayId, subscriptionId, database, collection, "
                     "filters, cel",
                     (int)(element->key.len < 40 ? element->key.len : 40), element->key.data);
}

static enum mr_rc take_members(struct mr_str bson, struct mr_js_wanted *out, struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    enum mr_rc rc = mr_bson_validate(bson.data, bson.len);
    if (rc == MR_OK)
        rc = mr_bson_iter_init(&iter, bson.data, bson.len);
    if (rc != MR_OK)
        return mr_reject(err, MR_USAGE, "objects nested too deeply, or text that is no UTF-8");
    while (rc == MR_OK && mr_bson_iter_next(&iter, &element) == MR_OK)
        rc = take_member(&element, out, err);
    if (rc != MR_OK)
        return rc;
    if (out->gateway_id.len == 0 || out->subscription_id.len == 0)
        return mr_reject(err, MR_USAGE, "\"gatewayId\" and \"subscriptionId\": both are needed");
    if (out->gateway_id.len > MR_EVENT_NAME_MAX || out->subscription_id.len > MR_EVENT_NAME_MAX)
        return mr_reject(err, MR_USAGE, "\"gatewayId\", \"subscriptionId\": at most %d bytes",
                         MR_EVENT_NAME_MAX);
    return MR_OK;
}

static bool has_room(struct mr_js_wanted_list *list)
{
    if (list->count < list->max)
        return true;
    uint32_t max = list->max ? 2 * list->max : 64;
    struct mr_js_wanted *grown = realloc(list->items, max * sizeof *grown);
    if (!grown)
        return false;
    list->items = grown;
    list->max = max;
    return true;
}

enum mr_rc mr_js_wanted_parse(struct mr_str line, struct mr_js_wanted_list *list,
                              struct mr_err *err)
{
    bson_error_t why;
    bson_t *bson = bson_new_from_json((const uint8_t *)line.data, (ssize_t)line.len, &why);
    if (!bson)
        return mr_reject(err, MR_USAGE, "no JSON: %s", why.message);
    struct mr_js_wanted wanted = {.bytes = malloc(bson->len)};
    enum mr_rc rc = MR_OK;
    if (!wanted.bytes || !has_room(list))
        rc = mr_fail(err, MR_FATAL, "read a subscription");
    if (rc == MR_OK) {
        memcpy(wanted.bytes, bson_get_data(bson), bson->len);
        rc = take_members((struct mr_str){(const char *)wanted.bytes, bson->len}, &wanted, err);
    }
    bson_destroy(bson);
    if (rc == MR_OK)
        list->items[list->count++] = wanted;
    else
        free_one(&wanted);
    return rc;
}

enum mr_rc mr_js_wanted_read(const char *path, struct mr_js_wanted_list *out, struct mr_err *err)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        (void)mr_fail(err, MR_USAGE, "open subscriptions %s", path);
        return MR_USAGE;
    }
    char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t len;
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK && (len = getline(&line, &room, file)) >= 0) {
        struct mr_str text = {line, (size_t)len};
        number++;
        if (strspn(line, " \t\r\n") == text.len)
            continue;
        rc = mr_js_wanted_parse(text, out, err);
        if (rc != MR_OK)
            mr_err_prefix(err, "%s:%zu", path, number);
    }
    if (rc == MR_OK && ferror(file))
        rc = mr_fail(err, MR_USAGE, "read subscriptions %s", path);
    free(line);
    fclose(file);
    if (rc != MR_OK)
        mr_js_wanted_fini(out);
    return rc;
}
