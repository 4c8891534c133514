/* What "millrace status" tells: one line of JSON. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "supervisor/json.h"
#include "supervisor/supervisor.h"

const char *mr_status_word(const struct mr_supervisor *s)
{
    switch (s->task) {
    case MR_TASK_SCALE:
        return "scaling";
    case MR_TASK_RELOAD:
        return "reloading";
    case MR_TASK_DRAIN:
        return s->stop.phase == MR_STOP_DRAIN ? "draining" : "drained";
    case MR_TASK_STOP:
        return "stopping";
    case MR_TASK_NONE:
        break;
    }
    if (mr_children_in(&s->children, MR_CHILD_GIVEN_UP) > 0)
        return "given_up";
    if (!mr_children_running(&s->children, MR_KIND_ALL))
        return s->was_ready ? "degraded" : "starting";
    return "running";
}

static void put_child(FILE *out, const struct mr_supervisor *s, const struct mr_child *child,
                      uint64_t now_ns)
{
    const struct mr_cell_shm *cell = &s->board.shm->cells[child->cell];
    uint64_t beat_ns = atomic_load_explicit(&cell->heartbeat_ns, memory_order_relaxed);
    char name[32];
    mr_child_name(child, name);
    fprintf(out, "{\"name\":\"%s\",\"cell\":%u,\"pid\":%d,\"state\":\"%s\",\"restarts\":%" PRIu64,
            name, child->cell, child->pid,
            mr_process_state_name(
                (enum mr_process_state)atomic_load_explicit(&cell->state, memory_order_relaxed)),
            atomic_load_explicit(&cell->restarts, memory_order_relaxed));
    if (child->pid)
        fprintf(out, ",\"uptime_seconds\":%" PRIu64 ",\"heartbeat_age_ms\":%" PRIu64,
                (now_ns - child->started_ns) / MR_NS_PER_S,
                beat_ns && now_ns > beat_ns ? (now_ns - beat_ns) / MR_NS_PER_MS : 0);
    fputs(",\"text\":", out);
    mr_json_text(out, cell->text, sizeof cell->text);
    fputs(",\"last_death\":", out);
    mr_json_text(out, cell->panic, sizeof cell->panic);
    fputc('}', out);
}

char *mr_status_json(const struct mr_supervisor *s, uint64_t now_ns)
{
    const struct mr_board_shm *board = s->board.shm;
    const struct mr_cell_shm *puller = &board->cells[MR_CELL_PULLER];
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fputs("{\"ok\":true,\"instance\":", out);
    mr_json_text(out, s->config.instance_name.text, sizeof s->config.instance_name.text);
    fprintf(
        out, ",\"version\":\"%s\",\"pid\":%u,\"state\":\"%s\",\"uptime_seconds\":%" PRIu64,
        MR_VERSION, atomic_load_explicit(&s->cell->pid, memory_order_relaxed), mr_status_word(s),
        (now_ns - atomic_load_explicit(&s->cell->started_ns, memory_order_relaxed)) / MR_NS_PER_S);
    fprintf(out, ",\"shards\":%u,\"ring_generation\":%u,\"http_port\":%u",
            mr_ring_set_shards(s->rings.ring_set), mr_ring_set_generation(s->rings.ring_set),
            s->http ? mr_http_port(s->http) : 0u);
    fprintf(out, ",\"checkpoint\":%" PRIu64 ",\"released\":%" PRIu64 ",\"fed\":%" PRIu64,
            s->checkpoint.sequence, mr_rings_released_through(&s->rings),
            mr_counter_get(puller, MR_COUNTER_FEED_SEQUENCE));
    fprintf(out,
            ",\"log\":{\"id\":\"%016" PRIx64 "\",\"written\":%" PRIu64 ",\"durable\":%" PRIu64
            ",\"floor\":%" PRIu64 "}",
            atomic_load_explicit(&board->log_id, memory_order_relaxed),
            atomic_load_explicit(&board->log_written, memory_order_relaxed),
            mr_counter_get(puller, MR_COUNTER_LOG_DURABLE),
            atomic_load_explicit(&board->log_floor, memory_order_relaxed));
    fputs(",\"processes\":[", out);
    bool first = true;
    for (uint32_t i = 1; i < MR_BOARD_CELLS; i++) {
        if (s->children.child[i].life == MR_CHILD_NONE)
            continue;
        if (!first)
            fputc(',', out);
        first = false;
        put_child(out, s, &s->children.child[i], now_ns);
    }
    fputs("]}", out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
