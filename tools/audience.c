#include "tools/audience.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/clock.h"
#include "tools/client/client.h"

enum { RECONNECT_NS = 100 * 1000 * 1000, SUBSCRIPTIONS_MAX = 10000000 };

struct mr_audience {
    struct mr_audience_options options;
    struct mr_client_queue *queue;
    struct mr_client *client; /* NULL while the stream is broken */
    uint64_t retry_ns;        /* when to open it again */
    bool keep_samples;
    char marker[128]; /* behind the newest delivery; "" before the first */
    char *file;       /* NULL, or its content, owned */
    struct mr_audience_count count;
};

static void keep_sample(struct mr_audience *audience, const struct mr_client_delivery *delivery)
{
    char *sample = audience->count.samples[audience->count.deliveries % MR_AUDIENCE_SAMPLES];
    time_t second = (time_t)(delivery->timestamp_ms / 1000);
    struct tm when;
    char clock[16];
    strftime(clock, sizeof clock, "%H:%M:%S", localtime_r(&second, &when));
    snprintf(sample, MR_AUDIENCE_SAMPLE_TEXT, "%s %-7s %.*s/%.*s -> %.*s%s  %.*s", clock,
             mr_client_operation_name(delivery->operation), (int)delivery->collection.len,
             delivery->collection.data, (int)delivery->document_id.len, delivery->document_id.data,
             (int)delivery->subscription_ids[0].len, delivery->subscription_ids[0].data,
             delivery->count > 1 ? ", ..." : "", (int)delivery->document_json.len,
             delivery->document_json.data);
}

static void on_delivery(void *context, const struct mr_client_delivery *delivery)
{
    struct mr_audience *audience = context;
    int64_t age_us = mr_clock_wall_us() - delivery->source_timestamp_us;
    if (audience->keep_samples && delivery->count > 0)
        keep_sample(audience, delivery);
    audience->count.deliveries++;
    audience->count.pairs += delivery->count;
    if (delivery->source_timestamp_us > 0)
        mr_histogram_add(&audience->count.latency, age_us > 0 ? (uint64_t)age_us * 1000 : 0);
    if (delivery->progress.len < sizeof audience->marker) {
        memcpy(audience->marker, delivery->progress.data, delivery->progress.len);
        audience->marker[delivery->progress.len] = '\0';
    }
}

static void on_response(void *context, const struct mr_client_response *response)
{
    struct mr_audience *audience = context;
    if (response->success)
        audience->count.confirmed++;
    else
        fprintf(stderr, "subscription %.*s was refused: %.*s\n", (int)response->subscription_id.len,
                response->subscription_id.data, (int)response->error.len, response->error.data);
}

/* The text through the next end, and what is behind it. */
static struct mr_str take_part(const char **at, char end)
{
    size_t len = strcspn(*at, (char[]){end, '\n', '\0'});
    struct mr_str part = {*at, len};
    *at += len + ((*at)[len] == end);
    return part;
}

static void subscribe_lines(struct mr_audience *audience)
{
    for (const char *at = audience->file; *at;) {
        struct mr_client_subscription subscription = {.database =
                                                          mr_str_from(audience->options.database),
                                                      .after = mr_str_from(audience->marker)};
        subscription.subscription_id = take_part(&at, '\t');
        subscription.collection = take_part(&at, '\t');
        subscription.cel = take_part(&at, '\n');
        mr_client_subscribe(audience->client, &subscription);
    }
}

static void subscribe_all(struct mr_audience *audience)
{
    const struct mr_audience_options *options = &audience->options;
    if (audience->file) {
        subscribe_lines(audience);
        return;
    }
    for (uint64_t i = 0; i < audience->count.subscriptions; i++) {
        char id[64], text[64];
        snprintf(id, sizeof id, options->field ? "%s-%" PRIu64 : "%s",
                 options->field ? options->field : "all", i);
        struct mr_predicate filter = {.path = mr_str_from(options->field),
                                      .op = MR_PRED_EQ,
                                      .value = {.kind = MR_CONST_INT, .integer = (int64_t)i}};
        if (options->prefix) {
            snprintf(text, sizeof text, "%s%" PRIu64, options->prefix, i);
            filter.value = (struct mr_const){.kind = MR_CONST_STRING, .string = mr_str_from(text)};
        }
        const struct mr_client_subscription subscription = {
            .subscription_id = mr_str_from(id),
            .database = mr_str_from(options->database),
            .collection = mr_str_from(options->collection),
            .after = mr_str_from(audience->marker),
            .filters = &filter,
            .filter_count = options->field ? 1 : 0};
        mr_client_subscribe(audience->client, &subscription);
    }
}

