/* The log when the disk, the kernel or the order of events is against it. */
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/fault.h"
#include "log/crc32c.h"
#include "log/io.h"
#include "tests/unit/log_util.h"

static void both_ways_of_crc32c_give_the_published_values(void **state)
{
    (void)state;
    /* RFC 3720, appendix B.4. */
    uint8_t bytes[32] = {0};
    assert_int_equal(mr_crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    assert_int_equal(mr_crc32c(0, bytes, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(mr_crc32c(0, bytes, 32), 0x46dd794e);
    assert_int_equal(mr_crc32c_portable(0, bytes, 32), 0x46dd794e);
    assert_int_equal(mr_crc32c(0, "123456789", 9), 0xe3069283);
    uint8_t text[1031];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(i * i * 7);
    for (size_t len = 0; len < sizeof text; len++) {
        size_t cut = len / 3;
        uint32_t whole = mr_crc32c(0, text + len % 7, len - len % 7);
        assert_int_equal(mr_crc32c_portable(0, text + len % 7, len - len % 7), whole);
        if (cut > len % 7) {
            uint32_t first = mr_crc32c(0, text + len % 7, cut - len % 7);
            assert_int_equal(mr_crc32c(first, text + cut, len - cut), whole);
        }
    }
}

/* Append until the log fails; it must fail, within reason, and say so on every call after. */
static uint64_t append_until_it_fails(struct mr_log_writer *w, struct mr_err *err)
{
    enum mr_rc rc = MR_OK;
    for (int i = 0; i < 5000 && rc == MR_OK; i++) {
        rc = append_batch(w, 10, err);
        if (rc == MR_OK)
            rc = mr_log_poll(w, UINT64_MAX, mr_clock_ns(), err);
        usleep(rc == MR_OK ? 20 : 0);
    }
    if (rc == MR_OK) /* what is on its way comes back with the next sync */
        rc = mr_log_sync(w, err);
    assert_int_equal(rc, MR_FATAL);
    struct mr_log_state log;
    struct mr_err again;
    void *room;
    mr_log_writer_state(w, &log);
    assert_int_equal(mr_log_claim(w, 8, &room), MR_FATAL);
    assert_int_equal(mr_log_poll(w, 0, mr_clock_ns(), &again), MR_FATAL);
    assert_string_equal(again.text, err->text);
    assert_int_equal(mr_log_sync(w, &again), MR_FATAL);
    assert_int_equal(mr_log_seal(w, NULL, 0, 0, &again), MR_FATAL);
    return log.written;
}

static void every_failing_system_call_ends_the_writer_and_harms_nothing_written(void **state)
{
#ifdef MR_TEST_BUILD
    static const struct {
        const char *point;
        const char *says;
    } faults[] = {{"log.write", "write"},
                  {"log.sync", "fsync"},
                  {"log.sync_all", ""},
                  {"log.rename", "name segment"},
                  {"log.allocate", "make segment"},
                  {"log.unlink", "remove"}};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        for (uint32_t nth = 1; nth <= 5; nth += 2) {
            struct mr_log_options options = small_log(dir_of(state));
            struct mr_err err;
            struct mr_log_writer *w;
            enum mr_rc end;
            options.no_uring = nth == 3;
            options.commit_interval_ns = 0;
            if (strcmp(faults[i].point, "log.unlink") == 0)
                options.retention_bytes = 100 * 1024;
            assert_ok(mr_log_writer_open(&w, &options, &err));
            mr_fault_arm(faults[i].point, nth);
            uint64_t written = append_until_it_fails(w, &err);
            assert_true(mr_fault_fired());
            mr_fault_arm(NULL, 0);
            assert_non_null(strstr(err.text, faults[i].says));
            assert_non_null(strstr(err.text, options.dir));
            assert_int_equal(mr_log_writer_close(&w, &err), MR_FATAL);
            struct mr_log_reader *r;
            uint64_t floor = 0;
            assert_ok(mr_log_reader_open(&r, options.dir, &err));
            if (mr_log_seek(r, 0, &floor, &err) == MR_USAGE)
                assert_ok(mr_log_seek(r, floor - 1, &floor, &err));
            assert_int_equal(read_all(r, floor, &end, &err), written);
            assert_int_equal(end, MR_AGAIN);
            mr_log_reader_close(&r);
            struct mr_log_state log;
            assert_ok(mr_log_writer_open(&w, &options, &err));
            mr_log_writer_state(w, &log);
            assert_int_equal(log.last, written);
            assert_memory_equal(log.position, &written, 8);
            assert_ok(append_batch(w, 1, &err));
            assert_ok(mr_log_writer_close(&w, &err));
            remove_tree(options.dir);
        }
    }
    mkdir(dir_of(state), 0700);
#else
    (void)state;
    skip();
#endif
}

/* A disk that is full in earnest: a small tmpfs when we may mount, else a limit on the file size.
 */
static void a_full_disk_is_a_clear_failure_and_room_again_is_a_good_log(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    enum mr_rc end;
    bool mounted = mount("tmpfs", options.dir, "tmpfs", 0, "size=512k") == 0;
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    assert_ok(mr_log_writer_open(&w, &options, &err));
    if (!mounted) {
        signal(SIGXFSZ, SIG_IGN);
        small = (struct rlimit){.rlim_cur = 60 * 1024, .rlim_max = before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
    }
    uint64_t written = append_until_it_fails(w, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_non_null(strstr(err.text, mounted ? "No space left" : "File too large"));
    assert_int_equal(mr_log_writer_close(&w, &err), MR_FATAL);
    assert_int_equal(read_log(options.dir, &end, &err), written);
    assert_int_equal(end, MR_AGAIN);
    assert_ok(mr_log_verify(options.dir, NULL, NULL, &err));
    if (mounted)
        assert_int_equal(mount("tmpfs", options.dir, "tmpfs", MS_REMOUNT, "size=4m"), 0);
    struct mr_log_state log;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(log.last, written);
    assert_ok(append_batch(w, 10, &err));
    assert_ok(mr_log_writer_close(&w, &err));
    assert_int_equal(read_log(options.dir, &end, &err), written + 10);
    if (mounted)
        assert_int_equal(umount(options.dir), 0);
}

static void a_directory_that_cannot_be_used_is_named(void **state)
{
    char path[512];
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_reader *r;
    snprintf(path, sizeof path, "%s/no/such", dir_of(state));
    struct mr_log_options options = small_log(path);
    assert_int_equal(mr_log_writer_open(&w, &options, &err), MR_FATAL);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(mr_log_reader_open(&r, path, &err), MR_AGAIN);
    assert_int_equal(mr_log_reader_open(&r, dir_of(state), &err), MR_AGAIN);
    assert_int_equal(mr_log_verify(dir_of(state), NULL, NULL, &err), MR_AGAIN);
    snprintf(path, sizeof path, "%s/file", dir_of(state));
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(mr_log_writer_open(&w, &options, &err), MR_FATAL);
    assert_int_equal(mr_log_reader_open(&r, path, &err), MR_FATAL);
    options = small_log(dir_of(state));
    options.batch_bytes = 17;
    assert_int_equal(mr_log_writer_open(&w, &options, &err), MR_USAGE);
    options = small_log(dir_of(state));
    options.segment_bytes = 1;
    assert_int_equal(mr_log_writer_open(&w, &options, &err), MR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, drop_dir)
        LOG_TEST(both_ways_of_crc32c_give_the_published_values),
        LOG_TEST(every_failing_system_call_ends_the_writer_and_harms_nothing_written),
        LOG_TEST(a_full_disk_is_a_clear_failure_and_room_again_is_a_good_log),
        LOG_TEST(a_directory_that_cannot_be_used_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
