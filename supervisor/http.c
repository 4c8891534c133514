#include "supervisor/http.h"

#include <inttypes.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/listen.h"
#include "common/log.h"
#include "supervisor/health.h"
#include "supervisor/json.h"

enum { CONNECTIONS_MAX = 128, CONNECTION_TIMEOUT_S = 10, CONNECTION_BYTES = 16384 };

struct mr_http {
    struct MHD_Daemon *daemon;
    struct mr_inspect inspect;
    const char *token; /* of /metrics; empty: none */
    uint64_t started_ns;
    int epoll_fd; /* the daemon's own */
    uint16_t port;
};

/* What a handler made: the text is taken by the response. */
struct answer {
    unsigned status;
    const char *type;
    char *text; /* malloc'd */
    size_t len;
};

static void metrics(struct mr_http *http, FILE *out)
{
    mr_inspect_refresh(&http->inspect);
    mr_inspect_prometheus(&http->inspect, out);
}

/* In a time that tells nothing of where the first difference is. */
static bool may_read(const struct mr_http *http, struct MHD_Connection *connection)
{
    static const char bearer[] = "Bearer ";
    const size_t bearer_len = sizeof bearer - 1, len = strlen(http->token);
    const char *value =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    if (len == 0)
        return true;
    if (!value || strncasecmp(value, bearer, bearer_len) != 0 || strlen(value) != bearer_len + len)
        return false;
    unsigned char difference = 0;
    for (size_t i = 0; i < len; i++)
        difference |= (unsigned char)(value[bearer_len + i] ^ http->token[i]);
    return difference == 0;
}

static bool excluded(struct MHD_Connection *connection, const char *name)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "exclude");
    return value && strcmp(value, name) == 0;
}

/* All checks, or the one that only names. Returns the status code; 0 when there is no such check.
 */
