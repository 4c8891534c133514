#include <inttypes.h>
#include <stdlib.h>

#include "common/log.h"
#include "publisher/pump_state.h"

/* A replacement that is not confirmed bears its predecessor's id with this behind it, which no id
 * has that a client chose. */
#define NEW_MARK "~"

bool mr_durable_is_name(struct mr_str name)
{
    static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    if (name.len == 0 || name.len > MR_DURABLE_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] == 0 || !strchr(chars, name.data[i]))
            return false;
    return true;
}

void mr_durable_part_done(struct mr_control *control)
{
    MR_ASSERT(control->pending > 0);
    if (--control->pending == 0)
        control->done(control);
}

static void fail_item(struct mr_control_item *item, enum mr_control_code code, const char *text)
{
    item->code = code;
    item->text = strdup(text); /* NULL: the code alone has to do */
}

/* What the store is to have: the head says from when until when. */
static void fill_spec(const struct mr_pump *pump, const struct mr_control *control,
                      const struct mr_control_item *item, uint64_t now_ns, struct mr_spec *spec)
{
    uint64_t ttl_s = control->ttl_s;
    if (ttl_s == 0)
        ttl_s = pump->config->subscriptions_ttl / MR_NS_PER_S;
    int64_t wall_us = mr_clock_wall_us();
    *spec = (struct mr_spec){
        .head = {.ttl_s = (uint32_t)ttl_s,
                 .created_us = wall_us,
                 .deadline_ns = now_ns + ttl_s * MR_NS_PER_S,
                 .expires_us = wall_us + (int64_t)(ttl_s * 1000000),
                 .log_id = pump->deliverer.log_id,
                 .after = pump->merged},
        .gateway = control->gateway,
        .subscribe = item->spec,
    };
    memcpy(spec->head.boot_id, pump->durable.boot_id, sizeof spec->head.boot_id);
}

static enum mr_rc check_names(const struct mr_pump *pump, const struct mr_control *control,
                              const struct mr_control_item *item, struct mr_err *err)
{
    const struct mr_config *config = pump->config;
    uint64_t ttl_ns = control->ttl_s * MR_NS_PER_S;
    if (!mr_durable_is_name(control->gateway))
        return mr_reject(err, MR_USAGE, "gatewayId: expected 1 to %d of A-Z a-z 0-9 _ -",
                         MR_DURABLE_NAME_MAX);
    if (!mr_durable_is_name(item->subscribe.subscription_id))
        return mr_reject(err, MR_USAGE, "subscriptionId: expected 1 to %d of A-Z a-z 0-9 _ -",
                         MR_DURABLE_NAME_MAX);
    if (control->ttl_s != 0 &&
        (ttl_ns < config->subscriptions_ttl_min || ttl_ns > config->subscriptions_ttl_max))
        return mr_reject(err, MR_USAGE, "ttl: expected %" PRIu64 " to %" PRIu64 " seconds, got %u",
                         config->subscriptions_ttl_min / MR_NS_PER_S,
                         config->subscriptions_ttl_max / MR_NS_PER_S, control->ttl_s);
    if (item->subscribe.database.len == 0)
        return mr_reject(err, MR_USAGE, "tenant: expected the name of a database");
    if (item->subscribe.collection.len == 0)
        return mr_reject(err, MR_USAGE, "collection: expected the name of a collection");
    return MR_OK;
}

static enum mr_rc check_item(const struct mr_pump *pump, const struct mr_control *control,
                             const struct mr_control_item *item, enum mr_control_code *code,
                             struct mr_err *err)
{
    *code = MR_CONTROL_INVALID_REQUEST;
    enum mr_rc rc = MR_OK;
    if (item->subscribe.problem.len == 0)
        rc = check_names(pump, control, item, err);
    if (rc != MR_OK)
        return rc;
    if (!mr_scope_speaks_for(control->scope, control->gateway)) {
        *code = MR_CONTROL_FORBIDDEN;
        return mr_reject(err, MR_USAGE, "gatewayId: the token does not reach this gateway");
    }
    struct mr_request request = item->subscribe;
    request.scope = control->scope;
    return mr_pump_check(pump, &request, code, err);
}

