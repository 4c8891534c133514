/* The journal: order, generations, memory given back, and damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/journal.h"
#include "tests/leftovers.h"

enum { CAPACITY = 4 << 20 };

struct fixture {
    char instance[MR_INSTANCE_MAX];
    struct mr_journal writer, reader;
    struct mr_err err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    remove_leftovers("journal");
    snprintf(f->instance, sizeof f->instance, "journal-%d", (int)getpid());
    assert_int_equal(mr_journal_create(f->instance, 1, "subs0", CAPACITY, &f->err), MR_OK);
    assert_int_equal(mr_journal_attach_writer(&f->writer, f->instance, "subs0", &f->err), MR_OK);
    assert_int_equal(mr_journal_attach_reader(&f->reader, f->instance, "subs0", &f->err), MR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mr_journal_detach(&f->writer);
    mr_journal_detach(&f->reader);
    mr_segment_remove_all(f->instance);
    free(f);
    return 0;
}

static enum mr_rc next(struct fixture *f, char *text, uint8_t *type)
{
    const void *data;
    uint32_t len;
    enum mr_rc rc = mr_journal_next(&f->reader, type, &data, &len);
    if (rc == MR_OK) {
        assert_int_equal((uintptr_t)data % 8, 0);
        memcpy(text, data, len);
        text[len] = 0;
    }
    return rc;
}

static void records_come_in_order_once_published(void **state)
{
    struct fixture *f = *state;
    char text[64];
    uint8_t type;
    mr_journal_begin(&f->writer, 2);
    assert_int_equal(mr_journal_append(&f->writer, 1, "one", 3), MR_OK);
    assert_int_equal(mr_journal_append(&f->writer, 2, "three and twenty", 16), MR_OK);
    assert_int_equal(mr_journal_rewind(&f->reader, 2), MR_OK);
    assert_int_equal(next(f, text, &type), MR_AGAIN);
    mr_journal_publish(&f->writer);
    assert_int_equal(next(f, text, &type), MR_OK);
    assert_string_equal(text, "one");
    assert_int_equal(type, 1);
    assert_int_equal(next(f, text, &type), MR_OK);
    assert_string_equal(text, "three and twenty");
    assert_int_equal(type, 2);
    assert_int_equal(next(f, text, &type), MR_AGAIN);
    assert_int_equal(atomic_load(&f->reader.shm->count), 2);
}

static void another_generation_is_not_there(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mr_journal_rewind(&f->reader, 2), MR_AGAIN);
    mr_journal_begin(&f->writer, 2);
    assert_int_equal(mr_journal_rewind(&f->reader, 4), MR_AGAIN);
    assert_int_equal(mr_journal_rewind(&f->reader, 2), MR_OK);
}

static void a_generation_that_is_replaced_closes_its_readers(void **state)
{
    struct fixture *f = *state;
    char text[64];
    uint8_t type;
    mr_journal_begin(&f->writer, 2);
    assert_int_equal(mr_journal_append(&f->writer, 1, "old", 3), MR_OK);
    mr_journal_publish(&f->writer);
    assert_int_equal(mr_journal_rewind(&f->reader, 2), MR_OK);
    mr_journal_begin(&f->writer, 4);
    assert_int_equal(next(f, text, &type), MR_CLOSED);
    assert_int_equal(mr_journal_append(&f->writer, 1, "new", 3), MR_OK);
    mr_journal_publish(&f->writer);
    assert_int_equal(next(f, text, &type), MR_CLOSED);
    assert_int_equal(mr_journal_rewind(&f->reader, 4), MR_OK);
    assert_int_equal(next(f, text, &type), MR_OK);
    assert_string_equal(text, "new");
}

static uint64_t pages_of(struct fixture *f)
{
    char path[128];
    struct stat info;
    snprintf(path, sizeof path, "/dev/shm/millrace.%s.subs0", f->instance);
    assert_int_equal(stat(path, &info), 0);
    return (uint64_t)info.st_blocks * 512;
}

static void memory_is_taken_as_it_fills_and_given_back(void **state)
{
    struct fixture *f = *state;
    static char block[100000];
    memset(block, 'b', sizeof block);
    assert_true(pages_of(f) <= 8192);
    mr_journal_begin(&f->writer, 2);
    for (int i = 0; i < 20; i++)
        assert_int_equal(mr_journal_append(&f->writer, 1, block, sizeof block), MR_OK);
    assert_true(pages_of(f) >= 2000000 && pages_of(f) < 3000000);
    mr_journal_begin(&f->writer, 4);
    assert_true(pages_of(f) <= 8192);
    assert_int_equal(mr_journal_append(&f->writer, 1, "x", 1), MR_OK);
}

static void a_full_journal_refuses_and_keeps_what_it_has(void **state)
{
    struct fixture *f = *state;
    static char block[MR_JOURNAL_RECORD_MAX];
    uint8_t type;
    const void *data;
    uint32_t len, count = 0;
    memset(block, 'f', sizeof block);
    mr_journal_begin(&f->writer, 2);
    while (mr_journal_append(&f->writer, 1, block, sizeof block) == MR_OK)
        count++;
    assert_int_equal(count, 3); /* heads take the fourth one's room */
    assert_int_equal(mr_journal_append(&f->writer, 1, block, sizeof block), MR_FULL);
    assert_int_equal(mr_journal_append(&f->writer, 1, "small", 5), MR_OK);
    mr_journal_publish(&f->writer);
    assert_int_equal(mr_journal_rewind(&f->reader, 2), MR_OK);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(mr_journal_next(&f->reader, &type, &data, &len), MR_OK);
        assert_int_equal(len, MR_JOURNAL_RECORD_MAX);
    }
    assert_int_equal(mr_journal_next(&f->reader, &type, &data, &len), MR_OK);
    assert_memory_equal(data, "small", 5);
}

