#include "puller/meter.h"

void mr_meter_add(struct mr_meter *meter, uint64_t last_sequence, uint64_t events, uint64_t read_ns)
{
    if (events == 0 || meter->added - meter->durable == MR_METER_BATCHES)
        return;
    meter->batches[meter->added++ % MR_METER_BATCHES] = (struct mr_meter_batch){
        .last_sequence = last_sequence, .events = events, .read_ns = read_ns};
}

static void follow(struct mr_meter *meter, uint64_t *index, enum mr_histogram histogram,
                   uint64_t through, uint64_t now_ns)
{
    for (; *index < meter->added; ++*index) {
        const struct mr_meter_batch *batch = &meter->batches[*index % MR_METER_BATCHES];
        if (batch->last_sequence > through)
            return;
        uint64_t took_ns = now_ns > batch->read_ns ? now_ns - batch->read_ns : 0;
        mr_histogram_add_n(&meter->cell->histograms[histogram], took_ns, batch->events);
    }
}

void mr_meter_follow(struct mr_meter *meter, uint64_t written, uint64_t durable, uint64_t now_ns)
{
    follow(meter, &meter->written, MR_HISTOGRAM_SOURCE_TO_LOG, written, now_ns);
    follow(meter, &meter->durable, MR_HISTOGRAM_SOURCE_TO_DURABLE, durable, now_ns);
}