/* When it was asked for. */
static uint64_t asked_ns(const struct mr_control *control, uint64_t now_ns)
{
    return control->arrived_ns < now_ns ? control->arrived_ns : now_ns;
}

/* A durable subscription whose time is not up, or NULL. */
static struct mr_subscription *find_live(struct mr_pump *pump, struct mr_str id, uint64_t now_ns)
{
    struct mr_subscription *s = mr_subscription_find_durable(&pump->table, id);
    return s && mr_durable_deadline(s, now_ns) > now_ns ? s : NULL;
}

static enum mr_rc check_free(struct mr_pump *pump, const struct mr_gateway *gateway,
                             struct mr_str id, uint64_t now_ns, struct mr_err *err)
{
    struct mr_subscription *s = mr_subscription_find_durable(&pump->table, id);
    bool taken = s && mr_durable_deadline(s, now_ns) > now_ns;
    if (!taken && gateway && gateway->bound)
        taken = mr_subscription_find(&pump->table, gateway->bound, id) != NULL;
    if (taken)
        return mr_reject(err, MR_USAGE, "subscription ID already exists");
    if (s)
        mr_durable_expire(pump, s); /* a moment before the wheel would */
    return MR_OK;
}

enum mr_rc mr_durable_enter(struct mr_pump *pump, const struct mr_spec *spec,
                            const struct mr_request *what, struct mr_subscription **out,
                            struct mr_err *err)
{
    struct mr_gateway *gateway = mr_gateway_named(&pump->table, spec->gateway);
    struct mr_request request = *what;
    struct mr_subscription *s;
    request.after = (struct mr_str){NULL, 0}; /* it goes on when its gateway comes */
    enum mr_rc rc =
        gateway ? MR_OK : mr_gateway_add_named(&pump->table, spec->gateway, &gateway, err);
    if (rc != MR_OK)
        return rc;
    rc = mr_subscription_add(&pump->table, gateway, request.subscription_id, &s);
    if (rc != MR_OK)
        return mr_reject(err, rc, "the id is taken, or there is no room, try again");
    rc = mr_durable_lease(pump, s, spec, err);
    if (rc == MR_OK)
        rc = mr_pump_enter(pump, s, &request, mr_clock_ns(), err);
    if (rc != MR_OK) {
        mr_durable_unlease(pump, s);
        mr_subscription_remove(&pump->table, s);
        return rc;
    }
    *out = s;
    return MR_OK;
}

/* A name that nobody needs, if it is one. */
static void drop_unused(struct mr_pump *pump, struct mr_str name)
{
    struct mr_gateway *gateway = mr_gateway_named(&pump->table, name);
    if (gateway && gateway->subscription_count == 0 && !gateway->bound)
        mr_gateway_remove(&pump->table, gateway);
}

/* What could not be compiled last: its filters or its expression? */
static enum mr_control_code code_of(const struct mr_pump *pump, enum mr_rc rc)
{
    if (rc != MR_USAGE)
        return MR_CONTROL_UNAVAILABLE;
    return *mr_program_compiler_diag(pump->compiler)->text ? MR_CONTROL_CEL_COMPILATION_FAILED
                                                           : MR_CONTROL_INVALID_FILTER;
}

