#include "publisher/journal.h"

#include "common/crash.h"
#include "proto/match.h"

/* Begin anew when what is past outweighs what is alive twice and is worth the work. */
#define COMPACT_SLACK_BYTES (UINT64_C(1) << 20)
/* Uses of one slot in one generation must stay below 1 << 20: see docs/design.md. */
#define COMPACT_REMOVED (UINT64_C(1) << 19)

enum mr_rc mr_register_open(struct mr_register *reg, const char *instance,
                            struct mr_board_shm *board, struct mr_err *err)
{
    *reg = (struct mr_register){.board = board};
    enum mr_rc rc = mr_journal_attach_writer(&reg->segments[0], instance, "subs0", err);
    if (rc != MR_OK)
        return rc;
    rc = mr_journal_attach_writer(&reg->segments[1], instance, "subs1", err);
    if (rc != MR_OK) {
        mr_journal_detach(&reg->segments[0]);
        return rc;
    }
    reg->generation = atomic_load_explicit(&board->subs_generation, memory_order_acquire);
    uint64_t named = reg->generation;
    for (int i = 0; i < 2; i++)
        if (reg->segments[i].generation > reg->generation)
            reg->generation = reg->segments[i].generation;
    /* A predecessor died between beginning a generation and naming it on the board. The next number
     * would be of the segment that the matchers are in, and they leave it only for one that is
     * named: take the number after it, and the segment that nobody is in. */
    if (named != 0 && ((reg->generation + 1) & 1) == (named & 1))
        reg->generation++;
    return MR_OK;
}

void mr_register_close(struct mr_register *reg)
{
    for (int i = 0; i < 2; i++)
        if (reg->segments[i].shm)
            mr_journal_detach(&reg->segments[i]);
    reg->current = NULL;
}

static bool is_live(const struct mr_cell_shm *cell)
{
    uint32_t state = atomic_load_explicit(&cell->state, memory_order_acquire);
    return state == MR_STATE_STARTING || state == MR_STATE_READY || state == MR_STATE_DRAINED ||
           state == MR_STATE_STOPPING;
}

bool mr_register_may_begin(const struct mr_register *reg)
{
    uint64_t next = reg->generation + 1;
    for (uint32_t i = mr_cell_matcher(0, 0); i < MR_CELL_RELAY; i++) {
        const struct mr_cell_shm *cell = &reg->board->cells[i];
        uint64_t used = atomic_load_explicit(&cell->subs_generation, memory_order_acquire);
        if (used != 0 && ((used ^ next) & 1) == 0 && is_live(cell))
            return false;
    }
    return true;
}

static enum mr_rc append(struct mr_register *reg, struct mr_subscription *s)
{
    enum mr_rc rc = mr_journal_append(reg->current, MR_RECORD_SUBSCRIBE, s->record, s->record_len);
    if (rc != MR_OK)
        return rc;
    s->journal_count = reg->current->count;
    reg->live_bytes += s->record_len;
    reg->dirty = true;
    return MR_OK;
}

enum mr_rc mr_register_begin(struct mr_register *reg, const struct mr_subscriptions *table)
{
    MR_ASSERT(mr_register_may_begin(reg));
    reg->generation++;
    reg->current = &reg->segments[reg->generation & 1];
    reg->live_bytes = 0;
    reg->removed = 0;
    reg->full = false;
    mr_journal_begin(reg->current, reg->generation);
    if (reg->generation > 1)
        MR_CRASH("journal.renewed");
    for (uint32_t slot = 0; slot < table->slot_count; slot++) {
        struct mr_subscription *s = mr_subscription_at(table, slot);
        if (s->state == MR_SUB_FREE || !s->record)
            continue;
        enum mr_rc rc = append(reg, s);
        if (rc != MR_OK)
            return rc;
    }
    mr_journal_publish(reg->current);
    reg->dirty = false;
    /* The journal first: a matcher that reads this number finds it complete. */
    atomic_store_explicit(&reg->board->subs_generation, reg->generation, memory_order_release);
    MR_CRASH("journal.named");
    return MR_OK;
}

bool mr_register_due(const struct mr_register *reg)
{
    uint64_t tail = reg->current->tail, live = reg->live_bytes;
    return reg->removed > COMPACT_REMOVED || tail > 2 * live + COMPACT_SLACK_BYTES ||
           (reg->full && tail > live + live / 4); /* full of what is alive: nothing to gain */
}

enum mr_rc mr_register_add(struct mr_register *reg, struct mr_subscription *subscription)
{
    MR_ASSERT(reg->current);
    enum mr_rc rc = append(reg, subscription);
    reg->full |= rc == MR_FULL;
    return rc;
}

void mr_register_remove(struct mr_register *reg, const struct mr_subscription *subscription)
{
    struct mr_subscribe_head head = {.subscription = mr_subscription_id(subscription)};
    MR_ASSERT(reg->current && reg->live_bytes >= subscription->record_len);
    reg->live_bytes -= subscription->record_len;
    reg->removed++;
    if (mr_journal_append(reg->current, MR_RECORD_UNSUBSCRIBE, &head, sizeof head) == MR_OK)
        reg->dirty = true;
    else
        reg->full = true;
}

void mr_register_publish(struct mr_register *reg)
{
    if (!reg->dirty)
        return;
    mr_journal_publish(reg->current);
    reg->dirty = false;
}
