/* tools/load.c: millrace-load: hold many subscriptions, count and time what arrives, for benchmarks
 * and load tests. Each line on standard input is answered with one JSON line: what arrived since
 * the last answer; the first answer waits until every subscription is confirmed. Ends with standard
 * input. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tools/audience.h"
#include "tools/client/client.h"

enum { TURN_NS = 1000 * 1000, STREAMS_MAX = 10000 };

/* Streams that all hold the same subscriptions. */
struct load {
    struct mr_audience_options options;
    uint32_t stream_count;
    struct mr_client_queue *queue; /* of all */
    struct mr_audience **streams;
};

static const char usage[] = "usage: millrace-load --server HOST:PORT --database D --collection C "
                            "[--field F --values N [--prefix P]] "
                            "[--streams N]\n"
                            "       millrace-load --server HOST:PORT --database D "
                            "--subscriptions FILE\n"
                            "  without --field: one subscription to the whole collection; with it: "
                            "one \"F == i\" for each i below N,\n"
                            "  or with --prefix one \"F == 'Pi'\"; FILE has a line for each: id, "
                            "TAB, collection, TAB,\n"
                            "  and an expression of CEL or nothing\n"
                            "  --streams: so many gateways, each with all of these\n"
                            "  Each line on standard input is answered with one JSON line of what "
                            "arrived since the last one.\n";

static bool parse(int argc, char **argv, struct load *out)
{
    static const struct option longs[] = {
        MR_AUDIENCE_OPTIONS, {"streams", required_argument, NULL, 'n'}, {NULL, 0, NULL, 0}};
    int option;
    out->stream_count = 1;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (option == 'n')
            out->stream_count = (uint32_t)strtoul(optarg, NULL, 10);
        else if (!mr_audience_take_option(&out->options, option, optarg))
            return false;
    }
    const struct mr_audience_options *options = &out->options;
    return options->server && options->database && (options->collection || options->file) &&
           optind == argc && out->stream_count > 0 && out->stream_count <= STREAMS_MAX;
}

static enum mr_rc open_all(struct load *load, struct mr_err *err)
{
    load->queue = mr_client_queue_create();
    load->streams = calloc(load->stream_count, sizeof(struct mr_audience *));
    enum mr_rc rc = load->streams ? MR_OK : mr_fail(err, MR_FATAL, "open the streams");
    for (uint32_t i = 0; rc == MR_OK && i < load->stream_count; i++)
        rc = mr_audience_open(&load->streams[i], load->queue, &load->options, err);
    return rc;
}

/* A stream that breaks is opened again when it is the only one; of many, it ends the run. */
static enum mr_rc work(struct load *load, struct mr_err *err)
{
    if (load->stream_count == 1)
        return mr_audience_work(load->streams[0], TURN_NS, err);
    enum mr_rc rc = mr_client_work(load->queue, TURN_NS, err);
    if (rc == MR_CLOSED)
        return mr_reject(err, rc, "a stream was ended");
    return rc == MR_AGAIN ? MR_OK : rc;
}

/* Of all streams. */
static void sum_up(const struct load *load, struct mr_audience_count *out)
{
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < load->stream_count; i++) {
        const struct mr_audience_count *one = mr_audience_count(load->streams[i]);
        out->subscriptions += one->subscriptions;
        out->confirmed += one->confirmed;
        out->deliveries += one->deliveries;
        out->pairs += one->pairs;
        for (uint32_t bucket = 0; bucket < MR_HISTOGRAM_BUCKETS; bucket++)
            out->latency.buckets[bucket] += one->latency.buckets[bucket];
        out->latency.count += one->latency.count;
    }
}

/* The latencies of the time since the last answer. */
static void subtract(struct mr_histogram_shm *window, const struct mr_histogram_shm *now,
                     const struct mr_histogram_shm *before)
{
    memset(window, 0, sizeof *window);
    for (uint32_t i = 0; i < MR_HISTOGRAM_BUCKETS; i++)
        window->buckets[i] = now->buckets[i] - before->buckets[i];
    window->count = now->count - before->count;
}

static void answer(const struct mr_audience_count *now, struct mr_audience_count *before)
{
    static struct mr_histogram_shm window;
    subtract(&window, &now->latency, &before->latency);
    printf("{\"deliveries\":%" PRIu64 ",\"pairs\":%" PRIu64
           ",\"latency_us\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}}\n",
           now->deliveries - before->deliveries, now->pairs - before->pairs,
           (double)mr_histogram_quantile_ns(&window, 0.5) / 1e3,
           (double)mr_histogram_quantile_ns(&window, 0.9) / 1e3,
           (double)mr_histogram_quantile_ns(&window, 0.99) / 1e3,
           (double)mr_histogram_quantile_ns(&window, 0.999) / 1e3,
           (double)mr_histogram_quantile_ns(&window, 1) / 1e3);
    fflush(stdout);
    *before = *now;
}

int main(int argc, char **argv)
{
    struct load load = {0};
    struct mr_err err = {0};
    static struct mr_audience_count before, now;
    uint32_t questions = 0;
    if (!parse(argc, argv, &load)) {
        fputs(usage, stderr);
        return MR_EXIT_USAGE;
    }
    enum mr_rc rc = open_all(&load, &err);
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    while (rc == MR_OK) {
        rc = work(&load, &err);
        if (questions > 0) {
            sum_up(&load, &now);
            if (before.confirmed > 0 || now.confirmed == now.subscriptions) {
                answer(&now, &before);
                questions--;
            }
        }
        char line[256];
        if (rc == MR_OK && poll(&in, 1, 0) > 0) {
            ssize_t got = read(STDIN_FILENO, line, sizeof line);
            if (got <= 0)
                break;
            for (ssize_t i = 0; i < got; i++)
                questions += line[i] == '\n';
        }
    }
    if (rc != MR_OK)
        fprintf(stderr, "millrace-load: %s\n", err.text);
    for (uint32_t i = 0; load.streams && i < load.stream_count; i++)
        mr_audience_close(&load.streams[i]);
    free(load.streams);
    mr_client_queue_destroy(&load.queue);
    return mr_exit_code(rc);
}
