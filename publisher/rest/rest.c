#include "publisher/rest/rest.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/listen.h"
#include "common/log.h"
#include "publisher/rest/rest_state.h"

enum { CONNECTION_BYTES = 32 * 1024, IDLE_TIMEOUT_S = 60 };
#define LOOK_NS (500 * MR_NS_PER_MS)

void mr_rest_call_end(void *context, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode code);

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_len, void **state)
{
    return (enum MHD_Result)mr_rest_handle(context, connection, path, method, version, upload,
                                           upload_len, state);
}

static void connection_changed(void *context, struct MHD_Connection *connection, void **state,
                               enum MHD_ConnectionNotificationCode code)
{
    struct mr_rest *rest = context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        mr_rest_guard_leave(&rest->guard, *state);
        *state = NULL;
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    mr_rest_tls_begin(rest->tls, connection);
    *state = info ? mr_rest_guard_enter(&rest->guard, info->connect_fd, mr_clock_ns()) : NULL;
}

/* %XX once, in place. What would put a zero byte into a text stays as it is: a percent sign is in
 * no name. */
static size_t unescape(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strstr(text, "%00") ? strlen(text) : MHD_http_unescape(text);
}

static enum mr_rc start_daemon(struct mr_rest *rest, int fd, struct mr_err *err)
{
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
    struct MHD_OptionItem more[4];
    int count = 0;
    if (rest->tls) {
        const char *trust = mr_rest_tls_trust(rest->tls);
        flags |= MHD_USE_TLS;
        more[count++] =
            (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK, 0, mr_rest_tls_callback()};
        more[count++] = (struct MHD_OptionItem){
            MHD_OPTION_HTTPS_PRIORITIES, 0,
            (void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
        if (trust)
            more[count++] =
                (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, (void *)(uintptr_t)trust};
    }
    more[count] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    rest->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, handle, rest, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)rest->config->rest_connections_max,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES, MHD_OPTION_NOTIFY_COMPLETED, mr_rest_call_end, rest,
        MHD_OPTION_NOTIFY_CONNECTION, connection_changed, rest, MHD_OPTION_UNESCAPE_CALLBACK,
        unescape, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    if (rest->daemon)
        return MR_OK;
    close(fd);
    return mr_reject(err, MR_FATAL, "start the REST server on %s", rest->config->rest_listen.text);
}

/* The second thread: cuts who takes too long to ask, and looks for new certificates. */
static void *keep(void *argument)
{
    struct mr_rest *rest = argument;
    pthread_mutex_lock(&rest->lock);
    while (!rest->stopping) {
        uint64_t until_ns = mr_clock_ns() + LOOK_NS;
        struct timespec until = {.tv_sec = (time_t)(until_ns / MR_NS_PER_S),
                                 .tv_nsec = (long)(until_ns % MR_NS_PER_S)};
        pthread_cond_timedwait(&rest->wake, &rest->lock, &until);
        pthread_mutex_unlock(&rest->lock);
        mr_rest_guard_sweep(&rest->guard, mr_clock_ns(), rest->config->rest_request_timeout);
        if (rest->tls)
            mr_rest_tls_refresh(rest->tls);
        pthread_mutex_lock(&rest->lock);
    }
    pthread_mutex_unlock(&rest->lock);
    return NULL;
}

static enum mr_rc start_keeper(struct mr_rest *rest, struct mr_err *err)
{
    int rc = pthread_create(&rest->keeper, NULL, keep, rest);
    if (rc != 0)
        return mr_reject(err, MR_FATAL, "start a thread of the REST server: %s", strerror(rc));
    pthread_setname_np(rest->keeper, "rest-keeper");
    rest->keeper_runs = true;
    return MR_OK;
}

static struct mr_rest *create(const struct mr_config *config)
{
    struct mr_rest *rest = calloc(1, sizeof *rest);
    if (!rest || !mr_rest_guard_init(&rest->guard, (uint32_t)config->rest_connections_max)) {
        free(rest);
        return NULL;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&rest->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&rest->lock, NULL);
    rest->config = config;
    return rest;
}

enum mr_rc mr_rest_open(struct mr_rest **out, const struct mr_config *config,
                        struct mr_control_queue *queue, struct mr_auth *auth, struct mr_err *err)
{
    int fd = -1;
    *out = NULL;
    if (!*config->rest_listen.text)
        return MR_OK;
    struct mr_rest *rest = create(config);
    if (!rest)
        return mr_fail(err, MR_FATAL, "open the REST server");
    rest->queue = queue;
    rest->auth = auth;
    enum mr_rc rc = mr_rest_tls_open(&rest->tls, config, err);
    if (rc == MR_OK)
        rc = mr_listen("rest.listen", config->rest_listen.text, &fd, err);
    if (rc == MR_OK)
        rc = start_daemon(rest, fd, err);
    if (rc == MR_OK)
        rc = start_keeper(rest, err);
    if (rc != MR_OK) {
        mr_rest_close(&rest);
        return rc;
    }
    mr_log_info("rest", "listening", "address=%s tls=%s", config->rest_listen.text,
                rest->tls ? "yes" : "no");
    *out = rest;
    return MR_OK;
}

void mr_rest_stop(struct mr_rest *rest)
{
    if (!rest)
        return;
    pthread_mutex_lock(&rest->lock);
    rest->stopping = true;
    pthread_cond_signal(&rest->wake);
    pthread_mutex_unlock(&rest->lock);
}

void mr_rest_close(struct mr_rest **out)
{
    struct mr_rest *rest = *out;
    if (!rest)
        return;
    mr_rest_stop(rest);
    if (rest->keeper_runs)
        pthread_join(rest->keeper, NULL);
    if (rest->daemon)
        MHD_stop_daemon(rest->daemon); /* closes the listening socket, too */
    mr_rest_tls_close(&rest->tls);
    mr_rest_guard_fini(&rest->guard);
    pthread_cond_destroy(&rest->wake);
    pthread_mutex_destroy(&rest->lock);
    free(rest);
    *out = NULL;
}
