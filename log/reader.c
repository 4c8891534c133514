#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "log/index.h"
#include "log/scan.h"

/* Directory times come in steps of the kernel's tick: a listing this close to the last change may
 * miss the next change, and is made again. */
#define SETTLE_US INT64_C(20000)

/* A place in the log: a segment and the scan through it. */
struct cursor {
    struct mr_log_segment segment;
    struct mr_log_scan scan;
    const struct mr_log_batch_head *batch; /* read last; NULL: none */
};

struct mr_log_reader {
    char *dir;
    int dir_fd;
    uint64_t log_id;
    struct cursor main;  /* of mr_log_next */
    struct cursor aside; /* of mr_log_position_at */
    uint64_t wanted;     /* the next record to hand out */
    const uint8_t *at;   /* frame of the record index of main.batch */
    uint32_t index;
    struct mr_log_index points;
    int64_t listed_us;  /* change time of the directory when it was looked through, 0: look again */
    struct mr_err lost; /* rc MR_OK: no; else what next says until the next seek */
};

static void cursor_init(struct cursor *cursor)
{
    cursor->segment = (struct mr_log_segment){.fd = -1};
    mr_log_scan_init(&cursor->scan);
    cursor->batch = NULL;
}

static void cursor_fini(struct cursor *cursor)
{
    mr_log_segment_close(&cursor->segment);
    mr_log_scan_fini(&cursor->scan);
}

/* Open the segment that begins with first, in place of the cursor's own. MR_AGAIN: there is none.
 */
static enum mr_rc cursor_enter(struct mr_log_reader *r, struct cursor *cursor, uint64_t first,
                               struct mr_err *err)
{
    /* A power loss may take the head back to "not begun" until a writer has repaired it. */
    struct mr_log_open how = {
        .dir_fd = r->dir_fd, .dir = r->dir, .first_sequence = first, .allow_unbegun = true};
    struct mr_log_segment segment;
    enum mr_rc rc = mr_log_segment_open(&segment, &how, err);
    if (rc != MR_OK)
        return rc;
    if (r->log_id == 0)
        r->log_id = segment.head.log_id;
    if (segment.head.log_id != r->log_id) {
        mr_log_segment_close(&segment);
        return mr_reject(err, MR_USAGE,
                         "read log %s: it is another log now (%016" PRIx64 ", was %016" PRIx64 ")",
                         r->dir, segment.head.log_id, r->log_id);
    }
    mr_log_segment_close(&cursor->segment);
    cursor->segment = segment;
    cursor->batch = NULL;
    mr_log_scan_start(&cursor->scan, &cursor->segment, MR_LOG_DATA_OFFSET, first);
    return MR_OK;
}

static enum mr_rc name_segment(const struct mr_log_reader *r, const struct cursor *cursor,
                               struct mr_err *err)
{
    return mr_err_prefix(err, "segment %s/%020" PRIu64 ".mrlog", r->dir,
                         cursor->segment.first_sequence);
}

/* The cursor's next batch; remembers where it was. */
static enum mr_rc cursor_next(struct mr_log_reader *r, struct cursor *cursor, struct mr_err *err)
{
    uint64_t offset = cursor->scan.offset;
    cursor->batch = NULL;
    enum mr_rc rc = mr_log_scan_next(&cursor->scan, &cursor->batch, err);
    if (rc == MR_FATAL)
        return name_segment(r, cursor, err);
    if (rc == MR_OK && cursor->batch->count > 0)
        mr_log_index_add(&r->points, cursor->segment.first_sequence, cursor->batch->first_sequence,
                         offset);
    return rc;
}

/* Step the cursor over batches that end before sequence. */
static enum mr_rc cursor_forward(struct mr_log_reader *r, struct cursor *cursor, uint64_t sequence,
                                 struct mr_err *err)
{
    enum mr_rc rc;
    cursor->batch = NULL;
    do {
        uint64_t at = cursor->scan.next_sequence, offset = cursor->scan.offset;
        rc = mr_log_scan_skip(&cursor->scan, sequence, err);
        if (rc == MR_OK && cursor->scan.next_sequence > at)
            mr_log_index_add(&r->points, cursor->segment.first_sequence, at, offset);
    } while (rc == MR_OK);
    return rc == MR_AGAIN ? MR_OK : name_segment(r, cursor, err);
}

