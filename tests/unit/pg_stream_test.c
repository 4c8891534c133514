#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "puller/sources/pg_stream.h"
#include "tests/pgoutput.h"

enum { EVENTS_MAX = 64 };

/* Remembers "op collection id" of what it took, and the last position; full when it is told to be.
 */
struct mr_intake {
    char taken[EVENTS_MAX][160];
    uint32_t count, room;
    uint8_t flags;
    bool has_update, has_before;
    uint8_t update[4096];
    uint8_t document[4096];
    struct mr_position position;
    uint32_t positions;
};
static struct mr_intake intake;
static struct mr_pg_stream stream;
static struct pgoutput out;
static struct mr_err err;

enum mr_rc mr_intake_emit(struct mr_intake *in, struct mr_event *event, struct mr_err *error)
{
    (void)error;
    static const char *const names[] = {"",       "insert",   "update", "replace",
                                        "delete", "truncate", "gap"};
    if (in->room == 0)
        return MR_FULL;
    in->room--;
    snprintf(in->taken[in->count++ % EVENTS_MAX], sizeof in->taken[0], "%s %.*s %.*s",
             names[event->head.op], (int)event->collection.len, event->collection.data,
             (int)event->document_id.len, event->document_id.data);
    in->flags = event->head.flags;
    in->has_update = event->update.len != 0;
    in->has_before = event->before.len != 0;
    if (in->has_update)
        memcpy(in->update, event->update.data, event->update.len);
    if (event->document.len)
        memcpy(in->document, event->document.data, event->document.len);
    return MR_OK;
}

void mr_intake_position(struct mr_intake *in, const struct mr_position *position)
{
    in->position = *position;
    in->positions++;
}

static size_t bson_len(const uint8_t *data)
{
    uint32_t len;
    memcpy(&len, data, sizeof len);
    return len;
}

static int begin_test(void **state)
{
    (void)state;
    struct mr_pg_position position = {.system = 7, .lsn = 50};
    intake = (struct mr_intake){.room = 1000};
    mr_pg_stream_init(&stream, MR_STR("db"), &position);
    return 0;
}

static int end_test(void **state)
{
    (void)state;
    mr_pg_stream_fini(&stream);
    return 0;
}

static enum mr_rc offer(void)
{
    return mr_pg_stream_take(&stream, out.data, out.len, &intake, 10, &err);
}

static void take(void)
{
    assert_int_equal(offer(), MR_OK);
}

static void begin(uint64_t commit_lsn)
{
    pgoutput_begin(&out, commit_lsn, 3);
    take();
}

static void commit(uint64_t commit_lsn, uint64_t end_lsn)
{
    pgoutput_commit(&out, commit_lsn, end_lsn);
    take();
}

static const struct pgoutput_column two_columns[] = {{"id", 23, 1}, {"body", 25, 0}};

static void describe(char identity)
{
    struct pgoutput_column columns[] = {two_columns[0], two_columns[1]};
    columns[1].key = identity == 'f';
    pgoutput_relation(&out, 7, "public", "posts", identity, columns, 2);
    take();
}

static void insert(uint64_t lsn, const char *id)
{
    pgoutput_change(&out, lsn, 'I', 7);
    pgoutput_row(&out, 'N', (const char *[]){id, "text"}, 2);
}

static void at(uint64_t server_us)
{
    struct pgoutput time = {.len = 0};
    pgoutput_u64(&time, server_us);
    memcpy(out.data + 17, time.data, time.len);
}

static struct mr_pg_position position_now(void)
{
    struct mr_pg_position position;
    assert_int_equal(mr_pg_position_decode(&intake.position, &position, &err), MR_OK);
    return position;
}

static void the_servers_clock_tells_how_long_a_change_waited(void **state)
{
    (void)state;
    begin(100);
    describe('d');
    insert(60, "1");
    at(1250000); /* a quarter of a second behind the commit, see pgoutput_begin */
    take();
    assert_int_equal(stream.waited_us, 250000);
}

static void positions_count_inside_of_a_transaction(void **state)
{
    (void)state;
    begin(100);
    describe('d');
    insert(60, "1");
    take();
    insert(61, "2");
    take();
    struct mr_pg_position position = position_now();
    assert_true(position.lsn == 50 && position.commit_lsn == 100 && position.events_taken == 2);
    commit(100, 110);
    position = position_now();
    assert_true(position.lsn == 110 && position.commit_lsn == 0 && position.events_taken == 0);
    assert_true(position.system == 7);
}

