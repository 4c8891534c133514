#include <inttypes.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/marker.h"
#include "proto/match.h"
#include "publisher/pump_state.h"

/* Requests of one turn: deliveries go in between. */
enum { TURN_REQUESTS = 512 };

enum mr_rc mr_pump_compile(const struct mr_pump *pump, const struct mr_request *request,
                           void **program, uint32_t *len, struct mr_err *err)
{
    const struct mr_program_source source = {.database = request->database,
                                             .collection = request->collection,
                                             .predicates = request->predicates,
                                             .predicate_count = request->predicate_count,
                                             .cel = request->cel};
    return mr_program_compile(pump->compiler, &source, program, len, err);
}

/* The journal record: head and program in one piece of memory, kept for compaction. */
static enum mr_rc make_record(const struct mr_pump *pump, struct mr_subscription *s,
                              const struct mr_request *request, struct mr_err *err)
{
    void *program;
    uint32_t len;
    enum mr_rc rc = mr_pump_compile(pump, request, &program, &len, err);
    if (rc != MR_OK)
        return rc;
    struct mr_subscribe_head *head = malloc(sizeof *head + len);
    if (head) {
        *head = (struct mr_subscribe_head){
            .subscription = mr_subscription_id(s),
            .flags = request->transitions ? MR_SUBSCRIBE_TRANSITIONS : 0,
        };
        memcpy(head + 1, program, len);
        s->record = head;
        s->record_len = (uint32_t)sizeof *head + len;
    }
    free(program);
    return head ? MR_OK : mr_reject(err, MR_RETRY, "out of memory, try again");
}

enum mr_rc mr_pump_parse_after(const struct mr_pump *pump, struct mr_str text, uint64_t *after,
                               bool *resume, struct mr_err *err)
{
    struct mr_marker marker;
    enum mr_rc rc = mr_marker_parse(text, &marker, err);
    if (rc != MR_OK)
        return mr_err_prefix(err, "after");
    uint64_t floor = atomic_load_explicit(&pump->board->log_floor, memory_order_acquire);
    uint64_t last = atomic_load_explicit(&pump->board->log_written, memory_order_acquire), fed = 0;
    if (mr_shard_set_fed(pump->current, &fed) && fed > last)
        last = fed;
    last = pump->merged > last ? pump->merged : last;
    *after = marker.sequence;
    *resume = marker.log_id == pump->deliverer.log_id && marker.sequence + 1 >= floor &&
              marker.sequence <= last;
    return MR_OK;
}

enum mr_rc mr_pump_enter(struct mr_pump *pump, struct mr_subscription *s,
                         const struct mr_request *request, uint64_t now_ns, struct mr_err *err)
{
    uint64_t after = 0;
    bool resume = false, wants_state = request->snapshot && !s->lease && !s->internal;
    enum mr_rc rc = s->internal ? MR_OK : mr_tenant_join(&pump->table, s, request->database, err);
    if (rc == MR_OK && request->after.len > 0)
        rc = mr_pump_parse_after(pump, request->after, &after, &resume, err);
    if (rc == MR_OK)
        rc = make_record(pump, s, request, err);
    if (rc != MR_OK)
        return rc;
    /* Before the first generation begins there is no journal: it begins with the whole table. */
    rc = pump->reg.current ? mr_register_add(&pump->reg, s) : MR_OK;
    if (rc != MR_OK)
        return mr_reject(err, rc, "no room in the subscription journal, try again later");
    s->requested_ns = now_ns;
    bool snapshot = wants_state && !resume &&
                    atomic_load_explicit(&pump->board->log_floor, memory_order_acquire) <= 1;
    s->resync = (request->after.len > 0 || wants_state) && !resume && !snapshot;
    TAILQ_INSERT_TAIL(&pump->announced, s, waiting);
    pump->announced_changed |= pump->reg.current == NULL;
    if (!resume && !snapshot)
        return MR_OK;
    rc = snapshot ? mr_resume_snapshot(&pump->resume, s, now_ns, err)
                  : mr_resume_join(&pump->resume, s, after, now_ns, err);
    if (rc != MR_OK) {
        TAILQ_REMOVE(&pump->announced, s, waiting);
        mr_register_remove(&pump->reg, s);
        return rc;
    }
    if (snapshot)
        return MR_OK; /* it is answered when it has the state */
    mr_deliverer_confirm(&pump->deliverer, s, after);
    mr_pump_set_confirmed(pump, s);
    return MR_OK;
}

