/* The board: its rows, its cells, and who may attach. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/board.h"

static char instance[MR_INSTANCE_MAX];
static struct mr_err err;

static int setup(void **state)
{
    struct mr_board *board = calloc(1, sizeof *board);
    snprintf(instance, sizeof instance, "board-%d", (int)getpid());
    assert_int_equal(mr_board_create(board, instance, 3, &err), MR_OK);
    *state = board;
    return 0;
}

static int teardown(void **state)
{
    mr_board_detach(*state);
    mr_segment_remove_all(instance);
    free(*state);
    return 0;
}

static void it_is_attachable_only_when_sealed(void **state)
{
    struct mr_board *board = *state, other;
    assert_int_equal(mr_board_attach(&other, instance, true, &err), MR_AGAIN);
    board->shm->start_sequence = 12;
    mr_segment_seal(&board->segment);
    assert_int_equal(mr_board_attach(&other, instance, true, &err), MR_OK);
    assert_int_equal(other.shm->start_sequence, 12);
    assert_true(other.shm->created_wall_us > 0);
    assert_int_equal(other.segment.head->epoch, 3);
    mr_board_detach(&other);
    assert_null(other.shm);
}

static void other_cells_are_refused_with_both_numbers(void **state)
{
    struct mr_board *board = *state, other;
    mr_segment_seal(&board->segment);
    board->shm->cell_count = 7;
    assert_int_equal(mr_board_attach(&other, instance, true, &err), MR_CORRUPT);
    assert_non_null(strstr(err.text, "it has 7 cells"));
    assert_non_null(strstr(err.text, "this program's board 36"));
}

static void counters_rise_and_gauges_are_set(void **state)
{
    struct mr_board *board = *state;
    struct mr_cell_shm *cell = &board->shm->cells[MR_CELL_PULLER];
    mr_count(cell, MR_COUNTER_SOURCE_EVENTS, 2);
    mr_count(cell, MR_COUNTER_SOURCE_EVENTS, 3);
    mr_gauge(cell, MR_COUNTER_SOURCE_CONNECTED, 1);
    mr_gauge(cell, MR_COUNTER_SOURCE_CONNECTED, 0);
    assert_int_equal(mr_counter_get(cell, MR_COUNTER_SOURCE_EVENTS), 5);
    assert_int_equal(mr_counter_get(cell, MR_COUNTER_SOURCE_CONNECTED), 0);
}

static void every_row_has_a_name_of_its_own_a_help_and_a_keeper(void **state)
{
    (void)state;
    const struct mr_counter_row *rows[] = {mr_counter_rows(), mr_histogram_rows()};
    const int counts[] = {MR_COUNTER_COUNT, MR_HISTOGRAM_COUNT};
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < counts[t]; i++) {
            const struct mr_counter_row *row = &rows[t][i];
            assert_non_null(row->name);
            assert_true(row->help[strlen(row->help) - 1] == '.');
            assert_true(row->kinds != 0 && row->kinds < 1 << MR_PROCESS_KIND_COUNT);
            bool total =
                strlen(row->name) > 6 && strcmp(row->name + strlen(row->name) - 6, "_total") == 0;
            assert_int_equal(total, t == 0 && row->unit == MR_ROW_COUNTER);
            for (int j = 0; j < i; j++)
                assert_string_not_equal(row->name, rows[t][j].name);
        }
}

static void a_text_too_long_is_cut_and_ends(void **state)
{
    struct mr_board *board = *state;
    struct mr_cell_shm *cell = &board->shm->cells[MR_CELL_PUBLISHER];
    mr_cell_say(cell, "waits for %d shards", 2);
    assert_string_equal(cell->text, "waits for 2 shards");
    mr_cell_say(cell, "%0300d", 1);
    assert_int_equal(strlen(cell->text), MR_BOARD_TEXT_MAX - 1);
    mr_cell_say(cell, "short");
    assert_string_equal(cell->text, "short");
}

static void cells_of_two_generations_are_apart(void **state)
{
    (void)state;
    bool used[MR_BOARD_CELLS] = {[MR_CELL_SUPERVISOR] = true,
                                 [MR_CELL_PULLER] = true,
                                 [MR_CELL_PUBLISHER] = true,
                                 [MR_CELL_RELAY] = true};
    for (uint32_t generation = 6; generation < 8; generation++)
        for (uint32_t shard = 0; shard < MR_SHARDS_MAX; shard++) {
            uint32_t cell = mr_cell_matcher(generation, shard);
            assert_true(cell < MR_BOARD_CELLS && !used[cell]);
            used[cell] = true;
        }
    uint64_t set = mr_ring_set_pack(7, 16);
    assert_int_equal(mr_ring_set_generation(set), 7);
    assert_int_equal(mr_ring_set_shards(set), 16);
    char part[32];
    mr_ring_part(part, 'm', 15, 7);
    assert_string_equal(part, "m15.g7");
}

static void every_kind_and_state_has_a_name(void **state)
{
    (void)state;
    for (int i = 0; i < MR_PROCESS_KIND_COUNT; i++)
        assert_string_not_equal(mr_process_kind_name((enum mr_process_kind)i), "unknown");
    for (int i = 0; i < MR_STATE_COUNT; i++)
        assert_string_not_equal(mr_process_state_name((enum mr_process_state)i), "unknown");
    assert_string_equal(mr_process_state_name(MR_STATE_COUNT), "unknown");
    assert_string_equal(mr_process_kind_name(MR_PROCESS_KIND_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_attachable_only_when_sealed, setup, teardown),
        cmocka_unit_test_setup_teardown(other_cells_are_refused_with_both_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(counters_rise_and_gauges_are_set, setup, teardown),
        cmocka_unit_test_setup_teardown(every_row_has_a_name_of_its_own_a_help_and_a_keeper, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_text_too_long_is_cut_and_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(cells_of_two_generations_are_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(every_kind_and_state_has_a_name, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