static void a_transaction_sent_again_goes_on_where_it_was_left(void **state)
{
    (void)state;
    begin(100);
    describe('d');
    insert(60, "1");
    take();
    insert(61, "2");
    take();
    struct mr_pg_position position = position_now();
    mr_pg_stream_fini(&stream); /* killed here */
    mr_pg_stream_init(&stream, MR_STR("db"), &position);
    intake.count = 0;
    begin(100);
    describe('d');
    for (int i = 1; i <= 3; i++) {
        char id[8];
        snprintf(id, sizeof id, "%d", i);
        insert(59 + (uint64_t)i, id);
        take();
    }
    assert_int_equal(intake.count, 1);
    assert_string_equal(intake.taken[0], "insert posts 3");
    commit(100, 110);
    begin(200); /* the next one is not skipped */
    insert(160, "4");
    take();
    assert_string_equal(intake.taken[1], "insert posts 4");
}

static void a_full_intake_gets_the_same_event_again_and_no_other(void **state)
{
    (void)state;
    begin(100);
    describe('d');
    pgoutput_change(&out, 60, 'U', 7);
    pgoutput_row(&out, 'K', (const char *[]){"1", NULL}, 2);
    pgoutput_row(&out, 'N', (const char *[]){"2", "text"}, 2);
    intake.room = 0;
    assert_int_equal(offer(), MR_FULL);
    assert_int_equal(intake.count, 0);
    intake.room = 1; /* between the delete and the insert of one update */
    assert_int_equal(offer(), MR_FULL);
    assert_int_equal(intake.count, 1);
    assert_string_equal(intake.taken[0], "delete posts 1");
    intake.room = 1;
    take();
    assert_int_equal(intake.count, 2);
    assert_string_equal(intake.taken[1], "insert posts 2");
    assert_true(position_now().events_taken == 2);
}

static void a_delete_shows_the_key_or_the_whole_row(void **state)
{
    (void)state;
    struct mr_bson_value value;
    begin(100);
    describe('d');
    pgoutput_change(&out, 60, 'D', 7);
    pgoutput_row(&out, 'K', (const char *[]){"1", NULL}, 2);
    take();
    assert_int_equal(intake.flags, MR_EVENT_KEY_ONLY);
    assert_false(mr_bson_find(intake.document, bson_len(intake.document), MR_STR("body"), &value));
    pgoutput_change(&out, 61, 'D', 7);
    pgoutput_row(&out, 'O', (const char *[]){"1", "old"}, 2);
    take();
    assert_int_equal(intake.flags, 0);
    assert_true(intake.has_before);
}

static void unchanged_values_are_named_or_taken_from_the_old_row(void **state)
{
    (void)state;
    struct mr_bson_value value;
    begin(100);
    describe('d');
    pgoutput_change(&out, 60, 'U', 7);
    pgoutput_row(&out, 'N', (const char *[]){"1", "\1"}, 2);
    take();
    assert_string_equal(intake.taken[0], "update posts 1");
    assert_true(intake.has_update);
    assert_true(
        mr_bson_find(intake.update, bson_len(intake.update), MR_STR("unchanged.0"), &value));
    assert_true(mr_str_equal(mr_bson_string(&value), MR_STR("body")));
    assert_false(mr_bson_find(intake.document, bson_len(intake.document), MR_STR("body"), &value));
    pgoutput_change(&out, 61, 'U', 7);
    pgoutput_row(&out, 'O', (const char *[]){"1", "large"}, 2);
    pgoutput_row(&out, 'N', (const char *[]){"1", "\1"}, 2);
    take();
    assert_true(mr_bson_find(intake.document, bson_len(intake.document), MR_STR("body"), &value));
    assert_true(mr_str_equal(mr_bson_string(&value), MR_STR("large")));
    assert_true(intake.has_before);
    assert_false(mr_bson_find(intake.update, bson_len(intake.update), MR_STR("unchanged"), &value));
}

