/* The real millrace-puller on files of JSON lines. */
#include "tests/scenario/puller_bed.h"

#include <sys/stat.h>

static void path_in(const struct bed *bed, char out[128], const char *name)
{
    snprintf(out, 128, "%s/%s", bed->dir, name);
}

static void write_lines(const char *path, const char *mode, int from, int to)
{
    FILE *file = fopen(path, mode);
    assert_non_null(file);
    for (int i = from; i < to; i++)
        fprintf(file, "{\"collection\":\"c\",\"id\":\"d%d\",\"doc\":{\"n\":%d}}\n", i % 97, i);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *path, const char *mode, const char *text)
{
    FILE *file = fopen(path, mode);
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void start_on(struct bed *bed, char path[128], const char *follow)
{
    bed_init(bed, 2, 1 << 18);
    path_in(bed, path, "in.ndjson");
    bed_set(bed, "source.kind", "ndjson");
    bed_set(bed, "ndjson.path", path);
    bed_set(bed, "ndjson.follow", follow);
}

static void a_file_is_read_to_its_end_whatever_kills_the_puller(void **state)
{
    (void)state;
    struct bed bed;
    char path[128];
    start_on(&bed, path, "false");
    write_lines(path, "w", 0, 100000);
    write_text(path, "a",
               "\r\n\n{\"collection\":\"c\",\"id\":\"last\",\"doc\":{}}"); /* and no LF */
    srandom((unsigned)getpid());
    for (int i = 0; i < 30; i++) {
        bed_start(&bed);
        bed_ready(&bed);
        uint64_t until = mr_clock_ns() + (uint64_t)random() % (6 * MR_NS_PER_MS);
        while (mr_clock_ns() < until)
            bed_pump(&bed, (uint64_t)random() % 200);
        bed_end(&bed, SIGKILL);
    }
    bed_start(&bed);
    bed_wait(&bed, true, bed_through(&bed) == 100001);
    bed_wait(&bed, true, strcmp(bed.cell->text, "source ended") == 0);
    bed_check_all(&bed, 100001);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void a_followed_file_may_appear_late_be_rotated_and_cut_off(void **state)
{
    (void)state;
    struct bed bed;
    char path[128], old[128];
    start_on(&bed, path, "true");
    path_in(&bed, old, "in.ndjson.1");
    bed_start(&bed);
    bed_ready(&bed);
    write_lines(path, "w", 0, 10);
    bed_wait(&bed, true, bed.count == 10);
    write_text(path, "a", "{\"collection\":\"c\",\"id\":\"x\",");
    usleep(20000);
    write_text(path, "a", "\"doc\":{}}\n"); /* a line in two pieces */
    bed_wait(&bed, true, bed.count == 11);
    assert_int_equal(rename(path, old), 0);
    write_lines(old, "a", 11, 13); /* its writer has not noticed yet */
    write_lines(path, "w", 13, 20);
    bed_wait(&bed, true, bed.count == 20);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_SOURCE_GAPS), 0);
    for (uint64_t i = 2; i <= 20; i++)
        assert_true(bed.orders[i] > bed.orders[i - 1]); /* so that event ids stay apart */
    assert_int_equal(truncate(path, 0), 0);
    write_lines(path, "a", 20, 22);
    bed_wait(&bed, true, bed.count == 23); /* a gap, and two lines */
    assert_int_equal(bed_counter(&bed, MR_COUNTER_SOURCE_GAPS), 1);
    bed_end(&bed, SIGKILL);
    write_lines(path, "a", 22, 25);
    bed_start(&bed);
    bed_wait(&bed, true, bed.count == 26);
    bed_check_all(&bed, 26);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void a_file_that_was_replaced_while_nobody_read_is_a_gap(void **state)
{
    (void)state;
    struct bed bed;
    char path[128];
    start_on(&bed, path, "true");
    write_lines(path, "w", 0, 10);
    bed_start(&bed);
    bed_wait(&bed, true, bed.count == 10);
    bed_end(&bed, SIGTERM);
    write_lines(path, "w", 50, 70);
    bed_start(&bed);
    bed_wait(&bed, true, bed.count == 31);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_SOURCE_GAPS), 1);
    bed_check_all(&bed, 31);
    bed_fini(&bed);
}

