#include "publisher/deliver.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/log.h"
#include "proto/marker.h"

void mr_deliverer_fini(struct mr_deliverer *d)
{
    free(d->touched);
    free(d->ids);
    free(d->transitions);
    *d = (struct mr_deliverer){0};
}

/* Room for one more item; doubled, so that a busy publisher stops asking. */
static bool has_room(void **items, uint32_t *max, uint32_t count, size_t item_bytes)
{
    if (count < *max)
        return true;
    uint32_t grown = *max ? *max * 2 : 16;
    void *bigger = realloc(*items, grown * item_bytes);
    if (!bigger)
        return false;
    *items = bigger;
    *max = grown;
    return true;
}

struct mr_str mr_trouble_code(enum mr_trouble trouble)
{
    return trouble == MR_TROUBLE_BUDGET ? MR_STR("FILTER_BUDGET") : MR_STR("FILTER_ERRORS");
}

struct mr_str mr_trouble_text(enum mr_trouble trouble)
{
    return trouble == MR_TROUBLE_BUDGET
               ? MR_STR("a part of the filter exhausted its budget of steps, time or memory again "
                        "and again: it is not evaluated any more and counts as false")
               : MR_STR("a part of the filter failed for every document in a long row: it is not "
                        "evaluated any more and counts as false");
}

void mr_deliverer_tell_trouble(struct mr_deliverer *d, const struct mr_subscription *s)
{
    if (s->trouble == MR_TROUBLE_NONE || !s->confirmed || s->gateway->stream == 0)
        return;
    const struct mr_notice notice = {.subscription_id = s->client_id,
                                     .code = mr_trouble_code(s->trouble),
                                     .text = mr_trouble_text(s->trouble)};
    enum mr_rc rc = d->sink->ops->notify(d->sink, s->gateway->stream, &notice);
    MR_ASSERT(rc == MR_OK || rc == MR_CLOSED);
    d->queued = true;
}

/* Each shard finds it out for itself, and so does a matcher that starts anew: the first one counts.
 */
static void quarantined(struct mr_deliverer *d, struct mr_subscription *s, uint32_t tag)
{
    if (s->trouble != MR_TROUBLE_NONE)
        return;
    s->trouble = tag & MR_TAG_BUDGET ? MR_TROUBLE_BUDGET : MR_TROUBLE_ERRORS;
    mr_gauge(d->cell, MR_COUNTER_QUARANTINED, mr_counter_get(d->cell, MR_COUNTER_QUARANTINED) + 1);
    struct mr_str code = mr_trouble_code(s->trouble), text = mr_trouble_text(s->trouble);
    mr_log_warn("pump", "subscription_quarantined",
                "subscription=\"%.*s\" gateway=%" PRIu64 " name=\"%.*s\" code=%.*s why=\"%.*s\"",
                (int)s->client_id.len, s->client_id.data, s->gateway->id, (int)s->gateway->name.len,
                s->gateway->name.data, (int)code.len, code.data, (int)text.len, text.data);
    mr_deliverer_tell_trouble(d, s);
}

static enum mr_rc gather(struct mr_deliverer *d, struct mr_subscription *s,
                         enum mr_transition transition, struct mr_err *err)
{
    struct mr_gateway *gateway = s->gateway;
    s->matches++;
    s->last_match_us = d->turn_us;
    if (gateway->cut || gateway->stream == 0) {
        s->drops++;
        mr_count(d->cell, MR_COUNTER_DROPS, 1);
        return MR_OK;
    }
    void *hits = gateway->hits, *touched = d->touched;
    bool ok = has_room(&hits, &gateway->hit_max, gateway->hit_count, sizeof *gateway->hits);
    gateway->hits = hits;
    if (ok && gateway->hit_count == 0) {
        ok = has_room(&touched, &d->touched_max, d->touched_count, sizeof(struct mr_gateway *));
        d->touched = touched;
        if (ok)
            d->touched[d->touched_count++] = gateway;
    }
    if (!ok)
        return mr_fail(err, MR_FATAL, "gather deliveries of gateway %" PRIu64, gateway->id);
    gateway->hits[gateway->hit_count++] =
        (struct mr_hit){.subscription = s, .transition = transition};
    return MR_OK;
}

enum mr_rc mr_deliverer_add(struct mr_deliverer *d, struct mr_subscription *s, uint32_t tag,
                            struct mr_err *err)
{
    if (tag & MR_TAG_QUARANTINED)
        quarantined(d, s, tag);
    return tag & MR_TAG_ALONE ? MR_OK : gather(d, s, tag & MR_TAG_TRANSITION, err);
}

static int by_order(const void *a, const void *b)
{
    const struct mr_hit *left = a, *right = b;
    uint64_t x = left->subscription->order, y = right->subscription->order;
    return x < y ? -1 : x > y;
}

/* Matches come by slot, which is the order of registration until slots are used again. */
static void sort_hits(struct mr_gateway *gateway)
{
    for (uint32_t i = 1; i < gateway->hit_count; i++)
        if (by_order(&gateway->hits[i - 1], &gateway->hits[i]) > 0) {
            qsort(gateway->hits, gateway->hit_count, sizeof *gateway->hits, by_order);
            return;
        }
}

