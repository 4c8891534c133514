#include "rpc/grpc_health.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/protobuf.h"
#include "rpc/grpc_talk.h"

/* grpc.health.v1.HealthCheckResponse.ServingStatus */
enum serving_status { STATUS_UNKNOWN, STATUS_SERVING, STATUS_NOT_SERVING, STATUS_SERVICE_UNKNOWN };
enum { FIELD_REQUEST_SERVICE = 1, FIELD_RESPONSE_STATUS = 1, WATCHERS_MAX = 1024 };

/* One Watch call. */
struct watcher {
    struct mr_grpc_health *health;
    struct mr_grpc_call call;
    struct mr_grpc_op read, write, end, close, nudge;
    grpc_byte_buffer *request;
    int cancelled;
    /* Queue thread only. */
    bool known;               /* the service it asked for is one of ours */
    bool asked;               /* the request has been read */
    bool busy, ending, ended; /* a write is under way; the status too; it went out */
    bool closed;
    enum serving_status told;
    /* Guarded by health->lock. */
    struct watcher *next, **link;
    bool nudged;
};

struct mr_grpc_health {
    const char *service;
    struct mr_grpc_talk check;
    pthread_mutex_t lock; /* of all below; the pump changes, the queue thread reads */
    bool serving, stopping;
    uint32_t watcher_count;
    struct watcher *watchers;
};

static bool parse_service(struct mr_str request, struct mr_str *out, const char **problem)
{
    struct mr_pb_reader reader = mr_pb_read(request);
    struct mr_pb_field field;
    *out = (struct mr_str){NULL, 0};
    while (mr_pb_next(&reader, &field)) {
        if (field.number == FIELD_REQUEST_SERVICE && field.type == MR_PB_BYTES)
            *out = field.bytes;
    }
    *problem = reader.problem;
    return reader.problem == NULL;
}

static bool is_ours(const struct mr_grpc_health *health, struct mr_str service)
{
    return service.len == 0 || mr_str_equal(service, mr_str_from(health->service));
}

static grpc_slice encode_status(enum serving_status status)
{
    uint8_t bytes[MR_PB_VARINT_MAX * 2];
    uint8_t *end = mr_pb_put_number(bytes, FIELD_RESPONSE_STATUS, status);
    return grpc_slice_from_copied_buffer((const char *)bytes, (size_t)(end - bytes));
}

static void answer_check(void *context, struct mr_str request, struct mr_grpc_answer *out)
{
    struct mr_grpc_health *health = context;
    struct mr_str service;
    const char *problem;
    if (!parse_service(request, &service, &problem)) {
        out->status = GRPC_STATUS_INVALID_ARGUMENT;
        snprintf(out->buffer, sizeof out->buffer, "expected a HealthCheckRequest, but %s", problem);
        out->text = out->buffer;
        return;
    }
    if (!is_ours(health, service)) {
        out->status = GRPC_STATUS_NOT_FOUND;
        snprintf(out->buffer, sizeof out->buffer, "service \"%.*s\" is not served here",
                 (int)(service.len < 128 ? service.len : 128), service.data);
        out->text = out->buffer;
        return;
    }
    pthread_mutex_lock(&health->lock);
    bool serving = health->serving;
    pthread_mutex_unlock(&health->lock);
    out->message = encode_status(serving ? STATUS_SERVING : STATUS_NOT_SERVING);
}

void mr_grpc_health_check(struct mr_grpc_call call, void *context)
{
    struct mr_grpc_health *health = context;
    mr_grpc_talk_begin(call, &health->check);
}

/* Free a watcher whose call is over and to which no nudge is on its way. */
static void let_go(struct watcher *w)
{
    struct mr_grpc_health *health = w->health;
    if (!w->closed || w->busy || (w->ending && !w->ended) || !w->asked)
        return;
    pthread_mutex_lock(&health->lock);
    bool nudged = w->nudged;
    if (!nudged) {
        *w->link = w->next;
        if (w->next)
            w->next->link = w->link;
        health->watcher_count--;
    }
    pthread_mutex_unlock(&health->lock);
    if (nudged)
        return; /* the nudge will come by here again */
    mr_grpc_call_fini(&w->call);
    free(w);
}

static void end_watch(struct watcher *w, grpc_status_code status, const char *text)
{
    grpc_slice details = grpc_slice_from_copied_string(text);
    grpc_op op = mr_grpc_op_send_status(status, &details);
    w->ending = true;
    mr_grpc_start(w->call.call, &op, 1, &w->end);
    grpc_slice_unref(details);
}

/* Whatever has happened: tell the next status, or end, or let go. */
static void step(struct watcher *w)
{
    struct mr_grpc_health *health = w->health;
    if (w->closed || w->busy || w->ending || !w->asked) {
        let_go(w);
        return;
    }
    pthread_mutex_lock(&health->lock);
    enum serving_status now = health->serving ? STATUS_SERVING : STATUS_NOT_SERVING;
    bool stopping = health->stopping;
    pthread_mutex_unlock(&health->lock);
    if (!w->known)
        now = STATUS_SERVICE_UNKNOWN;
    if (now != w->told) {
        grpc_slice bytes = encode_status(now);
        grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&bytes, 1);
        grpc_slice_unref(bytes);
        grpc_op op = mr_grpc_op_send(message, 0);
        w->told = now;
        w->busy = true;
        mr_grpc_start(w->call.call, &op, 1, &w->write);
        grpc_byte_buffer_destroy(message);
    } else if (stopping) {
        end_watch(w, GRPC_STATUS_UNAVAILABLE, "the server is stopping");
    }
}