static enum mr_rc connect_stream(struct mr_audience *audience, struct mr_err *err)
{
    const struct mr_client_handlers handlers = {
        .delivery = on_delivery, .response = on_response, .context = audience};
    enum mr_rc rc = mr_client_open(&audience->client, audience->queue, audience->options.server,
                                   &handlers, err);
    if (rc != MR_OK)
        return rc;
    audience->count.confirmed = 0;
    subscribe_all(audience);
    return MR_OK;
}

bool mr_audience_take_option(struct mr_audience_options *options, int option, const char *value)
{
    switch (option) {
    case 's':
        options->server = value;
        return true;
    case 'd':
        options->database = value;
        return true;
    case 'c':
        options->collection = value;
        return true;
    case 'f':
        options->field = value;
        return true;
    case 'p':
        options->prefix = value;
        return true;
    case 'S':
        options->file = value;
        return true;
    case 'v':
        options->values = strtoull(value, NULL, 10);
        return true;
    default:
        return false;
    }
}

/* Every line of the file is one subscription. */
static enum mr_rc read_file(struct mr_audience *audience, struct mr_err *err)
{
    const char *path = audience->options.file;
    FILE *in = fopen(path, "re");
    if (!in)
        return mr_fail(err, MR_USAGE, "open %s", path);
    size_t capacity = 0;
    ssize_t len = getdelim(&audience->file, &capacity, '\0', in);
    fclose(in);
    if (len < 0)
        return mr_reject(err, MR_USAGE, "%s: expected subscriptions, got nothing", path);
    uint64_t count = 0;
    for (const char *at = audience->file; *at; at++)
        count += *at != '\n' && (at[1] == '\n' || at[1] == '\0');
    audience->count.subscriptions = count;
    return MR_OK;
}

enum mr_rc mr_audience_open(struct mr_audience **out, struct mr_client_queue *queue,
                            const struct mr_audience_options *options, struct mr_err *err)
{
    if (options->field && (options->values == 0 || options->values > SUBSCRIPTIONS_MAX))
        return mr_reject(err, MR_USAGE, "number of values: expected 1 to %d", SUBSCRIPTIONS_MAX);
    struct mr_audience *audience = calloc(1, sizeof *audience);
    if (!audience)
        return mr_fail(err, MR_FATAL, "allocate an audience");
    audience->options = *options;
    audience->queue = queue;
    audience->count.subscriptions = options->field ? options->values : 1;
    enum mr_rc rc = options->file ? read_file(audience, err) : MR_OK;
    if (rc == MR_OK)
        rc = connect_stream(audience, err);
    if (rc != MR_OK) {
        free(audience->file);
        free(audience);
        return rc;
    }
    *out = audience;
    return MR_OK;
}

void mr_audience_close(struct mr_audience **audience)
{
    if (!*audience)
        return;
    if ((*audience)->client)
        mr_client_close(&(*audience)->client);
    free((*audience)->file);
    free(*audience);
    *audience = NULL;
}

enum mr_rc mr_audience_work(struct mr_audience *audience, uint64_t timeout_ns, struct mr_err *err)
{
    uint64_t end = mr_clock_ns() + timeout_ns;
    for (uint64_t now = mr_clock_ns(); now < end; now = mr_clock_ns()) {
        if (!audience->client && now >= audience->retry_ns) {
            enum mr_rc rc = connect_stream(audience, err);
            if (rc != MR_OK)
                return rc;
        }
        if (!audience->client) {
            uint64_t wait = (audience->retry_ns < end ? audience->retry_ns : end) - now;
            const struct timespec pause = {.tv_sec = (time_t)(wait / MR_NS_PER_S),
                                           .tv_nsec = (long)(wait % MR_NS_PER_S)};
            nanosleep(&pause, NULL);
            if (end <= audience->retry_ns)
                break;
            continue;
        }
        enum mr_rc rc = mr_client_work(audience->queue, end - now, err);
        if (rc == MR_USAGE)
            return rc;
        if (rc != MR_OK && rc != MR_AGAIN) {
            mr_client_close(&audience->client);
            audience->retry_ns = mr_clock_ns() + RECONNECT_NS;
        }
    }
    return MR_OK;
}

const struct mr_audience_count *mr_audience_count(const struct mr_audience *audience)
{
    return &audience->count;
}

void mr_audience_keep_samples(struct mr_audience *audience)
{
    audience->keep_samples = true;
}
