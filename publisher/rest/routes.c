#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/marker.h"
#include "publisher/rest/call.h"

const char *mr_rest_argument(const struct mr_rest_call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_GET_ARGUMENT_KIND, name);
}

static struct mr_str upload_of(const struct mr_rest_call *call)
{
    return (struct mr_str){call->upload, call->upload_len};
}

static bool prepare_register(struct mr_rest_call *call)
{
    return mr_rest_read_subscription(&call->body, upload_of(call), (struct mr_str){NULL, 0},
                                     &call->control, &call->item);
}

static bool prepare_replace(struct mr_rest_call *call)
{
    return mr_rest_read_subscription(&call->body, upload_of(call), mr_str_from(call->name),
                                     &call->control, &call->item);
}

static bool prepare_id(struct mr_rest_call *call)
{
    call->control.id = mr_str_from(call->name);
    return true;
}

static bool prepare_gateway(struct mr_rest_call *call)
{
    call->control.gateway = mr_str_from(call->name);
    return true;
}

static bool prepare_explain(struct mr_rest_call *call)
{
    return mr_rest_read_event(&call->body, upload_of(call), &call->control);
}

/* Each argument is one of a list's, once, and has a value. */
struct seen_arguments {
    struct mr_control *control;
    unsigned seen; /* a bit for each */
};
static enum MHD_Result see_argument(void *context, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    static const char *const names[] = {"gatewayId", "tenant", "collection", "limit", "cursor"};
    struct seen_arguments *seen = context;
    unsigned i = 0;
    (void)kind;
    while (i < sizeof names / sizeof *names && (!name || strcmp(names[i], name) != 0))
        i++;
    if (i == sizeof names / sizeof *names)
        mr_control_fail(seen->control, MR_CONTROL_INVALID_REQUEST, "%.64s: no such argument",
                        name ? name : "");
    else if (!value || !*value || (seen->seen >> i & 1) != 0)
        mr_control_fail(seen->control, MR_CONTROL_INVALID_REQUEST, "%s: expected one value",
                        names[i]);
    seen->seen |= 1u << i;
    return seen->control->code == MR_CONTROL_OK ? MHD_YES : MHD_NO;
}

static bool prepare_list(struct mr_rest_call *call)
{
    struct mr_control_page *page = &call->control.page;
    struct seen_arguments seen = {.control = &call->control};
    MHD_get_connection_values(call->connection, MHD_GET_ARGUMENT_KIND, see_argument, &seen);
    if (call->control.code != MR_CONTROL_OK)
        return false;
    page->limit = MR_REST_PAGE_DEFAULT;
    page->gateway = mr_str_from(mr_rest_argument(call, "gatewayId"));
    page->database = mr_str_from(mr_rest_argument(call, "tenant"));
    page->collection = mr_str_from(mr_rest_argument(call, "collection"));
    return mr_rest_read_number(&call->control, "limit", mr_rest_argument(call, "limit"), 1,
                               MR_REST_PAGE_MAX, &page->limit) &&
           mr_rest_read_number(&call->control, "cursor", mr_rest_argument(call, "cursor"), 0,
                               MR_REST_CURSOR_MAX, &page->cursor);
}

static void put_text(struct mr_json *json, const char *name, struct mr_str text)
{
    mr_json_put_raw(json, json->len == 0 ? MR_STR("{") : MR_STR(","));
    mr_json_put_string(json, mr_str_from(name));
    mr_json_put_raw(json, MR_STR(":"));
    mr_json_put_string(json, text);
}

static void put_time(struct mr_json *json, const char *name, int64_t wall_us)
{
    char text[MR_DURABLE_TIME_MAX];
    put_text(json, name, (struct mr_str){text, mr_durable_time(wall_us, text)});
}

static unsigned answer_registered(struct mr_rest_call *call, struct mr_json *json)
{
    const struct mr_control *control = &call->control;
    char marker[MR_MARKER_TEXT_MAX];
    put_text(json, "subscriptionId", call->item.subscribe.subscription_id);
    put_time(json, "createdAt", control->created_us);
    put_time(json, "expiresAt", control->expires_us);
    mr_json_put_raw(json, MR_STR(",\"bloomFilterVersion\":"));
    mr_json_put_int(json, (int64_t)control->version);
    size_t len = mr_marker_format((struct mr_marker){control->log_id, control->marker}, marker);
    put_text(json, "progress", (struct mr_str){marker, len});
    mr_json_put_raw(json, MR_STR("}"));
    return control->kind == MR_CONTROL_REGISTER || control->created ? MHD_HTTP_CREATED
                                                                    : MHD_HTTP_OK;
}