static void watch_read(void *owner, bool ok)
{
    struct watcher *w = owner;
    w->asked = true;
    if (!ok || !w->request) {
        end_watch(w, GRPC_STATUS_INVALID_ARGUMENT, "expected one request message, got none");
        return;
    }
    grpc_slice bytes = mr_grpc_take_bytes(w->request);
    w->request = NULL;
    struct mr_str service;
    const char *problem;
    if (parse_service(mr_grpc_slice_str(&bytes), &service, &problem)) {
        w->known = is_ours(w->health, service);
        step(w);
    } else {
        char text[128];
        snprintf(text, sizeof text, "expected a HealthCheckRequest, but %s", problem);
        end_watch(w, GRPC_STATUS_INVALID_ARGUMENT, text);
    }
    grpc_slice_unref(bytes);
}

static void watch_written(void *owner, bool ok)
{
    struct watcher *w = owner;
    (void)ok; /* false: the client is gone, and closed says so */
    w->busy = false;
    step(w);
}

static void watch_ended(void *owner, bool ok)
{
    struct watcher *w = owner;
    (void)ok;
    w->ended = true;
    let_go(w);
}

static void watch_closed(void *owner, bool ok)
{
    struct watcher *w = owner;
    (void)ok;
    w->closed = true;
    let_go(w);
}

static void watch_nudged(void *owner, bool ok)
{
    struct watcher *w = owner;
    (void)ok;
    pthread_mutex_lock(&w->health->lock);
    w->nudged = false;
    pthread_mutex_unlock(&w->health->lock);
    step(w);
}

/* False: there are too many. */
static bool enlist(struct watcher *w)
{
    struct mr_grpc_health *health = w->health;
    pthread_mutex_lock(&health->lock);
    bool room = health->watcher_count < WATCHERS_MAX;
    if (room) {
        health->watcher_count++;
        w->next = health->watchers;
        w->link = &health->watchers;
        if (w->next)
            w->next->link = &w->next;
        health->watchers = w;
    }
    pthread_mutex_unlock(&health->lock);
    return room;
}

void mr_grpc_health_watch(struct mr_grpc_call call, void *context)
{
    struct watcher *w = calloc(1, sizeof *w);
    if (w) {
        *w = (struct watcher){.health = context,
                              .call = call,
                              .read = {watch_read, w},
                              .write = {watch_written, w},
                              .end = {watch_ended, w},
                              .close = {watch_closed, w},
                              .nudge = {watch_nudged, w}};
    }
    if (!w || !enlist(w)) { /* once in the list, the pump may nudge it */
        free(w);
        mr_grpc_refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED,
                       "too many health watchers: 1024 at most");
        return;
    }
    grpc_op close = mr_grpc_op_receive_close(&w->cancelled);
    mr_grpc_start(call.call, &close, 1, &w->close);
    grpc_op ops[] = {mr_grpc_op_send_metadata(), mr_grpc_op_receive(&w->request)};
    mr_grpc_start(call.call, ops, 2, &w->read);
}

/* A nudge posts to the completion queue and never waits, so it may be done under the lock, which in
 * turn keeps the watchers alive. */
static void nudge_all(struct mr_grpc_health *health)
{
    for (struct watcher *w = health->watchers; w; w = w->next) {
        if (!w->nudged) {
            w->nudged = true;
            mr_grpc_nudge(w->call.call, &w->nudge);
        }
    }
}

void mr_grpc_health_serving(struct mr_grpc_health *health, bool serving)
{
    pthread_mutex_lock(&health->lock);
    bool changed = health->serving != serving;
    health->serving = serving;
    if (changed)
        nudge_all(health);
    pthread_mutex_unlock(&health->lock);
}

void mr_grpc_health_stop(struct mr_grpc_health *health)
{
    pthread_mutex_lock(&health->lock);
    health->stopping = true;
    nudge_all(health);
    pthread_mutex_unlock(&health->lock);
}

enum mr_rc mr_grpc_health_create(struct mr_grpc_health **out, const char *service,
                                 struct mr_err *err)
{
    struct mr_grpc_health *health = calloc(1, sizeof *health);
    if (!health)
        return mr_reject(err, MR_FATAL, "health service: out of memory");
    health->service = service;
    health->check = (struct mr_grpc_talk){.once = true, .answer = answer_check, .context = health};
    pthread_mutex_init(&health->lock, NULL);
    *out = health;
    return MR_OK;
}

void mr_grpc_health_destroy(struct mr_grpc_health **health)
{
    if (!*health)
        return;
    MR_ASSERT((*health)->watchers == NULL);
    pthread_mutex_destroy(&(*health)->lock);
    free(*health);
    *health = NULL;
}