/* Put the cursor in front of the batch that holds, or will hold, sequence. MR_USAGE: it is gone. */
static enum mr_rc cursor_seek(struct mr_log_reader *r, struct cursor *cursor, uint64_t sequence,
                              uint64_t *floor, struct mr_err *err)
{
    enum mr_rc rc = MR_AGAIN;
    while (rc == MR_AGAIN) { /* a segment may be retired between listing and opening: list again */
        uint64_t *firsts = NULL;
        size_t count = 0;
        rc = mr_log_segment_list(r->dir_fd, r->dir, &firsts, &count, err);
        if (rc != MR_OK)
            return rc;
        size_t i = count;
        while (i > 0 && firsts[i - 1] > sequence)
            i--;
        *floor = count > 0 ? firsts[0] : 0;
        uint64_t first = i > 0 ? firsts[i - 1] : 0;
        free(firsts);
        mr_log_index_drop(&r->points, *floor);
        if (count == 0)
            return mr_reject(err, MR_USAGE, "read log %s: it has no segments any more", r->dir);
        if (i == 0)
            return mr_reject(err, MR_USAGE, "read log %s from %" PRIu64 ": it begins with %" PRIu64,
                             r->dir, sequence, *floor);
        rc = cursor_enter(r, cursor, first, err);
    }
    if (rc != MR_OK)
        return rc;
    uint64_t at = sequence, offset = 0;
    mr_log_index_find(&r->points, cursor->segment.first_sequence, &at, &offset);
    if (offset > 0)
        mr_log_scan_start(&cursor->scan, &cursor->segment, offset, at);
    return cursor_forward(r, cursor, sequence, err);
}