static void register_item(struct mr_pump *pump, struct mr_control *control, uint32_t index,
                          uint64_t now_ns)
{
    struct mr_control_item *item = &control->items[index];
    const struct mr_request *request = &item->subscribe;
    struct mr_gateway *gateway = mr_gateway_named(&pump->table, control->gateway);
    struct mr_subscription *s;
    struct mr_spec spec;
    struct mr_err err = {0};
    enum mr_control_code code;
    enum mr_rc rc = check_item(pump, control, item, &code, &err);
    if (rc == MR_OK) {
        code = MR_CONTROL_SUBSCRIPTION_EXISTS;
        rc = check_free(pump, gateway, request->subscription_id, now_ns, &err);
    }
    if (rc == MR_OK) {
        gateway = mr_gateway_named(&pump->table, control->gateway); /* what expired was its last? */
        rc = mr_pump_check_quotas(pump, gateway, request->database, &code, &err);
        mr_count(pump->cell, MR_COUNTER_QUOTA_REFUSALS, rc != MR_OK);
    }
    if (rc == MR_OK) {
        fill_spec(pump, control, item, now_ns, &spec);
        rc = mr_durable_enter(pump, &spec, request, &s, &err);
        code = code_of(pump, rc);
        if (rc != MR_OK)
            drop_unused(pump, control->gateway);
    }
    if (rc != MR_OK) {
        mr_count(pump->cell, MR_COUNTER_SUBSCRIBE_REJECTED, 1);
        fail_item(item, code, err.text);
        return;
    }
    struct mr_store_change change = {.table = MR_STORE_SUBSCRIPTIONS,
                                     .key = s->client_id,
                                     .value = {s->lease->record, s->lease->record_len},
                                     .subscription = mr_subscription_id(s)};
    if (!mr_durable_change(pump, &change)) {
        mr_durable_end(pump, s);
        fail_item(item, MR_CONTROL_UNAVAILABLE, "out of memory, try again");
        return;
    }
    s->lease->waiter = control;
    s->lease->waiter_item = index;
    control->pending++;
    control->created_us = spec.head.created_us;
    control->expires_us = spec.head.expires_us;
    mr_count(pump->cell, MR_COUNTER_SUBSCRIBE, 1);
}

/* As many as the turn has time for. False: there are more. */
static bool register_items(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns)
{
    while (control->begun < control->item_count) {
        register_item(pump, control, control->begun++, now_ns);
        if (mr_pump_is_late(pump))
            break;
    }
    return control->begun == control->item_count;
}

/* One whose id is known, that the token reaches. NULL: failed. */
static struct mr_subscription *known(struct mr_pump *pump, struct mr_control *control,
                                     uint64_t now_ns)
{
    struct mr_subscription *s = mr_subscription_find_durable(&pump->table, control->id);
    if (!s) {
        mr_control_fail(control, MR_CONTROL_SUBSCRIPTION_NOT_FOUND,
                        "no subscription has this id, or it has expired");
        return NULL;
    }
    if (!mr_durable_reaches(control->scope, s)) {
        mr_control_fail(control, MR_CONTROL_FORBIDDEN,
                        "the token does not reach this subscription");
        return NULL;
    }
    if (mr_durable_deadline(s, now_ns) <= now_ns) {
        mr_control_fail(control, MR_CONTROL_SUBSCRIPTION_EXPIRED,
                        "the subscription has expired: register it again");
        return NULL;
    }
    return s;
}

static void change_for(struct mr_pump *pump, struct mr_control *control,
                       struct mr_store_change *change)
{
    change->context = control;
    if (mr_durable_change(pump, change))
        control->pending++;
    else
        mr_control_fail(control, MR_CONTROL_UNAVAILABLE, "out of memory, try again");
}

/* A ttl from now, in memory. Returns when that is on the wall clock. */
static int64_t extend(struct mr_pump *pump, struct mr_lease *lease, uint64_t now_ns)
{
    struct mr_spec_head head;
    memcpy(&head, lease->record, sizeof head);
    head.deadline_ns = lease->deadline_ns = now_ns + lease->ttl_s * MR_NS_PER_S;
    head.expires_us = mr_clock_wall_us() + (int64_t)lease->ttl_s * 1000000;
    memcpy(head.boot_id, pump->durable.boot_id, sizeof head.boot_id);
    memcpy(lease->record, &head, sizeof head);
    mr_wheel_put(&pump->durable.wheel, lease);
    return head.expires_us;
}

/* While it is being replaced the store has its replacement, which lives as long from now on; what
 * is on its way there has been given its time a moment ago. */