static void changed_fields_are_named_when_the_old_row_is_known(void **state)
{
    (void)state;
    struct mr_bson_value value;
    begin(100);
    describe('d');
    pgoutput_change(&out, 61, 'U', 7);
    pgoutput_row(&out, 'O', (const char *[]){"1", "a"}, 2);
    pgoutput_row(&out, 'N', (const char *[]){"1", NULL}, 2);
    take();
    assert_true(
        mr_bson_find(intake.update, bson_len(intake.update), MR_STR("updatedFields.body"), &value));
    assert_int_equal(value.type, MR_BSON_NULL);
    assert_false(
        mr_bson_find(intake.update, bson_len(intake.update), MR_STR("updatedFields.id"), &value));
}

static void keys_of_several_columns_are_joined_and_escaped(void **state)
{
    (void)state;
    static const struct pgoutput_column columns[] = {{"a", 25, 1}, {"b", 25, 1}};
    begin(100);
    pgoutput_relation(&out, 7, "sales", "t", 'd', columns, 2);
    take();
    pgoutput_change(&out, 60, 'I', 7);
    pgoutput_row(&out, 'N', (const char *[]){"x,y\\", "z"}, 2);
    take();
    assert_string_equal(intake.taken[0], "insert sales.t x\\,y\\\\,z");
}

static void a_table_without_key_gets_ids_that_a_second_reading_repeats(void **state)
{
    (void)state;
    static const struct pgoutput_column columns[] = {{"a", 25, 0}};
    char first[2][160];
    for (int reading = 0; reading < 2; reading++) {
        struct mr_pg_position position = {.lsn = 50};
        mr_pg_stream_fini(&stream);
        mr_pg_stream_init(&stream, MR_STR("db"), &position);
        intake.count = 0;
        begin(0x1000);
        pgoutput_relation(&out, 7, "public", "t", 'd', columns, 1);
        take();
        for (int i = 0; i < 2; i++) {
            pgoutput_change(&out, 60, 'I', 7);
            pgoutput_row(&out, 'N', (const char *[]){"same"}, 1);
            take();
        }
        assert_string_not_equal(intake.taken[0], intake.taken[1]);
        memcpy(first[reading], intake.taken[0], sizeof first[0]);
    }
    assert_string_equal(first[0], first[1]);
}

static void long_ids_are_cut_and_stay_distinct(void **state)
{
    (void)state;
    static char a[3000], b[3000];
    begin(100);
    describe('d');
    pgoutput_relation(&out, 7, "public", "t", 'd', (struct pgoutput_column[]){{"k", 25, 1}}, 1);
    take();
    memset(a, 'x', sizeof a - 1);
    memset(b, 'x', sizeof b - 1);
    b[2500] = 'y';
    struct mr_pg_id ids[2];
    for (int i = 0; i < 2; i++) {
        pgoutput_change(&out, 60, 'I', 7);
        pgoutput_row(&out, 'N', (const char *[]){i ? b : a}, 1);
        take();
        ids[i] = stream.builder.id;
        assert_true(ids[i].len <= MR_EVENT_NAME_MAX);
    }
    assert_int_equal(ids[0].len, ids[1].len);
    assert_memory_not_equal(ids[0].text, ids[1].text, ids[0].len);
}

static void truncate_makes_one_event_a_table(void **state)
{
    (void)state;
    begin(100);
    describe('d');
    pgoutput_relation(&out, 8, "sales", "t", 'd', two_columns, 2);
    take();
    pgoutput_wal(&out, 60);
    pgoutput_u8(&out, 'T');
    pgoutput_u32(&out, 2);
    pgoutput_u8(&out, 1);
    pgoutput_u32(&out, 7);
    pgoutput_u32(&out, 8);
    intake.room = 1;
    assert_int_equal(offer(), MR_FULL);
    intake.room = 9;
    take();
    assert_int_equal(intake.count, 2);
    assert_string_equal(intake.taken[0], "truncate posts ");
    assert_string_equal(intake.taken[1], "truncate sales.t ");
}

static void a_keepalive_moves_the_position_only_outside_of_transactions(void **state)
{
    (void)state;
    pgoutput_keepalive(&out, 80, 1);
    take();
    assert_true(stream.reply_wanted);
    assert_true(position_now().lsn == 80);
    begin(100);
    pgoutput_keepalive(&out, 90, 0);
    take();
    assert_true(stream.position.lsn == 80);
    commit(100, 110);
    assert_true(stream.position.lsn == 110);
}

