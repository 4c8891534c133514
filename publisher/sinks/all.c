/* Several sinks as one: each gateway's id carries the number of its sink in the highest bits, and
 * an event is encoded for a sink when the first delivery of it goes there. */
#include <stdlib.h>

#include "publisher/sink.h"

enum { GRPC, JETSTREAM, SINKS, NUMBER_SHIFT = 60 };
#define ID_MASK ((UINT64_C(1) << NUMBER_SHIFT) - 1)

static const struct mr_sink_ops *const kinds[SINKS] = {
    [GRPC] = &mr_sink_grpc, [JETSTREAM] = &mr_sink_jetstream};

struct mr_parcel {
    const struct mr_event *event; /* borrowed: the pump keeps it until release */
    struct mr_parcel *part[SINKS];
};

struct all {
    struct mr_sink base;
    struct mr_sink *sinks[SINKS];
    uint32_t first;          /* who is asked first */
    struct mr_parcel parcel; /* the pump has one at a time */
};

static struct all *from_base(struct mr_sink *sink)
{
    MR_ASSERT(sink->ops == &mr_sink_all);
    return (struct all *)(void *)sink;
}

/* The sink of a gateway, whose own id replaces the caller's. */
static struct mr_sink *sink_of(struct mr_sink *sink, mr_gateway_id *gateway)
{
    uint64_t number = *gateway >> NUMBER_SHIFT;
    MR_ASSERT(number < SINKS);
    *gateway &= ID_MASK;
    return from_base(sink)->sinks[number];
}

static void all_close(struct mr_sink *sink, uint64_t deadline_ns)
{
    struct all *a = from_base(sink);
    for (uint32_t i = 0; i < SINKS; i++)
        if (a->sinks[i])
            kinds[i]->close(a->sinks[i], deadline_ns);
    free(a);
}

static enum mr_rc all_open(struct mr_sink **out, const struct mr_config *config,
                           struct mr_cell_shm *cell, struct mr_err *err)
{
    struct all *a = calloc(1, sizeof *a);
    if (!a)
        return mr_fail(err, MR_FATAL, "open the sinks");
    a->base = (struct mr_sink){.ops = &mr_sink_all, .config = config, .cell = cell};
    enum mr_rc rc = MR_OK;
    for (uint32_t i = 0; rc == MR_OK && i < SINKS; i++)
        rc = kinds[i]->open(&a->sinks[i], config, cell, err);
    if (rc != MR_OK)
        all_close(&a->base, 0);
    else
        *out = &a->base;
    return rc;
}

static enum mr_rc all_attach(struct mr_sink *sink, struct mr_err *err)
{
    struct all *a = from_base(sink);
    enum mr_rc rc = MR_OK;
    for (uint32_t i = 0; rc == MR_OK && i < SINKS; i++) {
        a->sinks[i]->board = sink->board;
        if (kinds[i]->attach)
            rc = kinds[i]->attach(a->sinks[i], err);
    }
    return rc;
}

/* In turn, so that none has to wait for another's requests. */
static enum mr_rc all_poll(struct mr_sink *sink, struct mr_request *out)
{
    struct all *a = from_base(sink);
    for (uint32_t i = 0; i < SINKS; i++) {
        uint32_t number = (a->first + i) % SINKS;
        if (kinds[number]->poll(a->sinks[number], out) != MR_OK)
            continue;
        MR_ASSERT((out->gateway & ~ID_MASK) == 0);
        out->gateway |= (mr_gateway_id)number << NUMBER_SHIFT;
        a->first = (number + 1) % SINKS;
        return MR_OK;
    }
    return MR_AGAIN;
}

static struct mr_parcel *all_encode(struct mr_sink *sink, const struct mr_event *event)
{
    struct all *a = from_base(sink);
    a->parcel = (struct mr_parcel){.event = event};
    return &a->parcel;
}

static void all_release(struct mr_sink *sink, struct mr_parcel *parcel)
{
    struct all *a = from_base(sink);
    for (uint32_t i = 0; i < SINKS; i++)
        if (parcel->part[i])
            kinds[i]->release(a->sinks[i], parcel->part[i]);
}

static enum mr_rc all_deliver(struct mr_sink *sink, mr_gateway_id gateway, struct mr_parcel *parcel,
                              const struct mr_delivery *delivery)
{
    uint64_t number = gateway >> NUMBER_SHIFT;
    struct mr_sink *to = sink_of(sink, &gateway);
    if (!parcel->part[number])
        parcel->part[number] = to->ops->encode(to, parcel->event);
    if (!parcel->part[number])
        return MR_FATAL;
    return to->ops->deliver(to, gateway, parcel->part[number], delivery);
}

static enum mr_rc all_notify(struct mr_sink *sink, mr_gateway_id gateway,
                             const struct mr_notice *notice)
{
    struct mr_sink *to = sink_of(sink, &gateway);
    return to->ops->notify(to, gateway, notice);
}

static enum mr_rc all_respond(struct mr_sink *sink, mr_gateway_id gateway,
                              const struct mr_response *response)
{
    struct mr_sink *to = sink_of(sink, &gateway);
    return to->ops->respond(to, gateway, response);
}

static enum mr_rc all_acknowledge(struct mr_sink *sink, mr_gateway_id gateway, int64_t timestamp_ms,
                                  struct mr_str progress, bool resync)
{
    struct mr_sink *to = sink_of(sink, &gateway);
    return to->ops->acknowledge(to, gateway, timestamp_ms, progress, resync);
}

/* There is one sink that delivers to durable subscriptions. */
static enum mr_rc all_durable_begin(struct mr_sink *sink, const struct mr_sink_durable *durable,
                                    uint32_t *handle, struct mr_err *err)
{
    struct mr_sink *to = from_base(sink)->sinks[JETSTREAM];
    return to->ops->durable_begin(to, durable, handle, err);
}

static void all_durable_end(struct mr_sink *sink, uint32_t handle)
{
    struct mr_sink *to = from_base(sink)->sinks[JETSTREAM];
    to->ops->durable_end(to, handle);
}

static double all_fill(struct mr_sink *sink, mr_gateway_id gateway)
{
    struct mr_sink *to = sink_of(sink, &gateway);
    return to->ops->fill(to, gateway);
}

static void all_flush(struct mr_sink *sink)
{
    struct all *a = from_base(sink);
    for (uint32_t i = 0; i < SINKS; i++)
        kinds[i]->flush(a->sinks[i]);
}

static void all_serving(struct mr_sink *sink, bool serving)
{
    struct all *a = from_base(sink);
    for (uint32_t i = 0; i < SINKS; i++)
        kinds[i]->serving(a->sinks[i], serving);
}

const struct mr_sink_ops mr_sink_all = {
    .name = "all",
    .open = all_open,
    .attach = all_attach,
    .poll = all_poll,
    .encode = all_encode,
    .release = all_release,
    .deliver = all_deliver,
    .notify = all_notify,
    .respond = all_respond,
    .acknowledge = all_acknowledge,
    .durable_begin = all_durable_begin,
    .durable_end = all_durable_end,
    .fill = all_fill,
    .flush = all_flush,
    .serving = all_serving,
    .close = all_close,
};