static void renew(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns)
{
    struct mr_subscription *s = known(pump, control, asked_ns(control, now_ns));
    if (!s)
        return;
    struct mr_lease *kept = s->lease;
    control->expires_us = extend(pump, kept, now_ns);
    if (kept->successor) {
        kept = kept->successor->lease;
        control->expires_us = extend(pump, kept, now_ns);
    }
    mr_count(pump->cell, MR_COUNTER_RENEWALS, 1);
    struct mr_store_change change = {.table = MR_STORE_SUBSCRIPTIONS,
                                     .key = s->client_id,
                                     .value = {kept->record, kept->record_len}};
    if (!kept->replacing)
        change_for(pump, control, &change);
}

/* Also one that is not there is taken out of the store: an earlier commit may have failed. */
static void remove_one(struct mr_pump *pump, struct mr_control *control)
{
    struct mr_subscription *s = mr_subscription_find_durable(&pump->table, control->id);
    if (!mr_durable_is_name(control->id))
        return;
    if (s && !mr_durable_reaches(control->scope, s)) {
        mr_control_fail(control, MR_CONTROL_FORBIDDEN,
                        "the token does not reach this subscription");
        return;
    }
    struct mr_store_change change = {
        .table = MR_STORE_SUBSCRIPTIONS, .key = control->id, .again = s != NULL};
    change_for(pump, control, &change);
    if (s && control->code == MR_CONTROL_OK)
        mr_durable_end(pump, s);
}

static void remove_gateway(struct mr_pump *pump, struct mr_control *control)
{
    struct mr_gateway *gateway = mr_gateway_named(&pump->table, control->gateway);
    if (!mr_scope_speaks_for(control->scope, control->gateway)) {
        mr_control_fail(control, MR_CONTROL_FORBIDDEN, "the token does not reach this gateway");
        return;
    }
    struct mr_subscription *s = gateway ? TAILQ_FIRST(&gateway->subscriptions) : NULL, *next;
    for (; s && control->code == MR_CONTROL_OK; s = next) {
        next = TAILQ_NEXT(s, of_gateway);
        if (s->lease->predecessor || !mr_durable_reaches(control->scope, s))
            continue;
        if (s->lease->successor == next && next) /* goes with it */
            next = TAILQ_NEXT(next, of_gateway);
        struct mr_store_change change = {
            .table = MR_STORE_SUBSCRIPTIONS, .key = s->client_id, .again = true};
        change_for(pump, control, &change);
        if (control->code != MR_CONTROL_OK)
            break;
        mr_pump_end(pump, s);
        control->removed++;
    }
    drop_unused(pump, control->gateway);
}

/* What the old filters match in the log comes first: behind its end the new ones begin. */
static const char resuming[] = "its gateway catches up on what the old filters matched, try again";

/* One that goes to another database needs a place there: when it is asked for and again when it
 * takes it, because others may have asked meanwhile. */
static enum mr_rc check_place(const struct mr_pump *pump, const struct mr_control *control,
                              const struct mr_subscription *old, enum mr_control_code *code,
                              struct mr_err *err)
{
    struct mr_str database = control->items[0].subscribe.database;
    if (mr_str_equal(old->tenant->name, database))
        return MR_OK;
    enum mr_rc rc = mr_pump_check_quotas(pump, NULL, database, code, err);
    mr_count(pump->cell, MR_COUNTER_QUOTA_REFUSALS, rc != MR_OK);
    return rc;
}

/* Is the old one such that this one can take its place? */
static void check_replace(struct mr_pump *pump, struct mr_control *control,
                          const struct mr_subscription *old)
{
    struct mr_err err = {0};
    enum mr_control_code code;
    if (!mr_durable_reaches(control->scope, old))
        mr_control_fail(control, MR_CONTROL_FORBIDDEN,
                        "the token does not reach this subscription");
    else if (!mr_str_equal(old->gateway->name, control->gateway))
        mr_control_fail(control, MR_CONTROL_SUBSCRIPTION_EXISTS,
                        "gatewayId: the subscription belongs to another gateway");
    else if (old->lease->waiter || old->lease->successor || old->lease->replacing)
        mr_control_fail(control, MR_CONTROL_SUBSCRIPTION_BUSY,
                        "an earlier request for it is under way, try again");
    else if (old->state == MR_SUB_RESUMING)
        mr_control_fail(control, MR_CONTROL_SUBSCRIPTION_BUSY, "%s", resuming);
    else if (!mr_durable_may_replace(pump, old))
        mr_control_fail(control, MR_CONTROL_SUBSCRIPTION_BUSY,
                        "JetStream has not got all that an earlier version matched, try again");
    else if (check_place(pump, control, old, &code, &err) != MR_OK)
        mr_control_fail(control, code, "%s", err.text);
}

