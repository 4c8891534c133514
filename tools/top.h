/* tools/top.h: the parts of millrace-top: a live view of an instance and of a few deliveries. */
#ifndef MR_TOOLS_TOP_H
#define MR_TOOLS_TOP_H
#include "shm/inspect.h"

enum { TOP_SAMPLES = 6, TOP_SAMPLE_TEXT = 200 };

/* What the view's own subscriber has received. Written by the receiving side under the caller's lock. */
struct top_deliveries {
    uint64_t messages, pairs, subscriptions;
    struct mr_histogram_shm latency; /* from the source's time to here */
    char samples[TOP_SAMPLES][TOP_SAMPLE_TEXT]; /* ring, newest at (messages - 1) % TOP_SAMPLES */
};

/* Numbers of the instance at one moment; two of them make rates and the latencies of the time between. */
struct top_numbers {
    uint64_t now_ns;
    uint64_t events, hits, pairs, deliveries; /* matched events, with a match, pairs; delivered messages */
    uint64_t subscriptions, checkpoint, durable;
    double cpu_seconds; /* of all processes */
    uint64_t rss_bytes;
    struct mr_histogram_shm ring, match, sent, client; /* copies; matchers summed */
};

void top_take(struct mr_inspect *inspect, const struct top_deliveries *deliveries,
              struct top_numbers *out);
/* Draw one screen. before may be the first sample ever taken: rates are then averages since. */
void top_draw(struct mr_inspect *inspect, const struct top_numbers *before, const struct top_numbers *now,
              const struct top_deliveries *deliveries, FILE *out);
#endif
