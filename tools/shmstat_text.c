/* tools/shmstat_text.c: the view for people. */
#include <inttypes.h>

#include "tools/format.h"
#include "tools/shmstat.h"

struct text {
    FILE *out;
    uint64_t now_ns;
};

static void process_row(const struct mr_cell_shm *cell, void *context)
{
    const struct text *text = context;
    char beat[32], rss[32], name[32];
    struct mr_process_usage usage;
    uint32_t pid = atomic_load_explicit(&cell->pid, memory_order_relaxed);
    uint32_t kind = atomic_load_explicit(&cell->kind, memory_order_relaxed);
    uint32_t state = atomic_load_explicit(&cell->state, memory_order_relaxed);
    uint64_t beat_ns = atomic_load_explicit(&cell->heartbeat_ns, memory_order_relaxed);
    if (state == MR_STATE_EMPTY || state >= MR_STATE_COUNT || kind >= MR_PROCESS_KIND_COUNT)
        return;
    if (kind == MR_PROCESS_MATCHER)
        snprintf(name, sizeof name, "matcher %" PRIu32,
                 atomic_load_explicit(&cell->shard, memory_order_relaxed));
    else
        snprintf(name, sizeof name, "%s", mr_process_kind_name(kind));
    bool there = mr_process_usage(pid, &usage);
    fprintf(text->out, "%-12s %7" PRIu32 " %-8s %-6s %8" PRIu64 " %9s %9s  %.*s\n", name, pid,
            mr_process_state_name(state),
            mr_liveness_name(mr_liveness_of(pid, beat_ns, text->now_ns)),
            atomic_load_explicit(&cell->restarts, memory_order_relaxed),
            beat_ns ? mr_format_time(beat,
                                     text->now_ns > beat_ns ? (double)(text->now_ns - beat_ns) : 0)
                    : "-",
            there ? mr_format_bytes(rss, (double)usage.rss_bytes) : "-", MR_BOARD_TEXT_MAX - 1,
            cell->panic[0] ? cell->panic : cell->text);
}

static void latency_rows(const struct mr_cell_shm *cell, void *context)
{
    const struct text *text = context;
    uint32_t kind = atomic_load_explicit(&cell->kind, memory_order_relaxed);
    char p50[32], p99[32], p999[32], max[32], count[32];
    for (uint32_t i = 0; i < MR_HISTOGRAM_COUNT; i++) {
        const struct mr_histogram_shm *h = &cell->histograms[i];
        uint64_t n = atomic_load_explicit(&h->count, memory_order_relaxed);
        if (n == 0 || kind >= MR_PROCESS_KIND_COUNT)
            continue;
        fprintf(
            text->out, "%-34s %-10s %10s %9s %9s %9s %9s\n", mr_histogram_rows()[i].name,
            mr_process_kind_name(kind), mr_format_count(count, (double)n),
            mr_format_time(p50, (double)mr_histogram_quantile_ns(h, 0.5)),
            mr_format_time(p99, (double)mr_histogram_quantile_ns(h, 0.99)),
            mr_format_time(p999, (double)mr_histogram_quantile_ns(h, 0.999)),
            mr_format_time(max, (double)atomic_load_explicit(&h->max_ns, memory_order_relaxed)));
    }
}

static void peer(FILE *out, const struct mr_inspect *inspect, uint32_t pid, uint64_t now_ns)
{
    fprintf(out, " %7" PRIu32 " %-5s", pid, mr_liveness_name(shmstat_peer(inspect, pid, now_ns)));
}

static void ring_row(const struct mr_inspect *inspect, const struct shmstat_ring *ring,
                     uint64_t now_ns, FILE *out)
{
    const struct mr_ring_numbers *n = &ring->numbers;
    char fill[32], capacity[32], rate[32], bytes[32], age[32];
    if (!ring->ring->shm) {
        fprintf(out, "%-7s %s\n", ring->ring->part, ring->ring->problem);
        return;
    }
    fprintf(out, "%-7s", ring->ring->part);
    peer(out, inspect, n->producer_pid, now_ns);
    for (uint32_t i = 0; i < MR_RING_STAGES_MAX; i++) {
        if (i < n->stage_count)
            peer(out, inspect, n->stage_pid[i], now_ns);
        else
            fprintf(out, " %7s %-5s", "-", "");
    }
    fprintf(out, " %10s %10s %8" PRIu64 " %8s %9s/s %10s/s %6" PRIu64 " %7" PRIu64,
            mr_format_bytes(fill, (double)n->fill_bytes),
            mr_format_bytes(capacity, (double)n->capacity), n->fill_records,
            ring->age_seconds > 0 ? mr_format_time(age, ring->age_seconds * 1e9) : "-",
            mr_format_count(rate, ring->records_per_second),
            mr_format_bytes(bytes, ring->bytes_per_second), n->wraps, n->stalls);
    fprintf(out, "  tail=%" PRIu64, n->tail);
    for (uint32_t i = 0; i < n->stage_count; i++)
        fprintf(out, " stage%" PRIu32 "=%" PRIu64 "(%" PRIu64 ")", i, n->position[i], n->note[i]);
    fputc('\n', out);
}

void shmstat_text(const struct mr_inspect *inspect, const struct shmstat_sample *sample, FILE *out)
{
    const struct mr_board_shm *board = inspect->board.shm;
    struct text text = {.out = out, .now_ns = sample->now_ns};
    fprintf(out,
            "instance %s  layout %u  epoch %" PRIx64 "  shards %" PRIu32 " (ring set %" PRIu32
            ")  checkpoint %" PRIu64 "\n\n",
            inspect->instance, MR_LAYOUT_VERSION, board->head.epoch,
            mr_ring_set_shards(inspect->ring_set), mr_ring_set_generation(inspect->ring_set),
            atomic_load_explicit(&board->checkpoint, memory_order_relaxed));
    fprintf(out, "%-12s %7s %-8s %-6s %8s %9s %9s  %s\n", "process", "pid", "state", "seen",
            "restarts", "beat ago", "memory", "doing");
    mr_inspect_cells(inspect, process_row, &text);
    fprintf(out,
            "\n%-7s %-13s %-13s %-13s %10s %10s %8s %8s %11s %12s %6s %7s  positions (notes)\n",
            "ring", "  producer", "  stage 0", "  stage 1", "fill", "capacity", "records", "oldest",
            "records", "bytes", "wraps", "stalls");
    for (uint32_t i = 0; i < sample->ring_count; i++)
        ring_row(inspect, &sample->rings[i], sample->now_ns, out);
    fprintf(out, "\n%-34s %-10s %10s %9s %9s %9s %9s\n", "latency", "process", "count", "p50",
            "p99", "p99.9", "max");
    mr_inspect_cells(inspect, latency_rows, &text);
    fputc('\n', out);
}