static enum mr_rc check_program(const struct mr_pump *pump, const struct mr_control_item *item,
                                struct mr_err *err)
{
    void *program;
    uint32_t len;
    enum mr_rc rc = mr_pump_compile(pump, &item->subscribe, &program, &len, err);
    if (rc == MR_OK)
        free(program);
    return rc;
}

/* First the store, then the shards: the new one takes over at one event, and must not before it is
 * durable. */
static void replace(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns)
{
    struct mr_control_item *item = &control->items[0];
    struct mr_subscription *old =
        find_live(pump, item->subscribe.subscription_id, asked_ns(control, now_ns));
    if (!old) {
        control->created = true;
        register_item(pump, control, 0, now_ns);
        return;
    }
    struct mr_err err = {0};
    enum mr_control_code code;
    enum mr_rc rc = check_item(pump, control, item, &code, &err);
    if (rc == MR_OK) {
        rc = check_program(pump, item, &err);
        code = code_of(pump, rc);
    }
    if (rc != MR_OK) {
        fail_item(item, code, err.text);
        return;
    }
    check_replace(pump, control, old);
    if (control->code != MR_CONTROL_OK)
        return;
    struct mr_spec spec;
    fill_spec(pump, control, item, now_ns, &spec);
    spec.head.created_us = old->lease->created_us;
    mr_durable_set_previous(pump, old, &spec);
    control->created_us = spec.head.created_us;
    control->expires_us = spec.head.expires_us;
    uint32_t len;
    void *record = mr_spec_make(&spec, &len);
    struct mr_store_change change = {.table = MR_STORE_SUBSCRIPTIONS,
                                     .key = old->client_id,
                                     .value = {record, len},
                                     .subscription = mr_subscription_id(old)};
    if (record)
        change_for(pump, control, &change);
    else
        mr_control_fail(control, MR_CONTROL_UNAVAILABLE, "out of memory, try again");
    free(record);
    if (control->code != MR_CONTROL_OK)
        return;
    old->lease->replacing = true;
    extend(pump, old->lease, now_ns); /* it may have run out since this was asked for */
}

/* The old one stays, in the store as well. */
static void keep_old(struct mr_pump *pump, struct mr_subscription *old)
{
    struct mr_store_change change = {.table = MR_STORE_SUBSCRIPTIONS,
                                     .key = old->client_id,
                                     .value = {old->lease->record, old->lease->record_len},
                                     .subscription = mr_subscription_id(old),
                                     .again = true};
    if (!mr_durable_change(pump, &change))
        mr_log_error("store", "not_kept", "why=\"take a replacement back: out of memory\"");
}

void mr_durable_undo_replace(struct mr_pump *pump, struct mr_subscription *old)
{
    struct mr_subscription *successor = old->lease->successor;
    mr_durable_settle(successor, MR_CONTROL_SUBSCRIPTION_BUSY, resuming);
    mr_pump_end(pump, successor);
    keep_old(pump, old);
}

static enum mr_rc enter_successor(struct mr_pump *pump, struct mr_control *control,
                                  struct mr_subscription *old, uint64_t now_ns, struct mr_err *err)
{
    struct mr_request request = control->items[0].subscribe;
    struct mr_subscription *s;
    struct mr_spec spec;
    char id[MR_DURABLE_NAME_MAX + sizeof NEW_MARK];
    memcpy(id, old->client_id.data, old->client_id.len);
    memcpy(id + old->client_id.len, NEW_MARK, 1);
    request.subscription_id = (struct mr_str){id, old->client_id.len + 1};
    fill_spec(pump, control, &control->items[0], now_ns, &spec);
    spec.head.created_us = control->created_us;
    mr_durable_set_previous(pump, old, &spec);
    enum mr_rc rc = mr_durable_enter(pump, &spec, &request, &s, err);
    if (rc != MR_OK)
        return rc;
    s->lease->durable = true;
    s->lease->waiter = control; /* in place of the part that has just been done */
    s->lease->predecessor = old;
    old->lease->successor = s;
    return MR_OK;
}

