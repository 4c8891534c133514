#include "publisher/rest/body.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { LIST_MAX = MR_WIRE_LIST_MAX, FILTERS_MAX = 1024 };

void mr_rest_body_fini(struct mr_rest_body *body)
{
    json_decref(body->root);
    free(body->predicates);
    free(body->constants);
    free(body->spec);
    mr_bson_writer_fini(&body->document);
}

static bool fail(struct mr_control *control, const char *what, const char *why)
{
    mr_control_fail(control, MR_CONTROL_INVALID_REQUEST, "%s: %s", what, why);
    return false;
}

static bool out_of_memory(struct mr_control *control)
{
    mr_control_fail(control, MR_CONTROL_UNAVAILABLE, "out of memory, try again");
    return false;
}

static bool parse(struct mr_rest_body *body, struct mr_str text, struct mr_control *control)
{
    json_error_t error;
    body->root = json_loadb(text.data ? text.data : "", text.len, JSON_REJECT_DUPLICATES, &error);
    if (!body->root) {
        mr_control_fail(control, MR_CONTROL_INVALID_REQUEST,
                        "body: expected JSON: line %d column %d: %s", error.line, error.column,
                        error.text);
        return false;
    }
    return json_is_object((json_t *)body->root) ||
           fail(control, "body", "expected an object in braces");
}

static struct mr_str text_of(const json_t *value)
{
    return (struct mr_str){json_string_value(value), json_string_length(value)};
}

/* Every member must be one of names (NULL-terminated). */
static bool only(json_t *object, const char *const *names, const char *where,
                 struct mr_control *control)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        const char *const *name = names;
        while (*name && strcmp(*name, key) != 0)
            name++;
        if (*name)
            continue;
        mr_control_fail(control, MR_CONTROL_INVALID_REQUEST, "%s%.64s: no such member", where, key);
        return false;
    }
    return true;
}

static bool get_text(json_t *object, const char *name, bool needed, struct mr_str *out,
                     struct mr_control *control)
{
    const json_t *value = json_object_get(object, name);
    if (!value && !needed)
        return true;
    if (!json_is_string(value))
        return fail(control, name, value ? "expected a string" : "expected a string, got none");
    *out = text_of(value);
    return true;
}

bool mr_rest_read_number(struct mr_control *control, const char *name, const char *text,
                         uint32_t low, uint32_t high, uint32_t *out)
{
    if (!text)
        return true;
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == 0 && value >= low && value <= high) {
        *out = (uint32_t)value;
        return true;
    }
    mr_control_fail(control, MR_CONTROL_INVALID_REQUEST, "%s: expected a number from %u to %u",
                    name, low, high);
    return false;
}

static bool get_number(json_t *object, const char *name, uint32_t max, uint32_t *out,
                       struct mr_control *control)
{
    const json_t *value = json_object_get(object, name);
    char why[64];
    if (!value)
        return true;
    snprintf(why, sizeof why, "expected a whole number from 1 to %u", max);
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > (json_int_t)max)
        return fail(control, name, why);
    *out = (uint32_t)json_integer_value(value);
    return true;
}

static bool get_flag(json_t *object, const char *name, bool *out, struct mr_control *control)
{
    const json_t *value = json_object_get(object, name);
    if (value && !json_is_boolean(value))
        return fail(control, name, "expected true or false");
    *out = value && json_is_true(value);
    return true;
}

static bool get_scalar(const json_t *value, struct mr_const *out)
{
    *out = (struct mr_const){0};
    if (json_is_string(value)) {
        out->kind = MR_CONST_STRING;
        out->string = text_of(value);
    } else if (json_is_integer(value)) {
        out->kind = MR_CONST_INT;
        out->integer = json_integer_value(value);
    } else if (json_is_real(value)) {
        out->kind = MR_CONST_DOUBLE;
        out->number = json_real_value(value);
    } else if (json_is_boolean(value)) {
        out->kind = MR_CONST_BOOL;
        out->boolean = json_is_true(value);
    } else {
        return false;
    }
    return true;
}

