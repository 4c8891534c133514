/* shm/prometheus.c: an instance as Prometheus text, format 0.0.4 (prometheus.io, exposition
 * formats). */
#include <inttypes.h>

#include "common/clock.h"
#include "shm/inspect.h"

/* Histogram bounds: powers of two nanoseconds are the edges of our buckets, so no count is guessed.
 */
enum { LE_POWER_MIN = 10, LE_POWER_MAX = 36 };

/* One family at a time: the row being printed, and where. */
struct family {
    FILE *out;
    uint32_t row;
    uint64_t now_ns;
    int64_t wall_us;
};

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* process="matcher",shard="1" */
static void labels(FILE *out, const struct mr_cell_shm *cell)
{
    uint32_t kind = atomic_load_explicit(&cell->kind, memory_order_relaxed);
    fprintf(out, "process=\"%s\"", mr_process_kind_name(kind));
    if (kind == MR_PROCESS_MATCHER)
        fprintf(out, ",shard=\"%" PRIu32 "\"",
                atomic_load_explicit(&cell->shard, memory_order_relaxed));
}

static bool keeps(const struct mr_cell_shm *cell, uint32_t kinds)
{
    uint32_t kind = atomic_load_explicit(&cell->kind, memory_order_relaxed);
    return atomic_load_explicit(&cell->state, memory_order_relaxed) != MR_STATE_EMPTY &&
           kind < MR_PROCESS_KIND_COUNT && (kinds & 1u << kind) != 0;
}

static void counter_sample(const struct mr_cell_shm *cell, void *context)
{
    const struct family *family = context;
    const struct mr_counter_row *row = &mr_counter_rows()[family->row];
    if (!keeps(cell, row->kinds))
        return;
    uint64_t value = mr_counter_get(cell, (enum mr_counter)family->row);
    fprintf(family->out, "%s{", row->name);
    labels(family->out, cell);
    switch (row->unit) {
    case MR_ROW_COUNTER:
    case MR_ROW_GAUGE:
        fprintf(family->out, "} %" PRIu64 "\n", value);
        return;
    case MR_ROW_NS:
        fprintf(family->out, "} %.9f\n", (double)value / 1e9);
        return;
    case MR_ROW_US:
        fprintf(family->out, "} %.6f\n", (double)value / 1e6);
        return;
    }
}

static void histogram_sample(const struct mr_cell_shm *cell, void *context)
{
    const struct family *family = context;
    const struct mr_counter_row *row = &mr_histogram_rows()[family->row];
    const struct mr_histogram_shm *histogram = &cell->histograms[family->row];
    if (!keeps(cell, row->kinds))
        return;
    uint64_t below = 0;
    uint32_t index = 0;
    for (uint32_t power = LE_POWER_MIN; power <= LE_POWER_MAX; power++) {
        for (; index < mr_histogram_index(UINT64_C(1) << power); index++)
            below += atomic_load_explicit(&histogram->buckets[index], memory_order_relaxed);
        fprintf(family->out, "%s_bucket{", row->name);
        labels(family->out, cell);
        fprintf(family->out, ",le=\"%.9g\"} %" PRIu64 "\n", (double)(UINT64_C(1) << power) / 1e9,
                below);
    }
    for (; index < MR_HISTOGRAM_BUCKETS; index++)
        below += atomic_load_explicit(&histogram->buckets[index], memory_order_relaxed);
    fprintf(family->out, "%s_bucket{", row->name);
    labels(family->out, cell);
    fprintf(family->out, ",le=\"+Inf\"} %" PRIu64 "\n%s_sum{", below, row->name);
    labels(family->out, cell);
    fprintf(family->out, "} %.9f\n%s_count{",
            (double)atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed) / 1e9,
            row->name);
    labels(family->out, cell);
    fprintf(family->out, "} %" PRIu64 "\n", below);
}

