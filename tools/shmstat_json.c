/* tools/shmstat_json.c: the view for programs: one object a line. */
#include <inttypes.h>
#include <string.h>

#include "tools/shmstat.h"

void shmstat_json_string(FILE *out, const char *text, size_t len)
{
    fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else if (c < 0x7f)
            fputc(c, out);
        else
            fputs("\\ufffd", out);
    }
    fputc('"', out);
}

struct json {
    FILE *out;
    uint64_t now_ns;
    const char *separator;
};

static void counters(const struct mr_cell_shm *cell, uint32_t kind, FILE *out)
{
    const char *separator = "";
    fputs(",\"counters\":{", out);
    for (uint32_t i = 0; i < MR_COUNTER_COUNT; i++) {
        const struct mr_counter_row *row = &mr_counter_rows()[i];
        if ((row->kinds & 1u << kind) == 0)
            continue;
        fprintf(out, "%s\"%s\":%" PRIu64, separator, row->name,
                mr_counter_get(cell, (enum mr_counter)i));
        separator = ",";
    }
    fputs("},\"latency_ns\":{", out);
    separator = "";
    for (uint32_t i = 0; i < MR_HISTOGRAM_COUNT; i++) {
        const struct mr_histogram_shm *h = &cell->histograms[i];
        uint64_t n = atomic_load_explicit(&h->count, memory_order_relaxed);
        if (n == 0)
            continue;
        fprintf(out,
                "%s\"%s\":{\"count\":%" PRIu64 ",\"p50\":%" PRIu64 ",\"p99\":%" PRIu64
                ",\"p999\":%" PRIu64 ",\"max\":%" PRIu64 "}",
                separator, mr_histogram_rows()[i].name, n, mr_histogram_quantile_ns(h, 0.5),
                mr_histogram_quantile_ns(h, 0.99), mr_histogram_quantile_ns(h, 0.999),
                atomic_load_explicit(&h->max_ns, memory_order_relaxed));
        separator = ",";
    }
    fputc('}', out);
}

static void process(const struct mr_cell_shm *cell, void *context)
{
    struct json *json = context;
    FILE *out = json->out;
    struct mr_process_usage usage;
    uint32_t pid = atomic_load_explicit(&cell->pid, memory_order_relaxed);
    uint32_t kind = atomic_load_explicit(&cell->kind, memory_order_relaxed);
    uint32_t state = atomic_load_explicit(&cell->state, memory_order_relaxed);
    uint64_t beat_ns = atomic_load_explicit(&cell->heartbeat_ns, memory_order_relaxed);
    if (state == MR_STATE_EMPTY || state >= MR_STATE_COUNT || kind >= MR_PROCESS_KIND_COUNT)
        return;
    fprintf(out, "%s{\"kind\":\"%s\"", json->separator, mr_process_kind_name(kind));
    json->separator = ",";
    if (kind == MR_PROCESS_MATCHER)
        fprintf(out, ",\"shard\":%" PRIu32,
                atomic_load_explicit(&cell->shard, memory_order_relaxed));
    fprintf(out,
            ",\"pid\":%" PRIu32 ",\"state\":\"%s\",\"seen\":\"%s\",\"restarts\":%" PRIu64
            ",\"heartbeat_age_ns\":%" PRIu64,
            pid, mr_process_state_name(state),
            mr_liveness_name(mr_liveness_of(pid, beat_ns, json->now_ns)),
            atomic_load_explicit(&cell->restarts, memory_order_relaxed),
            beat_ns && json->now_ns > beat_ns ? json->now_ns - beat_ns : 0);
    if (mr_process_usage(pid, &usage))
        fprintf(out, ",\"rss_bytes\":%" PRIu64 ",\"cpu_seconds\":%.2f", usage.rss_bytes,
                usage.cpu_seconds);
    fputs(",\"text\":", out);
    shmstat_json_string(out, cell->text, strnlen(cell->text, sizeof cell->text));
    fputs(",\"panic\":", out);
    shmstat_json_string(out, cell->panic, strnlen(cell->panic, sizeof cell->panic));
    counters(cell, kind, out);
    fputc('}', out);
}

static void ring_object(const struct mr_inspect *inspect, const struct shmstat_ring *ring,
                        uint64_t now_ns, FILE *out)
{
    const struct mr_ring_numbers *n = &ring->numbers;
    fprintf(out, "{\"name\":\"%c%" PRIu32 "\",\"segment\":\"%s\"", ring->ring->kind,
            ring->ring->shard, ring->ring->part);
    if (!ring->ring->shm) {
        fputs(",\"problem\":", out);
        shmstat_json_string(out, ring->ring->problem, strlen(ring->ring->problem));
        fputc('}', out);
        return;
    }
    fprintf(out,
            ",\"capacity_bytes\":%" PRIu64 ",\"fill_bytes\":%" PRIu64 ",\"fill_records\":%" PRIu64
            ",\"oldest_seconds\":%.6f,\"records_per_second\":%.1f,\"bytes_per_second\":%.1f"
            ",\"records\":%" PRIu64 ",\"payload_bytes\":%" PRIu64 ",\"wraps\":%" PRIu64
            ",\"stalls\":%" PRIu64 ",\"tail\":%" PRIu64 ",\"through\":%" PRIu64
            ",\"producer\":{\"pid\":%" PRIu32 ",\"seen\":\"%s\"},\"stages\":[",
            n->capacity, n->fill_bytes, n->fill_records, ring->age_seconds,
            ring->records_per_second, ring->bytes_per_second, n->published, n->payload_bytes,
            n->wraps, n->stalls, n->tail, n->through, n->producer_pid,
            mr_liveness_name(shmstat_peer(inspect, n->producer_pid, now_ns)));
    for (uint32_t i = 0; i < n->stage_count; i++)
        fprintf(out,
                "%s{\"pid\":%" PRIu32 ",\"seen\":\"%s\",\"position\":%" PRIu64 ",\"note\":%" PRIu64
                ",\"records\":%" PRIu64 "}",
                i ? "," : "", n->stage_pid[i],
                mr_liveness_name(shmstat_peer(inspect, n->stage_pid[i], now_ns)), n->position[i],
                n->note[i], n->consumed[i]);
    fputs("]}", out);
}

void shmstat_json(const struct mr_inspect *inspect, const struct shmstat_sample *sample, FILE *out)
{
    const struct mr_board_shm *board = inspect->board.shm;
    struct json json = {.out = out, .now_ns = sample->now_ns, .separator = ""};
    fprintf(out,
            "{\"instance\":\"%s\",\"layout\":%u,\"epoch\":\"%" PRIx64 "\",\"shards\":%" PRIu32
            ",\"ring_set\":%" PRIu32 ",\"checkpoint\":%" PRIu64 ",\"processes\":[",
            inspect->instance, MR_LAYOUT_VERSION, board->head.epoch,
            mr_ring_set_shards(inspect->ring_set), mr_ring_set_generation(inspect->ring_set),
            atomic_load_explicit(&board->checkpoint, memory_order_relaxed));
    mr_inspect_cells(inspect, process, &json);
    fputs("],\"rings\":[", out);
    for (uint32_t i = 0; i < sample->ring_count; i++) {
        if (i)
            fputc(',', out);
        ring_object(inspect, &sample->rings[i], sample->now_ns, out);
    }
    fputs("]}\n", out);
}
