/* Power lost at random moments: of what was not known to be on disk, any sector may be missing, any
 * mark may be an older one, any file that was never synced may be gone. What was acknowledged as
 * durable must be there, whole and in order, and the log must go on.
 * MILLRACE_TEST_CUTS: how many moments; acceptance is 1000. */
#include "log/format.h"
#include "tests/unit/log_util.h"

enum { SECTOR = 512, SEGMENTS_MAX = 64, BATCHES_MAX = 120 };

static uint64_t seed = 0x2545f4914f6cdd1du;

static uint32_t dice(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 20) % below;
}

static void path_of(char *out, size_t size, const char *dir, uint64_t first)
{
    snprintf(out, size, "%s/%020" PRIu64 ".mrlog", dir, first);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static size_t list(const char *dir, uint64_t firsts[SEGMENTS_MAX])
{
    DIR *stream = opendir(dir);
    const struct dirent *entry;
    size_t count = 0;
    while ((entry = readdir(stream)) != NULL)
        if (strstr(entry->d_name, ".mrlog") && count < SEGMENTS_MAX)
            firsts[count++] = strtoull(entry->d_name, NULL, 10);
    closedir(stream);
    qsort(firsts, count, sizeof *firsts, compare);
    return count;
}

/* Where in the file the batch that holds sequence ends; the start of batches when it is older. */
static uint64_t end_of(const uint8_t *data, size_t len, uint64_t sequence)
{
    uint64_t at = MR_LOG_DATA_OFFSET;
    struct mr_log_batch_head head;
    while (at + sizeof head <= len) {
        memcpy(&head, data + at, sizeof head);
        if (head.magic != MR_LOG_BATCH_MAGIC || head.first_sequence > sequence)
            break;
        at += head.length;
    }
    return at;
}

/* One file as the disk may have it. durable: what its mark says, or what was acknowledged. */
static void lose(uint8_t *data, size_t len, uint64_t durable)
{
    struct mr_log_mark mark;
    memcpy(&mark, data + MR_LOG_MARK_OFFSET, sizeof mark);
    uint64_t safe = end_of(data, len, durable);
    if (mark.offset > safe)
        safe = mark.offset;
    uint32_t share = dice(5); /* of sectors that made it: none to all */
    for (uint64_t at = safe; at < len;) {
        uint64_t next = (at / SECTOR + 1) * SECTOR;
        next = next < len ? next : len;
        if (dice(4) >= share)
            memset(data + at, 0, next - at);
        at = next;
    }
    if (dice(3) == 0) /* the mark was not written yet */
        memset(data + MR_LOG_MARK_OFFSET, 0, sizeof mark);
}

static void copy_with_losses(const char *from, const char *to, uint64_t durable)
{
    uint64_t firsts[SEGMENTS_MAX];
    size_t count = list(from, firsts);
    char path[512];
    assert_true(count < SEGMENTS_MAX);
    for (size_t i = 0; i < count; i++) {
        path_of(path, sizeof path, from, firsts[i]);
        int fd = open(path, O_RDONLY);
        struct stat info;
        assert_true(fd >= 0 && fstat(fd, &info) == 0);
        size_t len = (size_t)info.st_size;
        uint8_t *data = malloc(len);
        assert_int_equal(pread(fd, data, len, 0), info.st_size);
        close(fd);
        struct mr_log_mark mark;
        memcpy(&mark, data + MR_LOG_MARK_OFFSET, sizeof mark);
        lose(data, len, durable);
        bool never_synced = firsts[i] > durable && mark.offset == 0;
        if (!never_synced || dice(3) > 0) {
            path_of(path, sizeof path, to, firsts[i]);
            fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
            assert_int_equal(write(fd, data, len), (ssize_t)len);
            close(fd);
        } else {
            i = count; /* nor did those behind it get their names */
        }
        free(data);
    }
}

/* Write, poll and sync as it comes; what is acknowledged at the end. */
static uint64_t work(struct mr_log_writer *w, uint64_t *last)
{
    struct mr_err err;
    struct mr_log_state log;
    uint32_t batches = 1 + dice(BATCHES_MAX);
    for (uint32_t i = 0; i < batches; i++) {
        assert_ok(append_batch(w, 1 + dice(20), &err));
        uint32_t what = dice(12);
        if (what == 0)
            assert_ok(mr_log_sync(w, &err));
        else if (what < 8)
            assert_ok(mr_log_poll(w, 0, mr_clock_ns() + dice(2) * 10 * MR_NS_PER_MS, &err));
    }
    mr_log_writer_state(w, &log);
    *last = log.last;
    return log.durable;
}

/* Returns whether something was lost. */
static bool check(const char *dir, uint64_t durable, uint64_t last)
{
    struct mr_log_options options = small_log(dir);
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    enum mr_rc end;
    assert_ok(mr_log_writer_open(&w, &options, &err));
    mr_log_writer_state(w, &log);
    if (log.last < durable || log.last > last)
        fail_msg("%s: ends at %" PRIu64 ", acknowledged %" PRIu64 ", written %" PRIu64, dir,
                 log.last, durable, last);
    assert_int_equal(log.durable, log.last);
    if (log.last > 0)
        assert_memory_equal(log.position, &log.last, 8); /* the source goes on there */
    assert_ok(append_batch(w, 3, &err));
    assert_ok(mr_log_writer_close(&w, &err));
    assert_int_equal(read_log(dir, &end, &err), log.last + 3);
    assert_int_equal(end, MR_AGAIN);
    assert_ok(mr_log_verify(dir, NULL, NULL, &err));
    return log.last < last;
}

static void whatever_the_disk_forgot_nothing_acknowledged_is_lost(void **state)
{
    const char *text = getenv("MILLRACE_TEST_CUTS");
    uint64_t cuts = text ? strtoull(text, NULL, 10) : getenv("MILLRACE_TEST_BRIEF") ? 5 : 100;
    char from[300], to[300];
    uint64_t losses = 0;
    for (uint64_t i = 0; i < cuts; i++) {
        snprintf(from, sizeof from, "%s/a", dir_of(state));
        snprintf(to, sizeof to, "%s/b", dir_of(state));
        assert_int_equal(mkdir(to, 0700), 0);
        struct mr_log_options options = small_log(from);
        options.commit_interval_ns = dice(2) * 2 * MR_NS_PER_MS;
        options.no_uring = dice(2);
        struct mr_err err;
        struct mr_log_writer *w;
        uint64_t last = 0;
        assert_ok(mr_log_writer_open(&w, &options, &err));
        uint64_t durable = work(w, &last);
        copy_with_losses(from, to, durable);
        assert_ok(mr_log_writer_close(&w, &err));
        losses += check(to, durable, last);
        remove_tree(from);
        remove_tree(to);
    }
    assert_true(losses > cuts / 10); /* the disk did forget */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
        whatever_the_disk_forgot_nothing_acknowledged_is_lost, make_dir, drop_dir)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
