/* tools/top_view.c: what millrace-top shows: rates, latencies, rings, processes, deliveries. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tools/format.h"
#include "tools/top.h"

enum { BAR = 24 };

static void sum_histogram(struct mr_histogram_shm *to, const struct mr_histogram_shm *from)
{
    for (uint32_t i = 0; i < MR_HISTOGRAM_BUCKETS; i++)
        to->buckets[i] += atomic_load_explicit(&from->buckets[i], memory_order_relaxed);
    to->count += atomic_load_explicit(&from->count, memory_order_relaxed);
}

static void take_cell(const struct mr_cell_shm *cell, void *context)
{
    struct top_numbers *out = context;
    struct mr_process_usage usage;
    uint32_t kind = atomic_load_explicit(&cell->kind, memory_order_relaxed);
    if (mr_process_usage(atomic_load_explicit(&cell->pid, memory_order_relaxed), &usage)) {
        out->cpu_seconds += usage.cpu_seconds;
        out->rss_bytes += usage.rss_bytes;
    }
    switch (kind) {
    case MR_PROCESS_PULLER:
        out->durable = mr_counter_get(cell, MR_COUNTER_LOG_DURABLE);
        sum_histogram(&out->ring, &cell->histograms[MR_HISTOGRAM_SOURCE_TO_RING]);
        break;
    case MR_PROCESS_MATCHER:
        out->events += mr_counter_get(cell, MR_COUNTER_MATCH_EVENTS);
        out->hits += mr_counter_get(cell, MR_COUNTER_MATCH_HITS);
        out->pairs += mr_counter_get(cell, MR_COUNTER_MATCH_PAIRS);
        sum_histogram(&out->match, &cell->histograms[MR_HISTOGRAM_RING_TO_MATCH]);
        break;
    case MR_PROCESS_PUBLISHER:
        out->deliveries = mr_counter_get(cell, MR_COUNTER_DELIVERIES);
        out->subscriptions = mr_counter_get(cell, MR_COUNTER_SUBSCRIPTIONS);
        sum_histogram(&out->sent, &cell->histograms[MR_HISTOGRAM_SOURCE_TO_SENT]);
        break;
    default:
        break;
    }
}

void top_take(struct mr_inspect *inspect, const struct mr_audience_count *deliveries,
              struct top_numbers *out)
{
    memset(out, 0, sizeof *out);
    mr_inspect_refresh(inspect);
    out->now_ns = mr_clock_ns();
    out->checkpoint = atomic_load_explicit(&inspect->board.shm->checkpoint, memory_order_relaxed);
    mr_inspect_cells(inspect, take_cell, out);
    sum_histogram(&out->client, &deliveries->latency);
}

/* The time between two looks alone; falls back to all of it when a process was replaced meanwhile.
 */
static void latency_row(FILE *out, const char *name, const struct mr_histogram_shm *before,
                        const struct mr_histogram_shm *now)
{
    static struct mr_histogram_shm window;
    char p50[32], p99[32], p999[32];
    memset(&window, 0, sizeof window);
    bool since = before->count <= now->count;
    for (uint32_t i = 0; i < MR_HISTOGRAM_BUCKETS; i++)
        window.buckets[i] =
            now->buckets[i] -
            (since && before->buckets[i] <= now->buckets[i] ? before->buckets[i] : 0);
    window.count = now->count - (since ? before->count : 0);
    if (window.count == 0)
        fprintf(out, "  %-22s %10s %10s %10s\n", name, "-", "-", "-");
    else
        fprintf(out, "  %-22s %10s %10s %10s\n", name,
                mr_format_time(p50, (double)mr_histogram_quantile_ns(&window, 0.5)),
                mr_format_time(p99, (double)mr_histogram_quantile_ns(&window, 0.99)),
                mr_format_time(p999, (double)mr_histogram_quantile_ns(&window, 0.999)));
}

static void ring_row(FILE *out, const struct mr_inspect_ring *ring)
{
    static const char *const kinds[] = {"events", "matches"};
    struct mr_ring_numbers numbers;
    char fill[32], capacity[32];
    if (!ring->shm || ring->kind == 's')
        return;
    mr_ring_numbers(ring->shm, &numbers);
    int full = (int)(numbers.fill_bytes * BAR / numbers.capacity);
    fprintf(out,
            "  %-8s %" PRIu32 " [%.*s%.*s] %8s of %-8s %12" PRIu64 " records, full %" PRIu64
            " times\n",
            kinds[ring->kind == 'm'], ring->shard, full, "########################", BAR - full,
            "........................", mr_format_bytes(fill, (double)numbers.fill_bytes),
            mr_format_bytes(capacity, (double)numbers.capacity), numbers.published, numbers.stalls);
}

