/* What a crash, a bad disk or a hostile client may leave in the directory, byte by byte. */
#include <sys/file.h>

#include "log/crc32c.h"
#include "log/format.h"
#include "tests/unit/log_util.h"

enum { BATCHES = 6, BATCH_RECORDS = 3 };

/* A file as bytes. */
struct image {
    uint8_t *data;
    size_t len;
};

static void path_of(char out[512], const char *dir, uint64_t first)
{
    snprintf(out, 512, "%s/%020" PRIu64 ".mrlog", dir, first);
}

static struct image load(const char *path)
{
    struct stat info;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &info) == 0);
    struct image image = {malloc((size_t)info.st_size), (size_t)info.st_size};
    assert_int_equal(pread(fd, image.data, image.len, 0), image.len);
    close(fd);
    return image;
}

static void store(const char *path, const uint8_t *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, len, 0), len);
    close(fd);
}

static void poke(const char *path, uint64_t offset, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, len, (off_t)offset), len);
    close(fd);
}

/* A log of one segment with BATCHES batches; ends[i] is where batch i ends. Returns its bytes, all
 * of which are on disk. */
static struct image make_log(const struct mr_log_options *options, uint64_t ends[BATCHES])
{
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    assert_ok(mr_log_writer_open(&w, options, &err));
    for (int i = 0; i < BATCHES; i++) {
        assert_ok(append_batch(w, BATCH_RECORDS, &err));
        mr_log_writer_state(w, &log);
        ends[i] = MR_LOG_DATA_OFFSET + log.written_bytes;
    }
    assert_ok(mr_log_writer_close(&w, &err));
    char path[512];
    path_of(path, options->dir, 1);
    return load(path);
}

/* Let the file claim that only its first durable bytes are on disk, as after a crash. */
static void set_mark(struct image *image, uint64_t durable, uint64_t sequence)
{
    struct mr_log_segment_head head;
    struct mr_log_mark mark = {.offset = durable, .sequence = sequence};
    memcpy(&head, image->data, sizeof head);
    uint64_t words[3] = {head.salt, durable, sequence};
    mark.crc = mr_crc32c(0, words, sizeof words);
    memcpy(image->data + MR_LOG_MARK_OFFSET, &mark, sizeof mark);
}

/* Where the last byte before end is that a crash would be seen to have left. */
static uint64_t trimmed(const uint8_t *data, uint64_t end)
{
    while (data[end - 1] == 0)
        end--;
    return end;
}