enum mr_rc mr_log_reader_open(struct mr_log_reader **out, const char *dir, struct mr_err *err)
{
    struct mr_log_reader *r = calloc(1, sizeof *r);
    if (!r)
        return mr_fail(err, MR_FATAL, "open log %s for reading", dir);
    r->dir_fd = -1;
    cursor_init(&r->main);
    cursor_init(&r->aside);
    enum mr_rc rc = MR_OK;
    uint64_t *firsts = NULL;
    size_t count = 0;
    r->dir = strdup(dir);
    if (!r->dir)
        rc = mr_fail(err, MR_FATAL, "open log %s for reading", dir);
    else if ((r->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        rc = errno == ENOENT ? mr_fail(err, MR_AGAIN, "open log %s for reading", dir)
                             : mr_fail(err, MR_FATAL, "open log %s for reading", dir);
    if (rc == MR_OK)
        rc = mr_log_segment_list(r->dir_fd, dir, &firsts, &count, err);
    if (rc == MR_OK && count == 0)
        rc = mr_reject(err, MR_AGAIN, "open log %s for reading: it holds no segments yet", dir);
    if (rc == MR_OK) {
        uint64_t floor;
        r->wanted = firsts[0];
        rc = cursor_seek(r, &r->main, firsts[0], &floor, err);
        if (rc == MR_USAGE)
            rc = MR_AGAIN; /* retired since it was listed: ask again */
    }
    free(firsts);
    if (rc != MR_OK)
        mr_log_reader_close(&r);
    else
        *out = r;
    return rc;
}

void mr_log_reader_close(struct mr_log_reader **reader)
{
    struct mr_log_reader *r = *reader;
    *reader = NULL;
    if (!r)
        return;
    cursor_fini(&r->main);
    cursor_fini(&r->aside);
    mr_log_index_fini(&r->points);
    if (r->dir_fd >= 0)
        close(r->dir_fd);
    free(r->dir);
    free(r);
}

uint64_t mr_log_reader_id(const struct mr_log_reader *r)
{
    return r->log_id;
}

enum mr_rc mr_log_seek(struct mr_log_reader *r, uint64_t after, uint64_t *floor, struct mr_err *err)
{
    r->lost.rc = MR_OK;
    r->listed_us = 0;
    if (after == UINT64_MAX)
        return mr_reject(err, MR_USAGE, "read log %s: there is nothing behind %" PRIu64, r->dir,
                         after);
    enum mr_rc rc = cursor_seek(r, &r->main, after + 1, floor, err);
    if (rc == MR_OK)
        r->wanted = after + 1;
    return rc;
}

static enum mr_rc corrupt(const struct mr_log_reader *r, const struct cursor *cursor,
                          const char *why, struct mr_err *err)
{
    return mr_reject(err, MR_CORRUPT, "segment %s/%020" PRIu64 ".mrlog at offset %" PRIu64 ": %s",
                     r->dir, cursor->segment.first_sequence, cursor->scan.offset, why);
}

/* Is one of these segments known to be on disk, at least in part? Then all before it are. */
static bool any_synced(struct mr_log_reader *r, const uint64_t *firsts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct mr_log_open how = {
            .dir_fd = r->dir_fd, .dir = r->dir, .first_sequence = firsts[i], .allow_unbegun = true};
        struct mr_log_segment segment;
        struct mr_log_mark mark = {0};
        if (mr_log_segment_open(&segment, &how, NULL) != MR_OK)
            continue;
        enum mr_rc rc = mr_log_mark_read(&segment, r->dir, &mark, NULL);
        mr_log_segment_close(&segment);
        if (rc == MR_OK && mark.offset > 0)
            return true;
    }
    return false;
}

/* Does the cursor's segment still have its name? */
static bool still_named(const struct mr_log_reader *r, const struct cursor *cursor, bool *replaced)
{
    char name[MR_LOG_NAME_MAX];
    struct stat there, here;
    mr_log_segment_name(name, cursor->segment.first_sequence);
    *replaced = false;
    if (fstatat(r->dir_fd, name, &there, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    if (fstat(cursor->segment.fd, &here) == 0)
        *replaced = there.st_ino != here.st_ino || there.st_dev != here.st_dev;
    return true;
}

/* There is no batch at the cursor and no segment that goes on from here: does the directory explain
 * it? MR_OK: look again. MR_AGAIN: yes, the log ends here. firsts: the segments there are. */
static enum mr_rc judge_end(struct mr_log_reader *r, struct cursor *cursor, const uint64_t *firsts,
                            size_t count, struct mr_err *err)
{
    uint64_t next = cursor->scan.next_sequence;
    bool replaced, named = still_named(r, cursor, &replaced);
    size_t behind = count;
    while (behind > 0 && firsts[behind - 1] > next)
        behind--;
    if (replaced) /* a segment of positions, without records, has made room for the next one */
        return cursor_enter(r, cursor, cursor->segment.first_sequence, err);
    if (!named && behind > 0 && firsts[behind - 1] == next)
        return MR_OK;
    if (!named && behind < count)
        return mr_reject(err, MR_USAGE,
                         "read log %s from %" PRIu64 ": retention has removed it; the log begins "
                         "with %" PRIu64,
                         r->dir, next, firsts[0]);
    if (!named)
        return mr_reject(err, MR_USAGE, "read log %s: its files were removed", r->dir);
    if (behind == count || !any_synced(r, firsts + behind, count - behind))
        return MR_AGAIN; /* also after a power loss, until a writer has cut the tail */
    /* Later segments are on disk, and ours is not retired, so neither is what follows it. Unless it
     * was written while we looked, something is missing. */
    enum mr_rc rc = cursor_next(r, cursor, err);
    if (rc == MR_AGAIN && next != cursor->segment.first_sequence)
        rc = cursor_enter(r, cursor, next, err);
    return rc == MR_AGAIN ? corrupt(r, cursor, "no good batch here, but segments follow", err) : rc;
}

/* Look through the directory when it has changed since the last time. */
static enum mr_rc judge_directory(struct mr_log_reader *r, struct cursor *cursor,
                                  struct mr_err *err)
{
    struct stat info;
    if (fstat(r->dir_fd, &info) != 0)
        return mr_fail(err, MR_FATAL, "stat log directory %s", r->dir);
    int64_t changed_us = (int64_t)info.st_mtim.tv_sec * 1000000 + info.st_mtim.tv_nsec / 1000;
    if (changed_us == r->listed_us)
        return MR_AGAIN;
    uint64_t *firsts = NULL;
    size_t count = 0;
    bool settled = mr_clock_wall_us() - changed_us > SETTLE_US;
    enum mr_rc rc = mr_log_segment_list(r->dir_fd, r->dir, &firsts, &count, err);
    if (rc == MR_OK)
        rc = judge_end(r, cursor, firsts, count, err);
    free(firsts);
    if (rc == MR_AGAIN && settled)
        r->listed_us = changed_us;
    return rc;
}

/* No good batch at the cursor. MR_OK: there may be one now, or cursor->batch already is. MR_AGAIN:
 * the log ends here. */
static enum mr_rc at_end(struct mr_log_reader *r, struct cursor *cursor, struct mr_err *err)
{
    struct mr_log_mark mark;
    enum mr_rc rc = mr_log_mark_read(&cursor->segment, r->dir, &mark, err);
    if (rc != MR_OK)
        return rc;
    if (mark.offset > cursor->scan.offset) {
        /* Synced since we looked, or damaged: the second look tells. */
        rc = cursor_next(r, cursor, err);
        return rc == MR_AGAIN ? corrupt(r, cursor, "damaged batch", err) : rc;
    }
    uint64_t next = cursor->scan.next_sequence;
    if (next != cursor->segment.first_sequence) {
        rc = cursor_enter(r, cursor, next, err);
        if (rc != MR_AGAIN)
            return rc;
    }
    return judge_directory(r, cursor, err);
}

/* The cursor's next batch, over the ends of segments. */
static enum mr_rc cursor_advance(struct mr_log_reader *r, struct cursor *cursor, struct mr_err *err)
{
    enum mr_rc rc;
    do {
        rc = cursor_next(r, cursor, err);
        if (rc == MR_AGAIN)
            rc = at_end(r, cursor, err);
    } while (rc == MR_OK && !cursor->batch);
    return rc;
}

enum mr_rc mr_log_next(struct mr_log_reader *r, struct mr_log_record *out, struct mr_err *err)
{
    if (r->lost.rc != MR_OK) {
        if (err)
            *err = r->lost;
        return r->lost.rc;
    }
    for (;;) {
        const struct mr_log_batch_head *batch = r->main.batch;
        while (batch && r->index < batch->count) {
            struct mr_log_frame frame;
            memcpy(&frame, r->at, sizeof frame);
            uint64_t sequence = batch->first_sequence + r->index++;
            *out = (struct mr_log_record){
                .data = r->at + sizeof frame, .len = frame.len, .sequence = sequence};
            r->at += sizeof frame + mr_log_pad8(frame.len);
            if (sequence >= r->wanted) {
                r->wanted = sequence + 1;
                return MR_OK;
            }
        }
        struct mr_err story = {.rc = MR_OK};
        enum mr_rc rc = cursor_advance(r, &r->main, &story);
        if (rc == MR_USAGE || rc == MR_CORRUPT)
            r->lost = story;
        if (rc != MR_OK) {
            if (err && rc != MR_AGAIN)
                *err = story;
            return rc;
        }
        r->index = 0;
        r->at = (const uint8_t *)(r->main.batch + 1);
    }
}

static bool holds(const struct cursor *cursor, uint64_t sequence)
{
    const struct mr_log_batch_head *batch = cursor->batch;
    return batch && sequence >= batch->first_sequence &&
           sequence - batch->first_sequence < batch->count;
}

enum mr_rc mr_log_position_at(struct mr_log_reader *r, uint64_t sequence,
                              uint8_t out[MR_LOG_POSITION_MAX], uint32_t *len, struct mr_err *err)
{
    struct cursor *cursor = holds(&r->main, sequence) ? &r->main : &r->aside;
    enum mr_rc rc = MR_OK;
    if (!holds(cursor, sequence)) {
        uint64_t floor;
        /* Asked for in rising order, as a checkpoint does, it usually is ahead in the same segment.
         */
        if (cursor->segment.fd >= 0 && sequence >= cursor->scan.next_sequence)
            rc = cursor_forward(r, cursor, sequence, err);
        else
            rc = cursor_seek(r, cursor, sequence, &floor, err);
        if (rc == MR_OK)
            rc = cursor_advance(r, cursor, err);
        if (rc == MR_AGAIN || rc == MR_USAGE || (rc == MR_OK && !holds(cursor, sequence)))
            rc = cursor_seek(r, cursor, sequence, &floor, err);
        while (rc == MR_OK && !holds(cursor, sequence))
            rc = cursor_advance(r, cursor, err);
    }
    if (rc != MR_OK)
        return rc;
    *len = cursor->batch->position_len;
    memcpy(out, mr_log_batch_position(cursor->batch), *len);
    return MR_OK;
}
