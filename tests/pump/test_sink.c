#include "tests/pump/test_sink.h"

#include <stdlib.h>

#include "proto/marker.h"

struct test_sink_state test_sink;

struct mr_parcel {
    uint64_t references, sequence;
};

static struct mr_sink base;
static struct test_request current;
static struct mr_predicate predicate;

static void *grow(void *items, uint32_t *capacity, size_t bytes)
{
    *capacity = *capacity ? *capacity * 2 : 64;
    void *out = realloc(items, *capacity * bytes);
    MR_ASSERT(out);
    return out;
}

void test_sink_reset(void)
{
    for (uint32_t i = 0; i < test_sink.subscription_count; i++)
        free(test_sink.subscriptions[i].sequences);
    free(test_sink.subscriptions);
    free(test_sink.requests);
    test_sink = (struct test_sink_state){0};
}

void test_sink_push(const struct test_request *request)
{
    if (test_sink.request_first == test_sink.request_count)
        test_sink.request_first = test_sink.request_count = 0;
    if (test_sink.request_count == test_sink.request_capacity)
        test_sink.requests = grow(test_sink.requests, &test_sink.request_capacity, sizeof *request);
    test_sink.requests[test_sink.request_count++] = *request;
}

struct test_subscription *test_sink_of(mr_gateway_id gateway, struct mr_str id)
{
    for (uint32_t i = 0; i < test_sink.subscription_count; i++) {
        struct test_subscription *s = &test_sink.subscriptions[i];
        if (s->gateway == gateway && mr_str_equal(mr_str_from(s->id), id))
            return s;
    }
    if (test_sink.subscription_count == test_sink.subscription_capacity)
        test_sink.subscriptions = grow(test_sink.subscriptions, &test_sink.subscription_capacity,
                                       sizeof *test_sink.subscriptions);
    struct test_subscription *s = &test_sink.subscriptions[test_sink.subscription_count++];
    *s = (struct test_subscription){.gateway = gateway};
    MR_ASSERT(id.len < TEST_ID_MAX);
    memcpy(s->id, id.data, id.len);
    return s;
}

static enum mr_rc sink_open(struct mr_sink **out, const struct mr_config *config,
                            struct mr_cell_shm *cell, struct mr_err *err)
{
    (void)err;
    base = (struct mr_sink){.ops = &test_sink_ops, .config = config, .cell = cell};
    test_sink.open = true;
    *out = &base;
    return MR_OK;
}

static enum mr_rc sink_poll(struct mr_sink *sink, struct mr_request *out)
{
    (void)sink;
    if (test_sink.request_first == test_sink.request_count)
        return MR_AGAIN;
    current = test_sink.requests[test_sink.request_first++];
    predicate = (struct mr_predicate){.path = MR_STR("n"),
                                      .op = MR_PRED_EQ,
                                      .value = {.kind = MR_CONST_INT, .integer = current.value}};
    *out = (struct mr_request){.kind = current.kind,
                               .gateway = current.gateway,
                               .subscription_id = mr_str_from(current.id),
                               .database = MR_STR("db"),
                               .collection = mr_str_from(current.collection),
                               .after = mr_str_from(current.after),
                               .snapshot = current.snapshot,
                               .own = current.own,
                               .predicates = &predicate,
                               .predicate_count = current.value >= 0,
                               .problem = mr_str_from(current.problem),
                               .gateway_name = mr_str_from(current.gateway_name),
                               .timestamp_ms = current.timestamp_ms};
    return MR_OK;
}

static struct mr_parcel *sink_encode(struct mr_sink *sink, const struct mr_event *event)
{
    (void)sink;
    struct mr_parcel *parcel = malloc(sizeof *parcel);
    *parcel = (struct mr_parcel){.references = 1, .sequence = event->head.sequence};
    test_sink.encodes++;
    return parcel;
}

static void sink_release(struct mr_sink *sink, struct mr_parcel *parcel)
{
    (void)sink;
    test_sink.releases++;
    if (--parcel->references == 0)
        free(parcel);
}

