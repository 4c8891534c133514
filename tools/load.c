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

enum { TURN_NS = 1000 * 1000 };

static const char usage[] = "usage: millrace-load --server HOST:PORT --database D --collection C "
                            "[--field F --values N [--prefix P]]\n"
                            "       millrace-load --server HOST:PORT --database D "
                            "--subscriptions FILE\n"
                            "  without --field: one subscription to the whole collection; with it: "
                            "one \"F == i\" for each i below N,\n"
                            "  or with --prefix one \"F == 'Pi'\"; FILE has a line for each: id, "
                            "TAB, collection, TAB,\n"
                            "  and an expression of CEL or nothing\n"
                            "  Each line on standard input is answered with one JSON line of what "
                            "arrived since the last one.\n";

static bool parse(int argc, char **argv, struct mr_audience_options *out)
{
    static const struct option longs[] = {MR_AUDIENCE_OPTIONS, {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (!mr_audience_take_option(out, option, optarg))
            return false;
    }
    return out->server && out->database && (out->collection || out->file) && optind == argc;
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
    struct mr_audience_options options = {0};
    struct mr_audience *audience;
    struct mr_err err = {0};
    static struct mr_audience_count before;
    uint32_t questions = 0;
    if (!parse(argc, argv, &options)) {
        fputs(usage, stderr);
        return MR_EXIT_USAGE;
    }
    enum mr_rc rc = mr_audience_open(&audience, &options, &err);
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    while (rc == MR_OK) {
        rc = mr_audience_work(audience, TURN_NS, &err);
        const struct mr_audience_count *count = mr_audience_count(audience);
        if (questions > 0 && (before.confirmed > 0 || count->confirmed == count->subscriptions)) {
            answer(count, &before);
            questions--;
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
    else
        mr_audience_close(&audience);
    return mr_exit_code(rc);
}