static bool get_list(const json_t *array, const char *where, struct mr_const *items,
                     struct mr_const *out, struct mr_control *control)
{
    size_t count = json_array_size(array);
    if (count > LIST_MAX)
        return fail(control, where, "too many items in a list");
    for (size_t i = 0; i < count; i++)
        if (!get_scalar(json_array_get(array, i), &items[i]))
            return fail(control, where, "expected strings, numbers and booleans in a list");
    *out = (struct mr_const){.kind = MR_CONST_LIST};
    out->list.items = items;
    out->list.count = (uint32_t)count;
    return true;
}

/* items: room for those of a list; returns how many it took. */
static bool get_filter(json_t *filter, uint32_t index, struct mr_const **items,
                       struct mr_predicate *out, struct mr_control *control)
{
    static const char *const names[] = {"field", "op", "value", NULL};
    char where[48];
    snprintf(where, sizeof where, "filters[%u].", index);
    if (!json_is_object(filter))
        return fail(control, where, "expected an object with field, op and value");
    if (!only(filter, names, where, control))
        return false;
    const json_t *field = json_object_get(filter, "field"), *op = json_object_get(filter, "op"),
                 *value = json_object_get(filter, "value");
    snprintf(where, sizeof where, "filters[%u].field", index);
    if (!json_is_string(field) || json_string_length(field) == 0)
        return fail(control, where, "expected a dotted path such as author.id");
    out->path = text_of(field);
    snprintf(where, sizeof where, "filters[%u].op", index);
    if (!json_is_string(op) || !mr_predicate_op_parse(text_of(op), &out->op))
        return fail(control, where, "expected ==, !=, >, >=, <, <=, in or contains");
    snprintf(where, sizeof where, "filters[%u].value", index);
    if (json_is_array(value)) {
        struct mr_const *first = *items;
        *items += json_array_size(value);
        return get_list(value, where, first, &out->value, control);
    }
    return get_scalar(value, &out->value) ||
           fail(control, where, "expected a string, a number, a boolean or a list of these");
}

static size_t count_constants(const json_t *filters)
{
    size_t count = 1;
    for (size_t i = 0; i < json_array_size(filters); i++)
        count += json_array_size(json_object_get(json_array_get(filters, i), "value"));
    return count;
}

static bool get_filters(struct mr_rest_body *body, json_t *filters, struct mr_request *request,
                        struct mr_control *control)
{
    if (!filters)
        return true;
    if (!json_is_array(filters))
        return fail(control, "filters", "expected a list");
    size_t count = json_array_size(filters);
    if (count > FILTERS_MAX)
        return fail(control, "filters", "too many");
    body->predicates = calloc(count + 1, sizeof *body->predicates);
    body->constants = calloc(count_constants(filters), sizeof *body->constants);
    if (!body->predicates || !body->constants)
        return out_of_memory(control);
    struct mr_const *items = body->constants;
    for (uint32_t i = 0; i < count; i++)
        if (!get_filter(json_array_get(filters, i), i, &items, &body->predicates[i], control))
            return false;
    request->predicates = body->predicates;
    request->predicate_count = (uint32_t)count;
    return true;
}

static bool take_id(struct mr_str id, struct mr_request *request, struct mr_control *control)
{
    if (id.len == 0)
        return request->subscription_id.data ||
               fail(control, "subscriptionId", "expected a string, got none");
    if (request->subscription_id.data && !mr_str_equal(request->subscription_id, id))
        return fail(control, "subscriptionId", "expected none, or the one of the path");
    request->subscription_id = id;
    return true;
}

bool mr_rest_read_subscription(struct mr_rest_body *body, struct mr_str text, struct mr_str id,
                               struct mr_control *control, struct mr_control_item *item)
{
    static const char *const names[] = {"gatewayId",  "subscriptionId", "tenant",
                                        "collection", "filters",        "cel",
                                        "ttl",        "transitions",    NULL};
    struct mr_request *request = &item->subscribe;
    *item = (struct mr_control_item){.subscribe = {.kind = MR_REQUEST_SUBSCRIBE}};
    if (!parse(body, text, control) || !only(body->root, names, "", control) ||
        !get_text(body->root, "gatewayId", true, &control->gateway, control) ||
        !get_text(body->root, "subscriptionId", false, &request->subscription_id, control) ||
        !take_id(id, request, control) ||
        !get_text(body->root, "tenant", true, &request->database, control) ||
        !get_text(body->root, "collection", true, &request->collection, control) ||
        !get_number(body->root, "ttl", UINT32_MAX, &control->ttl_s, control) ||
        !get_flag(body->root, "transitions", &request->transitions, control) ||
        !get_text(body->root, "cel", false, &request->cel, control) ||
        !get_filters(body, json_object_get(body->root, "filters"), request, control))
        return false;
    size_t len;
    body->spec = mr_spec_encode(request, &len);
    if (!body->spec)
        return out_of_memory(control);
    item->spec = (struct mr_str){body->spec, len};
    control->items = item;
    control->item_count = 1;
    return true;
}

