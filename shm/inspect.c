#include "shm/inspect.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "shm/ring.h"

enum { HUNG_NS = 1000000000 };

const char *mr_liveness_name(enum mr_liveness liveness)
{
    static const char *const names[] = {[MR_LIVE_NONE] = "none",
                                        [MR_LIVE_ALIVE] = "alive",
                                        [MR_LIVE_HUNG] = "hung",
                                        [MR_LIVE_STALE] = "stale"};
    return names[liveness];
}

/* Dead, but nobody has asked how it ended: its pid still answers. */
static bool is_zombie(uint32_t pid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%" PRIu32 "/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const char *rest = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    return rest && rest[1] == ' ' && (rest[2] == 'Z' || rest[2] == 'X');
}

enum mr_liveness mr_liveness_of(uint32_t pid, uint64_t beat_ns, uint64_t now_ns)
{
    if (pid == 0)
        return MR_LIVE_NONE;
    if ((kill((pid_t)pid, 0) != 0 && errno == ESRCH) || is_zombie(pid))
        return MR_LIVE_STALE;
    if (beat_ns != 0 && now_ns > beat_ns && now_ns - beat_ns > HUNG_NS)
        return MR_LIVE_HUNG;
    return MR_LIVE_ALIVE;
}

static void detach_rings(struct mr_inspect *inspect)
{
    for (uint32_t i = 0; i < inspect->ring_count; i++) {
        if (inspect->rings[i].shm)
            mr_segment_detach(&inspect->rings[i].segment);
    }
    inspect->ring_count = 0;
}

static void attach_ring(struct mr_inspect *inspect, char kind, uint32_t shard, uint32_t generation)
{
    struct mr_inspect_ring *ring = &inspect->rings[inspect->ring_count++];
    struct mr_err err = {0};
    *ring = (struct mr_inspect_ring){.kind = kind, .shard = shard, .generation = generation};
    mr_ring_part(ring->part, kind, shard, generation);
    if (mr_ring_inspect(&ring->segment, inspect->instance, ring->part, &err) == MR_OK)
        ring->shm = (const void *)ring->segment.head;
    else
        snprintf(ring->problem, sizeof ring->problem, "%.*s", (int)sizeof ring->problem - 1,
                 err.text);
}

void mr_inspect_refresh(struct mr_inspect *inspect)
{
    uint64_t set = atomic_load_explicit(&inspect->board.shm->ring_set, memory_order_acquire);
    uint32_t shards = mr_ring_set_shards(set);
    if (set == inspect->ring_set || shards > MR_SHARDS_MAX)
        return;
    detach_rings(inspect);
    inspect->ring_set = set;
    static const char kinds[] = {'e', 'm', 's'};
    for (size_t kind = 0; kind < sizeof kinds; kind++) {
        for (uint32_t shard = 0; shard < shards; shard++)
            attach_ring(inspect, kinds[kind], shard, mr_ring_set_generation(set));
    }
}

enum mr_rc mr_inspect_open(struct mr_inspect *inspect, const char *instance, struct mr_err *err)
{
    *inspect = (struct mr_inspect){0};
    enum mr_rc rc = mr_segment_check_instance(instance, err);
    if (rc != MR_OK)
        return rc;
    snprintf(inspect->instance, sizeof inspect->instance, "%s", instance);
    rc = mr_board_attach(&inspect->board, instance, true, err);
    if (rc == MR_AGAIN && err->errno_value == ENOENT)
        return mr_reject(err, MR_AGAIN,
                         "no instance %s on this machine, running or dead (there is no "
                         "/dev/shm/millrace.%s.board)",
                         instance, instance);
    if (rc == MR_OK)
        mr_inspect_refresh(inspect);
    return rc;
}

void mr_inspect_close(struct mr_inspect *inspect)
{
    detach_rings(inspect);
    mr_board_detach(&inspect->board);
}

void mr_ring_numbers(const struct mr_ring_shm *shm, struct mr_ring_numbers *out)
{
    *out = (struct mr_ring_numbers){.capacity = shm->capacity, .stage_count = shm->stage_count};
    if (out->stage_count > MR_RING_STAGES_MAX)
        out->stage_count = MR_RING_STAGES_MAX;
    uint64_t note;
    /* Consumers first: read the other way round, a ring in motion could look more than full. */
    for (uint32_t i = 0; i < out->stage_count; i++) {
        const struct mr_ring_stage_shm *stage = &shm->stage[i];
        out->note[i] = mr_ring_stage_note(shm, i);
        out->position[i] = mr_ring_stage_position(shm, i);
        out->consumed[i] = atomic_load_explicit(&stage->count, memory_order_relaxed);
        out->stage_pid[i] = atomic_load_explicit(&stage->pid, memory_order_relaxed);
    }
    out->through = mr_ring_through(shm);
    out->tail = mr_ring_tail(shm);
    mr_ring_last_commit(shm, &note, &out->published);
    out->payload_bytes = atomic_load_explicit(&shm->payload_bytes, memory_order_relaxed);
    out->stalls = atomic_load_explicit(&shm->stalls, memory_order_relaxed);
    out->producer_pid = atomic_load_explicit(&shm->pid, memory_order_relaxed);
    out->wraps = out->capacity ? out->tail / out->capacity : 0;
    if (out->stage_count == 0)
        return;
    uint32_t last = out->stage_count - 1;
    out->fill_bytes = out->tail - out->position[last];
    out->fill_records =
        out->published > out->consumed[last] ? out->published - out->consumed[last] : 0;
}

static uint32_t count_fds(uint32_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%" PRIu32 "/fd", pid);
    DIR *dir = opendir(path);
    uint32_t count = 0;
    if (!dir)
        return 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count > 2 ? count - 2 : 0; /* "." and ".." */
}

bool mr_process_usage(uint32_t pid, struct mr_process_usage *out)
{
    char path[64], line[1024];
    *out = (struct mr_process_usage){0};
    snprintf(path, sizeof path, "/proc/%" PRIu32 "/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool there = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    /* The name in parentheses may hold anything; the fields behind it are fixed (proc(5)). */
    const char *rest = there ? strrchr(line, ')') : NULL;
    unsigned long user, system;
    long threads, rss_pages;
    unsigned long long start;
    if (!rest ||
        sscanf(rest + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %ld %*d "
               "%llu %*u %ld",
               &user, &system, &threads, &start, &rss_pages) != 5)
        return false;
    long ticks = sysconf(_SC_CLK_TCK);
    out->cpu_seconds = (double)(user + system) / (double)ticks;
    out->start_seconds = start / (unsigned long long)ticks;
    out->rss_bytes = (uint64_t)rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
    out->threads = (uint32_t)threads;
    out->open_fds = count_fds(pid);
    return true;
}

void mr_inspect_cells(const struct mr_inspect *inspect, mr_cell_visit *visit, void *context)
{
    const struct mr_board_shm *board = inspect->board.shm;
    visit(&board->cells[MR_CELL_SUPERVISOR], context);
    visit(&board->cells[MR_CELL_PULLER], context);
    visit(&board->cells[MR_CELL_PUBLISHER], context);
    for (uint32_t shard = 0; shard < mr_ring_set_shards(inspect->ring_set); shard++)
        visit(&board->cells[mr_cell_matcher(mr_ring_set_generation(inspect->ring_set), shard)],
              context);
    const struct mr_cell_shm *relay = &board->cells[MR_CELL_RELAY];
    if (atomic_load_explicit(&relay->kind, memory_order_relaxed) == MR_PROCESS_RELAY)
        visit(relay, context);
}
