#include "publisher/durable.h"

#include <stdlib.h>

#include "common/log.h"
#include "publisher/pump_state.h"

/* Of one turn: deliveries go in between. */
enum { TURN_CONTROLS = 256, TURN_EXPIRED = 1024 };
/* How often the gateways that are spoken for are written down: what a crash may take off a lease.
 */
#define SEEN_NS (5 * MR_NS_PER_S)
/* How long a store that did not take a change is left alone before it is tried again. */
#define AGAIN_NS MR_NS_PER_S

void mr_durable_init(struct mr_durable *durable, struct mr_doorbell_shm *bell)
{
    mr_control_queue_init(&durable->queue, bell);
    STAILQ_INIT(&durable->changes);
    STAILQ_INIT(&durable->failed);
    STAILQ_INIT(&durable->views);
    mr_boot_id(durable->boot_id);
}

bool mr_durable_change(struct mr_pump *pump, const struct mr_store_change *what)
{
    struct mr_store_change *change = mr_store_change_create(what->table, what->key, what->value);
    if (!change)
        return false;
    change->subscription = what->subscription;
    change->context = what->context;
    change->again = what->again;
    STAILQ_INSERT_TAIL(&pump->durable.changes, change, next);
    return true;
}

enum mr_rc mr_durable_lease(struct mr_pump *pump, struct mr_subscription *s,
                            const struct mr_spec *spec, struct mr_err *err)
{
    struct mr_lease *lease = calloc(1, sizeof *lease);
    if (lease)
        lease->record = mr_spec_make(spec, &lease->record_len);
    if (!lease || !lease->record) {
        free(lease);
        return mr_reject(err, MR_RETRY, "out of memory, try again");
    }
    lease->subscription = s;
    lease->ttl_s = spec->head.ttl_s;
    lease->created_us = spec->head.created_us;
    lease->deadline_ns = spec->head.deadline_ns;
    s->lease = lease;
    mr_wheel_put(&pump->durable.wheel, lease);
    mr_gauge(pump->cell, MR_COUNTER_DURABLE, mr_counter_get(pump->cell, MR_COUNTER_DURABLE) + 1);
    return MR_OK;
}

void mr_durable_unlease(struct mr_pump *pump, struct mr_subscription *s)
{
    if (!s->lease)
        return;
    mr_wheel_remove(&pump->durable.wheel, s->lease);
    mr_gauge(pump->cell, MR_COUNTER_DURABLE, mr_counter_get(pump->cell, MR_COUNTER_DURABLE) - 1);
}

void mr_durable_settle(struct mr_subscription *s, enum mr_control_code code, const char *text)
{
    struct mr_lease *lease = s->lease;
    struct mr_control *control = lease->waiter;
    if (!control || (code == MR_CONTROL_OK && !(lease->durable && s->confirmed)))
        return;
    lease->waiter = NULL;
    struct mr_control_item *item = &control->items[lease->waiter_item];
    item->code = code;
    item->text = code == MR_CONTROL_OK ? NULL : strdup(text);
    mr_durable_part_done(control);
}

/* A sink that has not come to this place yet needs to know it after a restart, too. */
static void keep_place(struct mr_pump *pump, struct mr_subscription *s)
{
    struct mr_store_change change = {.table = MR_STORE_SUBSCRIPTIONS,
                                     .key = s->client_id,
                                     .value = {s->lease->record, s->lease->record_len},
                                     .subscription = mr_subscription_id(s)};
    if (!pump->sink->ops->durable_begin)
        return;
    s->lease->replaced = mr_durable_change(pump, &change);
    s->lease->durable = !s->lease->replaced;
}

/* A replacement takes the place of its predecessor at the very event behind which it matches. */
static void take_over(struct mr_pump *pump, struct mr_subscription *s)
{
    struct mr_subscription *old = s->lease->predecessor;
    MR_ASSERT(old->state != MR_SUB_RESUMING); /* what it is still to get would be lost */
    s->lease->predecessor = NULL;
    old->lease->successor = NULL;
    mr_subscription_swap_ids(&pump->table, old, s);
    uint32_t handle = old->lease->sink_handle;
    old->lease->sink_handle = 0;
    mr_durable_set_after(s->lease, pump->deliverer.log_id, s->active_after);
    mr_durable_tell_sink(pump, s, handle);
    keep_place(pump, s);
    s->matches = old->matches;
    s->drops = old->drops;
    s->last_match_us = old->last_match_us;
    mr_pump_end(pump, old);
}

