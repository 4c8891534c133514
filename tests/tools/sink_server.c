/* The gRPC sink with a pump of a few lines, for tests from outside: accepts every subscription
 * whose collection is not "refused", and delivers what it is told on standard input: emit
 * COLLECTION COUNT [BYTES]   COUNT events to every subscription of that collection, each document
 *                                   with BYTES of padding; numbers rise over the whole run
 *   serving 0|1                     health state
 *   quit                            close within 2 s
 * After each command one line of JSON: what the pump saw. The port is in the log line "listening".
 *   sink_server [KEY=VALUE]...      configuration, e.g. publisher.gateway_queue_messages=100 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/bson.h"
#include "common/clock.h"
#include "common/log.h"
#include "proto/marker.h"
#include "publisher/control.h"
#include "publisher/sink.h"

enum { SUBSCRIPTIONS_MAX = 65536, NAME_BYTES = 64, COMMAND_BYTES = 256, PADDING_MAX = 1 << 24 };

struct subscription {
    mr_gateway_id gateway; /* 0: free */
    char id[NAME_BYTES], collection[NAME_BYTES];
};

struct pump {
    struct mr_sink *sink;
    struct mr_cell_shm cell;
    struct subscription subscriptions[SUBSCRIPTIONS_MAX];
    uint32_t count; /* high-water mark in subscriptions */
    uint64_t sequence, opened, closed, subscribed, refused, unsubscribed, heartbeats;
    bool queued, stop;
};

static struct mr_str progress(const struct pump *p, char text[MR_MARKER_TEXT_MAX])
{
    size_t len = mr_marker_format((struct mr_marker){.log_id = 1, .sequence = p->sequence}, text);
    return (struct mr_str){text, len};
}

static void keep(char out[NAME_BYTES], struct mr_str text)
{
    size_t len = text.len < NAME_BYTES - 1 ? text.len : NAME_BYTES - 1;
    if (len)
        memcpy(out, text.data, len);
    out[len] = '\0';
}

static void drop_subscriptions(struct pump *p, mr_gateway_id gateway, const char *id)
{
    for (uint32_t i = 0; i < p->count; i++) {
        struct subscription *s = &p->subscriptions[i];
        if (s->gateway == gateway && (!id || strcmp(s->id, id) == 0))
            s->gateway = 0;
    }
}

static void subscribe(struct pump *p, const struct mr_request *request)
{
    char marker[MR_MARKER_TEXT_MAX];
    struct mr_response response = {.subscription_id = request->subscription_id,
                                   .error = request->problem};
    if (request->problem.len == 0 && mr_str_equal(request->collection, MR_STR("refused")))
        response.error = MR_STR("collection: \"refused\" is refused");
    if (response.error.len == 0 && p->count < SUBSCRIPTIONS_MAX) {
        struct subscription *s = &p->subscriptions[p->count++];
        s->gateway = request->gateway;
        keep(s->id, request->subscription_id);
        keep(s->collection, request->collection);
        response.success = true;
        response.progress = progress(p, marker);
        p->subscribed++;
    } else {
        p->refused++;
    }
    (void)mr_sink_grpc.respond(p->sink, request->gateway, &response);
    p->queued = true;
}

static void handle(struct pump *p, const struct mr_request *request)
{
    char id[NAME_BYTES], marker[MR_MARKER_TEXT_MAX];
    switch (request->kind) {
    case MR_REQUEST_OPEN:
        p->opened++;
        break;
    case MR_REQUEST_SUBSCRIBE:
        subscribe(p, request);
        break;
    case MR_REQUEST_UNSUBSCRIBE:
        keep(id, request->subscription_id);
        drop_subscriptions(p, request->gateway, id);
        p->unsubscribed++;
        break;
    case MR_REQUEST_HEARTBEAT:
        (void)mr_sink_grpc.acknowledge(p->sink, request->gateway, request->timestamp_ms,
                                       progress(p, marker), false);
        p->queued = true;
        p->heartbeats++;
        break;
    case MR_REQUEST_REGISTER: /* nothing here keeps them */
        mr_control_fail(request->control, MR_CONTROL_UNAVAILABLE, "no store");
        request->control->done(request->control);
        break;
    case MR_REQUEST_CLOSE:
        drop_subscriptions(p, request->gateway, NULL);
        p->closed++;
        break;
    }
}

static void build_event(struct pump *p, const char *collection, size_t padding,
                        struct mr_event *event, struct mr_bson_writer *w)
{
    static char spaces[PADDING_MAX];
    char id[32];
    memset(spaces, 'x', padding);
    p->sequence++;
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    mr_bson_put_int64(w, MR_STR("n"), (int64_t)p->sequence);
    mr_bson_put_string(w, MR_STR("padding"), (struct mr_str){spaces, padding});
    mr_bson_end(w);
    snprintf(id, sizeof id, "1-%llu-0", (unsigned long long)p->sequence);
    *event = (struct mr_event){.database = MR_STR("default"),
                               .collection = mr_str_from(collection),
                               .document_id = MR_STR("doc-1"),
                               .document = mr_bson_bytes(w)};
    event->head = (struct mr_event_head){.sequence = p->sequence,
                                         .source_order = p->sequence,
                                         .op = MR_OP_INSERT,
                                         .ingest_time_us = mr_clock_wall_us(),
                                         .source_time_us = mr_clock_wall_us()};
}