static bool reserve_ids(struct mr_deliverer *d, uint32_t count)
{
    while (count > d->id_max) {
        void *ids = d->ids, *transitions = d->transitions;
        uint32_t ids_max = d->id_max, transitions_max = d->id_max;
        bool ok = has_room(&ids, &ids_max, ids_max, sizeof *d->ids);
        d->ids = ids;
        ok =
            ok && has_room(&transitions, &transitions_max, transitions_max, sizeof *d->transitions);
        d->transitions = transitions;
        if (!ok)
            return false;
        d->id_max = ids_max;
    }
    return true;
}

/* The gateway's hits in the order of registration. */
static bool list_hits(struct mr_deliverer *d, struct mr_gateway *gateway,
                      struct mr_delivery *delivery)
{
    uint64_t told = 0, unknown = 0;
    if (!reserve_ids(d, delivery->count))
        return false;
    sort_hits(gateway);
    for (uint32_t i = 0; i < delivery->count; i++) {
        const struct mr_hit *hit = &gateway->hits[i];
        d->ids[i] = hit->subscription->client_id;
        d->transitions[i] = hit->transition;
        told += hit->transition != MR_TRANSITION_NONE;
        unknown += hit->transition == MR_TRANSITION_UNKNOWN;
    }
    delivery->subscription_ids = d->ids;
    delivery->transitions = told > 0 ? d->transitions : NULL;
    if (told > 0) {
        mr_count(d->cell, MR_COUNTER_TRANSITIONS, told);
        mr_count(d->cell, MR_COUNTER_TRANSITIONS_UNKNOWN, unknown);
    }
    return true;
}

static enum mr_rc send_to(struct mr_deliverer *d, struct mr_gateway *gateway,
                          struct mr_parcel *parcel, struct mr_str progress, struct mr_err *err)
{
    struct mr_delivery delivery = {.count = gateway->hit_count, .snapshot = d->snapshot};
    if (!d->snapshot)
        delivery.progress = progress;
    if (!list_hits(d, gateway, &delivery))
        return mr_fail(err, MR_FATAL, "list subscriptions of gateway %" PRIu64, gateway->id);
    enum mr_rc rc = d->sink->ops->deliver(d->sink, gateway->stream, parcel, &delivery);
    if (rc == MR_FATAL)
        return mr_reject(err, rc, "encode a delivery to gateway %" PRIu64 ": out of memory",
                         gateway->id);
    MR_ASSERT(rc == MR_OK || rc == MR_CLOSED);
    if (rc == MR_CLOSED) {
        gateway->cut = true;
        return MR_OK;
    }
    mr_count(d->cell, MR_COUNTER_DELIVERIES, 1);
    mr_count(d->cell, MR_COUNTER_DELIVERY_PAIRS, delivery.count);
    d->queued = true;
    return MR_OK;
}

enum mr_rc mr_deliverer_send(struct mr_deliverer *d, const struct mr_event *event,
                             struct mr_err *err)
{
    if (d->touched_count == 0)
        return MR_OK;
    enum mr_rc rc = MR_OK;
    char text[MR_MARKER_TEXT_MAX];
    struct mr_marker marker = {.log_id = d->log_id, .sequence = event->head.sequence};
    struct mr_str progress = {text, mr_marker_format(marker, text)};
    struct mr_parcel *parcel = d->sink->ops->encode(d->sink, event);
    if (!parcel)
        rc = mr_reject(err, MR_FATAL, "encode event %" PRIu64 ": out of memory",
                       event->head.sequence);
    for (uint32_t i = 0; i < d->touched_count; i++) {
        if (rc == MR_OK)
            rc = send_to(d, d->touched[i], parcel, progress, err);
        d->touched[i]->hit_count = 0;
    }
    d->touched_count = 0;
    if (parcel)
        d->sink->ops->release(d->sink, parcel);
    return rc;
}

/* A gateway that is gone needs no answer: its CLOSE is on the way. */
static void respond(struct mr_deliverer *d, mr_gateway_id gateway,
                    const struct mr_response *response)
{
    enum mr_rc rc = d->sink->ops->respond(d->sink, gateway, response);
    MR_ASSERT(rc == MR_OK || rc == MR_CLOSED);
    d->queued = true;
}

void mr_deliverer_confirm(struct mr_deliverer *d, const struct mr_subscription *s,
                          uint64_t progress)
{
    char text[MR_MARKER_TEXT_MAX];
    struct mr_marker marker = {.log_id = d->log_id, .sequence = progress};
    respond(d, s->gateway->stream,
            &(struct mr_response){.subscription_id = s->client_id,
                                  .success = true,
                                  .resync = s->resync,
                                  .progress = {text, mr_marker_format(marker, text)}});
}

void mr_deliverer_refuse(struct mr_deliverer *d, mr_gateway_id gateway, struct mr_str client_id,
                         const char *why, bool later)
{
    respond(d, gateway,
            &(struct mr_response){
                .subscription_id = client_id, .error = mr_str_from(why), .later = later});
    mr_count(d->cell, MR_COUNTER_SUBSCRIBE_REJECTED, 1);
}
