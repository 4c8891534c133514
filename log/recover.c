#include "log/recover.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/scan.h"

struct recovery {
    struct mr_log_recovered *out;
    int dir_fd;
    const char *dir;
    uint64_t *firsts;
    size_t count;
    size_t cut;       /* index of the segment in which the log ends */
    uint64_t cut_end; /* where in it */
    uint64_t next_sequence;
    bool positioned; /* a batch, hence a position, has been found */
    struct mr_log_scan scan;
};

static enum mr_rc open_part(const struct recovery *r, size_t index, bool writable,
                            struct mr_log_segment *out, struct mr_err *err)
{
    struct mr_log_open how = {.dir_fd = r->dir_fd,
                              .dir = r->dir,
                              .first_sequence = r->firsts[index],
                              .writable = writable,
                              .allow_unbegun = true};
    enum mr_rc rc = mr_log_segment_open(out, &how, err);
    if (rc == MR_AGAIN)
        rc = mr_reject(err, MR_RETRY, "open log %s: segment %" PRIu64 " vanished", r->dir,
                       r->firsts[index]);
    return rc;
}

/* Check all heads, collect the parts, find the first segment that may have a torn tail: the last
 * one with a mark, since a segment gets its first mark only after all before it are on disk. */
static enum mr_rc check_heads(struct recovery *r, size_t *first_unproven, struct mr_err *err)
{
    *first_unproven = 0;
    for (size_t i = 0; i < r->count; i++) {
        struct mr_log_segment segment;
        struct mr_log_mark mark;
        enum mr_rc rc = open_part(r, i, false, &segment, err);
        if (rc != MR_OK)
            return rc;
        rc = mr_log_mark_read(&segment, r->dir, &mark, err);
        mr_log_segment_close(&segment);
        if (rc != MR_OK)
            return rc;
        if (i == 0)
            r->out->log_id = segment.head.log_id;
        if (segment.head.log_id != r->out->log_id)
            return mr_reject(err, MR_CORRUPT,
                             "log %s: segment %" PRIu64 " at offset 16: belongs to log %016" PRIx64
                             ", not %016" PRIx64,
                             r->dir, r->firsts[i], segment.head.log_id, r->out->log_id);
        if (mark.offset > 0)
            *first_unproven = i;
        r->out->parts[i] = (struct mr_log_part){.first_sequence = r->firsts[i],
                                                .size = segment.size,
                                                .created_us = segment.head.created_us};
    }
    return MR_OK;
}

static void take_position(struct recovery *r, const struct mr_log_batch_head *batch)
{
    r->positioned = true;
    r->out->position_len = batch->position_len;
    memcpy(r->out->position, mr_log_batch_position(batch), batch->position_len);
}

/* Walk through segment index. *whole: it ends where the next one begins. */
static enum mr_rc walk(struct recovery *r, size_t index, bool *whole, struct mr_err *err)
{
    struct mr_log_segment segment;
    struct mr_log_mark mark;
    enum mr_rc rc = open_part(r, index, false, &segment, err);
    if (rc != MR_OK)
        return rc;
    rc = mr_log_mark_read(&segment, r->dir, &mark, err);
    mr_log_scan_start(&r->scan, &segment, MR_LOG_DATA_OFFSET, r->firsts[index]);
    while (rc == MR_OK) {
        const struct mr_log_batch_head *batch;
        rc = mr_log_scan_next(&r->scan, &batch, err);
        if (rc == MR_OK)
            take_position(r, batch);
    }
    if (rc == MR_AGAIN && r->scan.offset < mark.offset)
        rc = mr_reject(err, MR_CORRUPT,
                       "segment %s/%020" PRIu64 ".mrlog at offset %" PRIu64
                       ": damaged batch in front of what is known to be on disk (offset %" PRIu64
                       ")",
                       r->dir, r->firsts[index], r->scan.offset, mark.offset);
    if (rc == MR_AGAIN && index + 1 < r->count && r->firsts[index + 1] < r->scan.next_sequence)
        rc = mr_reject(err, MR_CORRUPT,
                       "segment %s/%020" PRIu64 ".mrlog at offset %" PRIu64
                       ": reaches into the next segment, which begins with %" PRIu64,
                       r->dir, r->firsts[index], r->scan.offset, r->firsts[index + 1]);
    uint64_t tail = 0;
    if (rc == MR_AGAIN)
        rc = mr_log_scan_tail(&r->scan, &tail, err);
    r->cut = index;
    r->cut_end = r->scan.offset;
    r->next_sequence = r->scan.next_sequence;
    *whole = index + 1 < r->count && r->firsts[index + 1] == r->scan.next_sequence;
    /* Bytes behind the end of a segment that the next one follows were never part of the log. */
    if (!*whole)
        r->out->torn_bytes += tail;
    if (rc == MR_OK && fdatasync(segment.fd) != 0)
        rc = mr_fail(err, MR_FATAL, "sync segment %s/%020" PRIu64 ".mrlog", r->dir,
                     r->firsts[index]);
    mr_log_segment_close(&segment);
    return rc;
}