void mr_durable_confirmed(struct mr_pump *pump, struct mr_subscription *s)
{
    struct mr_lease *lease = s->lease;
    if (lease->predecessor)
        take_over(pump, s);
    if (lease->sink_handle == 0) {
        mr_durable_set_after(lease, pump->deliverer.log_id, s->active_after);
        mr_durable_tell_sink(pump, s, 0);
    }
    if (lease->waiter && lease->waiter->marker < s->active_after)
        lease->waiter->marker = s->active_after;
    if (lease->waiter)
        lease->waiter->version = s->journal_count;
    mr_durable_settle(s, MR_CONTROL_OK, "");
    pump->deliverer.queued = true;
    if (s->resync && s->gateway->stream != 0)
        mr_deliverer_confirm(&pump->deliverer, s, s->active_after);
    s->resync = false;
}

void mr_durable_ended(struct mr_pump *pump, struct mr_subscription *s)
{
    struct mr_lease *lease = s->lease;
    mr_durable_unlease(pump, s);
    if (lease->sink_handle != 0)
        pump->sink->ops->durable_end(pump->sink, lease->sink_handle);
    lease->sink_handle = 0;
    mr_durable_settle(s, MR_CONTROL_SUBSCRIPTION_NOT_FOUND,
                      "it was removed before it was confirmed");
    if (lease->predecessor)
        lease->predecessor->lease->successor = NULL;
    if (lease->successor) {
        lease->successor->lease->predecessor = NULL;
        mr_pump_end(pump, lease->successor);
    }
}

uint64_t mr_durable_deadline(const struct mr_subscription *s, uint64_t now_ns)
{
    const struct mr_gateway *gateway = s->gateway;
    uint64_t seen_ns = gateway->bound ? now_ns : gateway->seen_ns;
    uint64_t seen_deadline_ns = seen_ns ? seen_ns + s->lease->ttl_s * MR_NS_PER_S : 0;
    return seen_deadline_ns > s->lease->deadline_ns ? seen_deadline_ns : s->lease->deadline_ns;
}

void mr_durable_end(struct mr_pump *pump, struct mr_subscription *s)
{
    struct mr_gateway *gateway = s->gateway;
    mr_pump_end(pump, s);
    if (gateway->subscription_count == 0 && !gateway->bound)
        mr_gateway_remove(&pump->table, gateway);
}

void mr_durable_expire(struct mr_pump *pump, struct mr_subscription *s)
{
    struct mr_store_change change = {
        .table = MR_STORE_SUBSCRIPTIONS, .key = s->client_id, .again = true};
    if (!mr_durable_change(pump, &change))
        mr_log_error("store", "not_kept", "why=\"an expired subscription: out of memory\"");
    mr_durable_end(pump, s);
    mr_count(pump->cell, MR_COUNTER_EXPIRED, 1);
}

/* Who waits behind a long request may be about to renew: nothing ends that had not when the first
 * one of them came. */
static uint64_t expire(struct mr_pump *pump, uint64_t turn_ns)
{
    struct mr_durable *durable = &pump->durable;
    struct mr_lease *lease;
    uint64_t done = 0, since_ns = durable->unfinished
                                      ? durable->unfinished->arrived_ns
                                      : mr_control_waiting_since_ns(&durable->queue);
    uint64_t now_ns = since_ns < turn_ns ? since_ns : turn_ns;
    while (done < TURN_EXPIRED && (lease = mr_wheel_due(&pump->durable.wheel, now_ns)) != NULL) {
        done++;
        lease->deadline_ns = mr_durable_deadline(lease->subscription, now_ns);
        if (lease->deadline_ns > now_ns)
            mr_wheel_put(&pump->durable.wheel, lease);
        else
            mr_durable_expire(pump, lease->subscription);
    }
    return done;
}

enum mr_control_code mr_durable_kept(const struct mr_store_change *change, const char **why)
{
    *why = "";
    if (change->rc == MR_OK)
        return MR_CONTROL_OK;
    *why = change->rc == MR_USAGE ? "the subscription is too large for the subscription store"
                                  : "the subscription store cannot keep it now, try again";
    return change->rc == MR_USAGE ? MR_CONTROL_INVALID_REQUEST : MR_CONTROL_UNAVAILABLE;
}

static const char stopping[] = "the publisher is stopping, try again";

