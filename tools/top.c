/* tools/top.c: millrace-top: a live view of an instance, of its rates, latencies, rings, processes,
 * and, with --server, of deliveries to a subscriber of its own. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "tools/audience.h"
#include "tools/client/client.h"
#include "tools/top.h"

struct options {
    const char *instance;
    uint64_t seconds;                    /* 0: until interrupted */
    struct mr_audience_options audience; /* server NULL: none */
};

static const char usage[] =
    "usage: millrace-top INSTANCE [--seconds N] [--server HOST:PORT --database D --collection C\n"
    "                    [--field F --values N [--prefix P]]]\n"
    "  with --server it subscribes, too: to the whole collection, or to \"F == i\" for each i "
    "below N,\n"
    "  or with --prefix to \"F == 'Pi'\"\n";

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static bool parse(int argc, char **argv, struct options *out)
{
    static const struct option longs[] = {
        {"seconds", required_argument, NULL, 'n'}, MR_AUDIENCE_OPTIONS, {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (option == 'n')
            out->seconds = strtoull(optarg, NULL, 10);
        else if (!mr_audience_take_option(&out->audience, option, optarg))
            return false;
    }
    if (optind + 1 != argc)
        return false;
    out->instance = argv[optind];
    return !out->audience.server || (out->audience.database && out->audience.collection);
}

/* Until the next screen: receive when there is an audience, else sleep. */
static enum mr_rc wait_second(struct mr_audience *audience, struct mr_err *err)
{
    if (audience)
        return mr_audience_work(audience, MR_NS_PER_S, err);
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    return MR_OK;
}

/* On a terminal each screen replaces the last one; elsewhere only the last screen is printed. */
static enum mr_rc watch(struct mr_inspect *inspect, struct mr_audience *audience,
                        const struct options *options, struct mr_err *err)
{
    static struct top_numbers samples[2];
    static const struct mr_audience_count nobody;
    const struct mr_audience_count *count = audience ? mr_audience_count(audience) : &nobody;
    bool terminal = isatty(STDOUT_FILENO);
    uint64_t turn = 0;
    enum mr_rc rc = MR_OK;
    top_take(inspect, count, &samples[0]);
    while (!interrupted && rc == MR_OK && (options->seconds == 0 || turn < options->seconds)) {
        rc = wait_second(audience, err);
        turn++;
        top_take(inspect, count, &samples[turn & 1]);
        bool last = interrupted || turn == options->seconds;
        if (terminal)
            fputs("\033[H\033[2J", stdout);
        if (terminal || last)
            top_draw(inspect, &samples[(turn & 1) ^ 1], &samples[turn & 1], count, stdout);
        fflush(stdout);
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct mr_inspect inspect;
    struct mr_client_queue *queue = NULL;
    struct mr_audience *audience = NULL;
    struct mr_err err = {0};
    if (!parse(argc, argv, &options)) {
        fputs(usage, stderr);
        return MR_EXIT_USAGE;
    }
    const struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    enum mr_rc rc = mr_inspect_open(&inspect, options.instance, &err);
    if (rc == MR_OK) {
        if (options.audience.server) {
            queue = mr_client_queue_create();
            rc = mr_audience_open(&audience, queue, &options.audience, &err);
        }
        if (audience)
            mr_audience_keep_samples(audience);
        if (rc == MR_OK)
            rc = watch(&inspect, audience, &options, &err);
        mr_audience_close(&audience);
        mr_client_queue_destroy(&queue);
        mr_inspect_close(&inspect);
    }
    if (rc != MR_OK)
        fprintf(stderr, "millrace-top: %s\n", err.text);
    return rc == MR_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
