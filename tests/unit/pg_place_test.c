#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "puller/sources/pg_position.h"

enum { OID_INT4 = 23, OID_TEXT = 25, LONG = MR_PG_PLACE_ORDER_BYTES };

/* A table "t" of one key column and, beside it, as many others. */
static struct mr_pg_relation *table(uint8_t identity, uint32_t others, uint32_t type_oid)
{
    static _Alignas(struct mr_pg_relation) char room[1024];
    struct mr_pg_relation *made = (struct mr_pg_relation *)room;
    memset(room, 0, sizeof room);
    made->identity = identity;
    made->key_count = 1;
    made->column_count = 1 + others;
    made->collection = MR_STR("t");
    made->columns[0] = (struct mr_pg_column){MR_STR("a"), type_oid, {0, false}, true};
    return made;
}

/* A long id: of equal bytes up to one byte. */
static struct mr_str long_id(char room[LONG + 8], size_t at, char there, size_t len)
{
    memset(room, 'x', LONG + 8);
    room[at] = there;
    return (struct mr_str){room, len};
}

static void numbers_are_ordered_by_value_unless_they_may_be_null(void **state)
{
    (void)state;
    struct mr_pg_place place = {.running = true};
    mr_pg_place_pass(&place, MR_STR("t"), MR_STR("9"));
    assert_true(mr_pg_place_ahead(&place, table('d', 0, OID_INT4), MR_STR("10")));
    assert_true(mr_pg_place_ahead(&place, table('f', 1, OID_INT4), MR_STR("10")));
    assert_false(mr_pg_place_ahead(&place, table('f', 0, OID_INT4), MR_STR("10")));
    assert_true(mr_pg_place_ahead(&place, table('f', 0, OID_INT4), MR_STR("\\N")));
}

static void rows_are_all_ahead_of_the_place_of_another_key(void **state)
{
    (void)state;
    struct mr_pg_place place = {.running = true};
    mr_pg_place_pass(&place, MR_STR("t"), MR_STR("-12"));
    assert_true(mr_pg_place_number(&place) == -12);
    mr_pg_place_pass(&place, MR_STR("t"), MR_STR("5,7"));
    assert_true(mr_pg_place_number(&place) == INT64_MIN);
    assert_true(mr_pg_place_ahead(&place, table('d', 1, OID_INT4), MR_STR("-3")));
    mr_pg_place_pass(&place, MR_STR("t"), MR_STR("1234567890123456789012345,7"));
    assert_true(mr_pg_place_number(&place) == INT64_MIN);
}

static void long_ids_are_alike_where_they_are_cut(void **state)
{
    (void)state;
    const struct mr_pg_relation *t = table('d', 1, OID_TEXT);
    struct mr_pg_place place = {.running = true};
    char last[LONG + 8], room[LONG + 8];
    mr_pg_place_pass(&place, MR_STR("t"), long_id(last, LONG, '5', LONG + 2));
    struct mr_str less = long_id(room, LONG, '4', LONG + 2);
    assert_true(mr_pg_place_alike(&place, t, less) && !mr_pg_place_ahead(&place, t, less));
    struct mr_str more = long_id(room, LONG, '6', LONG + 2);
    assert_true(mr_pg_place_alike(&place, t, more) && !mr_pg_place_ahead(&place, t, more));
    struct mr_str ahead = long_id(room, LONG - 1, 'y', LONG + 2);
    assert_true(mr_pg_place_ahead(&place, t, ahead) && !mr_pg_place_alike(&place, t, ahead));
    struct mr_str behind = long_id(room, LONG - 1, 'w', LONG + 2);
    assert_false(mr_pg_place_ahead(&place, t, behind) || mr_pg_place_alike(&place, t, behind));
    struct mr_str shorter = long_id(room, 0, 'x', LONG); /* comes before all that go on */
    assert_false(mr_pg_place_ahead(&place, t, shorter) || mr_pg_place_alike(&place, t, shorter));
    mr_pg_place_pass(&place, MR_STR("t"), shorter);
    assert_true(mr_pg_place_ahead(&place, t, (struct mr_str){last, LONG + 2}));
    assert_false(mr_pg_place_alike(&place, t, shorter));
}

