#include "relay/census.h"

#include <string.h>

/* A label that no client can break the text with. */
static void put_label(char out[MR_CONSUMER_LABEL_MAX], struct mr_str text)
{
    size_t len = text.len < MR_CONSUMER_LABEL_MAX ? text.len : MR_CONSUMER_LABEL_MAX - 1;
    for (size_t i = 0; i < len; i++) {
        char byte = text.data[i];
        out[i] = byte < 0x20 || byte > 0x7e || byte == '"' || byte == '\\' ? '?' : byte;
    }
    memset(out + len, 0, MR_CONSUMER_LABEL_MAX - len);
}

static void set(_Atomic uint64_t *gauge, uint64_t value)
{
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

static void clear(struct mr_consumer_row_shm *row)
{
    set(&row->streams, 0);
    set(&row->level, 0);
    set(&row->lag_events, 0);
    set(&row->lag_ns, 0);
}

void mr_census_open(struct mr_board_shm *board)
{
    for (uint32_t i = 0; i < MR_CONSUMER_ROWS; i++)
        clear(&board->consumers[i]);
}

struct mr_consumer_row_shm *mr_census_join(struct mr_board_shm *board,
                                           const struct mr_follow *follow)
{
    char consumer[MR_CONSUMER_LABEL_MAX], collection[MR_CONSUMER_LABEL_MAX];
    put_label(consumer, follow->consumer_id);
    put_label(collection, follow->collection_count == 0   ? MR_STR("")
                          : follow->collection_count == 1 ? follow->collections[0]
                                                          : MR_STR("(several)"));
    struct mr_consumer_row_shm *row = board->consumers;
    for (uint32_t i = 0; i < MR_CONSUMER_ROWS; i++, row++) {
        if (atomic_load_explicit(&row->begun, memory_order_relaxed) == 0) {
            bool last = i == MR_CONSUMER_ROWS - 1;
            memcpy(row->consumer, consumer, sizeof consumer);
            memcpy(row->collection, collection, sizeof collection);
            if (last) {
                put_label(row->consumer, MR_STR("(others)"));
                put_label(row->collection, MR_STR(""));
            }
            /* Labels first; acquire is in shm/prometheus.c. */
            atomic_store_explicit(&row->begun, 1, memory_order_release);
            break;
        }
        if (i == MR_CONSUMER_ROWS - 1 ||
            (memcmp(row->consumer, consumer, sizeof consumer) == 0 &&
             memcmp(row->collection, collection, sizeof collection) == 0))
            break;
    }
    mr_census_add(&row->streams, 1);
    return row;
}

void mr_census_leave(struct mr_consumer_row_shm *row)
{
    uint64_t streams = atomic_load_explicit(&row->streams, memory_order_relaxed);
    if (streams > 1)
        set(&row->streams, streams - 1);
    else
        clear(row);
}

void mr_census_count(struct mr_census *census, const struct mr_board_shm *board,
                     const struct mr_consumer_row_shm *row, const struct mr_lag *lag)
{
    size_t i = (size_t)(row - board->consumers);
    MR_ASSERT(i < MR_CONSUMER_ROWS);
    if (lag->level > census->rows[i].level)
        census->rows[i].level = lag->level;
    if (lag->events > census->rows[i].events)
        census->rows[i].events = lag->events;
    if (lag->age_ns > census->rows[i].ns)
        census->rows[i].ns = lag->age_ns;
}

void mr_census_end(const struct mr_census *census, struct mr_board_shm *board)
{
    for (uint32_t i = 0; i < MR_CONSUMER_ROWS; i++) {
        set(&board->consumers[i].level, census->rows[i].level);
        set(&board->consumers[i].lag_events, census->rows[i].events);
        set(&board->consumers[i].lag_ns, census->rows[i].ns);
    }
}