static void subscribe(struct mr_pump *pump, struct mr_gateway *gateway,
                      const struct mr_request *request, uint64_t now_ns)
{
    struct mr_err err = {0};
    struct mr_subscription *s = NULL;
    enum mr_control_code code;
    enum mr_rc rc = mr_pump_check(pump, request, &code, &err);
    if (rc == MR_OK && !request->internal)
        rc = mr_pump_check_quotas(pump, gateway, request->database, &code, &err);
    /* A name's durable subscriptions and those of its stream reach the same peer. */
    if (rc == MR_OK && gateway->bound && request->subscription_id.len > 0 &&
        mr_subscription_find(&pump->table, gateway->bound, request->subscription_id))
        rc = mr_reject(&err, MR_USAGE, "subscription ID already exists");
    if (rc == MR_OK) {
        rc = mr_subscription_add(&pump->table, gateway, request->subscription_id, &s);
        if (rc == MR_USAGE)
            (void)mr_reject(&err, rc, "subscription ID already exists");
        else if (rc != MR_OK)
            (void)mr_reject(&err, rc, "out of memory, try again");
    }
    if (rc == MR_OK) {
        if (request->internal)
            mr_subscription_set_internal(&pump->table, s);
        rc = mr_pump_enter(pump, s, request, now_ns, &err);
        if (rc != MR_OK)
            mr_subscription_remove(&pump->table, s);
    }
    if (rc == MR_OK)
        mr_count(pump->cell, MR_COUNTER_SUBSCRIBE, !request->internal);
    else
        mr_deliverer_refuse(&pump->deliverer, gateway->id, request->subscription_id, err.text,
                            rc != MR_USAGE);
}

void mr_pump_end(struct mr_pump *pump, struct mr_subscription *s)
{
    mr_register_remove(&pump->reg, s);
    bool resuming = s->state == MR_SUB_RESUMING;
    if (s->state == MR_SUB_ANNOUNCED || (resuming && !s->applied))
        TAILQ_REMOVE(&pump->announced, s, waiting);
    else if (s->state == MR_SUB_WAITING)
        TAILQ_REMOVE(&pump->waiting, s, waiting);
    if (resuming)
        mr_resume_leave(s);
    if (s->lease)
        mr_durable_ended(pump, s);
    if (s->confirmed && !s->internal)
        mr_gauge(pump->cell, MR_COUNTER_SUBSCRIPTIONS,
                 mr_counter_get(pump->cell, MR_COUNTER_SUBSCRIPTIONS) - 1);
    if (s->trouble != MR_TROUBLE_NONE)
        mr_gauge(pump->cell, MR_COUNTER_QUARANTINED,
                 mr_counter_get(pump->cell, MR_COUNTER_QUARANTINED) - 1);
    mr_count(pump->cell, MR_COUNTER_UNSUBSCRIBE, !s->internal);
    mr_subscription_remove(&pump->table, s);
}

static void unsubscribe(struct mr_pump *pump, struct mr_gateway *gateway, struct mr_str client_id)
{
    struct mr_subscription *s = mr_subscription_find(&pump->table, gateway, client_id);
    if (!s)
        return; /* as upstream: no answer, so no complaint */
    if (!s->confirmed)
        mr_deliverer_refuse(&pump->deliverer, gateway->id, client_id,
                            "unsubscribed before it was confirmed", false);
    mr_pump_end(pump, s);
}

static enum mr_rc open_gateway(struct mr_pump *pump, const struct mr_request *request,
                               struct mr_err *err)
{
    struct mr_gateway *gateway;
    if (mr_gateway_find(&pump->table, request->gateway))
        return MR_OK; /* a sink that says it twice means the same one */
    enum mr_rc rc = mr_gateway_add(&pump->table, request->gateway, &gateway, err);
    if (rc != MR_OK)
        return rc;
    if (request->own)
        mr_gateway_set_own(&pump->table, gateway);
    else
        gateway->over_limit = pump->table.gateway_count > pump->config->publisher_gateways_max;
    return MR_OK;
}

