/* tests/unit/log_util.h: what the tests of the log share: directories, records that tell their
 * sequence, a writer that is driven the way the puller drives it. */
#ifndef MR_TESTS_LOG_UTIL_H
#define MR_TESTS_LOG_UTIL_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "log/log.h"

struct test_dir {
    char path[256];
};

static inline void remove_tree(const char *path)
{
    DIR *stream = opendir(path);
    const struct dirent *entry;
    while (stream && (entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(stream), entry->d_name, 0) != 0)
            (void)unlinkat(dirfd(stream), entry->d_name, AT_REMOVEDIR);
    }
    if (stream)
        closedir(stream);
    (void)rmdir(path);
}

static inline int make_dir(void **state)
{
    struct test_dir *dir = calloc(1, sizeof *dir);
    const char *tmp = getenv("TMPDIR");
    snprintf(dir->path, sizeof dir->path, "%s/millrace-log-XXXXXX", tmp ? tmp : "/tmp");
    *state = dir;
    return mkdtemp(dir->path) ? 0 : -1;
}

static inline int drop_dir(void **state)
{
    struct test_dir *dir = *state;
    remove_tree(dir->path);
    free(dir);
    return 0;
}

static inline const char *dir_of(void **state)
{
    return ((const struct test_dir *)*state)->path;
}

static inline struct mr_log_options small_log(const char *dir)
{
    return (struct mr_log_options){.dir = dir,
                                   .segment_bytes = 64 * 1024,
                                   .batch_bytes = 4096,
                                   .retention_bytes = UINT64_MAX,
                                   .retention_age_ns = UINT64_MAX,
                                   .commit_interval_ns = 5 * MR_NS_PER_MS};
}

/* Length and bytes of record sequence are a function of it: any reader can check any record. */
static inline uint32_t record_len(uint64_t sequence)
{
    return 8 + (uint32_t)(sequence * UINT64_C(2654435761) >> 7 & 0xff);
}
static inline void record_fill(uint8_t *out, uint32_t len, uint64_t sequence)
{
    memcpy(out, &sequence, 8);
    for (uint32_t i = 8; i < len; i++)
        out[i] = (uint8_t)(sequence * 31 + i);
}
static inline bool record_is(const struct mr_log_record *record, uint64_t sequence)
{
    uint8_t wanted[8 + 0xff];
    uint32_t len = record_len(sequence);
    record_fill(wanted, len, sequence);
    return record->sequence == sequence && record->len == len &&
           memcmp(record->data, wanted, len) == 0;
}

#define assert_ok(call) assert_ok_at((call), &err, #call, __FILE__, __LINE__)
static inline void assert_ok_at(enum mr_rc rc, const struct mr_err *err, const char *call,
                                const char *file, int line)
{
    if (rc == MR_OK)
        return;
    print_error("%s: %s: %s\n", call, mr_rc_name(rc), err->text);
    _fail(file, line);
}

/* Claim, waiting for the disk where the log says so. MR_FULL that no poll cures: seal first. */
static inline enum mr_rc claim(struct mr_log_writer *w, uint32_t len, void **out,
                               struct mr_err *err)
{
    enum mr_rc rc = MR_FULL;
    for (int i = 0; i < 20000 && rc == MR_FULL; i++) {
        rc = mr_log_claim(w, len, out);
        if (rc != MR_FULL)
            break;
        rc = mr_log_poll(w, 0, mr_clock_ns(), err);
        if (rc != MR_OK)
            return rc;
        rc = MR_FULL;
        usleep(100);
    }
    return rc;
}

/* One batch of count records; the position is the last sequence. */
static inline enum mr_rc append_batch(struct mr_log_writer *w, uint32_t count, struct mr_err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t sequence = mr_log_next_sequence(w);
        void *room;
        enum mr_rc rc = claim(w, record_len(sequence), &room, err);
        if (rc != MR_OK)
            return rc;
        record_fill(room, record_len(sequence), sequence);
        if (mr_log_commit(w, record_len(sequence)) != sequence)
            return MR_CORRUPT;
    }
    uint64_t last = mr_log_next_sequence(w) - 1;
    return mr_log_seal(w, &last, sizeof last, mr_clock_ns(), err);
}

/* Read from first on: every record must be right. Returns the last sequence read. */
static inline uint64_t read_all(struct mr_log_reader *r, uint64_t first, enum mr_rc *end,
                                struct mr_err *err)
{
    struct mr_log_record record;
    uint64_t sequence = first;
    while ((*end = mr_log_next(r, &record, err)) == MR_OK) {
        if (!record_is(&record, sequence)) {
            print_error("record %" PRIu64 " is not what was written (sequence %" PRIu64 ")\n",
                        sequence, record.sequence);
            fail();
        }
        sequence++;
    }
    return sequence - 1;
}

static inline uint64_t read_log(const char *dir, enum mr_rc *end, struct mr_err *err)
{
    struct mr_log_reader *r = NULL;
    *end = mr_log_reader_open(&r, dir, err);
    if (*end != MR_OK)
        return 0;
    uint64_t last = read_all(r, 1, end, err);
    mr_log_reader_close(&r);
    return last;
}
#endif
