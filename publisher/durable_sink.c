#include "common/log.h"
#include "publisher/pump_state.h"

void mr_durable_set_after(struct mr_lease *lease, uint64_t log_id, uint64_t after)
{
    struct mr_spec_head head;
    memcpy(&head, lease->record, sizeof head);
    head.log_id = log_id;
    head.after = after;
    memcpy(lease->record, &head, sizeof head);
}

static uint32_t begin(struct mr_pump *pump, const struct mr_subscription *s,
                      struct mr_sink_durable *durable)
{
    struct mr_err err = {0};
    uint32_t handle = 0;
    durable->subscription_id = s->client_id;
    enum mr_rc rc = pump->sink->ops->durable_begin(pump->sink, durable, &handle, &err);
    if (rc == MR_OK)
        return handle;
    mr_log_error("store", "sink_refused", "subscription=%.*s why=\"%s\"", (int)s->client_id.len,
                 s->client_id.data, err.text);
    if (durable->replaces != 0)
        pump->sink->ops->durable_end(pump->sink, durable->replaces);
    return 0;
}

static bool read_record(const struct mr_lease *lease, struct mr_spec *out)
{
    struct mr_err err;
    return mr_spec_read((struct mr_str){lease->record, lease->record_len}, out, &err) == MR_OK;
}

void mr_durable_tell_sink(struct mr_pump *pump, struct mr_subscription *s, uint32_t replaces)
{
    struct mr_spec spec;
    if (!pump->sink->ops->durable_begin || !read_record(s->lease, &spec))
        return;
    struct mr_sink_durable durable = {.gateway = spec.gateway,
                                      .spec = spec.subscribe,
                                      .after = {spec.head.log_id, spec.head.after},
                                      .replaces = replaces};
    s->lease->sink_handle = begin(pump, s, &durable);
}

/* What it replaced goes first, up to where it ended. */
void mr_durable_tell_loaded(struct mr_pump *pump, struct mr_subscription *s)
{
    struct mr_spec spec;
    if (!pump->sink->ops->durable_begin || !read_record(s->lease, &spec))
        return;
    struct mr_sink_durable durable = {.gateway = spec.gateway,
                                      .spec = spec.previous,
                                      .after = {spec.head.log_id, spec.head.previous_after}};
    mr_durable_tell_sink(pump, s, spec.previous.len > 0 ? begin(pump, s, &durable) : 0);
}

/* Where the sink has everything stored that comes before. */
static uint64_t sink_through(const struct mr_pump *pump)
{
    uint64_t held =
        atomic_load_explicit(&pump->board->held_through[MR_HOLDER_SINK], memory_order_relaxed);
    return held > 0 ? held - 1 : 0;
}

bool mr_durable_may_replace(const struct mr_pump *pump, const struct mr_subscription *old)
{
    struct mr_spec spec;
    return !pump->sink->ops->durable_begin || !read_record(old->lease, &spec) ||
           spec.previous.len == 0 || spec.head.log_id != pump->deliverer.log_id ||
           spec.head.after <= sink_through(pump);
}

void mr_durable_set_previous(const struct mr_pump *pump, const struct mr_subscription *old,
                             struct mr_spec *spec)
{
    struct mr_spec previous;
    if (!pump->sink->ops->durable_begin || !read_record(old->lease, &previous))
        return;
    spec->previous = previous.subscribe;
    spec->head.previous_after = previous.head.log_id == spec->head.log_id ? previous.head.after : 0;
}