/* One delivery a gateway, with all of its subscriptions, as the pump does it. */
static void deliver(struct pump *p, const char *collection, struct mr_parcel *parcel)
{
    static struct mr_str ids[SUBSCRIPTIONS_MAX];
    static bool done[SUBSCRIPTIONS_MAX];
    char marker[MR_MARKER_TEXT_MAX];
    memset(done, 0, p->count);
    for (uint32_t i = 0; i < p->count; i++) {
        mr_gateway_id gateway = p->subscriptions[i].gateway;
        uint32_t count = 0;
        for (uint32_t j = i; j < p->count; j++) {
            struct subscription *s = &p->subscriptions[j];
            if (!gateway || done[j] || s->gateway != gateway ||
                strcmp(s->collection, collection) != 0)
                continue;
            done[j] = true;
            ids[count++] = mr_str_from(s->id);
        }
        const struct mr_delivery delivery = {
            .subscription_ids = ids, .count = count, .progress = progress(p, marker)};
        if (count > 0)
            (void)mr_sink_grpc.deliver(p->sink, gateway, parcel, &delivery);
    }
    p->queued = true;
}

static void flush(struct pump *p)
{
    if (p->queued)
        mr_sink_grpc.flush(p->sink);
    p->queued = false;
}

static void emit(struct pump *p, const char *collection, uint64_t count, size_t padding)
{
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    for (uint64_t i = 0; i < count; i++) {
        struct mr_event event;
        build_event(p, collection, padding < PADDING_MAX ? padding : PADDING_MAX, &event, &w);
        struct mr_parcel *parcel = mr_sink_grpc.encode(p->sink, &event);
        MR_ASSERT(parcel != NULL);
        deliver(p, collection, parcel);
        mr_sink_grpc.release(p->sink, parcel);
        if (i % 16 == 15)
            flush(p);
    }
    mr_bson_writer_fini(&w);
}

static double fullest(struct pump *p)
{
    double most = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        if (!p->subscriptions[i].gateway)
            continue;
        double fill = mr_sink_grpc.fill(p->sink, p->subscriptions[i].gateway);
        most = fill > most ? fill : most;
    }
    return most;
}

static void report(struct pump *p)
{
    printf("{\"opened\": %llu, \"closed\": %llu, \"subscribed\": %llu, \"refused\": %llu, "
           "\"unsubscribed\": %llu, \"heartbeats\": %llu, \"sequence\": %llu, \"cut\": %llu, "
           "\"rejected\": %llu, \"gateways\": %llu, \"fill\": %.3f}\n",
           (unsigned long long)p->opened, (unsigned long long)p->closed,
           (unsigned long long)p->subscribed, (unsigned long long)p->refused,
           (unsigned long long)p->unsubscribed, (unsigned long long)p->heartbeats,
           (unsigned long long)p->sequence,
           (unsigned long long)mr_counter_get(&p->cell, MR_COUNTER_GATEWAYS_CUT),
           (unsigned long long)mr_counter_get(&p->cell, MR_COUNTER_MESSAGES_REJECTED),
           (unsigned long long)mr_counter_get(&p->cell, MR_COUNTER_GATEWAYS), fullest(p));
    fflush(stdout);
}

static void obey(struct pump *p, const char *command)
{
    char collection[NAME_BYTES];
    unsigned long long count, padding = 0;
    int serving;
    if (sscanf(command, "emit %63s %llu %llu", collection, &count, &padding) >= 2)
        emit(p, collection, count, (size_t)padding);
    else if (sscanf(command, "serving %d", &serving) == 1)
        mr_sink_grpc.serving(p->sink, serving != 0);
    else if (strncmp(command, "quit", 4) == 0)
        p->stop = true;
    flush(p);
    report(p);
}

/* Read commands without blocking: at most one a turn. */
static void read_command(struct pump *p)
{
    static char line[COMMAND_BYTES];
    static size_t len;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&input, 1, 1) <= 0)
        return;
    ssize_t got = read(STDIN_FILENO, line + len, 1);
    if (got <= 0) {
        p->stop = true;
        return;
    }
    if (line[len] == '\n' || len == sizeof line - 2) {
        line[len] = '\0';
        len = 0;
        obey(p, line);
        return;
    }
    len++;
}

int main(int argc, char **argv)
{
    static struct mr_config config;
    static struct pump pump;
    struct mr_err err = {0};
    mr_config_init(&config);
    mr_log_setup(MR_LOG_INFO, MR_LOG_TEXT, "sink_server");
    if (mr_config_set(&config, "publisher.grpc_listen", "127.0.0.1:0", &err) != MR_OK)
        return MR_EXIT_USAGE;
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals)
            *equals = '\0';
        if (!equals || mr_config_set(&config, argv[i], equals + 1, &err) != MR_OK) {
            fprintf(stderr, "%s\n", err.text);
            return MR_EXIT_USAGE;
        }
    }
    if (mr_sink_grpc.open(&pump.sink, &config, &pump.cell, &err) != MR_OK) {
        fprintf(stderr, "%s\n", err.text);
        return MR_EXIT_RETRY;
    }
    mr_sink_grpc.serving(pump.sink, true);
    while (!pump.stop) {
        struct mr_request request;
        while (mr_sink_grpc.poll(pump.sink, &request) == MR_OK)
            handle(&pump, &request);
        flush(&pump);
        read_command(&pump);
    }
    mr_sink_grpc.close(pump.sink, mr_clock_ns() + 2 * MR_NS_PER_S);
    return 0;
}
