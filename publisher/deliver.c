#include "publisher/deliver.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proto/marker.h"

void mr_deliverer_fini(struct mr_deliverer *d)
{
    free(d->touched);
    free(d->ids);
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

enum mr_rc mr_deliverer_add(struct mr_deliverer *d, struct mr_subscription *s, struct mr_err *err)
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
    gateway->hits[gateway->hit_count++] = s;
    return MR_OK;
}

static int by_order(const void *a, const void *b)
{
    const struct mr_subscription *const *left = a, *const *right = b;
    return (*left)->order < (*right)->order ? -1 : (*left)->order > (*right)->order;
}

/* Matches come by slot, which is the order of registration until slots are used again. */
static void sort_hits(struct mr_gateway *gateway)
{
    for (uint32_t i = 1; i < gateway->hit_count; i++)
        if (gateway->hits[i - 1]->order > gateway->hits[i]->order) {
            qsort(gateway->hits, gateway->hit_count, sizeof(struct mr_subscription *), by_order);
            return;
        }
}

static enum mr_rc send_to(struct mr_deliverer *d, struct mr_gateway *gateway,
                          struct mr_parcel *parcel, struct mr_str progress, struct mr_err *err)
{
    uint32_t count = gateway->hit_count;
    while (count > d->id_max) {
        void *ids = d->ids;
        bool ok = has_room(&ids, &d->id_max, d->id_max, sizeof *d->ids);
        d->ids = ids;
        if (!ok)
            return mr_fail(err, MR_FATAL, "list subscriptions of gateway %" PRIu64, gateway->id);
    }
    sort_hits(gateway);
    for (uint32_t i = 0; i < count; i++)
        d->ids[i] = gateway->hits[i]->client_id;
    enum mr_rc rc =
        d->sink->ops->deliver(d->sink, gateway->stream, parcel, d->ids, count, progress);
    if (rc == MR_FATAL)
        return mr_reject(err, rc, "encode a delivery to gateway %" PRIu64 ": out of memory",
                         gateway->id);
    MR_ASSERT(rc == MR_OK || rc == MR_CLOSED);
    if (rc == MR_CLOSED) {
        gateway->cut = true;
        return MR_OK;
    }
    mr_count(d->cell, MR_COUNTER_DELIVERIES, 1);
    mr_count(d->cell, MR_COUNTER_DELIVERY_PAIRS, count);
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
                         const char *why)
{
    respond(d, gateway,
            &(struct mr_response){.subscription_id = client_id, .error = mr_str_from(why)});
    mr_count(d->cell, MR_COUNTER_SUBSCRIBE_REJECTED, 1);
}
