/* Unit tests of supervisor/checkpoint.h. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/checkpoint.h"

enum { FILE_BYTES = 80 };
static char directory[64], path[96], path_new[96], path_broken[96];
static const struct mr_checkpoint sample = {"alpha", 0x1122334455667788, 4711, 1234567890};

static int make_directory(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/millrace-checkpoint-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/checkpoint", directory);
    snprintf(path_new, sizeof path_new, "%s/checkpoint.new", directory);
    snprintf(path_broken, sizeof path_broken, "%s/checkpoint.broken", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    unlink(path);
    rmdir(path_new);
    unlink(path_new);
    unlink(path_broken);
    return rmdir(directory);
}

/* Write and wait until it is durable, as the supervisor's loop does. */
static enum mr_rc write_durably(const char *where, const struct mr_checkpoint *checkpoint,
                                struct mr_err *err)
{
    struct mr_checkpoint_writer writer;
    assert_int_equal(mr_checkpoint_open(&writer, where, err), MR_OK);
    enum mr_rc rc = mr_checkpoint_begin(&writer, checkpoint, err);
    for (enum mr_rc step = MR_AGAIN; rc == MR_OK && step == MR_AGAIN;) {
        struct pollfd ready = {.fd = writer.event_fd, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, 10000), 1);
        step = mr_checkpoint_work(&writer, err);
        rc = step == MR_AGAIN ? MR_OK : step;
    }
    assert_int_equal(writer.phase, MR_CHECKPOINT_IDLE);
    assert_int_equal(mr_checkpoint_work(&writer, err), MR_AGAIN);
    mr_checkpoint_close(&writer);
    return rc;
}

static void bytes_of_file(unsigned char out[FILE_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, out, FILE_BYTES), FILE_BYTES);
    close(fd);
}

static void write_file(const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

static void what_is_written_is_read_and_only_ours_to_read(void **state)
{
    struct mr_checkpoint got;
    struct mr_err err = {0};
    struct stat status;
    (void)state;
    assert_int_equal(write_durably(directory, &sample, &err), MR_OK);
    assert_int_equal(mr_checkpoint_read(directory, &got, &err), MR_OK);
    assert_string_equal(got.instance, "alpha");
    assert_int_equal(got.log_id, sample.log_id);
    assert_int_equal(got.sequence, 4711);
    assert_int_equal(got.wall_us, 1234567890);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, FILE_BYTES);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(access(path_new, F_OK), -1);
}

static void none_yet_is_no_error(void **state)
{
    struct mr_checkpoint got;
    (void)state;
    assert_int_equal(mr_checkpoint_read(directory, &got, NULL), MR_AGAIN);
}

static void every_single_changed_bit_is_found(void **state)
{
    unsigned char bytes[FILE_BYTES];
    struct mr_checkpoint got;
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(write_durably(directory, &sample, &err), MR_OK);
    bytes_of_file(bytes);
    for (size_t bit = 0; bit < FILE_BYTES * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        write_file(bytes, sizeof bytes);
        assert_int_equal(mr_checkpoint_read(directory, &got, &err), MR_CORRUPT);
        assert_non_null(strstr(err.text, path));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

static void every_shorter_or_longer_file_is_refused(void **state)
{
    unsigned char bytes[FILE_BYTES + 1] = {0};
    struct mr_checkpoint got;
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(write_durably(directory, &sample, &err), MR_OK);
    bytes_of_file(bytes);
    for (size_t len = 0; len <= FILE_BYTES + 1; len++) {
        write_file(bytes, len);
        assert_int_equal(mr_checkpoint_read(directory, &got, &err),
                         len == FILE_BYTES ? MR_OK : MR_CORRUPT);
    }
}

static void a_write_that_fails_leaves_the_old_one_whole(void **state)
{
    struct mr_checkpoint next = sample, got;
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(write_durably(directory, &sample, &err), MR_OK);
    assert_int_equal(mkdir(path_new, 0700), 0);
    next.sequence = 9999;
    assert_int_equal(write_durably(directory, &next, &err), MR_RETRY);
    assert_non_null(strstr(err.text, "checkpoint.new"));
    assert_int_equal(mr_checkpoint_read(directory, &got, &err), MR_OK);
    assert_int_equal(got.sequence, 4711);
    assert_int_equal(write_durably("/nonexistent", &next, &err), MR_RETRY);
}

static void a_torn_new_file_from_a_crash_changes_nothing(void **state)
{
    struct mr_checkpoint got;
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(write_durably(directory, &sample, &err), MR_OK);
    int fd = open(path_new, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "torn", 4), 4);
    close(fd);
    assert_int_equal(mr_checkpoint_read(directory, &got, &err), MR_OK);
    assert_int_equal(write_durably(directory, &sample, &err), MR_OK);
}

static void a_writer_closed_in_the_middle_leaves_the_old_or_the_new_one(void **state)
{
    struct mr_checkpoint_writer writer;
    struct mr_checkpoint next = sample, got;
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(write_durably(directory, &sample, &err), MR_OK);
    next.sequence = 9999;
    assert_int_equal(mr_checkpoint_open(&writer, directory, &err), MR_OK);
    assert_int_equal(mr_checkpoint_begin(&writer, &next, &err), MR_OK);
    mr_checkpoint_close(&writer);
    assert_int_equal(mr_checkpoint_read(directory, &got, &err), MR_OK);
    assert_int_equal(got.sequence, 4711);
}

static void without_asynchronous_io_it_is_written_all_the_same(void **state)
{
    struct mr_checkpoint_writer writer;
    struct mr_checkpoint got;
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(mr_checkpoint_open(&writer, directory, &err), MR_OK);
    uint64_t context = writer.context;
    writer.context = 0;
    assert_int_equal(mr_checkpoint_begin(&writer, &sample, &err), MR_OK);
    assert_int_equal(mr_checkpoint_work(&writer, &err), MR_AGAIN);
    assert_int_equal(mr_checkpoint_work(&writer, &err), MR_OK);
    writer.context = context;
    mr_checkpoint_close(&writer);
    assert_int_equal(mr_checkpoint_read(directory, &got, &err), MR_OK);
}

static void a_broken_one_is_set_aside(void **state)
{
    struct mr_checkpoint got;
    struct mr_err err = {0};
    (void)state;
    write_file("x", 1);
    assert_int_equal(mr_checkpoint_set_aside(directory, &err), MR_OK);
    assert_int_equal(mr_checkpoint_read(directory, &got, &err), MR_AGAIN);
    assert_int_equal(access(path_broken, F_OK), 0);
    assert_int_equal(mr_checkpoint_set_aside(directory, &err), MR_FATAL);
}

int main(void)
{
#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(what_is_written_is_read_and_only_ours_to_read),
        IN_DIRECTORY(none_yet_is_no_error),
        IN_DIRECTORY(every_single_changed_bit_is_found),
        IN_DIRECTORY(every_shorter_or_longer_file_is_refused),
        IN_DIRECTORY(a_write_that_fails_leaves_the_old_one_whole),
        IN_DIRECTORY(a_torn_new_file_from_a_crash_changes_nothing),
        IN_DIRECTORY(a_writer_closed_in_the_middle_leaves_the_old_or_the_new_one),
        IN_DIRECTORY(without_asynchronous_io_it_is_written_all_the_same),
        IN_DIRECTORY(a_broken_one_is_set_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
