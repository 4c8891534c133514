#include "publisher/sinks/jetstream_sender.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/clock.h"
#include "common/log.h"

#define IDLE_NS (100 * MR_NS_PER_MS)

struct mr_js_writer_options mr_js_common_options(const struct mr_config *config, const char *url,
                                                 const char *name)
{
    return (struct mr_js_writer_options){
        .link = {.url = *url ? url : config->nats_url.text,
                 .credentials = config->nats_credentials.text,
                 .ca = config->nats_ca.text,
                 .name = name},
        .in_flight_max = (uint32_t)config->nats_in_flight,
        .ack_timeout_ns = config->nats_ack_timeout,
        .breaker_failures = (uint32_t)config->nats_breaker_failures,
        .breaker_open_ns = config->nats_breaker_open,
    };
}

static void count(struct mr_js_sender *s)
{
    const struct mr_js_writer_stats *stats = mr_js_writer_stats(s->writer);
    const struct mr_breaker *breaker = mr_js_writer_breaker(s->writer);
    uint64_t pending = atomic_load_explicit(&s->outbox->tail, memory_order_relaxed) -
                       atomic_load_explicit(&s->outbox->head, memory_order_relaxed);
    uint64_t skipped = atomic_load_explicit(&s->skipped, memory_order_relaxed);
    uint64_t oversize = atomic_load_explicit(&s->oversize, memory_order_relaxed);
    mr_gauge(s->cell, MR_COUNTER_JS_BREAKER, breaker->state);
    mr_gauge(s->cell, MR_COUNTER_JS_BREAKER_OPENS, breaker->opens);
    mr_gauge(s->cell, MR_COUNTER_JS_PUBLISHED, stats->published);
    mr_gauge(s->cell, MR_COUNTER_JS_BYTES, stats->bytes);
    mr_gauge(s->cell, MR_COUNTER_JS_RESENT, stats->resent);
    mr_gauge(s->cell, MR_COUNTER_JS_DUPLICATES, stats->duplicates + skipped);
    mr_gauge(s->cell, MR_COUNTER_JS_OVERSIZE, stats->oversize + oversize);
    mr_gauge(s->cell, MR_COUNTER_JS_FAILURES, stats->failures);
    mr_gauge(s->cell, MR_COUNTER_JS_PENDING, pending);
}

static void acknowledged(void *context, uint64_t latency_ns)
{
    struct mr_js_sender *s = context;
    mr_histogram_add(&s->cell->histograms[MR_HISTOGRAM_JS_ACK], latency_ns);
}

static enum mr_rc open_stream(struct mr_js_sender *s, struct mr_err *err)
{
    struct mr_js_link *link;
    if (atomic_load_explicit(&s->board->log_id, memory_order_acquire) == 0)
        return MR_AGAIN; /* what is read back belongs to a log */
    enum mr_rc rc = mr_js_writer_open(s->writer, 0, &link, err);
    if (rc != MR_OK)
        return rc;
    rc = mr_js_stream_last_of_each(link, s->config->jetstream_stream.text, s->subjects, s->stored,
                                   s->context, err);
    if (rc != MR_OK) {
        mr_js_writer_failed(s->writer);
        return rc;
    }
    s->opened = true;
    atomic_store_explicit(&s->ready, true, memory_order_release);
    mr_doorbell_ring(&s->cell->bell);
    return MR_OK;
}

static bool may_end(const struct mr_js_sender *s)
{
    uint64_t stop_ns = atomic_load_explicit(&s->stop_ns, memory_order_acquire);
    return stop_ns != 0 &&
           (mr_js_outbox_pending_tag(s->outbox) == UINT64_MAX || mr_clock_ns() >= stop_ns);
}

static void *run(void *context)
{
    struct mr_js_sender *s = context;
    while (!may_end(s)) {
        struct mr_err err = {0};
        uint64_t done = 0;
        enum mr_rc rc = s->opened ? MR_OK : open_stream(s, &err);
        if (rc == MR_OK || rc == MR_AGAIN)
            rc = mr_js_writer_work(s->writer, IDLE_NS, &done, &err);
        if (rc != MR_OK)
            mr_log_warn("jetstream", "failed", "stream=%s why=\"%s\"",
                        s->config->jetstream_stream.text, err.text);
        count(s);
    }
    return NULL;
}

enum mr_rc mr_js_sender_start(struct mr_js_sender *s, struct mr_err *err)
{
    uint32_t lane;
    struct mr_js_writer_options options = mr_js_common_options(s->config, "", "millrace-jetstream");
    options.acknowledged = acknowledged;
    options.context = s;
    snprintf(s->subjects, sizeof s->subjects, "%.100s.>", s->config->jetstream_subject.text);
    const struct mr_js_stream stream = {
        .name = s->config->jetstream_stream.text,
        .subject = s->subjects,
        .retention_ns = s->config->jetstream_retention,
        .replicas = (uint32_t)s->config->jetstream_replicas,
        .create = s->config->jetstream_create,
    };
    enum mr_rc rc = mr_js_writer_create(&s->writer, &options, s->outbox, err);
    if (rc == MR_OK)
        rc = mr_js_writer_add(s->writer, &stream, &lane, err);
    if (rc == MR_OK && pthread_create(&s->thread, NULL, run, s) != 0)
        rc = mr_fail(err, MR_FATAL, "start the JetStream sender");
    if (rc != MR_OK)
        mr_js_writer_destroy(&s->writer);
    return rc;
}

void mr_js_sender_stop(struct mr_js_sender *s, uint64_t deadline_ns)
{
    if (!s->writer)
        return;
    atomic_store_explicit(&s->stop_ns, deadline_ns, memory_order_release);
    mr_js_outbox_flush(s->outbox);
    pthread_join(s->thread, NULL);
    mr_js_writer_destroy(&s->writer);
}
