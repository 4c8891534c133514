#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log/scan.h"

struct verification {
    int dir_fd;
    const char *dir;
    uint64_t *firsts;
    size_t count;
    size_t index; /* of the segment being checked */
    uint64_t log_id;
    bool torn; /* an earlier segment ends in a torn tail: this one was never on disk for sure */
    struct mr_log_scan scan;
    struct mr_log_segment segment;
    struct mr_log_mark mark;
    struct mr_log_segment_report report;
    char path[MR_LOG_PATH_MAX];
};

static enum mr_rc corrupt(const struct verification *v, uint64_t offset, const char *why,
                          struct mr_err *err)
{
    return mr_reject(err, MR_CORRUPT, "segment %s at offset %" PRIu64 ": %s", v->path, offset, why);
}

/* What follows the head and the mark in the first block is zero. */
static enum mr_rc check_first_block(struct verification *v, struct mr_err *err)
{
    uint8_t block[MR_LOG_DATA_OFFSET];
    size_t len;
    if (mr_log_pread(v->segment.fd, block, sizeof block, 0, &len) != MR_OK)
        return mr_fail(err, MR_FATAL, "read segment %s at offset 0", v->path);
    for (size_t i = sizeof(struct mr_log_segment_head); i < len; i++) {
        bool mark = i >= MR_LOG_MARK_OFFSET && i < MR_LOG_MARK_OFFSET + sizeof(struct mr_log_mark);
        if (!mark && block[i] != 0)
            return corrupt(v, i, "the first block holds bytes that nobody writes", err);
    }
    return MR_OK;
}

static enum mr_rc open_segment(struct verification *v, struct mr_err *err)
{
    struct mr_log_open how = {.dir_fd = v->dir_fd,
                              .dir = v->dir,
                              .first_sequence = v->firsts[v->index],
                              .allow_unbegun = v->index + 1 == v->count || v->torn};
    enum mr_rc rc = mr_log_segment_open(&v->segment, &how, err);
    if (rc != MR_OK)
        return rc;
    if (v->log_id == 0)
        v->log_id = v->segment.head.log_id;
    if (v->segment.head.log_id != v->log_id)
        return corrupt(v, offsetof(struct mr_log_segment_head, log_id), "belongs to another log",
                       err);
    rc = mr_log_mark_read(&v->segment, v->dir, &v->mark, err);
    return rc == MR_OK ? check_first_block(v, err) : rc;
}

static enum mr_rc scan_batches(struct verification *v, struct mr_err *err)
{
    enum mr_rc rc;
    const struct mr_log_batch_head *batch;
    mr_log_scan_start(&v->scan, &v->segment, MR_LOG_DATA_OFFSET, v->firsts[v->index]);
    while ((rc = mr_log_scan_next(&v->scan, &batch, err)) == MR_OK)
        v->report.batches++;
    if (rc != MR_AGAIN)
        return mr_err_prefix(err, "segment %s", v->path);
    v->report.last = v->scan.next_sequence - 1;
    v->report.bytes = v->scan.offset;
    if (v->mark.offset > v->scan.offset)
        return corrupt(v, v->scan.offset, "damaged batch in front of what is known to be on disk",
                       err);
    return mr_log_scan_tail(&v->scan, &v->report.torn_bytes, err);
}

/* Does the segment end where the next one begins? */
static enum mr_rc check_end(struct verification *v, struct mr_err *err)
{
    if (v->torn && v->mark.offset > 0)
        return corrupt(v, MR_LOG_MARK_OFFSET, "is on disk although a segment before it ends torn",
                       err);
    if (v->index + 1 == v->count)
        return MR_OK;
    uint64_t next = v->firsts[v->index + 1];
    if (next < v->scan.next_sequence)
        return corrupt(v, v->scan.offset, "reaches into the next segment", err);
    if (next > v->scan.next_sequence)
        v->torn = true; /* corruption, if a later segment turns out to be on disk */
    else if (v->report.torn_bytes > 0)
        return corrupt(v, v->scan.offset, "bytes behind the last batch of a finished segment", err);
    return MR_OK;
}

static enum mr_rc verify_segment(struct verification *v, struct mr_err *err)
{
    v->segment.fd = -1;
    v->report = (struct mr_log_segment_report){.path = v->path, .first = v->firsts[v->index]};
    char name[MR_LOG_NAME_MAX];
    mr_log_segment_name(name, v->firsts[v->index]);
    if ((size_t)snprintf(v->path, sizeof v->path, "%s/%s", v->dir, name) >= sizeof v->path)
        return mr_reject(err, MR_USAGE, "verify log %s: the path is too long", v->dir);
    enum mr_rc rc = open_segment(v, err);
    if (rc == MR_OK)
        rc = scan_batches(v, err);
    if (rc == MR_OK)
        rc = check_end(v, err);
    mr_log_segment_close(&v->segment);
    return rc;
}

static enum mr_rc verify_all(struct verification *v, mr_log_report *report, void *context,
                             struct mr_err *err)
{
    bool seen = false;
    for (; v->index < v->count; v->index++) {
        enum mr_rc rc = verify_segment(v, err);
        if (rc == MR_AGAIN && !seen)
            continue; /* retired since it was listed */
        if (rc == MR_AGAIN)
            return mr_reject(err, MR_CORRUPT, "segment %s at offset 0: the file vanished", v->path);
        if (rc != MR_OK)
            return rc;
        seen = true;
        if (report)
            report(&v->report, context);
    }
    return MR_OK;
}

enum mr_rc mr_log_verify(const char *dir, mr_log_report *report, void *context, struct mr_err *err)
{
    struct verification *v = calloc(1, sizeof *v);
    if (!v)
        return mr_fail(err, MR_FATAL, "verify log %s", dir);
    v->dir = dir;
    mr_log_scan_init(&v->scan);
    enum mr_rc rc;
    v->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (v->dir_fd < 0)
        rc = mr_fail(err, MR_FATAL, "open log directory %s", dir);
    else
        rc = mr_log_segment_list(v->dir_fd, dir, &v->firsts, &v->count, err);
    if (rc == MR_OK && v->count == 0)
        rc = mr_reject(err, MR_AGAIN, "verify log %s: it holds no segments", dir);
    if (rc == MR_OK)
        rc = verify_all(v, report, context, err);
    if (v->dir_fd >= 0)
        close(v->dir_fd);
    mr_log_scan_fini(&v->scan);
    free(v->firsts);
    free(v);
    return rc;
}