static void process_row(const struct mr_cell_shm *cell, void *context)
{
    FILE *out = context;
    struct mr_process_usage usage;
    char name[32], rss[32];
    uint32_t pid = atomic_load_explicit(&cell->pid, memory_order_relaxed);
    uint32_t kind = atomic_load_explicit(&cell->kind, memory_order_relaxed);
    uint32_t state = atomic_load_explicit(&cell->state, memory_order_relaxed);
    if (kind >= MR_PROCESS_KIND_COUNT || state >= MR_STATE_COUNT)
        return;
    bool there = mr_process_usage(pid, &usage);
    snprintf(name, sizeof name, kind == MR_PROCESS_MATCHER ? "%s %" PRIu32 : "%s",
             mr_process_kind_name(kind), atomic_load_explicit(&cell->shard, memory_order_relaxed));
    fprintf(out, "  %-12s %8" PRIu32 "  %-9s restarts %-4" PRIu64 " %10s  %.60s\n", name, pid,
            mr_process_state_name(state),
            atomic_load_explicit(&cell->restarts, memory_order_relaxed),
            there ? mr_format_bytes(rss, (double)usage.rss_bytes) : "-", cell->text);
}

static void rates(const struct top_numbers *before, const struct top_numbers *now, FILE *out)
{
    char a[32], b[32], c[32], d[32], rss[32];
    double seconds = (double)(now->now_ns - before->now_ns) / 1e9;
    if (seconds <= 0)
        seconds = 1;
        /* A replaced process counts from zero again: no rate is better than a nonsensical one. */
#define RATE(field) \
    (now->field >= before->field ? (double)(now->field - before->field) / seconds : 0)
    fprintf(out, "  %12s %12s %12s %14s %14s\n", "events/s", "matches/s", "deliveries/s",
            "subscriptions", "cpu, memory");
    fprintf(out, "  %12s %12s %12s %14s %7.0f %%  %s\n\n", mr_format_count(a, RATE(events)),
            mr_format_count(b, RATE(pairs)), mr_format_count(c, RATE(deliveries)),
            mr_format_count(d, (double)now->subscriptions),
            now->cpu_seconds >= before->cpu_seconds
                ? (now->cpu_seconds - before->cpu_seconds) / seconds * 100
                : 0,
            mr_format_bytes(rss, (double)now->rss_bytes));
#undef RATE
    fprintf(out,
            "  in all: %" PRIu64 " events, %" PRIu64 " matches, %" PRIu64
            " deliveries; durable through %" PRIu64 ", checkpoint %" PRIu64 "\n\n",
            now->events, now->pairs, now->deliveries, now->durable, now->checkpoint);
}

void top_draw(struct mr_inspect *inspect, const struct top_numbers *before,
              const struct top_numbers *now, const struct mr_audience_count *deliveries, FILE *out)
{
    double up = (double)(mr_clock_wall_us() - inspect->board.shm->created_wall_us) / 1e6;
    fprintf(out, "millrace %s   instance %s   up %.0f s\n\n", MR_VERSION, inspect->instance, up);
    rates(before, now, out);
    fprintf(out, "  %-22s %10s %10s %10s\n", "latency from the source", "p50", "p99", "p99.9");
    latency_row(out, "to shared memory", &before->ring, &now->ring);
    latency_row(out, "to matched", &before->match, &now->match);
    latency_row(out, "to handed to gRPC", &before->sent, &now->sent);
    latency_row(out, "to this client", &before->client, &now->client);
    fputs("\n  ring\n", out);
    for (uint32_t i = 0; i < inspect->ring_count; i++)
        ring_row(out, &inspect->rings[i]);
    fputs("\n  process\n", out);
    mr_inspect_cells(inspect, process_row, out);
    fprintf(out, "\n  deliveries to this client: %" PRIu64 ", the last ones\n",
            deliveries->deliveries);
    uint64_t first = deliveries->deliveries > MR_AUDIENCE_SAMPLES
                         ? deliveries->deliveries - MR_AUDIENCE_SAMPLES
                         : 0;
    for (uint64_t i = first; i < deliveries->deliveries; i++)
        fprintf(out, "  %s\n", deliveries->samples[i % MR_AUDIENCE_SAMPLES]);
}