/* What the board and /proc know of each process. */
enum process_row { UP, RESTARTS, HEARTBEAT, CPU, RSS, THREADS, FDS, PROCESS_ROW_COUNT };
static const struct {
    const char *name, *type, *help;
} process_rows[PROCESS_ROW_COUNT] = {
    [UP] = {"millrace_process_up", "gauge", "1 while the process lives and beats."},
    [RESTARTS] = {"millrace_process_restarts_total", "counter", "Times the process was replaced."},
    [HEARTBEAT] = {"millrace_process_heartbeat_timestamp_seconds", "gauge", "When it beat last."},
    [CPU] = {"millrace_process_cpu_seconds_total", "counter",
             "User and system time of the process."},
    [RSS] = {"millrace_process_resident_memory_bytes", "gauge", "Resident memory of the process."},
    [THREADS] = {"millrace_process_threads", "gauge", "Threads of the process."},
    [FDS] = {"millrace_process_open_fds", "gauge", "Open descriptors of the process."},
};

static void process_sample(const struct mr_cell_shm *cell, void *context)
{
    const struct family *family = context;
    struct mr_process_usage usage;
    uint32_t pid = atomic_load_explicit(&cell->pid, memory_order_relaxed);
    uint64_t beat = atomic_load_explicit(&cell->heartbeat_ns, memory_order_relaxed);
    if (!keeps(cell, ~0u))
        return;
    bool up = mr_liveness_of(pid, beat, family->now_ns) == MR_LIVE_ALIVE;
    bool from_proc = family->row >= CPU;
    if (from_proc && !mr_process_usage(pid, &usage))
        return;
    fprintf(family->out, "%s{", process_rows[family->row].name);
    labels(family->out, cell);
    switch ((enum process_row)family->row) {
    case UP:
        fprintf(family->out, "} %d\n", up);
        return;
    case RESTARTS:
        fprintf(family->out, "} %" PRIu64 "\n",
                atomic_load_explicit(&cell->restarts, memory_order_relaxed));
        return;
    case HEARTBEAT:
        fprintf(family->out, "} %.3f\n",
                (double)family->wall_us / 1e6 - ((double)family->now_ns - (double)beat) / 1e9);
        return;
    case CPU:
        fprintf(family->out, "} %.2f\n", usage.cpu_seconds);
        return;
    case RSS:
        fprintf(family->out, "} %" PRIu64 "\n", usage.rss_bytes);
        return;
    case THREADS:
        fprintf(family->out, "} %" PRIu32 "\n", usage.threads);
        return;
    case FDS:
        fprintf(family->out, "} %" PRIu32 "\n", usage.open_fds);
        return;
    case PROCESS_ROW_COUNT:
        return;
    }
}

static const struct {
    const char *name, *type, *help;
    size_t offset; /* of a uint64_t in struct mr_ring_numbers */
} ring_rows[] = {
    {"millrace_ring_capacity_bytes", "gauge", "Size of the ring.",
     offsetof(struct mr_ring_numbers, capacity)},
    {"millrace_ring_fill_bytes", "gauge", "Bytes published and not yet freed.",
     offsetof(struct mr_ring_numbers, fill_bytes)},
    {"millrace_ring_fill_records", "gauge", "Records published and not yet freed.",
     offsetof(struct mr_ring_numbers, fill_records)},
    {"millrace_ring_published_bytes_total", "counter",
     "Bytes published, heads and padding included.", offsetof(struct mr_ring_numbers, tail)},
    {"millrace_ring_payload_bytes_total", "counter", "Payload bytes published.",
     offsetof(struct mr_ring_numbers, payload_bytes)},
    {"millrace_ring_records_total", "counter", "Records published.",
     offsetof(struct mr_ring_numbers, published)},
    {"millrace_ring_stalls_total", "counter", "Claims refused because the ring was full.",
     offsetof(struct mr_ring_numbers, stalls)},
};

static void rings(const struct mr_inspect *inspect, FILE *out)
{
    for (size_t row = 0; row < sizeof ring_rows / sizeof *ring_rows; row++) {
        head(out, ring_rows[row].name, ring_rows[row].type, ring_rows[row].help);
        for (uint32_t i = 0; i < inspect->ring_count; i++) {
            const struct mr_inspect_ring *ring = &inspect->rings[i];
            struct mr_ring_numbers numbers;
            if (!ring->shm)
                continue;
            mr_ring_numbers(ring->shm, &numbers);
            uint64_t value =
                *(const uint64_t *)(const void *)((const char *)&numbers + ring_rows[row].offset);
            fprintf(out, "%s{ring=\"%c%" PRIu32 "\"} %" PRIu64 "\n", ring_rows[row].name,
                    ring->kind, ring->shard, value);
        }
    }
}

