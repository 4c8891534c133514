#include "shm/board.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"

const char *mr_process_kind_name(enum mr_process_kind kind)
{
    switch (kind) {
    case MR_PROCESS_SUPERVISOR:
        return "supervisor";
    case MR_PROCESS_PULLER:
        return "puller";
    case MR_PROCESS_PUBLISHER:
        return "publisher";
    case MR_PROCESS_MATCHER:
        return "matcher";
    case MR_PROCESS_RELAY:
        return "relay";
    case MR_PROCESS_KIND_COUNT:
        break;
    }
    return "unknown";
}

const char *mr_process_state_name(enum mr_process_state state)
{
    switch (state) {
    case MR_STATE_EMPTY:
        return "empty";
    case MR_STATE_STARTING:
        return "starting";
    case MR_STATE_READY:
        return "ready";
    case MR_STATE_DRAINED:
        return "drained";
    case MR_STATE_STOPPING:
        return "stopping";
    case MR_STATE_DEAD:
        return "dead";
    case MR_STATE_BACKOFF:
        return "backoff";
    case MR_STATE_GIVEN_UP:
        return "given_up";
    case MR_STATE_COUNT:
        break;
    }
    return "unknown";
}

void mr_ring_part(char out[32], char kind, uint32_t shard, uint32_t ring_generation)
{
    MR_ASSERT(kind == 'e' || kind == 'm' || kind == 's');
    snprintf(out, 32, "%c%u.g%u", kind, shard, ring_generation);
}

/* The file's size: the struct, up to whole pages. */
static uint64_t board_size(void)
{
    return (sizeof(struct mr_board_shm) + 4095) & ~UINT64_C(4095);
}

enum mr_rc mr_board_create(struct mr_board *board, const char *instance, uint64_t epoch,
                           struct mr_err *err)
{
    enum mr_rc rc = mr_segment_create(&board->segment, instance, "board", MR_SEGMENT_BOARD,
                                      board_size(), epoch, MR_MAP_ONCE, err);
    if (rc != MR_OK)
        return rc;
    board->shm = (struct mr_board_shm *)board->segment.head;
    board->shm->created_wall_us = mr_clock_wall_us();
    board->shm->cell_count = MR_BOARD_CELLS;
    board->shm->cell_bytes = sizeof(struct mr_cell_shm);
    return MR_OK;
}

enum mr_rc mr_board_attach(struct mr_board *board, const char *instance, bool read_only,
                           struct mr_err *err)
{
    enum mr_rc rc = mr_segment_attach(&board->segment, instance, "board", MR_SEGMENT_BOARD,
                                      read_only, MR_MAP_ONCE, err);
    if (rc != MR_OK)
        return rc;
    board->shm = (struct mr_board_shm *)board->segment.head;
    uint32_t count = MR_BOARD_CELLS;
    uint32_t bytes = sizeof(struct mr_cell_shm);
    if (board->segment.head->size == board_size() && board->shm->cell_count == count &&
        board->shm->cell_bytes == bytes)
        return MR_OK;
    rc = mr_reject(err, MR_CORRUPT,
                   "attach segment %s: it has %u cells of %u bytes, this program's board %u of %u",
                   board->segment.name, board->shm->cell_count, board->shm->cell_bytes, count,
                   bytes);
    mr_board_detach(board);
    return rc;
}

void mr_board_detach(struct mr_board *board)
{
    mr_segment_detach(&board->segment);
    board->shm = NULL;
}

void mr_cell_say(struct mr_cell_shm *cell, const char *fmt, ...)
{
    /* Built aside and copied whole, so that readers see a half-made text only for an instant; the
     * last byte is never anything but NUL. */
    char text[MR_BOARD_TEXT_MAX] = {0};
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (memcmp(cell->text, text, sizeof text) != 0)
        memcpy(cell->text, text, sizeof text);
}

const struct mr_counter_row *mr_counter_rows(void)
{
    static const struct mr_counter_row rows[] = {
#define COUNTER(symbol, kinds, kind, name, help) \
    [MR_COUNTER_##symbol] = {name, help, MR_KIND_##kinds, MR_ROW_##kind},
#define HISTOGRAM(symbol, kinds, name, help)
#include "shm/counters.def"
#undef COUNTER
#undef HISTOGRAM
    };
    return rows;
}

const struct mr_counter_row *mr_histogram_rows(void)
{
    static const struct mr_counter_row rows[] = {
#define COUNTER(symbol, kinds, kind, name, help)
#define HISTOGRAM(symbol, kinds, name, help) \
    [MR_HISTOGRAM_##symbol] = {name, help, MR_KIND_##kinds, MR_ROW_NS},
#include "shm/counters.def"
#undef COUNTER
#undef HISTOGRAM
    };
    return rows;
}