static void a_bad_line_is_fatal_or_counted_as_configured(void **state)
{
    (void)state;
    struct bed bed;
    char path[128];
    start_on(&bed, path, "false");
    bed_set(&bed, "ndjson.line_bytes_max", "100B");
    write_lines(path, "w", 0, 3);
    write_text(path, "a", "{\"collection\":7}\n");
    FILE *file = fopen(path, "a");
    for (int i = 0; i < 600000; i++)
        fputc('x', file);
    fputc('\n', file);
    fclose(file);
    write_lines(path, "a", 3, 5);
    bed_start(&bed);
    bed_wait(&bed, true, bed.count == 3);
    assert_int_equal(bed_end(&bed, 0), 100);
    assert_non_null(strstr(bed.cell->text, "in.ndjson:4: \"collection\": expected a string"));
    bed_set(&bed, "ndjson.on_bad_line", "skip");
    bed_start(&bed);
    bed_wait(&bed, true, bed.count == 5);
    assert_int_equal(bed_counter(&bed, MR_COUNTER_SOURCE_REJECTED), 2);
    bed_check_all(&bed, 5);
    assert_int_equal(bed_end(&bed, SIGTERM), 0);
    bed_fini(&bed);
}

static void a_path_that_cannot_be_read_ends_with_100(void **state)
{
    (void)state;
    struct bed bed;
    char path[128];
    start_on(&bed, path, "false");
    bed_start(&bed);
    assert_int_equal(bed_end(&bed, 0), 100);
    assert_non_null(strstr(bed.cell->text, "No such file"));
    assert_int_equal(mkdir(path, 0700), 0);
    bed_start(&bed);
    assert_int_equal(bed_end(&bed, 0), 100);
    assert_non_null(strstr(bed.cell->text, "Is a directory"));
    bed_fini(&bed);
}

static void soft_deletes_and_recreations_are_translated(void **state)
{
    (void)state;
    struct bed bed;
    char path[128];
    start_on(&bed, path, "false");
    write_text(path, "w",
               "{\"op\":\"update\",\"collection\":\"c\",\"id\":\"a\",\"doc\":{\"deleted\":true}}\n"
               "{\"op\":\"update\",\"collection\":\"c\",\"id\":\"a\",\"doc\":{\"deleted\":false},"
               "\"before\":{\"deleted\":true}}\n"
               "{\"op\":\"update\",\"collection\":\"c\",\"id\":\"a\",\"doc\":{\"deleted\":false}}\n"
               "{\"op\":\"replace\",\"collection\":\"c\",\"id\":\"a\",\"doc\":{}}\n"
               "{\"op\":\"insert\",\"collection\":\"c\",\"id\":\"a\",\"doc\":{\"deleted\":true}}\n"
               "{\"op\":\"update\",\"collection\":\"c\",\"id\":\"a\",\"doc\":{\"deleted\":1}}\n"
               "{\"op\":\"truncate\",\"collection\":\"c\"}\n");
    bed_start(&bed);
    bed_wait(&bed, true, bed.count == 7);
    static const struct {
        uint8_t op, flags;
    } rows[] = {{MR_OP_DELETE, MR_EVENT_SOFT},
                {MR_OP_INSERT, MR_EVENT_SOFT},
                {MR_OP_UPDATE, 0},
                {MR_OP_REPLACE, 0},
                {MR_OP_INSERT, 0},
                {MR_OP_UPDATE, 0},
                {MR_OP_TRUNCATE, 0}};
    struct mr_log_reader *reader;
    struct mr_err err = {0};
    char dir[128];
    path_in(&bed, dir, "log");
    bed_ok(mr_log_reader_open(&reader, dir, &err), &err);
    uint64_t floor;
    bed_ok(mr_log_seek(reader, 0, &floor, &err), &err);
    for (size_t i = 0; i < 7; i++) {
        struct mr_log_record record;
        struct mr_event event;
        bed_ok(mr_log_next(reader, &record, &err), &err);
        assert_int_equal(mr_event_decode(record.data, record.len, &event), MR_OK);
        assert_int_equal(event.head.op, rows[i].op);
        assert_int_equal(event.head.flags, rows[i].flags);
        assert_true(event.document.len > 0 || i == 6); /* a soft delete keeps its document */
    }
    mr_log_reader_close(&reader);
    bed_fini(&bed);
}

int main(void)
{
    mr_log_setup(MR_LOG_WARN, MR_LOG_TEXT, "test");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_to_its_end_whatever_kills_the_puller),
        cmocka_unit_test(a_followed_file_may_appear_late_be_rotated_and_cut_off),
        cmocka_unit_test(a_file_that_was_replaced_while_nobody_read_is_a_gap),
        cmocka_unit_test(a_bad_line_is_fatal_or_counted_as_configured),
        cmocka_unit_test(a_path_that_cannot_be_read_ends_with_100),
        cmocka_unit_test(soft_deletes_and_recreations_are_translated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