static const struct {
    const char *name, *type, *help;
    size_t offset; /* of a uint64_t in struct mr_consumer_row_shm */
    double unit;
} consumer_rows[] = {
    {"millrace_relay_consumer_streams", "gauge", "Open streams of this consumer id.",
     offsetof(struct mr_consumer_row_shm, streams), 1},
    {"millrace_relay_consumer_level", "gauge", "Its lag: 0 none, 1 soft, 2 hard.",
     offsetof(struct mr_consumer_row_shm, level), 1},
    {"millrace_relay_consumer_lag_events", "gauge", "Events that its slowest stream is behind.",
     offsetof(struct mr_consumer_row_shm, lag_events), 1},
    {"millrace_relay_consumer_lag_seconds", "gauge", "Time that its slowest stream is behind.",
     offsetof(struct mr_consumer_row_shm, lag_ns), 1e9},
    {"millrace_relay_consumer_events_total", "counter", "Events handed to it.",
     offsetof(struct mr_consumer_row_shm, events), 1},
    {"millrace_relay_consumer_rebuilds_total", "counter", "Times that it was told to rebuild.",
     offsetof(struct mr_consumer_row_shm, rebuilds), 1},
};

static void consumers(const struct mr_inspect *inspect, FILE *out)
{
    const struct mr_board_shm *board = inspect->board.shm;
    for (size_t row = 0; row < sizeof consumer_rows / sizeof *consumer_rows; row++) {
        head(out, consumer_rows[row].name, consumer_rows[row].type, consumer_rows[row].help);
        for (uint32_t i = 0; i < MR_CONSUMER_ROWS; i++) {
            const struct mr_consumer_row_shm *consumer = &board->consumers[i];
            if (atomic_load_explicit(&consumer->begun, memory_order_acquire) == 0)
                continue;
            const _Atomic uint64_t *value =
                (const void *)((const char *)consumer + consumer_rows[row].offset);
            fprintf(out, "%s{consumer=\"%.63s\",collection=\"%.63s\"} %.15g\n",
                    consumer_rows[row].name, consumer->consumer, consumer->collection,
                    (double)atomic_load_explicit(value, memory_order_relaxed) /
                        consumer_rows[row].unit);
        }
    }
}

void mr_inspect_prometheus(const struct mr_inspect *inspect, FILE *out)
{
    static const char *const types[] = {[MR_ROW_COUNTER] = "counter",
                                        [MR_ROW_GAUGE] = "gauge",
                                        [MR_ROW_NS] = "gauge",
                                        [MR_ROW_US] = "gauge"};
    struct family family = {.out = out, .now_ns = mr_clock_ns(), .wall_us = mr_clock_wall_us()};
    head(out, "millrace_build_info", "gauge", "Version of millrace.");
    fprintf(out, "millrace_build_info{version=\"%s\"} 1\n", MR_VERSION);
    for (family.row = 0; family.row < MR_COUNTER_COUNT; family.row++) {
        const struct mr_counter_row *row = &mr_counter_rows()[family.row];
        head(out, row->name, types[row->unit], row->help);
        mr_inspect_cells(inspect, counter_sample, &family);
    }
    for (family.row = 0; family.row < MR_HISTOGRAM_COUNT; family.row++) {
        const struct mr_counter_row *row = &mr_histogram_rows()[family.row];
        head(out, row->name, "histogram", row->help);
        mr_inspect_cells(inspect, histogram_sample, &family);
    }
    for (family.row = 0; family.row < PROCESS_ROW_COUNT; family.row++) {
        head(out, process_rows[family.row].name, process_rows[family.row].type,
             process_rows[family.row].help);
        mr_inspect_cells(inspect, process_sample, &family);
    }
    rings(inspect, out);
    consumers(inspect, out);
}
