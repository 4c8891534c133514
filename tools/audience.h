/* tools/audience.h: many subscriptions on one stream, counted and timed: what millrace-top and
 * millrace-load look through. Single-threaded, driven by the caller. */
#ifndef MR_TOOLS_AUDIENCE_H
#define MR_TOOLS_AUDIENCE_H
#include <getopt.h>
#include <stdbool.h>

#include "common/err.h"
#include "shm/histogram.h"

enum { MR_AUDIENCE_SAMPLES = 6, MR_AUDIENCE_SAMPLE_TEXT = 160 };

struct mr_audience_options {
    const char *server; /* host:port */
    const char *database, *collection;
    const char *field;  /* NULL: one subscription to the whole collection */
    const char *prefix; /* NULL: the values are the numbers below; else texts: prefix and number */
    uint64_t values;    /* one subscription "field == i" for each i below */
    const char *file;   /* NULL, or lines "id TAB collection TAB expression of CEL, or nothing" */
};

/* The options of the command line that fill the struct above, for getopt_long: rows for its table,
 * and what takes one. False: not one of them. */
#define MR_AUDIENCE_OPTIONS                                                                        \
    {"server", required_argument, NULL, 's'}, {"database", required_argument, NULL, 'd'},          \
        {"collection", required_argument, NULL, 'c'}, {"field", required_argument, NULL, 'f'},     \
        {"prefix", required_argument, NULL, 'p'}, {"subscriptions", required_argument, NULL, 'S'}, \
    {                                                                                              \
        "values", required_argument, NULL, 'v'                                                     \
    }
bool mr_audience_take_option(struct mr_audience_options *options, int option, const char *value);

/* What has arrived so far. */
struct mr_audience_count {
    uint64_t subscriptions, confirmed;
    uint64_t deliveries, pairs;
    struct mr_histogram_shm
        latency; /* from the source's time to here; wall clocks of one machine */
    char samples[MR_AUDIENCE_SAMPLES]
                [MR_AUDIENCE_SAMPLE_TEXT]; /* the newest at (deliveries - 1) % SAMPLES */
};

struct mr_audience;
struct mr_client_queue;

/* queue: where its completions arrive; it outlives the audience. */
MR_MUST_USE enum mr_rc mr_audience_open(struct mr_audience **out, struct mr_client_queue *queue,
                                        const struct mr_audience_options *options,
                                        struct mr_err *err);
void mr_audience_close(struct mr_audience **audience);
/* For an audience that has its queue alone: receive for about timeout_ns. A stream that broke is
 * opened again, behind the last marker; MR_USAGE: the publisher refuses what is asked. For
 * audiences that share a queue there is mr_client_work, and nothing is opened again. */
MR_MUST_USE enum mr_rc mr_audience_work(struct mr_audience *audience, uint64_t timeout_ns,
                                        struct mr_err *err);
const struct mr_audience_count *mr_audience_count(const struct mr_audience *audience);
/* Keep text samples of deliveries: off until asked for, because it costs. */
void mr_audience_keep_samples(struct mr_audience *audience);
#endif