static void completed(struct mr_pump *pump, const struct mr_store_change *change, uint64_t now_ns)
{
    const char *why;
    enum mr_control_code code = mr_durable_kept(change, &why);
    struct mr_control *control = change->context;
    if (code != MR_CONTROL_OK)
        mr_count(pump->cell, MR_COUNTER_STORE_ERRORS, 1);
    if (control && control->kind == MR_CONTROL_REPLACE && !pump->durable.closing) {
        mr_durable_replaced(pump, change, now_ns);
        return;
    }
    if (control) {
        if (code != MR_CONTROL_OK)
            mr_control_fail(control, code, "%s", why);
        else if (control->kind == MR_CONTROL_REPLACE) /* the store has it, but no shard will */
            mr_control_fail(control, MR_CONTROL_UNAVAILABLE, "%s", stopping);
        mr_durable_part_done(control);
        return;
    }
    struct mr_subscription *s = mr_subscription_get(&pump->table, change->subscription);
    if (change->subscription == 0 || change->again || !s)
        return;
    s->lease->durable = code == MR_CONTROL_OK || s->lease->replaced;
    mr_durable_settle(s, code, why);
    if (!s->lease->durable)
        mr_durable_end(pump, s);
    else
        s->lease->replaced = false;
}

/* A row that stays, or has refused filters, would come back with the next start. */
static void keep_failed(struct mr_pump *pump, struct mr_store_change *change, uint64_t now_ns)
{
    change->context = NULL; /* it has been answered */
    STAILQ_INSERT_TAIL(&pump->durable.failed, change, next);
    pump->durable.failed_ns = now_ns;
}

enum retry { RETRY_NOW, RETRY_LATER, RETRY_NEVER };

/* A deletion is past once another one of this id has its row; until then nobody knows. */
static enum retry may_delete(struct mr_pump *pump, const struct mr_store_change *change)
{
    const struct mr_subscription *s = mr_subscription_find_durable(&pump->table, change->key);
    if (!s)
        return RETRY_NOW;
    return s->lease->durable ? RETRY_NEVER : RETRY_LATER;
}

/* A row that undoes a replacement is past once its subscription has ended, which deletes or
 * replaces the row; while the next replacement is under way nobody knows. What it has by now may be
 * renewed.
 */
static enum retry may_undo(struct mr_pump *pump, struct mr_store_change *change)
{
    const struct mr_subscription *s = mr_subscription_get(&pump->table, change->subscription);
    if (!s)
        return RETRY_NEVER;
    if (s->lease->replacing || s->lease->successor)
        return RETRY_LATER;
    MR_ASSERT(change->value.len == s->lease->record_len);
    memcpy((char *)(uintptr_t)change->value.data, s->lease->record, s->lease->record_len);
    return RETRY_NOW;
}

static void try_again(struct mr_pump *pump)
{
    struct mr_durable *durable = &pump->durable;
    struct mr_store_changes failed = STAILQ_HEAD_INITIALIZER(failed);
    struct mr_store_change *change;
    STAILQ_CONCAT(&failed, &durable->failed);
    while ((change = STAILQ_FIRST(&failed)) != NULL) {
        enum retry retry = change->value.data ? may_undo(pump, change) : may_delete(pump, change);
        STAILQ_REMOVE_HEAD(&failed, next);
        if (retry == RETRY_NOW)
            STAILQ_INSERT_TAIL(&durable->changes, change, next);
        else if (retry == RETRY_LATER)
            STAILQ_INSERT_TAIL(&durable->failed, change, next);
        else
            free(change);
    }
}

/* Without a store everything is as durable as it gets at once. */
static uint64_t collect(struct mr_pump *pump, uint64_t now_ns)
{
    struct mr_durable *durable = &pump->durable;
    struct mr_store_changes changes = STAILQ_HEAD_INITIALIZER(changes);
    struct mr_store_change *change;
    uint64_t done = 0;
    if (durable->keeper)
        mr_keeper_collect(durable->keeper, &changes);
    else
        STAILQ_CONCAT(&changes, &durable->changes);
    while ((change = STAILQ_FIRST(&changes)) != NULL) {
        STAILQ_REMOVE_HEAD(&changes, next);
        completed(pump, change, now_ns);
        if (change->again && change->rc != MR_OK)
            keep_failed(pump, change, now_ns);
        else
            free(change);
        done++;
    }
    return done;
}

/* A registration that took up the time of an earlier turn, before any other. */
static uint64_t go_on(struct mr_pump *pump, uint64_t now_ns)
{
    struct mr_control *control = pump->durable.unfinished;
    if (!control)
        return 0;
    pump->durable.unfinished = NULL;
    if (!mr_durable_go_on(pump, control, now_ns))
        pump->durable.unfinished = control;
    return 1;
}