static void close_gateway(struct mr_pump *pump, struct mr_gateway *gateway, uint64_t now_ns)
{
    while (!TAILQ_EMPTY(&gateway->subscriptions))
        mr_pump_end(pump, TAILQ_FIRST(&gateway->subscriptions));
    mr_durable_unbind(pump, gateway, now_ns);
    mr_resume_close_gateway(gateway);
    mr_gateway_remove(&pump->table, gateway);
}

/* Names the gateway for which the stream speaks, and may say where that one's durable subscriptions
 * go on. A stream that may not, or whose marker is none, is told nothing new: it gets an answer
 * without them. */
static bool speak_for(struct mr_pump *pump, struct mr_gateway *gateway,
                      const struct mr_request *request, uint64_t now_ns)
{
    struct mr_err err = {0};
    bool resync = false;
    if (request->gateway_name.len == 0)
        return false;
    enum mr_rc rc = mr_durable_bind(pump, gateway, request, now_ns, &err);
    if (rc == MR_OK && request->after.len > 0)
        rc = mr_durable_resume(pump, gateway->bound, request->after, &resync, now_ns, &err);
    if (rc != MR_OK)
        mr_log_warn("pump", "not_bound", "gateway=%" PRIu64 " why=\"%s\"", gateway->id, err.text);
    return resync;
}

static void acknowledge(struct mr_pump *pump, const struct mr_gateway *gateway,
                        int64_t timestamp_ms, bool resync)
{
    char text[MR_MARKER_TEXT_MAX];
    uint64_t through = mr_resume_progress(gateway, pump->merged);
    if (gateway->bound)
        through = mr_resume_progress(gateway->bound, through);
    struct mr_marker marker = {.log_id = pump->deliverer.log_id, .sequence = through};
    struct mr_str progress = {text, mr_marker_format(marker, text)};
    enum mr_rc rc =
        pump->sink->ops->acknowledge(pump->sink, gateway->id, timestamp_ms, progress, resync);
    MR_ASSERT(rc == MR_OK || rc == MR_CLOSED);
    pump->deliverer.queued = true;
}

static enum mr_rc handle(struct mr_pump *pump, const struct mr_request *request, uint64_t now_ns,
                         struct mr_err *err)
{
    if (request->kind == MR_REQUEST_OPEN)
        return open_gateway(pump, request, err);
    struct mr_gateway *gateway = mr_gateway_find(&pump->table, request->gateway);
    if (!gateway && request->kind != MR_REQUEST_REGISTER)
        return MR_OK;
    switch (request->kind) {
    case MR_REQUEST_OPEN:
        break;
    case MR_REQUEST_SUBSCRIBE:
        subscribe(pump, gateway, request, now_ns);
        break;
    case MR_REQUEST_UNSUBSCRIBE:
        unsubscribe(pump, gateway, request->subscription_id);
        break;
    case MR_REQUEST_HEARTBEAT:
        acknowledge(pump, gateway, request->timestamp_ms,
                    speak_for(pump, gateway, request, now_ns));
        break;
    case MR_REQUEST_REGISTER:
        mr_control_put(&pump->durable.queue, request->control);
        break;
    case MR_REQUEST_CLOSE:
        close_gateway(pump, gateway, now_ns);
        break;
    }
    return MR_OK;
}

enum mr_rc mr_pump_take_requests(struct mr_pump *pump, uint64_t now_ns, uint64_t *done,
                                 struct mr_err *err)
{
    for (uint32_t i = 0; i < TURN_REQUESTS && (i == 0 || !mr_pump_is_late(pump)); i++) {
        if (!pump->has_request && pump->sink->ops->poll(pump->sink, &pump->request) != MR_OK)
            return MR_OK;
        pump->has_request = false;
        enum mr_rc rc = handle(pump, &pump->request, now_ns, err);
        if (rc != MR_OK)
            return rc;
        ++*done;
    }
    return MR_OK;
}
