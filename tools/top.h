/* tools/top.h: the parts of millrace-top: a live view of an instance and of a few deliveries. */
#ifndef MR_TOOLS_TOP_H
#define MR_TOOLS_TOP_H
#include "shm/inspect.h"
#include "tools/audience.h"

/* Numbers of the instance at one moment; two of them make rates and the latencies of the time
 * between. */
struct top_numbers {
    uint64_t now_ns;
    uint64_t events, hits, pairs,
        deliveries; /* matched events, with a match, pairs; delivered messages */
    uint64_t subscriptions, checkpoint, durable;
    double cpu_seconds; /* of all processes */
    uint64_t rss_bytes;
    struct mr_histogram_shm ring, match, sent, client; /* copies; matchers summed */
};

void top_take(struct mr_inspect *inspect, const struct mr_audience_count *deliveries,
              struct top_numbers *out);
/* Draw one screen. before may be the first sample ever taken: rates are then averages since. */
void top_draw(struct mr_inspect *inspect, const struct top_numbers *before,
              const struct top_numbers *now, const struct mr_audience_count *deliveries, FILE *out);
#endif
