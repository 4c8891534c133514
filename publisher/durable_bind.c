#include <inttypes.h>

#include "common/log.h"
#include "publisher/pump_state.h"

/* What was being caught up has nobody to go to. Matches through shards_after are still in no match
 * ring: whoever goes on gets these from the log. */
static void stop_resuming(struct mr_pump *pump, struct mr_gateway *named)
{
    struct mr_subscription *s;
    TAILQ_FOREACH(s, &named->subscriptions, of_gateway)
    {
        if (s->state != MR_SUB_RESUMING)
            continue;
        uint64_t after = s->catchup->pump.shards_after;
        mr_resume_leave(s);
        s->state = s->applied ? MR_SUB_LIVE : MR_SUB_ANNOUNCED;
        s->active_after = s->applied ? (after > pump->merged ? after : pump->merged) : UINT64_MAX;
    }
    mr_resume_close_gateway(named);
}

/* Nobody speaks for it now; that its stream was cut does not concern the next one. */
static void release(struct mr_pump *pump, struct mr_gateway *named)
{
    stop_resuming(pump, named);
    named->bound->bound = NULL;
    named->bound = NULL;
    named->stream = 0;
    named->cut = false;
}

enum mr_rc mr_durable_bind(struct mr_pump *pump, struct mr_gateway *stream,
                           const struct mr_request *request, uint64_t now_ns, struct mr_err *err)
{
    struct mr_str name = request->gateway_name;
    if (stream->bound && mr_str_equal(stream->bound->name, name)) {
        stream->bound->seen_ns = now_ns;
        return MR_OK;
    }
    if (stream->over_limit)
        return mr_reject(err, MR_USAGE, "too many gateways (publisher.gateways_max)");
    if (!mr_durable_is_name(name))
        return mr_reject(err, MR_USAGE, "gateway_id: expected 1 to %d of A-Z a-z 0-9 _ -",
                         MR_DURABLE_NAME_MAX);
    if (!mr_scope_listens_for(request->scope, name))
        return mr_reject(err, MR_USAGE, "the token does not reach gateway \"%.*s\"", (int)name.len,
                         name.data);
    struct mr_gateway *named = mr_gateway_named(&pump->table, name);
    enum mr_rc rc = named ? MR_OK : mr_gateway_add_named(&pump->table, name, &named, err);
    if (rc != MR_OK)
        return rc;
    mr_durable_unbind(pump, stream, now_ns);
    if (named->bound) /* the last one to speak for it does */
        release(pump, named);
    named->bound = stream;
    named->stream = stream->id;
    named->seen_ns = now_ns;
    stream->bound = named;
    struct mr_subscription *s;
    TAILQ_FOREACH(s, &named->subscriptions, of_gateway)
    mr_deliverer_tell_trouble(&pump->deliverer, s);
    mr_log_info("pump", "bound", "gateway=%" PRIu64 " name=%.*s subscriptions=%u", stream->id,
                (int)name.len, name.data, named->subscription_count);
    return MR_OK;
}

void mr_durable_unbind(struct mr_pump *pump, struct mr_gateway *gateway, uint64_t now_ns)
{
    struct mr_gateway *named = gateway->name.len > 0 ? gateway : gateway->bound;
    if (!named || !named->bound)
        return;
    release(pump, named);
    named->seen_ns = now_ns;
    if (named->subscription_count == 0)
        mr_gateway_remove(&pump->table, named);
}

enum mr_rc mr_durable_resume(struct mr_pump *pump, struct mr_gateway *named, struct mr_str after,
                             bool *resync, uint64_t now_ns, struct mr_err *err)
{
    uint64_t sequence;
    bool resume;
    enum mr_rc rc = mr_pump_parse_after(pump, after, &sequence, &resume, err);
    if (rc != MR_OK)
        return rc;
    *resync = !resume;
    struct mr_subscription *s;
    TAILQ_FOREACH(s, &named->subscriptions, of_gateway)
    {
        /* Who waits for a confirmation, starts behind that. */
        if (!resume || s->state == MR_SUB_RESUMING || s->lease->waiter || s->lease->predecessor)
            continue;
        if (s->lease->successor)
            mr_durable_undo_replace(pump, s);
        if (s->state == MR_SUB_WAITING)
            TAILQ_REMOVE(&pump->waiting, s, waiting);
        rc = mr_resume_join(&pump->resume, s, sequence, now_ns, err);
        if (rc != MR_OK)
            return rc;
        mr_pump_set_confirmed(pump, s);
    }
    return MR_OK;
}

void mr_durable_keep_seen(struct mr_pump *pump, uint64_t now_ns)
{
    struct mr_gateway *g;
    struct mr_spec_seen seen = {.version = MR_SPEC_VERSION};
    memcpy(seen.boot_id, pump->durable.boot_id, sizeof seen.boot_id);
    TAILQ_FOREACH(g, &pump->table.gateways, all)
    {
        if (g->name.len == 0 || g->subscription_count == 0)
            continue;
        if (g->bound)
            g->seen_ns = now_ns;
        if (g->seen_ns == g->seen_kept_ns)
            continue;
        seen.seen_ns = g->seen_kept_ns = g->seen_ns;
        int64_t ago_ns = (int64_t)(now_ns - g->seen_ns); /* signed: perhaps a moment ahead */
        seen.seen_us = mr_clock_wall_us() - ago_ns / (int64_t)MR_NS_PER_US;
        struct mr_store_change change = {.table = MR_STORE_GATEWAYS,
                                         .key = g->name,
                                         .value = {(const char *)&seen, sizeof seen}};
        (void)mr_durable_change(pump, &change); /* else it is written down next time */
    }
}
