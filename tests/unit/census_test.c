#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "relay/census.h"

static struct mr_board_shm *board;

static int make_board(void **state)
{
    (void)state;
    board = aligned_alloc(128, (sizeof *board + 127) & ~(size_t)127);
    if (board)
        memset((void *)board, 0, sizeof *board);
    return board ? 0 : -1;
}

static int drop_board(void **state)
{
    (void)state;
    free(board);
    return 0;
}

static struct mr_consumer_row_shm *join(const char *id, const char *collection)
{
    struct mr_follow follow = {.consumer_id = mr_str_from(id)};
    if (collection)
        follow.collections[follow.collection_count++] = mr_str_from(collection);
    return mr_census_join(board, &follow);
}

static void streams_of_one_id_and_collection_share_a_row_and_others_do_not(void **state)
{
    (void)state;
    struct mr_consumer_row_shm *row = join("index", "orders");
    assert_ptr_equal(join("index", "orders"), row);
    assert_int_equal(row->streams, 2);
    assert_ptr_not_equal(join("index", NULL), row);
    assert_ptr_not_equal(join("cache", "orders"), row);
    assert_string_equal(row->consumer, "index");
    assert_string_equal(row->collection, "orders");
    mr_census_leave(row);
    assert_int_equal(row->streams, 1);
}

static void a_row_shows_the_slowest_of_its_streams_until_the_last_has_left(void **state)
{
    (void)state;
    struct mr_consumer_row_shm *row = join("index", NULL);
    const struct mr_lag quick = {.level = MR_LAG_NONE, .events = 5, .age_ns = 9};
    const struct mr_lag slow = {.level = MR_LAG_HARD, .events = 700, .age_ns = 3};
    struct mr_census census = {0};
    mr_census_count(&census, board, row, &slow);
    mr_census_count(&census, board, row, &quick);
    mr_census_end(&census, board);
    assert_int_equal(row->level, 2);
    assert_int_equal(row->lag_events, 700);
    assert_int_equal(row->lag_ns, 9);
    mr_census_add(&row->events, 12);
    mr_census_leave(row);
    assert_int_equal(row->level + row->lag_events + row->lag_ns + row->streams, 0);
    assert_int_equal(row->events, 12);
}

static void those_that_find_no_row_share_the_last_and_a_new_relay_goes_on(void **state)
{
    (void)state;
    char id[16];
    for (int i = 0; i < MR_CONSUMER_ROWS + 10; i++) {
        snprintf(id, sizeof id, "c%d", i);
        mr_census_add(&join(id, NULL)->events, 1);
    }
    struct mr_consumer_row_shm *last = &board->consumers[MR_CONSUMER_ROWS - 1];
    assert_string_equal(last->consumer, "(others)");
    assert_int_equal(last->events, 11);
    mr_census_open(board);
    assert_int_equal(last->streams, 0);
    assert_ptr_equal(join("c7", NULL), &board->consumers[7]);
    assert_int_equal(board->consumers[7].events, 1);
}

static void no_name_breaks_the_text_or_its_room(void **state)
{
    (void)state;
    char name[300];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    name[0] = '"';
    name[1] = '\\';
    name[2] = '\n';
    name[3] = (char)0xff;
    const struct mr_consumer_row_shm *row = join(name, name);
    assert_memory_equal(row->consumer, "????x", 5);
    assert_int_equal(strlen(row->consumer), MR_CONSUMER_LABEL_MAX - 1);
    assert_int_equal(strlen(row->collection), MR_CONSUMER_LABEL_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            streams_of_one_id_and_collection_share_a_row_and_others_do_not, make_board, drop_board),
        cmocka_unit_test_setup_teardown(
            a_row_shows_the_slowest_of_its_streams_until_the_last_has_left, make_board, drop_board),
        cmocka_unit_test_setup_teardown(
            those_that_find_no_row_share_the_last_and_a_new_relay_goes_on, make_board, drop_board),
        cmocka_unit_test_setup_teardown(no_name_breaks_the_text_or_its_room, make_board,
                                        drop_board),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