/* What was to be replaced has ended; another one may have its id by now, and its row. */
static void replaced_none(struct mr_pump *pump, struct mr_str id)
{
    struct mr_store_change gone = {.table = MR_STORE_SUBSCRIPTIONS, .key = id, .again = true};
    if (!mr_subscription_find_durable(&pump->table, id) && !mr_durable_change(pump, &gone))
        mr_log_error("store", "not_kept", "why=\"a removed subscription: out of memory\"");
}

void mr_durable_replaced(struct mr_pump *pump, const struct mr_store_change *change,
                         uint64_t now_ns)
{
    struct mr_control *control = change->context;
    struct mr_subscription *old = mr_subscription_get(&pump->table, change->subscription);
    struct mr_err err = {0};
    const char *why;
    enum mr_control_code code = mr_durable_kept(change, &why);
    if (old)
        old->lease->replacing = false;
    if (code != MR_CONTROL_OK) {
        mr_control_fail(control, code, "%s", why);
    } else if (!old) {
        replaced_none(pump, control->items[0].subscribe.subscription_id);
        mr_control_fail(control, MR_CONTROL_SUBSCRIPTION_NOT_FOUND,
                        "the subscription ended before it was replaced");
    } else if (old->state == MR_SUB_RESUMING) {
        keep_old(pump, old);
        mr_control_fail(control, MR_CONTROL_SUBSCRIPTION_BUSY, "%s", resuming);
    } else if (check_place(pump, control, old, &code, &err) != MR_OK) {
        keep_old(pump, old);
        mr_control_fail(control, code, "%s", err.text);
    } else if (enter_successor(pump, control, old, now_ns, &err) != MR_OK) {
        keep_old(pump, old);
        mr_control_fail(control, MR_CONTROL_UNAVAILABLE, "%s", err.text);
    } else {
        return;
    }
    mr_durable_part_done(control);
}

bool mr_durable_go_on(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns)
{
    if (control->kind == MR_CONTROL_REGISTER) {
        if (!register_items(pump, control, now_ns))
            return false;
        mr_durable_part_done(control);
        return true;
    }
    if (!mr_durable_view(pump, control, now_ns))
        return false;
    control->done(control);
    return true;
}

void mr_durable_abandon(struct mr_control *control, const char *why)
{
    if (control->kind != MR_CONTROL_REGISTER) {
        mr_control_fail(control, MR_CONTROL_UNAVAILABLE, "%s", why);
        control->done(control);
        return;
    }
    while (control->begun < control->item_count)
        fail_item(&control->items[control->begun++], MR_CONTROL_UNAVAILABLE, why);
    mr_durable_part_done(control);
}

bool mr_durable_handle(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns)
{
    control->log_id = pump->deliverer.log_id;
    control->pending = 1; /* nobody answers before all of it has begun */
    switch (control->kind) {
    case MR_CONTROL_LIST:
    case MR_CONTROL_EXPLAIN:
        if (control->id.len == 0)
            return false;
        return mr_durable_go_on(pump, control, now_ns);
    case MR_CONTROL_REGISTER:
    case MR_CONTROL_GET:
        return mr_durable_go_on(pump, control, now_ns);
    case MR_CONTROL_REPLACE:
        replace(pump, control, now_ns);
        break;
    case MR_CONTROL_RENEW:
        renew(pump, control, now_ns);
        break;
    case MR_CONTROL_REMOVE:
        remove_one(pump, control);
        break;
    case MR_CONTROL_REMOVE_GATEWAY:
        remove_gateway(pump, control);
        break;
    }
    mr_durable_part_done(control);
    return true;
}
