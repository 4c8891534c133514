#include "publisher/rest/call.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "publisher/rest/rest_state.h"

static struct mr_rest_guarded *place_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

void mr_rest_call_end(void *context, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode code)
{
    struct mr_rest *rest = context;
    struct mr_rest_call *call = *state;
    (void)code;
    mr_rest_guard_busy(&rest->guard, place_of(connection), false, mr_clock_ns());
    if (!call)
        return;
    mr_control_fini(&call->control);
    mr_rest_body_fini(&call->body);
    mr_scope_unref(call->scope);
    free(call->upload);
    free(call);
    *state = NULL;
}

/* Answers. */

static void put_error(struct mr_json *json, const struct mr_control *control)
{
    mr_json_put_raw(json, MR_STR("{\"code\":"));
    mr_json_put_string(json, mr_str_from(mr_control_code_name(control->code)));
    mr_json_put_raw(json, MR_STR(",\"message\":"));
    mr_json_put_string(json, mr_str_from(control->text));
    mr_json_put_raw(json, MR_STR("}"));
}

static void add_headers(struct MHD_Response *response, const struct mr_rest_call *call,
                        unsigned status, bool has_body)
{
    char location[64 + MR_DURABLE_NAME_MAX];
    if (has_body)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (call->allow)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, call->allow);
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    /* A quota is free again when somebody lets go, at the latest when a lease ends. */
    if (status == MHD_HTTP_TOO_MANY_REQUESTS)
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "60");
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    if (status != MHD_HTTP_CREATED)
        return;
    struct mr_str id = call->item.subscribe.subscription_id;
    snprintf(location, sizeof location, "/internal/v1/subscriptions/%.*s", (int)id.len, id.data);
    MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, location);
}