/* Open for writing: the log must end with last and lose torn bytes; then it must go on. */
static void reopen_and_go_on(const struct mr_log_options *options, uint64_t last, uint64_t torn)
{
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    enum mr_rc end;
    assert_ok(mr_log_writer_open(&w, options, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(log.last, last);
    assert_int_equal(log.torn_bytes, torn);
    assert_int_equal(log.durable, last);
    if (last > 0) {
        assert_int_equal(log.position_len, 8);
        assert_memory_equal(log.position, &last, 8);
    }
    assert_ok(append_batch(w, 2, &err));
    assert_int_equal(read_log(options->dir, &end, &err), last + 2);
    assert_ok(mr_log_writer_close(&w, &err));
    assert_ok(mr_log_verify(options->dir, NULL, NULL, &err));
    assert_ok(mr_log_writer_open(&w, options, &err)); /* what was cut is gone for good */
    mr_log_writer_state(w, &log);
    assert_int_equal(log.torn_bytes, 0);
    assert_int_equal(log.last, last + 2);
    assert_ok(mr_log_writer_close(&w, &err));
}

static void a_tail_torn_at_any_byte_is_cut_and_the_log_goes_on(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    uint64_t ends[BATCHES];
    char path[512];
    struct image whole = make_log(&options, ends);
    path_of(path, options.dir, 1);
    uint64_t keep = (BATCHES - 1) * BATCH_RECORDS;
    set_mark(&whole, ends[BATCHES - 2], keep);
    for (uint64_t cut = ends[BATCHES - 2]; cut < ends[BATCHES - 1]; cut++) {
        struct mr_err err;
        enum mr_rc end;
        uint8_t *copy = malloc(whole.len);
        memcpy(copy, whole.data, whole.len);
        memset(copy + cut, 0, whole.len - cut);
        uint64_t torn = cut;
        while (torn > ends[BATCHES - 2] && copy[torn - 1] == 0)
            torn--;
        bool is_whole = torn + 8 > ends[BATCHES - 1] && memcmp(copy, whole.data, whole.len) == 0;
        store(path, copy, whole.len);
        uint64_t last = keep + (is_whole ? BATCH_RECORDS : 0);
        assert_int_equal(read_log(options.dir, &end, &err), last);
        assert_int_equal(end, MR_AGAIN);
        reopen_and_go_on(&options, last, is_whole ? 0 : torn - ends[BATCHES - 2]);
        free(copy);
    }
    free(whole.data);
}

static void a_file_cut_short_at_any_byte_behind_the_mark_loses_the_tail_only(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    uint64_t ends[BATCHES];
    char path[512];
    struct image whole = make_log(&options, ends);
    path_of(path, options.dir, 1);
    set_mark(&whole, ends[2], 3 * BATCH_RECORDS);
    for (uint64_t cut = ends[2]; cut < ends[4]; cut += 7) {
        store(path, whole.data, cut);
        uint64_t batches = cut < ends[3] ? 3 : 4;
        uint64_t torn = trimmed(whole.data, cut);
        uint64_t end = ends[batches - 1];
        reopen_and_go_on(&options, batches * BATCH_RECORDS, torn > end ? torn - end : 0);
    }
    free(whole.data);
}

static void a_file_cut_short_before_the_mark_is_refused_by_everyone(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    uint64_t ends[BATCHES];
    char path[512];
    struct mr_err err;
    struct mr_log_writer *w;
    enum mr_rc end;
    struct image whole = make_log(&options, ends);
    path_of(path, options.dir, 1);
    for (uint64_t cut = 0; cut < ends[BATCHES - 1]; cut += cut < 600 ? 1 : 61) {
        store(path, whole.data, cut);
        assert_int_equal(mr_log_writer_open(&w, &options, &err), MR_CORRUPT);
        assert_non_null(strstr(err.text, ".mrlog"));
        assert_non_null(strstr(err.text, "offset"));
        assert_int_equal(mr_log_verify(options.dir, NULL, NULL, &err), MR_CORRUPT);
        (void)read_log(options.dir, &end, &err);
        assert_int_equal(end, MR_CORRUPT);
        struct image after = load(path);
        assert_int_equal(after.len, cut); /* refused means untouched */
        free(after.data);
    }
    free(whole.data);
}

/* Bytes of the first block that nobody reads. */
static bool is_padding(uint64_t offset)
{
    return offset < MR_LOG_DATA_OFFSET && offset >= sizeof(struct mr_log_segment_head) &&
           (offset < MR_LOG_MARK_OFFSET ||
            offset >= MR_LOG_MARK_OFFSET + sizeof(struct mr_log_mark));
}

static void a_flipped_bit_anywhere_is_found_and_never_served(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    uint64_t ends[BATCHES];
    char path[512];
    struct image whole = make_log(&options, ends);
    path_of(path, options.dir, 1);
    for (uint64_t offset = 0; offset < ends[BATCHES - 1]; offset++) {
        struct mr_err err;
        enum mr_rc end;
        struct mr_log_writer *w;
        uint8_t bad = whole.data[offset] ^ (uint8_t)(1 << offset % 8);
        poke(path, offset, &bad, 1);
        err.text[0] = '\0';
        assert_int_equal(mr_log_verify(options.dir, NULL, NULL, &err), MR_CORRUPT);
        assert_non_null(strstr(err.text, ".mrlog at offset "));
        uint64_t last = read_log(options.dir, &end, &err); /* fails when a record is wrong */
        if (is_padding(offset)) {
            assert_int_equal(last, BATCHES * BATCH_RECORDS);
        } else {
            assert_true(offset < MR_LOG_DATA_OFFSET || last < BATCHES * BATCH_RECORDS);
            assert_int_equal(end, MR_CORRUPT);
            assert_int_equal(mr_log_writer_open(&w, &options, &err), MR_CORRUPT);
        }
        poke(path, offset, &whole.data[offset], 1);
    }
    free(whole.data);
}

static void hostile_bytes_behind_the_torn_point_are_no_batches(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    uint64_t ends[BATCHES];
    char path[512];
    struct image whole = make_log(&options, ends);
    path_of(path, options.dir, 1);
    uint64_t torn_at = ends[2], sequence = 3 * BATCH_RECORDS;
    set_mark(&whole, torn_at, sequence);
    for (int kind = 0; kind < 4; kind++) {
        uint8_t *copy = malloc(whole.len);
        memcpy(copy, whole.data, whole.len);
        memset(copy + torn_at, 0, whole.len - torn_at);
        uint64_t shift = kind == 0 ? 8 : 0;
        if (kind <= 1) /* good batches of this very file, moved: right sequence, wrong place */
            memcpy(copy + torn_at + shift, whole.data + ends[kind == 0 ? 2 : 3],
                   ends[BATCHES - 1] - ends[kind == 0 ? 2 : 3]);
        if (kind == 2) /* garbage that begins like a batch and claims the rest of the file */
            for (uint64_t i = torn_at; i < whole.len; i++)
                copy[i] = (uint8_t)(i * 2654435761u >> 11);
        if (kind >= 2) { /* a head that fits, made by someone who does not know the salt */
            struct mr_log_batch_head *head = (struct mr_log_batch_head *)(copy + torn_at);
            *head = (struct mr_log_batch_head){.magic = MR_LOG_BATCH_MAGIC,
                                               .length = kind == 2 ? 0x04fffff8 : sizeof *head,
                                               .first_sequence = sequence + 1};
            uint64_t place[2] = {0, torn_at};
            head->crc = mr_crc32c(mr_crc32c(0, place, sizeof place),
                                  (uint8_t *)head + MR_LOG_BATCH_CRC_FROM,
                                  sizeof *head - MR_LOG_BATCH_CRC_FROM);
        }
        store(path, copy, whole.len);
        reopen_and_go_on(&options, sequence, trimmed(copy, whole.len) - torn_at);
        free(copy);
    }
    free(whole.data);
}

static void batches_of_another_log_are_no_batches_here(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    char other_dir[300], path[512];
    snprintf(other_dir, sizeof other_dir, "%s/other", options.dir);
    struct mr_log_options other = small_log(other_dir);
    uint64_t ends[BATCHES], other_ends[BATCHES];
    struct image whole = make_log(&options, ends), foreign = make_log(&other, other_ends);
    assert_int_equal(ends[3], other_ends[3]);
    set_mark(&whole, ends[2], 3 * BATCH_RECORDS);
    memcpy(whole.data + ends[2], foreign.data + ends[2], whole.len - ends[2]);
    path_of(path, options.dir, 1);
    store(path, whole.data, whole.len);
    reopen_and_go_on(&options, 3 * BATCH_RECORDS, trimmed(whole.data, whole.len) - ends[2]);
    remove_tree(other_dir);
    free(whole.data);
    free(foreign.data);
}

/* A log of several segments; first sequences in firsts. Returns how many. */
static size_t make_segments(const struct mr_log_options *options, uint64_t firsts[8],
                            uint64_t *last)
{
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    size_t count = 0;
    assert_ok(mr_log_writer_open(&w, options, &err));
    do {
        assert_ok(append_batch(w, 20, &err));
        assert_ok(mr_log_poll(w, 0, mr_clock_ns(), &err));
        mr_log_writer_state(w, &log);
        if (log.segments > count) {
            firsts[count] = count == 0 ? 1 : log.last - 19;
            count = log.segments;
        }
    } while (count < 4);
    *last = log.last;
    assert_ok(mr_log_writer_close(&w, &err));
    return count;
}

static void a_damaged_or_missing_segment_in_the_middle_is_corruption(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    uint64_t firsts[8], last;
    char path[512], away[600];
    struct mr_err err;
    enum mr_rc end;
    make_segments(&options, firsts, &last);
    path_of(path, options.dir, firsts[1]);
    struct image whole = load(path);
    uint8_t bad = whole.data[9000] ^ 4;
    poke(path, 9000, &bad, 1);
    assert_true(read_log(options.dir, &end, &err) < firsts[2]);
    assert_int_equal(end, MR_CORRUPT);
    assert_int_equal(mr_log_verify(options.dir, NULL, NULL, &err), MR_CORRUPT);
    assert_non_null(strstr(err.text, strrchr(path, '/')));
    poke(path, 9000, &whole.data[9000], 1);
    assert_ok(mr_log_verify(options.dir, NULL, NULL, &err));
    snprintf(away, sizeof away, "%s.away", path);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(read_log(options.dir, &end, &err), firsts[1] - 1);
    assert_int_equal(end, MR_CORRUPT);
    assert_int_equal(mr_log_verify(options.dir, NULL, NULL, &err), MR_CORRUPT);
    assert_int_equal(rename(away, path), 0);
    assert_int_equal(read_log(options.dir, &end, &err), last);
    free(whole.data);
}

static void a_power_loss_over_a_segment_border_cuts_from_the_first_torn_batch(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    uint64_t firsts[8], last;
    char path[512];
    size_t count = make_segments(&options, firsts, &last);
    /* The last two segments were never synced, and of the one before a batch in the middle is
     * missing. */
    for (size_t i = count - 3; i < count; i++) {
        path_of(path, options.dir, firsts[i]);
        struct image image = load(path);
        if (i == count - 3) {
            uint64_t offset = MR_LOG_DATA_OFFSET, sequence = firsts[i];
            struct mr_log_batch_head head;
            for (int batch = 0; batch < 4; batch++) {
                memcpy(&head, image.data + offset, sizeof head);
                offset += head.length;
                sequence += head.count;
            }
            set_mark(&image, offset, sequence - 1);
            memset(image.data + offset, 0, 64);
            last = sequence - 1;
        } else {
            memset(image.data + MR_LOG_MARK_OFFSET, 0, sizeof(struct mr_log_mark));
        }
        store(path, image.data, image.len);
        free(image.data);
    }
    struct mr_err err;
    enum mr_rc end;
    struct mr_log_writer *w;
    struct mr_log_state log;
    assert_int_equal(read_log(options.dir, &end, &err), last);
    assert_int_equal(end, MR_AGAIN); /* not corrupt: a writer will cut it */
    assert_ok(mr_log_writer_open(&w, &options, &err));
    mr_log_writer_state(w, &log);
    assert_int_equal(log.last, last);
    assert_int_equal(log.segments, count - 2);
    assert_true(log.torn_bytes > 0);
    assert_memory_equal(log.position, &last, 8);
    assert_ok(append_batch(w, 1, &err));
    assert_int_equal(read_log(options.dir, &end, &err), last + 1);
    assert_ok(mr_log_writer_close(&w, &err));
    assert_ok(mr_log_verify(options.dir, NULL, NULL, &err));
}

static void foreign_files_in_the_directory_are_left_alone(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    static const char *const names[] = {"notes.txt",
                                        "1.mrlog",
                                        "00000000000000000000.mrlog",
                                        "99999999999999999999.mrlog",
                                        "00000000000000000001.mrlog.bak",
                                        "0000000000000000000x.mrlog",
                                        "spare.tmp"};
    char path[512];
    mkdir(options.dir, 0700);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", options.dir, names[i]);
        store(path, (const uint8_t *)"hello", 5);
    }
    reopen_and_go_on(&options, 0, 0);
    for (size_t i = 0; i + 1 < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", options.dir, names[i]);
        struct image image = load(path);
        assert_int_equal(image.len, 5);
        free(image.data);
    }
}

static void a_segment_that_is_no_regular_file_is_refused(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    struct mr_err err;
    struct mr_log_writer *w;
    char path[512];
    path_of(path, options.dir, 1);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(mr_log_writer_open(&w, &options, &err), MR_CORRUPT);
    assert_int_equal(mr_log_verify(options.dir, NULL, NULL, &err), MR_CORRUPT);
}

static void another_format_version_is_refused_by_name(void **state)
{
    struct mr_log_options options = small_log(dir_of(state));
    uint64_t ends[BATCHES];
    char path[512];
    struct mr_err err;
    struct mr_log_writer *w;
    struct image whole = make_log(&options, ends);
    path_of(path, options.dir, 1);
    uint32_t version = MR_LOG_VERSION + 1;
    poke(path, offsetof(struct mr_log_segment_head, version), &version, sizeof version);
    assert_int_equal(mr_log_writer_open(&w, &options, &err), MR_CORRUPT);
    assert_non_null(strstr(err.text, "version"));
    free(whole.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, drop_dir)
        LOG_TEST(a_tail_torn_at_any_byte_is_cut_and_the_log_goes_on),
        LOG_TEST(a_file_cut_short_at_any_byte_behind_the_mark_loses_the_tail_only),
        LOG_TEST(a_file_cut_short_before_the_mark_is_refused_by_everyone),
        LOG_TEST(a_flipped_bit_anywhere_is_found_and_never_served),
        LOG_TEST(hostile_bytes_behind_the_torn_point_are_no_batches),
        LOG_TEST(batches_of_another_log_are_no_batches_here),
        LOG_TEST(a_damaged_or_missing_segment_in_the_middle_is_corruption),
        LOG_TEST(a_power_loss_over_a_segment_border_cuts_from_the_first_torn_batch),
        LOG_TEST(foreign_files_in_the_directory_are_left_alone),
        LOG_TEST(a_segment_that_is_no_regular_file_is_refused),
        LOG_TEST(another_format_version_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
