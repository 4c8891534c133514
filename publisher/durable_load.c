#include <inttypes.h>
#include <stdlib.h>

#include "common/log.h"
#include "publisher/pump_state.h"

struct loading {
    struct mr_pump *pump;
    uint64_t now_ns;
    uint32_t loaded, expired, damaged;
};

/* Left out: it must not keep back the others. */
static void leave_out(struct loading *loading, const char *kind, struct mr_str key, const char *why)
{
    loading->damaged++;
    mr_log_error("store", "not_loaded", "%s=\"%.*s\" why=\"%s\"", kind,
                 (int)(key.len < 64 ? key.len : 64), key.data, why);
}

static enum mr_rc read_seen(struct mr_str key, struct mr_str value, struct mr_spec_seen *out,
                            struct mr_err *err)
{
    if (!mr_durable_is_name(key))
        return mr_reject(err, MR_CORRUPT, "it is kept under what is no name of a gateway");
    if (value.len != sizeof *out)
        return mr_reject(err, MR_CORRUPT, "expected a record of %zu bytes, got %zu", sizeof *out,
                         value.len);
    memcpy(out, value.data, sizeof *out);
    return out->version == MR_SPEC_VERSION
               ? MR_OK
               : mr_reject(err, MR_CORRUPT, "expected a record of version %d, got %u",
                           MR_SPEC_VERSION, out->version);
}

static enum mr_rc load_gateway(void *context, struct mr_str key, struct mr_str value,
                               struct mr_err *err)
{
    struct loading *loading = context;
    struct mr_gateway *gateway;
    struct mr_spec_seen seen;
    struct mr_err why = {0};
    enum mr_rc rc = read_seen(key, value, &seen, &why);
    if (rc != MR_OK) {
        leave_out(loading, "gateway", key, why.text);
        return MR_OK;
    }
    rc = mr_gateway_add_named(&loading->pump->table, key, &gateway, err);
    if (rc != MR_OK)
        return rc;
    /* On this boot's clock, which may be younger than what it is to show: then its beginning. */
    uint64_t day_ns = 86400 * MR_NS_PER_S;
    uint64_t later_ns =
        mr_spec_deadline(loading->pump->durable.boot_id, seen.boot_id, seen.seen_ns + day_ns,
                         seen.seen_us + (int64_t)(day_ns / MR_NS_PER_US), day_ns);
    gateway->seen_ns = later_ns > day_ns ? later_ns - day_ns : later_ns > 0;
    return MR_OK;
}

static enum mr_rc add(struct loading *loading, struct mr_spec *spec,
                      const struct mr_request *request, uint64_t deadline_ns, struct mr_err *err)
{
    struct mr_pump *pump = loading->pump;
    struct mr_subscription *s;
    spec->head.deadline_ns = deadline_ns; /* on this boot's clock */
    memcpy(spec->head.boot_id, pump->durable.boot_id, sizeof spec->head.boot_id);
    enum mr_rc rc = mr_durable_enter(pump, spec, request, &s, err);
    if (rc != MR_OK)
        return rc;
    s->lease->durable = true;
    mr_durable_tell_loaded(pump, s);
    loading->loaded++;
    return MR_OK;
}

/* What its gateway was seen at counts as if it had been renewed then. */
static uint64_t deadline_of(const struct loading *loading, const struct mr_spec *spec)
{
    const struct mr_spec_head *head = &spec->head;
    const struct mr_pump *pump = loading->pump;
    uint64_t ttl_ns = head->ttl_s * MR_NS_PER_S;
    uint64_t deadline_ns = mr_spec_deadline(pump->durable.boot_id, head->boot_id, head->deadline_ns,
                                            head->expires_us, ttl_ns);
    const struct mr_gateway *gateway = mr_gateway_named(&pump->table, spec->gateway);
    if (gateway && gateway->seen_ns != 0 && gateway->seen_ns + ttl_ns > loading->now_ns &&
        gateway->seen_ns + ttl_ns > deadline_ns)
        deadline_ns = gateway->seen_ns + ttl_ns;
    return deadline_ns;
}

static enum mr_rc decode(const struct mr_spec *spec, struct mr_str key, struct mr_wire_arena *arena,
                         struct mr_request *request, struct mr_err *err)
{
    const struct mr_wire_limits limits = mr_spec_limits();
    enum mr_rc rc = mr_wire_decode_subscribe(spec->subscribe, &limits, arena, request, err);
    if (rc == MR_OK && request->problem.len > 0)
        rc = mr_reject(err, MR_CORRUPT, "%.*s", (int)request->problem.len, request->problem.data);
    if (rc == MR_OK && !mr_str_equal(request->subscription_id, key))
        rc = mr_reject(err, MR_CORRUPT, "it is kept under another id");
    return rc;
}