static void put_value(struct mr_bson_writer *w, struct mr_str key, json_t *value);

static void put_members(struct mr_bson_writer *w, json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        put_value(w, mr_str_from(key), value);
    }
}

static void put_value(struct mr_bson_writer *w, struct mr_str key, json_t *value)
{
    char index[24];
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        mr_bson_begin_document(w, key);
        put_members(w, value);
        mr_bson_end(w);
        break;
    case JSON_ARRAY:
        mr_bson_begin_array(w, key);
        for (size_t i = 0; i < json_array_size(value) && w->ok; i++) {
            int len = snprintf(index, sizeof index, "%zu", i);
            put_value(w, (struct mr_str){index, (size_t)len}, json_array_get(value, i));
        }
        mr_bson_end(w);
        break;
    case JSON_STRING:
        mr_bson_put_string(w, key, text_of(value));
        break;
    case JSON_INTEGER:
        mr_bson_put_int64(w, key, json_integer_value(value));
        break;
    case JSON_REAL:
        mr_bson_put_double(w, key, json_real_value(value));
        break;
    case JSON_NULL:
        mr_bson_put_null(w, key);
        break;
    default:
        mr_bson_put_bool(w, key, json_is_true(value));
        break;
    }
}

/* How many objects and arrays lie inside each other. */
static uint32_t depth_of(json_t *value, uint32_t left)
{
    uint32_t deepest = 0, depth = 0;
    const char *key;
    json_t *inner;
    if (left == 0 || (!json_is_object(value) && !json_is_array(value)))
        return 0;
    for (size_t i = 0; i < json_array_size(value); i++) {
        depth = depth_of(json_array_get(value, i), left - 1);
        deepest = depth > deepest ? depth : deepest;
    }
    json_object_foreach(value, key, inner)
    {
        depth = depth_of(inner, left - 1);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + 1;
}

static bool get_document(struct mr_rest_body *body, struct mr_control *control)
{
    json_t *document = json_object_get(body->root, "document");
    if (!document)
        return true;
    if (!json_is_object(document))
        return fail(control, "document", "expected an object");
    if (depth_of(document, MR_BSON_DEPTH_MAX + 1) > MR_BSON_DEPTH_MAX)
        return fail(control, "document", "nested too deep");
    mr_bson_writer_init(&body->document);
    mr_bson_begin(&body->document);
    put_members(&body->document, document);
    mr_bson_end(&body->document);
    if (!body->document.ok)
        return out_of_memory(control);
    control->event.event.document = mr_bson_bytes(&body->document);
    return true;
}

bool mr_rest_read_event(struct mr_rest_body *body, struct mr_str text, struct mr_control *control)
{
    static const char *const names[] = {"tenant",         "collection", "documentId", "document",
                                        "subscriptionId", "limit",      "cursor",     NULL};
    struct mr_control_event *event = &control->event;
    struct mr_str cursor = {NULL, 0};
    control->page.limit = MR_REST_PAGE_DEFAULT;
    if (!parse(body, text, control) || !only(body->root, names, "", control) ||
        !get_text(body->root, "tenant", true, &event->database, control) ||
        !get_text(body->root, "collection", true, &event->collection, control) ||
        !get_text(body->root, "documentId", false, &event->event.document_id, control) ||
        !get_text(body->root, "subscriptionId", false, &control->id, control) ||
        !get_number(body->root, "limit", MR_REST_PAGE_MAX, &control->page.limit, control) ||
        !get_text(body->root, "cursor", false, &cursor, control) ||
        !mr_rest_read_number(control, "cursor", cursor.data, 0, MR_REST_CURSOR_MAX,
                             &control->page.cursor) ||
        !get_document(body, control))
        return false;
    event->event.database = event->database;
    event->event.collection = event->collection;
    return true;
}
