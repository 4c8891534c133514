/* supervisor/http.h: /metrics and health over HTTP, read from the board.
 *
 *   /metrics                     Prometheus text
 *   /livez /healthz /health/live the supervisor's loop turns; depends on nothing else
 *   /readyz /health/ready        every check holds; ?verbose lists them, ?exclude=NAME leaves one
 * out, /readyz/NAME asks for one alone /health                      JSON: status ok | degraded |
 * unhealthy (503), uptime, checks
 *
 * Runs inside the supervisor's own loop: no thread. Open to whoever reaches the address; /metrics
 * may ask for a token. */
#ifndef MR_SUPERVISOR_HTTP_H
#define MR_SUPERVISOR_HTTP_H
#include <stdint.h>

#include "common/err.h"

struct mr_http;

struct mr_http_options {
    const char *listen;   /* "host:port": "127.0.0.1:9090", "[::1]:9090"; port 0: any */
    const char *instance; /* its name */
    const char *token;    /* bearer token of /metrics, borrowed until close; empty: none */
};
/* Listen. The board of the instance
 * must be there. MR_USAGE: no such address; MR_RETRY: in use. */
MR_MUST_USE enum mr_rc mr_http_open(struct mr_http **out, const struct mr_http_options *options,
                                    struct mr_err *err);
void mr_http_close(struct mr_http **http);
int mr_http_fd(const struct mr_http *http);        /* readable when work is due; for epoll */
uint16_t mr_http_port(const struct mr_http *http); /* the one listened on */
void mr_http_work(struct mr_http *http);
/* Nanoseconds until work is due without the descriptor; UINT64_MAX: none. */
uint64_t mr_http_timeout_ns(const struct mr_http *http);
#endif
