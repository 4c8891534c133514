/* relay/census.h: what /metrics shows of each consumer: its row of the board, by id and collection
 * (shm/board.h). Queue thread, but for the first. */
#ifndef MR_RELAY_CENSUS_H
#define MR_RELAY_CENSUS_H
#include "relay/lag.h"
#include "relay/wire.h"
#include "shm/board.h"

/* Nobody is connected: gauges that a relay which died has left are taken back. */
void mr_census_open(struct mr_board_shm *board);
/* A stream begins; the row is the board's. A stream of several collections counts as "(several)".
 */
struct mr_consumer_row_shm *mr_census_join(struct mr_board_shm *board,
                                           const struct mr_follow *follow);
void mr_census_leave(struct mr_consumer_row_shm *row);

/* One look at all streams: begin, count each, end. */
struct mr_census {
    struct {
        uint64_t level, events, ns;
    } rows[MR_CONSUMER_ROWS];
};
void mr_census_count(struct mr_census *census, const struct mr_board_shm *board,
                     const struct mr_consumer_row_shm *row, const struct mr_lag *lag);
void mr_census_end(const struct mr_census *census, struct mr_board_shm *board);

static inline void mr_census_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + n, memory_order_relaxed);
}
#endif
