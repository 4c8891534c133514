/* publisher/rest/rest_state.h: the server from inside, for rest.c (its life) and call.c (its
 * requests). */
#ifndef MR_PUBLISHER_REST_REST_STATE_H
#define MR_PUBLISHER_REST_REST_STATE_H
#include "publisher/rest/call.h"
#include "publisher/rest/guard.h"
#include "publisher/rest/tls.h"

struct MHD_Daemon;
struct mr_rest {
    const struct mr_config *config;
    struct mr_control_queue *queue;
    struct mr_auth *auth;
    struct MHD_Daemon *daemon;
    struct mr_rest_tls *tls; /* NULL: plain */
    struct mr_rest_guard guard;
    pthread_t keeper; /* the second thread */
    bool keeper_runs;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t wake;
    bool stopping;
};

/* The OpenAPI document, made into bytes at build time. */
extern const unsigned char mr_openapi[];
extern const size_t mr_openapi_len;

/* call.c: as libmicrohttpd calls them; context is the server. */
int mr_rest_handle(void *context, struct MHD_Connection *connection, const char *path,
                   const char *method, const char *version, const char *upload, size_t *upload_len,
                   void **state);
#endif