static enum MHD_Result respond(struct mr_rest_call *call, unsigned status, struct mr_json *json)
{
    struct MHD_Response *response =
        json->failed
            ? NULL
            : MHD_create_response_from_buffer(json->len, json->data, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        mr_json_fini(json);
        return MHD_NO;
    }
    add_headers(response, call, status, json->len > 0);
    enum MHD_Result result = MHD_queue_response(call->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

/* What became of the one item of a REGISTER or REPLACE is what became of the request. */
static void take_item(struct mr_rest_call *call)
{
    if (call->control.item_count == 0 || call->item.code == MR_CONTROL_OK)
        return;
    const char *text = call->item.text ? call->item.text : mr_control_code_name(call->item.code);
    mr_control_fail(&call->control, call->item.code, "%s", text);
}

static enum MHD_Result answer(struct mr_rest_call *call)
{
    struct mr_json json = {0};
    take_item(call);
    unsigned status;
    if (call->control.code == MR_CONTROL_OK) {
        status = call->route->answer(call, &json);
    } else {
        status = mr_control_code_status(call->control.code);
        put_error(&json, &call->control);
    }
    return respond(call, status, &json);
}

static enum MHD_Result answer_document(struct MHD_Connection *connection)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        mr_openapi_len, (void *)(uintptr_t)mr_openapi, MHD_RESPMEM_PERSISTENT);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

/* Requests. */

static const char *header(const struct mr_rest_call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
}

static void authenticate(struct mr_rest_call *call)
{
    struct mr_err err = {0};
    if (!mr_rest_tls_verified(call->rest->tls, call->connection)) {
        mr_control_fail(&call->control, MR_CONTROL_UNAUTHENTICATED,
                        "expected a certificate signed by tls.client_ca");
        return;
    }
    struct mr_str value = mr_str_from(header(call, MHD_HTTP_HEADER_AUTHORIZATION));
    enum mr_rc rc = mr_auth_check(call->rest->auth, value, &call->scope, &err);
    call->control.scope = call->scope;
    if (rc != MR_OK)
        mr_control_fail(&call->control,
                        rc == MR_USAGE ? MR_CONTROL_UNAUTHENTICATED : MR_CONTROL_UNAVAILABLE, "%s",
                        err.text);
}

static void find(struct mr_rest_call *call, const char *method, const char *path)
{
    call->route = mr_rest_find_route(method, path, call->name, &call->allow);
    if (call->route)
        call->control.kind = call->route->kind;
    else if (call->allow)
        mr_control_fail(&call->control, MR_CONTROL_METHOD_NOT_ALLOWED,
                        "method %.16s: this path has %s", method, call->allow);
    else
        mr_control_fail(&call->control, MR_CONTROL_NOT_FOUND,
                        "no such path; /openapi.json tells which there are");
}

/* application/json, with or without parameters. */
static bool is_json(const char *type)
{
    static const char json[] = "application/json";
    size_t len = sizeof json - 1;
    return type && strncasecmp(type, json, len) == 0 &&
           (type[len] == 0 || type[len] == ';' || type[len] == ' ');
}

static void check_body(struct mr_rest_call *call)
{
    const char *length = header(call, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (!call->route || !call->route->has_body)
        return;
    if (!length && !header(call, MHD_HTTP_HEADER_TRANSFER_ENCODING))
        mr_control_fail(&call->control, MR_CONTROL_LENGTH_REQUIRED,
                        "expected a body with a Content-Length");
    else if (!is_json(header(call, MHD_HTTP_HEADER_CONTENT_TYPE)))
        mr_control_fail(&call->control, MR_CONTROL_UNSUPPORTED_MEDIA_TYPE,
                        "Content-Type: expected application/json");
    else if (length && strtoull(length, NULL, 10) > call->upload_max)
        call->too_large = true;
}

static struct mr_rest_call *begin(struct mr_rest *rest, struct MHD_Connection *connection,
                                  const char *method, const char *path)
{
    struct mr_rest_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->rest = rest;
    call->connection = connection;
    call->upload_max = rest->config->rest_body_bytes_max;
    call->open = strcmp(path, "/openapi.json") == 0 &&
                 (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0);
    if (call->open)
        return call;
    authenticate(call);
    if (call->control.code == MR_CONTROL_OK)
        find(call, method, path);
    if (call->control.code == MR_CONTROL_OK)
        check_body(call);
    return call;
}

static void take_upload(struct mr_rest_call *call, const char *bytes, size_t len)
{
    call->too_large |= len > call->upload_max - call->upload_len;
    if (call->too_large || call->control.code != MR_CONTROL_OK)
        return; /* read and forgotten, so that the answer can be read */
    char *grown = realloc(call->upload, call->upload_len + len);
    if (!grown) {
        mr_control_fail(&call->control, MR_CONTROL_UNAVAILABLE, "out of memory, try again");
        return;
    }
    memcpy(grown + call->upload_len, bytes, len);
    call->upload = grown;
    call->upload_len += len;
}

/* Pump. */
static void done(struct mr_control *control)
{
    struct mr_rest_call *call = (struct mr_rest_call *)(void *)control;
    atomic_store_explicit(&call->ended, true, memory_order_release);
    MHD_resume_connection(call->connection);
}

/* Hand it to the pump, and wait without holding a thread. False: refused, answer now. */
static bool ask(struct mr_rest_call *call)
{
    struct mr_rest *rest = call->rest;
    static_assert(offsetof(struct mr_rest_call, control) == 0, "done finds it by its control");
    call->asked = true;
    call->control.done = done;
    pthread_mutex_lock(&rest->lock);
    bool stopping = rest->stopping;
    if (!stopping) {
        MHD_suspend_connection(call->connection);
        mr_control_put(rest->queue, &call->control); /* it may be done before this returns */
    }
    pthread_mutex_unlock(&rest->lock);
    if (stopping)
        mr_control_fail(&call->control, MR_CONTROL_UNAVAILABLE,
                        "the publisher is stopping, try again");
    return !stopping;
}

/* The request is whole. */
static enum MHD_Result proceed(struct mr_rest_call *call)
{
    struct mr_control *control = &call->control;
    if (call->too_large)
        mr_control_fail(control, MR_CONTROL_BODY_TOO_LARGE,
                        "body: expected at most %llu bytes (rest.body_bytes_max)",
                        (unsigned long long)call->upload_max);
    if (control->code == MR_CONTROL_OK && !call->route->prepare(call))
        MR_ASSERT(control->code != MR_CONTROL_OK);
    if (control->code != MR_CONTROL_OK)
        return answer(call);
    return ask(call) ? MHD_YES : answer(call);
}

int mr_rest_handle(void *context, struct MHD_Connection *connection, const char *path,
                   const char *method, const char *version, const char *upload, size_t *upload_len,
                   void **state)
{
    struct mr_rest *rest = context;
    struct mr_rest_call *call = *state;
    (void)version;
    if (!call) {
        *state = call = begin(rest, connection, method, path);
        return call ? MHD_YES : MHD_NO;
    }
    if (*upload_len > 0) {
        take_upload(call, upload, *upload_len);
        *upload_len = 0;
        return MHD_YES;
    }
    if (call->asked)
        return atomic_load_explicit(&call->ended, memory_order_acquire) ? (int)answer(call)
                                                                        : MHD_YES;
    mr_rest_guard_busy(&rest->guard, place_of(connection), true, mr_clock_ns());
    if (call->open)
        return (int)answer_document(connection);
    return (int)proceed(call);
}