static void every_state_of_a_place_survives_the_log(void **state)
{
    (void)state;
    for (uint8_t of = MR_PG_PLACE_NONE; of <= MR_PG_PLACE_STATE_COUNT; of++) {
        struct mr_pg_position position = {.system = 1, .lsn = 2, .place.running = true}, back;
        struct mr_position stored;
        struct mr_err err;
        mr_pg_place_pass(&position.place, MR_STR("t"), MR_STR("id"));
        position.place.state = of;
        mr_pg_position_encode(&position, &stored);
        enum mr_rc rc = mr_pg_position_decode(&stored, &back, &err);
        assert_int_equal(rc, of < MR_PG_PLACE_STATE_COUNT ? MR_OK : MR_USAGE);
        assert_true(rc != MR_OK || back.place.state == of);
    }
}

static void positions_of_others_are_refused(void **state)
{
    (void)state;
    struct mr_err err;
    struct mr_position position = {.len = 40};
    struct mr_pg_position parsed;
    assert_int_equal(mr_pg_position_decode(&position, &parsed, &err), MR_USAGE);
    position.len = 8;
    assert_int_equal(mr_pg_position_decode(&position, &parsed, &err), MR_USAGE);
    uint64_t lsn;
    assert_true(mr_pg_lsn_parse("16/B374D848", &lsn) && lsn == 0x16B374D848);
    assert_false(mr_pg_lsn_parse("", &lsn));
    assert_false(mr_pg_lsn_parse("16/B374D848 ", &lsn));
    assert_string_equal(mr_pg_lsn_format(0x16B374D848).text, "16/B374D848");
}

static void positions_of_the_first_layout_are_read(void **state)
{
    (void)state;
    struct mr_err err;
    struct mr_position position;
    struct mr_pg_position parsed, written = {.timeline = 3, .system = 7, .lsn = 50, .era = 2};
    mr_pg_position_encode(&written, &position);
    assert_int_equal(mr_pg_position_decode(&position, &parsed, &err), MR_OK);
    assert_true(parsed.timeline == 3 && parsed.lsn == 50 && parsed.era == 2);
    memcpy(position.bytes, "PGP1", 4);
    assert_int_equal(mr_pg_position_decode(&position, &parsed, &err), MR_USAGE); /* too long */
    position.len = 40;
    assert_int_equal(mr_pg_position_decode(&position, &parsed, &err), MR_OK);
    assert_true(parsed.timeline == 0 && parsed.lsn == 50 && parsed.era == 0);
}

static void a_history_says_where_a_timeline_was_left(void **state)
{
    (void)state;
    const char *history = "# comment\n\n1\t0/1531E70\tno recovery target specified\n\n"
                          "12\t1/F\tbefore 2026-01-01 2\t5/5\n";
    uint64_t lsn;
    assert_true(mr_pg_history_leaves(history, 1, &lsn) && lsn == 0x1531E70);
    assert_true(mr_pg_history_leaves(history, 12, &lsn) && lsn == 0x10000000F);
    assert_false(mr_pg_history_leaves(history, 2, &lsn));
    assert_false(mr_pg_history_leaves("", 1, &lsn));
    struct mr_pg_position position = {.lsn = 50};
    assert_true(mr_pg_position_reach(&position) == 50);
    position.commit_lsn = 80; /* events of a transaction that commits there are taken */
    assert_true(mr_pg_position_reach(&position) == 81);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_ordered_by_value_unless_they_may_be_null),
        cmocka_unit_test(rows_are_all_ahead_of_the_place_of_another_key),
        cmocka_unit_test(long_ids_are_alike_where_they_are_cut),
        cmocka_unit_test(every_state_of_a_place_survives_the_log),
        cmocka_unit_test(positions_of_others_are_refused),
        cmocka_unit_test(positions_of_the_first_layout_are_read),
        cmocka_unit_test(a_history_says_where_a_timeline_was_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
