/* publisher/rest/call.h: one request of a client, from its first line to its answer. */
#ifndef MR_PUBLISHER_REST_CALL_H
#define MR_PUBLISHER_REST_CALL_H
#include "publisher/rest/body.h"
#include "publisher/rest/rest.h"

struct MHD_Connection;
struct mr_rest_call;

/* A row of the table of paths. One "{}" stands for one name. */
struct mr_rest_route {
    const char *method, *path;
    enum mr_control_kind kind;
    bool has_body;
    /* Turn body and arguments into the call's control. False: it has failed. */
    bool (*prepare)(struct mr_rest_call *call);
    /* What to say when the pump is done with it and it has not failed; returns the status. */
    unsigned (*answer)(struct mr_rest_call *call, struct mr_json *json);
};

struct mr_rest_call {
    struct mr_control control; /* first: done finds its call by it */
    struct mr_rest *rest;
    struct MHD_Connection *connection;
    const struct mr_rest_route *route; /* NULL: failed before */
    const char *allow;                 /* 405: which methods there are */
    char name[MR_DURABLE_NAME_MAX + 1];
    struct mr_rest_body body;
    struct mr_control_item item;
    struct mr_scope *scope;
    char *upload;
    size_t upload_len;
    uint64_t upload_max;
    bool too_large, asked;
    _Atomic bool ended; /* the pump is done with it */
    bool open;          /* served without a look at who asks */
};

/* The route of a method and a path, or NULL: *allow says which methods the path has, NULL: none.
 * name: what stands at the path's "{}". */
const struct mr_rest_route *mr_rest_find_route(const char *method, const char *path,
                                               char name[MR_DURABLE_NAME_MAX + 1],
                                               const char **allow);
/* A query argument; NULL: there is none. */
const char *mr_rest_argument(const struct mr_rest_call *call, const char *name);
#endif