static unsigned ready(struct mr_http *http, struct MHD_Connection *connection, const char *only,
                      FILE *out)
{
    struct mr_health health;
    bool verbose = only || MHD_lookup_connection_value_n(connection, MHD_GET_ARGUMENT_KIND,
                                                         "verbose", 7, NULL, NULL) == MHD_YES;
    bool all = true, seen = false;
    mr_inspect_refresh(&http->inspect);
    mr_health_look(&http->inspect, &health);
    for (uint32_t i = 0; i < health.count; i++) {
        const struct mr_health_check *check = &health.checks[i];
        if (only && strcmp(only, check->name) != 0)
            continue;
        seen = true;
        if (excluded(connection, check->name)) {
            if (verbose)
                fprintf(out, "[+]%s excluded: ok\n", check->name);
            continue;
        }
        all = all && check->ok;
        if (verbose || !check->ok)
            fprintf(out, "[%c]%s %s: %s\n", check->ok ? '+' : '-', check->name,
                    check->ok ? "ok" : "failed", check->detail);
    }
    if (!seen)
        return 0;
    fputs(all ? "ok\n" : "not ready\n", out);
    return all ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static unsigned health_json(struct mr_http *http, FILE *out)
{
    struct mr_health health;
    bool all = true;
    mr_inspect_refresh(&http->inspect);
    mr_health_look(&http->inspect, &health);
    for (uint32_t i = 0; i < health.count; i++)
        all = all && health.checks[i].ok;
    fprintf(
        out,
        "{\"status\":\"%s\",\"uptime\":%.3f,\"version\":\"%s\",\"instance\":\"%s\",\"checks\":[",
        health.given_up ? "unhealthy"
        : all           ? "ok"
                        : "degraded",
        (double)(mr_clock_ns() - http->started_ns) / 1e9, MR_VERSION, http->inspect.instance);
    for (uint32_t i = 0; i < health.count; i++) {
        fprintf(out, "%s{\"name\":\"%s\",\"ok\":%s,\"detail\":", i ? "," : "",
                health.checks[i].name, health.checks[i].ok ? "true" : "false");
        mr_json_text(out, health.checks[i].detail, sizeof health.checks[i].detail);
        fputc('}', out);
    }
    fputs("]}\n", out);
    return health.given_up ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK;
}

static unsigned route(struct mr_http *http, struct MHD_Connection *connection, const char *path,
                      const char **type, FILE *out)
{
    *type = "text/plain; charset=utf-8";
    if (strcmp(path, "/metrics") == 0 && !may_read(http, connection)) {
        fputs("expected the token of http.metrics_token: Authorization: Bearer TOKEN\n", out);
        return MHD_HTTP_UNAUTHORIZED;
    }
    if (strcmp(path, "/metrics") == 0) {
        *type = "text/plain; version=0.0.4; charset=utf-8";
        metrics(http, out);
        return MHD_HTTP_OK;
    }
    if (strcmp(path, "/livez") == 0 || strcmp(path, "/healthz") == 0 ||
        strcmp(path, "/health/live") == 0) {
        fputs("ok\n", out);
        return MHD_HTTP_OK;
    }
    if (strcmp(path, "/readyz") == 0 || strcmp(path, "/health/ready") == 0)
        return ready(http, connection, NULL, out);
    if (strcmp(path, "/health") == 0) {
        *type = "application/json";
        return health_json(http, out);
    }
    unsigned status =
        strncmp(path, "/readyz/", 8) == 0 ? ready(http, connection, path + 8, out) : 0;
    if (status == 0) {
        fputs("not found: there are /metrics, /livez, /readyz, /health, /health/live, "
              "/health/ready\n",
              out);
        return MHD_HTTP_NOT_FOUND;
    }
    return status;
}

static enum MHD_Result reply(struct MHD_Connection *connection, struct answer *answer)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(answer->len, answer->text, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(answer->text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (answer->status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (answer->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_len, void **state)
{
    struct mr_http *http = context;
    struct answer answer = {.type = "text/plain; charset=utf-8"};
    (void)version;
    (void)upload;
    (void)state;
    *upload_len = 0;
    FILE *out = open_memstream(&answer.text, &answer.len);
    if (!out)
        return MHD_NO;
    if (strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0) {
        answer.status = route(http, connection, path, &answer.type, out);
    } else {
        answer.status = MHD_HTTP_METHOD_NOT_ALLOWED;
        fprintf(out, "method %s is not allowed here: GET or HEAD\n", method);
    }
    if (fclose(out) != 0) {
        free(answer.text);
        return MHD_NO;
    }
    return reply(connection, &answer);
}

static enum mr_rc listen_on(const char *address, int *out, uint16_t *port, struct mr_err *err)
{
    struct sockaddr_storage bound;
    socklen_t bound_len = sizeof bound;
    char service[16];
    enum mr_rc rc = mr_listen("http.listen", address, out, err);
    if (rc != MR_OK)
        return rc;
    if (getsockname(*out, (struct sockaddr *)&bound, &bound_len) != 0) {
        rc = mr_fail(err, MR_USAGE, "listen on http.listen %s", address);
        close(*out);
        return rc;
    }
    getnameinfo((struct sockaddr *)&bound, bound_len, NULL, 0, service, sizeof service,
                NI_NUMERICSERV);
    *port = (uint16_t)strtoul(service, NULL, 10);
    return MR_OK;
}

enum mr_rc mr_http_open(struct mr_http **out, const struct mr_http_options *options,
                        struct mr_err *err)
{
    int fd;
    const char *address = options->listen;
    struct mr_http *http = calloc(1, sizeof *http);
    if (!http)
        return mr_fail(err, MR_FATAL, "open http on %s", address);
    http->started_ns = mr_clock_ns();
    http->token = options->token;
    enum mr_rc rc = listen_on(address, &fd, &http->port, err);
    if (rc != MR_OK)
        goto out_free;
    rc = mr_inspect_open(&http->inspect, options->instance, err);
    if (rc != MR_OK) {
        close(fd);
        goto out_free;
    }
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL, 0, NULL, NULL, handle, http, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)CONNECTION_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES, MHD_OPTION_END);
    const union MHD_DaemonInfo *info =
        http->daemon ? MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info) {
        rc = mr_reject(err, MR_FATAL, "start the http server on %s", address);
        if (!http->daemon)
            close(fd); /* a running daemon closes it itself */
        mr_http_close(&http);
        return rc;
    }
    http->epoll_fd = info->epoll_fd;
    mr_log_info("http", "listening", "address=%s port=%u", address, http->port);
    *out = http;
    return MR_OK;
out_free:
    free(http);
    return rc;
}

void mr_http_close(struct mr_http **http)
{
    if (!*http)
        return;
    if ((*http)->daemon)
        MHD_stop_daemon((*http)->daemon); /* closes the listening socket, too */
    mr_inspect_close(&(*http)->inspect);
    free(*http);
    *http = NULL;
}

int mr_http_fd(const struct mr_http *http)
{
    return http->epoll_fd;
}

uint16_t mr_http_port(const struct mr_http *http)
{
    return http->port;
}

void mr_http_work(struct mr_http *http)
{
    MHD_run(http->daemon);
}

uint64_t mr_http_timeout_ns(const struct mr_http *http)
{
    MHD_UNSIGNED_LONG_LONG ms;
    return MHD_get_timeout(http->daemon, &ms) == MHD_YES ? ms * MR_NS_PER_MS : UINT64_MAX;
}