static unsigned answer_renewed(struct mr_rest_call *call, struct mr_json *json)
{
    put_text(json, "subscriptionId", call->control.id);
    put_time(json, "expiresAt", call->control.expires_us);
    mr_json_put_raw(json, MR_STR("}"));
    return MHD_HTTP_OK;
}

static unsigned answer_removed(struct mr_rest_call *call, struct mr_json *json)
{
    (void)call;
    (void)json;
    return MHD_HTTP_NO_CONTENT;
}

static unsigned answer_gateway_removed(struct mr_rest_call *call, struct mr_json *json)
{
    mr_json_put_raw(json, MR_STR("{\"removed\":"));
    mr_json_put_int(json, call->control.removed);
    mr_json_put_raw(json, MR_STR("}"));
    return MHD_HTTP_OK;
}

static unsigned answer_body(struct mr_rest_call *call, struct mr_json *json)
{
    mr_json_put_raw(json, (struct mr_str){call->control.body.data, call->control.body.len});
    return MHD_HTTP_OK;
}

#define SUBSCRIPTIONS "/internal/v1/subscriptions"
static const struct mr_rest_route routes[] = {
    {"POST", SUBSCRIPTIONS, MR_CONTROL_REGISTER, true, prepare_register, answer_registered},
    {"GET", SUBSCRIPTIONS, MR_CONTROL_LIST, false, prepare_list, answer_body},
    {"GET", SUBSCRIPTIONS "/{}", MR_CONTROL_GET, false, prepare_id, answer_body},
    {"PUT", SUBSCRIPTIONS "/{}", MR_CONTROL_REPLACE, true, prepare_replace, answer_registered},
    {"DELETE", SUBSCRIPTIONS "/{}", MR_CONTROL_REMOVE, false, prepare_id, answer_removed},
    {"PUT", SUBSCRIPTIONS "/{}/heartbeat", MR_CONTROL_RENEW, false, prepare_id, answer_renewed},
    {"DELETE", "/internal/v1/gateways/{}/subscriptions", MR_CONTROL_REMOVE_GATEWAY, false,
     prepare_gateway, answer_gateway_removed},
    {"POST", "/internal/v1/explain", MR_CONTROL_EXPLAIN, true, prepare_explain, answer_body},
};
enum { ROUTE_COUNT = sizeof routes / sizeof routes[0] };

/* Does a path fit a pattern? name: what stands at its "{}". */
static bool fits(const char *pattern, const char *path, char name[MR_DURABLE_NAME_MAX + 1])
{
    const char *hole = strstr(pattern, "{}");
    if (!hole)
        return strcmp(pattern, path) == 0;
    size_t before = (size_t)(hole - pattern);
    if (strncmp(pattern, path, before) != 0)
        return false;
    size_t len = strcspn(path + before, "/");
    if (strcmp(path + before + len, hole + 2) != 0 ||
        !mr_durable_is_name((struct mr_str){path + before, len}))
        return false;
    memcpy(name, path + before, len);
    name[len] = 0;
    return true;
}

/* HEAD is a GET without its body. */
static bool same_method(const char *of_route, const char *method)
{
    return strcmp(of_route, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(of_route, "GET") == 0);
}

/* For each set of methods that a path can have. */
static const char *allowed(const char *path)
{
    static const char *const bits[] = {"GET", "PUT", "POST", "DELETE"};
    static const char *const texts[] = {
        NULL,     "GET, HEAD",         "PUT",         "GET, HEAD, PUT",
        "POST",   "GET, HEAD, POST",   "PUT, POST",   "GET, HEAD, PUT, POST",
        "DELETE", "GET, HEAD, DELETE", "PUT, DELETE", "GET, HEAD, PUT, DELETE"};
    char name[MR_DURABLE_NAME_MAX + 1];
    size_t set = 0;
    for (size_t i = 0; i < ROUTE_COUNT; i++)
        for (size_t bit = 0; bit < 4 && fits(routes[i].path, path, name); bit++)
            if (strcmp(routes[i].method, bits[bit]) == 0)
                set |= (size_t)1 << bit;
    return texts[set];
}

const struct mr_rest_route *mr_rest_find_route(const char *method, const char *path,
                                               char name[MR_DURABLE_NAME_MAX + 1],
                                               const char **allow)
{
    *allow = NULL;
    for (size_t i = 0; i < ROUTE_COUNT; i++)
        if (same_method(routes[i].method, method) && fits(routes[i].path, path, name))
            return &routes[i];
    *allow = allowed(path);
    return NULL;
}