static uint64_t marker_of(struct mr_str text)
{
    struct mr_marker marker;
    MR_ASSERT(mr_marker_parse(text, &marker, NULL) == MR_OK);
    return marker.sequence;
}

static enum mr_rc sink_deliver(struct mr_sink *sink, mr_gateway_id gateway,
                               struct mr_parcel *parcel, const struct mr_delivery *delivery)
{
    const struct mr_str *ids = delivery->subscription_ids;
    uint32_t count = delivery->count;
    (void)sink;
    MR_ASSERT(count > 0 &&
              (delivery->snapshot ? delivery->progress.len == 0
                                  : marker_of(delivery->progress) == parcel->sequence));
    if (gateway == test_sink.cut)
        return MR_CLOSED;
    test_sink.deliveries++;
    uint64_t *highest = &test_sink.gateway_highest[gateway % 64];
    *highest = parcel->sequence > *highest ? parcel->sequence : *highest;
    uint32_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (test_sink.record)
            test_sink.record(gateway, ids[i], parcel->sequence);
        struct test_subscription *s = test_sink_of(gateway, ids[i]);
        uint32_t place = (uint32_t)(s - test_sink.subscriptions);
        test_sink.unordered |= i > 0 && place < last;
        last = place;
        if (s->count == s->capacity)
            s->sequences = grow(s->sequences, &s->capacity, sizeof *s->sequences);
        s->sequences[s->count++] = parcel->sequence;
        s->before_answer += s->answers == 0;
    }
    return MR_OK;
}

static enum mr_rc sink_respond(struct mr_sink *sink, mr_gateway_id gateway,
                               const struct mr_response *response)
{
    (void)sink;
    struct test_subscription *s = test_sink_of(gateway, response->subscription_id);
    s->answers++;
    s->success = response->success;
    s->resync = response->resync;
    s->later = response->later;
    s->at_answer = test_sink.gateway_highest[gateway % 64];
    memset(s->error, 0, sizeof s->error);
    if (!response->success)
        memcpy(s->error, response->error.data,
               response->error.len < 255 ? response->error.len : 255);
    else
        s->marker = marker_of(response->progress);
    return MR_OK;
}

static enum mr_rc sink_notify(struct mr_sink *sink, mr_gateway_id gateway,
                              const struct mr_notice *notice)
{
    (void)sink;
    test_sink_of(gateway, notice->subscription_id)->notices++;
    return MR_OK;
}

static enum mr_rc sink_acknowledge(struct mr_sink *sink, mr_gateway_id gateway,
                                   int64_t timestamp_ms, struct mr_str progress, bool resync)
{
    test_sink.ack_resync = resync;
    (void)sink;
    (void)gateway;
    test_sink.acknowledged++;
    test_sink.ack_marker = marker_of(progress);
    test_sink.ack_timestamp_ms = timestamp_ms;
    return MR_OK;
}

static double sink_fill(struct mr_sink *sink, mr_gateway_id gateway)
{
    (void)sink;
    return gateway == test_sink.cut ? 1 : test_sink.fill;
}

static void sink_flush(struct mr_sink *sink)
{
    (void)sink;
    test_sink.flushes++;
}

static void sink_serving(struct mr_sink *sink, bool serving)
{
    (void)sink;
    test_sink.serving = serving;
}

static void sink_close(struct mr_sink *sink, uint64_t deadline_ns)
{
    (void)sink;
    (void)deadline_ns;
    test_sink.open = false;
}

const struct mr_sink_ops test_sink_ops = {.name = "test",
                                          .open = sink_open,
                                          .poll = sink_poll,
                                          .encode = sink_encode,
                                          .release = sink_release,
                                          .deliver = sink_deliver,
                                          .respond = sink_respond,
                                          .notify = sink_notify,
                                          .acknowledge = sink_acknowledge,
                                          .fill = sink_fill,
                                          .flush = sink_flush,
                                          .serving = sink_serving,
                                          .close = sink_close};