static enum mr_rc read_spec(struct mr_str key, struct mr_str value, struct mr_spec *out,
                            struct mr_err *err)
{
    if (!mr_durable_is_name(key))
        return mr_reject(err, MR_CORRUPT, "it is kept under what is no id of a subscription");
    enum mr_rc rc = mr_spec_read(value, out, err);
    if (rc == MR_OK && !mr_durable_is_name(out->gateway))
        rc = mr_reject(err, MR_CORRUPT, "its gateway has no name");
    return rc;
}

static enum mr_rc load_subscription(void *context, struct mr_str key, struct mr_str value,
                                    struct mr_err *err)
{
    struct loading *loading = context;
    struct mr_err why = {0};
    struct mr_spec spec;
    struct mr_request request;
    struct mr_wire_arena arena = {0};
    enum mr_rc rc = read_spec(key, value, &spec, &why);
    uint64_t deadline_ns = rc == MR_OK ? deadline_of(loading, &spec) : 0;
    if (rc == MR_OK && deadline_ns == 0) {
        loading->expired++;
        struct mr_store_change gone = {.table = MR_STORE_SUBSCRIPTIONS, .key = key, .again = true};
        return mr_durable_change(loading->pump, &gone)
                   ? MR_OK
                   : mr_reject(err, MR_FATAL, "load subscriptions: out of memory");
    }
    if (rc == MR_OK)
        rc = decode(&spec, key, &arena, &request, &why);
    if (rc == MR_OK)
        rc = add(loading, &spec, &request, deadline_ns, &why);
    mr_wire_arena_fini(&arena);
    if (rc != MR_OK)
        leave_out(loading, "subscription", key, why.text);
    return rc == MR_FATAL ? mr_reject(err, rc, "load subscriptions: %s", why.text) : MR_OK;
}

/* Rows of gateways without subscriptions serve nobody. */
static void drop_empty(struct mr_pump *pump)
{
    struct mr_gateway *next;
    for (struct mr_gateway *g = TAILQ_FIRST(&pump->table.gateways); g; g = next) {
        next = TAILQ_NEXT(g, all);
        if (g->name.len == 0 || g->subscription_count > 0)
            continue;
        struct mr_store_change gone = {.table = MR_STORE_GATEWAYS, .key = g->name};
        (void)mr_durable_change(pump, &gone); /* else it is dropped after the next start */
        mr_gateway_remove(&pump->table, g);
    }
}

static enum mr_rc load(struct mr_pump *pump, struct mr_store *store, struct mr_err *err)
{
    struct loading loading = {.pump = pump, .now_ns = mr_clock_ns()};
    enum mr_rc rc = store->ops->load(store, MR_STORE_GATEWAYS, load_gateway, &loading, err);
    if (rc == MR_OK)
        rc = store->ops->load(store, MR_STORE_SUBSCRIPTIONS, load_subscription, &loading, err);
    if (rc != MR_OK)
        return rc;
    drop_empty(pump);
    mr_log_info("store", "loaded", "store=%s subscriptions=%u expired=%u damaged=%u seconds=%.3f",
                store->ops->name, loading.loaded, loading.expired, loading.damaged,
                (double)(mr_clock_ns() - loading.now_ns) / 1e9);
    return MR_OK;
}

enum mr_rc mr_durable_open(struct mr_pump *pump, struct mr_err *err)
{
    struct mr_durable *durable = &pump->durable;
    enum mr_rc rc = mr_wheel_init(&durable->wheel, mr_clock_ns(), err);
    if (rc != MR_OK)
        return rc;
    durable->open = true;
    static const enum mr_counter counted_up[] = {MR_COUNTER_SUBSCRIPTIONS, MR_COUNTER_DURABLE,
                                                 MR_COUNTER_QUARANTINED,
                                                 MR_COUNTER_SNAPSHOTS_WAITING};
    for (size_t i = 0; i < sizeof counted_up / sizeof *counted_up; i++)
        mr_gauge(pump->cell, counted_up[i], 0); /* a predecessor's are gone */
    if (strcmp(pump->config->subscriptions_store.text, "memory") == 0)
        return MR_OK;
    struct mr_store *store;
    bool nats = strcmp(pump->config->subscriptions_store.text, "nats") == 0;
    rc = (nats ? &mr_store_nats : &mr_store_lmdb)->open(&store, pump->config, err);
    if (rc == MR_OK) {
        rc = load(pump, store, err);
        if (rc != MR_OK)
            store->ops->close(store);
    }
    return rc == MR_OK ? mr_keeper_create(&durable->keeper, store, &pump->cell->bell, err) : rc;
}