static void feedback_says_what_is_durable_and_no_more(void **state)
{
    (void)state;
    uint8_t bytes[MR_PG_FEEDBACK_BYTES];
    pgoutput_keepalive(&out, 90, 0);
    take();
    mr_pg_stream_feedback(&stream, 70, true, MR_PG_EPOCH_US + 5, bytes);
    assert_int_equal(bytes[0], 'r');
    assert_true(mr_pg_load64(bytes + 1) == 90 && mr_pg_load64(bytes + 9) == 70);
    assert_true(mr_pg_load64(bytes + 17) == 70 && mr_pg_load64(bytes + 25) == 5 && bytes[33] == 1);
}

static void a_new_description_replaces_the_old_one(void **state)
{
    (void)state;
    struct mr_bson_value value;
    begin(100);
    describe('d');
    insert(60, "1");
    take();
    pgoutput_relation(&out, 7, "public", "renamed", 'd',
                      (struct pgoutput_column[]){{"id", 25, 1}, {"added", 23, 0}}, 2);
    take();
    pgoutput_change(&out, 61, 'I', 7);
    pgoutput_row(&out, 'N', (const char *[]){"1", "5"}, 2);
    take();
    assert_string_equal(intake.taken[1], "insert renamed 1");
    assert_true(mr_bson_find(intake.document, bson_len(intake.document), MR_STR("added"), &value));
    assert_int_equal(mr_bson_int32(&value), 5);
}

static void what_the_catalog_lacks_is_worth_one_reconnect(void **state)
{
    (void)state;
    static const struct pgoutput_column columns[] = {{"id", 23, 1}, {"mood", 20001, 0}};
    begin(100);
    pgoutput_relation(&out, 7, "public", "t", 'd', columns, 2);
    assert_int_equal(offer(), MR_RETRY);
    assert_true(stream.reload);
    mr_pg_stream_restart(&stream);
    assert_true(
        mr_pg_catalog_add_type(&stream.catalog, &(struct mr_pg_catalog_type){20001, 0, 'e'}));
    mr_pg_catalog_sort(&stream.catalog);
    stream.binary = true;
    begin(100);
    pgoutput_relation(&out, 7, "public", "t", 'd', columns, 2);
    take();
    static const struct pgoutput_column odd[] = {{"id", 23, 1}, {"place", 600, 0}}; /* point */
    pgoutput_relation(&out, 8, "public", "u", 'd', odd, 2);
    assert_int_equal(offer(), MR_RETRY);
    assert_true(stream.text_only);
}

static void full_identity_names_rows_by_their_primary_key(void **state)
{
    (void)state;
    assert_true(mr_pg_catalog_add_key(&stream.catalog, &(struct mr_pg_catalog_key){7, "id"}));
    mr_pg_catalog_sort(&stream.catalog);
    begin(100);
    describe('f');
    pgoutput_change(&out, 61, 'U', 7);
    pgoutput_row(&out, 'O', (const char *[]){"1", "a"}, 2);
    pgoutput_row(&out, 'N', (const char *[]){"1", "b"}, 2);
    take();
    assert_int_equal(intake.count, 1);
    assert_string_equal(intake.taken[0], "update posts 1");
}

static void describe_key(const char *name)
{
    const struct pgoutput_column columns[] = {{name, 23, 1}, {"body", 25, 1}};
    pgoutput_relation(&out, 7, "public", "posts", 'f', columns, 2);
}

/* The catalog as a new connection reads it. */
static void reconnect(const char *key, uint64_t commit_lsn)
{
    struct mr_pg_catalog_key row = {.relation = 7};
    snprintf(row.column, sizeof row.column, "%s", key);
    mr_pg_stream_restart(&stream);
    mr_pg_catalog_clear(&stream.catalog);
    assert_true(mr_pg_catalog_add_key(&stream.catalog, &row));
    mr_pg_catalog_sort(&stream.catalog);
    begin(commit_lsn);
}

static void each_new_name_of_a_primary_key_is_worth_one_reconnect(void **state)
{
    (void)state;
    reconnect("id", 100);
    describe_key("number");
    assert_int_equal(offer(), MR_RETRY);
    assert_true(stream.reload);
    reconnect("number", 100);
    describe_key("number");
    take();
    insert(60, "1");
    take();
    assert_string_equal(intake.taken[0], "insert posts 1");
    commit(100, 110);
    begin(200);
    describe_key("ident");
    assert_int_equal(offer(), MR_RETRY);
    reconnect("number", 200); /* the catalog does not know the name: it is of another time */
    describe_key("ident");
    take();
    insert(160, "2");
    take();
    assert_string_equal(intake.taken[1], "insert posts 2,text");
}