static uint64_t take_controls(struct mr_pump *pump, uint64_t now_ns)
{
    struct mr_durable *durable = &pump->durable;
    uint64_t done = 0;
    while (done < TURN_CONTROLS && !durable->unfinished && (done == 0 || !mr_pump_is_late(pump))) {
        struct mr_control *control = mr_control_take(&durable->queue);
        if (!control)
            break;
        done++;
        mr_count(pump->cell, MR_COUNTER_CONTROLS, 1);
        if (!pump->serving) {
            mr_control_fail(control, MR_CONTROL_UNAVAILABLE, "the publisher is starting");
            control->done(control);
            continue;
        }
        if (mr_durable_handle(pump, control, now_ns))
            continue;
        if (control->kind == MR_CONTROL_REGISTER)
            durable->unfinished = control;
        else
            STAILQ_INSERT_TAIL(&durable->views, control, next);
    }
    return done;
}

/* Who looks at many subscriptions changes none of them, so all others go first. */
static uint64_t view(struct mr_pump *pump, uint64_t now_ns)
{
    struct mr_durable *durable = &pump->durable;
    struct mr_control *control;
    uint64_t done = 0;
    while ((done == 0 || !mr_pump_is_late(pump)) &&
           (control = STAILQ_FIRST(&durable->views)) != NULL) {
        STAILQ_REMOVE_HEAD(&durable->views, next);
        if (!mr_durable_go_on(pump, control, now_ns))
            STAILQ_INSERT_TAIL(&durable->views, control, next);
        done++;
    }
    return done;
}

void mr_durable_work(struct mr_pump *pump, uint64_t now_ns, uint64_t *done)
{
    struct mr_durable *durable = &pump->durable;
    uint64_t before = *done;
    *done += collect(pump, now_ns);
    *done += go_on(pump, now_ns);
    *done += take_controls(pump, now_ns);
    *done += view(pump, now_ns);
    pump->deliverer.queued |= *done > before; /* some answers go out through the sink */
    if (!pump->reg.current)
        return;
    *done += expire(pump, now_ns);
    uint64_t seen_ns = pump->config->subscriptions_ttl_min / 4;
    if (now_ns - durable->seen_kept_ns >= (seen_ns < SEEN_NS ? seen_ns : SEEN_NS)) {
        durable->seen_kept_ns = now_ns;
        mr_durable_keep_seen(pump, now_ns);
    }
    if (!STAILQ_EMPTY(&durable->failed) && now_ns - durable->failed_ns >= AGAIN_NS) {
        durable->failed_ns = now_ns;
        try_again(pump);
    }
    if (durable->keeper)
        mr_keeper_submit(durable->keeper, &durable->changes);
    else
        *done += collect(pump, now_ns);
}

static void drop_all(struct mr_store_changes *changes)
{
    struct mr_store_change *change;
    while ((change = STAILQ_FIRST(changes)) != NULL) {
        STAILQ_REMOVE_HEAD(changes, next);
        free(change);
    }
}

/* Nobody is left without an answer: what is committed is told, the rest is unavailable. */
static void answer_all(struct mr_pump *pump)
{
    struct mr_durable *durable = &pump->durable;
    struct mr_gateway *gateway;
    struct mr_subscription *s;
    TAILQ_FOREACH(gateway, &pump->table.gateways, all)
    TAILQ_FOREACH(s, &gateway->subscriptions, of_gateway)
    if (s->lease)
        mr_durable_settle(s, MR_CONTROL_UNAVAILABLE, stopping);
    if (durable->unfinished)
        mr_durable_abandon(durable->unfinished, stopping);
    durable->unfinished = NULL;
    struct mr_control *control;
    while ((control = STAILQ_FIRST(&durable->views)) != NULL) {
        STAILQ_REMOVE_HEAD(&durable->views, next);
        mr_durable_abandon(control, stopping);
    }
}

void mr_durable_close(struct mr_pump *pump)
{
    struct mr_durable *durable = &pump->durable;
    mr_control_close(&durable->queue);
    if (durable->open) {
        mr_durable_keep_seen(pump, mr_clock_ns());
        try_again(pump);
        durable->closing = true;
        if (durable->keeper) {
            mr_keeper_submit(durable->keeper, &durable->changes);
            mr_keeper_stop(durable->keeper);
        }
        (void)collect(pump, mr_clock_ns());
        answer_all(pump);
    }
    mr_keeper_destroy(&durable->keeper);
    drop_all(&durable->changes);
    drop_all(&durable->failed);
    durable->open = false;
}

bool mr_durable_look(const struct mr_pump *pump)
{
    const struct mr_durable *durable = &pump->durable;
    return durable->unfinished || !STAILQ_EMPTY(&durable->views) ||
           mr_control_waiting(&durable->queue) ||
           (durable->keeper && mr_keeper_waiting(durable->keeper));
}
