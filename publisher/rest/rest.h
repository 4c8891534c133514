/* publisher/rest/rest.h: the control plane over HTTP: durable subscriptions are registered,
 * renewed, replaced, removed, looked at and explained. Paths, bodies and codes: docs/rest.md, and
 * the OpenAPI document that is served at /openapi.json.
 *
 * One thread of its own runs the server (libmicrohttpd); it hands requests to the pump by a queue
 * (publisher/control.h) and answers when the pump is done with them. A second one closes
 * connections that take too long to ask, and looks for new certificates. */
#ifndef MR_PUBLISHER_REST_REST_H
#define MR_PUBLISHER_REST_REST_H
#include "common/config.h"
#include "publisher/control.h"
#include "rpc/auth.h"

struct mr_rest;

/* Listen on rest.listen; nothing to do, and *out NULL, when that is empty. queue and auth must
 * outlive it. MR_USAGE, MR_RETRY: why it cannot listen. */
MR_MUST_USE enum mr_rc mr_rest_open(struct mr_rest **out, const struct mr_config *config,
                                    struct mr_control_queue *queue, struct mr_auth *auth,
                                    struct mr_err *err);
/* No request reaches the queue after this returns; those that are in it still have to be done. */
void mr_rest_stop(struct mr_rest *rest);
/* After stop, and after every request was done. NULL is allowed. */
void mr_rest_close(struct mr_rest **rest);
#endif