static void records_of_no_length_and_of_too_much_are_refused(void **state)
{
    struct fixture *f = *state;
    mr_journal_begin(&f->writer, 2);
    assert_int_equal(mr_journal_append(&f->writer, 1, "", 0), MR_USAGE);
    assert_int_equal(mr_journal_append(&f->writer, 1, "", MR_JOURNAL_RECORD_MAX + 1), MR_USAGE);
}

static void a_new_writer_continues_behind_what_was_published(void **state)
{
    struct fixture *f = *state;
    char text[64];
    uint8_t type;
    mr_journal_begin(&f->writer, 2);
    assert_int_equal(mr_journal_append(&f->writer, 1, "kept", 4), MR_OK);
    mr_journal_publish(&f->writer);
    assert_int_equal(mr_journal_append(&f->writer, 1, "lost", 4), MR_OK);
    mr_journal_detach(&f->writer);
    assert_int_equal(mr_journal_attach_writer(&f->writer, f->instance, "subs0", &f->err), MR_OK);
    assert_int_equal(f->writer.generation, 2);
    assert_int_equal(mr_journal_append(&f->writer, 1, "next", 4), MR_OK);
    mr_journal_publish(&f->writer);
    assert_int_equal(mr_journal_rewind(&f->reader, 2), MR_OK);
    assert_int_equal(next(f, text, &type), MR_OK);
    assert_string_equal(text, "kept");
    assert_int_equal(next(f, text, &type), MR_OK);
    assert_string_equal(text, "next");
}

static void damage_is_corrupt(void **state)
{
    struct fixture *f = *state;
    char text[64];
    uint8_t type;
    mr_journal_begin(&f->writer, 2);
    assert_int_equal(mr_journal_append(&f->writer, 1, "good", 4), MR_OK);
    mr_journal_publish(&f->writer);
    const struct mr_journal_record_shm bad[] = {
        {.len = 4, .type = 0, .number = 1},          {.len = 0, .type = 1, .number = 1},
        {.len = 4, .type = 1, .number = 2},          {.len = 9, .type = 1, .number = 1},
        {.len = UINT32_MAX, .type = 1, .number = 1}, {.len = 1 << 21, .type = 1, .number = 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memcpy(f->writer.data, &bad[i], sizeof bad[i]);
        assert_int_equal(mr_journal_rewind(&f->reader, 2), MR_OK);
        assert_int_equal(next(f, text, &type), MR_CORRUPT);
    }
    atomic_store(&f->writer.shm->tail, CAPACITY + 8);
    assert_int_equal(next(f, text, &type), MR_CORRUPT);
    struct mr_journal late;
    assert_int_equal(mr_journal_attach_reader(&late, f->instance, "subs0", &f->err), MR_CORRUPT);
}

/* Shared memory of this process, in KiB. */
static long shared_kib(void)
{
    char line[128];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "re");
    assert_non_null(file);
    while (kib < 0 && fgets(line, sizeof line, file))
        sscanf(line, "RssShmem: %ld", &kib);
    fclose(file);
    return kib;
}

static void what_lies_behind_is_no_part_of_the_process(void **state)
{
    struct fixture *f = *state;
    static char record[1000];
    uint8_t type;
    char text[sizeof record + 1];
    mr_journal_begin(&f->writer, 1);
    assert_int_equal(mr_journal_rewind(&f->reader, 1), MR_OK);
    long before = shared_kib();
    for (int i = 0; i < 3500; i++) {
        memset(record, 'a' + i % 26, sizeof record);
        assert_int_equal(mr_journal_append(&f->writer, 1, record, sizeof record), MR_OK);
        mr_journal_publish(&f->writer);
        assert_int_equal(next(f, text, &type), MR_OK);
        assert_memory_equal(text, record, sizeof record);
    }
    assert_true(shared_kib() - before < 1500); /* of 3,500 written and read */
    assert_int_equal(mr_journal_rewind(&f->reader, 1), MR_OK);
    assert_int_equal(next(f, text, &type), MR_OK); /* and still there */
    assert_int_equal(text[0], 'a');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(records_come_in_order_once_published, setup, teardown),
        cmocka_unit_test_setup_teardown(another_generation_is_not_there, setup, teardown),
        cmocka_unit_test_setup_teardown(a_generation_that_is_replaced_closes_its_readers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(memory_is_taken_as_it_fills_and_given_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_journal_refuses_and_keeps_what_it_has, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(records_of_no_length_and_of_too_much_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_new_writer_continues_behind_what_was_published, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_lies_behind_is_no_part_of_the_process, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(damage_is_corrupt, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