/* What lies behind the cut was never on disk for sure: remove it, newest first. */
static enum mr_rc remove_behind_cut(struct recovery *r, struct mr_err *err)
{
    for (size_t i = r->count; i-- > r->cut + 1;) {
        struct mr_log_segment segment;
        enum mr_rc rc = open_part(r, i, false, &segment, err);
        if (rc != MR_OK)
            return rc;
        uint64_t tail;
        mr_log_scan_start(&r->scan, &segment, MR_LOG_DATA_OFFSET, r->firsts[i]);
        rc = mr_log_scan_tail(&r->scan, &tail, err);
        mr_log_segment_close(&segment);
        if (rc != MR_OK)
            return rc;
        char name[MR_LOG_NAME_MAX];
        mr_log_segment_name(name, r->firsts[i]);
        if (unlinkat(r->dir_fd, name, 0) != 0)
            return mr_fail(err, MR_FATAL, "remove torn segment %s/%s", r->dir, name);
        r->out->torn_bytes += tail;
    }
    r->out->count = (uint32_t)r->cut + 1;
    return MR_OK;
}

/* A head that a power loss took back to "not begun" is made whole again. */
static enum mr_rc begin_again(const struct recovery *r, struct mr_log_segment *last,
                              struct mr_err *err)
{
    if (last->head.first_sequence != 0)
        return MR_OK;
    last->head.first_sequence = last->first_sequence;
    mr_log_head_seal(&last->head);
    if (mr_log_pwrite(last->fd, &last->head, sizeof last->head, 0) != MR_OK)
        return mr_fail(err, MR_FATAL, "write head of segment %s/%020" PRIu64 ".mrlog", r->dir,
                       last->first_sequence);
    return MR_OK;
}

/* Open the segment in which the log ends; nothing but zeros will follow its last batch. */
static enum mr_rc open_last(struct recovery *r, struct mr_err *err)
{
    struct mr_log_segment *last = &r->out->last;
    enum mr_rc rc = open_part(r, r->cut, true, last, err);
    if (rc == MR_OK)
        rc = begin_again(r, last, err);
    if (rc != MR_OK)
        return rc;
    struct mr_log_mark mark = {.offset = r->cut_end, .sequence = r->next_sequence - 1};
    mr_log_mark_seal(&mark, last->head.salt);
    if (ftruncate(last->fd, (off_t)r->cut_end) != 0 || fsync(last->fd) != 0 ||
        mr_log_pwrite(last->fd, &mark, sizeof mark, MR_LOG_MARK_OFFSET) != MR_OK ||
        fsync(last->fd) != 0 || fsync(r->dir_fd) != 0)
        return mr_fail(err, MR_FATAL, "cut segment %s/%020" PRIu64 ".mrlog to %" PRIu64 " bytes",
                       r->dir, last->first_sequence, r->cut_end);
    return MR_OK;
}

static enum mr_rc recover(struct recovery *r, struct mr_err *err)
{
    size_t first;
    enum mr_rc rc = check_heads(r, &first, err);
    bool whole = rc == MR_OK;
    for (size_t i = first; whole; i++) {
        rc = walk(r, i, &whole, err);
        if (rc != MR_OK)
            return rc;
    }
    if (rc != MR_OK)
        return rc;
    if (!r->positioned && r->cut > 0) {
        /* The log ends in a segment without a batch: the position is in the one before. */
        size_t cut = r->cut;
        uint64_t end = r->cut_end, next = r->next_sequence;
        rc = walk(r, cut - 1, &whole, err);
        if (rc == MR_OK && !whole)
            rc = mr_reject(err, MR_CORRUPT,
                           "segment %s/%020" PRIu64 ".mrlog at offset %" PRIu64
                           ": damaged batch in a segment that others follow",
                           r->dir, r->firsts[cut - 1], r->cut_end);
        r->cut = cut;
        r->cut_end = end;
        r->next_sequence = next;
    }
    if (rc == MR_OK)
        rc = remove_behind_cut(r, err);
    if (rc == MR_OK)
        rc = open_last(r, err);
    r->out->end = r->cut_end;
    r->out->next_sequence = r->next_sequence;
    return rc;
}

enum mr_rc mr_log_recover(struct mr_log_recovered *out, int dir_fd, const char *dir,
                          struct mr_err *err)
{
    *out = (struct mr_log_recovered){.last = {.fd = -1}, .next_sequence = 1};
    struct recovery r = {.out = out, .dir_fd = dir_fd, .dir = dir};
    if (unlinkat(dir_fd, MR_LOG_SPARE_NAME, 0) != 0 && errno != ENOENT)
        return mr_fail(err, MR_FATAL, "remove %s/" MR_LOG_SPARE_NAME, dir);
    enum mr_rc rc = mr_log_segment_list(dir_fd, dir, &r.firsts, &r.count, err);
    if (rc != MR_OK || r.count == 0)
        return rc;
    mr_log_scan_init(&r.scan);
    out->parts = calloc(r.count, sizeof *out->parts);
    if (out->parts)
        rc = recover(&r, err);
    else
        rc = mr_fail(err, MR_FATAL, "open log %s", dir);
    mr_log_scan_fini(&r.scan);
    free(r.firsts);
    if (rc != MR_OK) {
        mr_log_segment_close(&out->last);
        free(out->parts);
        out->parts = NULL;
    }
    return rc;
}