static void a_gap_is_one_event_and_moves_the_position(void **state)
{
    (void)state;
    struct mr_bson_value value;
    assert_int_equal(mr_pg_stream_gap(&stream, "it is gone", 0x10000000F, &intake, &err), MR_OK);
    assert_string_equal(intake.taken[0], "gap  ");
    assert_true(mr_bson_find(intake.document, bson_len(intake.document), MR_STR("to"), &value));
    assert_true(mr_str_equal(mr_bson_string(&value), MR_STR("1/F")));
    assert_true(position_now().lsn == 0x10000000F && position_now().era == 1);
}

static void every_message_cut_short_is_refused(void **state)
{
    (void)state;
    begin(100);
    describe('d');
    pgoutput_change(&out, 60, 'U', 7);
    pgoutput_row(&out, 'O', (const char *[]){"1", "old"}, 2);
    pgoutput_row(&out, 'N', (const char *[]){"1", "text"}, 2);
    for (size_t len = 0; len < out.len; len++)
        assert_int_equal(mr_pg_stream_take(&stream, out.data, len, &intake, 10, &err), MR_CORRUPT);
    assert_int_equal(intake.count, 0);
    take();
    pgoutput_u8(&out, 0);
    assert_int_equal(offer(), MR_CORRUPT); /* one byte too many */
}

static void what_does_not_belong_is_refused(void **state)
{
    (void)state;
    pgoutput_wal(&out, 1);
    pgoutput_u8(&out, 'S'); /* streaming of version 2 */
    assert_int_equal(offer(), MR_FATAL);
    insert(60, "1");
    assert_int_equal(offer(), MR_CORRUPT); /* outside of a transaction */
    pgoutput_commit(&out, 1, 2);
    assert_int_equal(offer(), MR_CORRUPT);
    begin(100);
    insert(60, "1");
    assert_int_equal(offer(), MR_CORRUPT); /* of a table never described */
    pgoutput_begin(&out, 200, 1);
    assert_int_equal(offer(), MR_CORRUPT);
    describe('d');
    pgoutput_change(&out, 60, 'I', 7);
    pgoutput_row(&out, 'N', (const char *[]){"1"}, 1);
    assert_int_equal(offer(), MR_CORRUPT); /* too few columns */
    out.len = 0;
    pgoutput_u8(&out, 'x');
    assert_int_equal(offer(), MR_CORRUPT);
}

#define STREAM_TEST(name) cmocka_unit_test_setup_teardown(name, begin_test, end_test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST(the_servers_clock_tells_how_long_a_change_waited),
        STREAM_TEST(positions_count_inside_of_a_transaction),
        STREAM_TEST(a_transaction_sent_again_goes_on_where_it_was_left),
        STREAM_TEST(a_full_intake_gets_the_same_event_again_and_no_other),
        STREAM_TEST(a_delete_shows_the_key_or_the_whole_row),
        STREAM_TEST(unchanged_values_are_named_or_taken_from_the_old_row),
        STREAM_TEST(changed_fields_are_named_when_the_old_row_is_known),
        STREAM_TEST(keys_of_several_columns_are_joined_and_escaped),
        STREAM_TEST(a_table_without_key_gets_ids_that_a_second_reading_repeats),
        STREAM_TEST(long_ids_are_cut_and_stay_distinct),
        STREAM_TEST(truncate_makes_one_event_a_table),
        STREAM_TEST(a_keepalive_moves_the_position_only_outside_of_transactions),
        STREAM_TEST(feedback_says_what_is_durable_and_no_more),
        STREAM_TEST(a_new_description_replaces_the_old_one),
        STREAM_TEST(what_the_catalog_lacks_is_worth_one_reconnect),
        STREAM_TEST(full_identity_names_rows_by_their_primary_key),
        STREAM_TEST(each_new_name_of_a_primary_key_is_worth_one_reconnect),
        STREAM_TEST(a_gap_is_one_event_and_moves_the_position),
        STREAM_TEST(every_message_cut_short_is_refused),
        STREAM_TEST(what_does_not_belong_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
