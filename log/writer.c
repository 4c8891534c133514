#include "log/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"

enum {
    SEGMENT_BYTES_MIN = 64 * 1024,
    BATCH_BYTES_MIN = 4096,
    /* What a batch needs beside its records. */
    BATCH_FRAME_BYTES = sizeof(struct mr_log_batch_head) + MR_LOG_POSITION_MAX,
};
static_assert(MR_LOG_RECORD_MAX + BATCH_FRAME_BYTES + 16 <= MR_LOG_BATCH_BYTES_MAX,
              "the largest record makes a batch that readers accept");

/* A failure is final: keep it, and say it again to whoever asks. */
static enum mr_rc keep_failure(struct mr_log_writer *w, enum mr_rc rc, const struct mr_err *err)
{
    if (rc == MR_OK)
        return MR_OK;
    w->failure = *err;
    w->failure.rc = MR_FATAL;
    return MR_FATAL;
}

static enum mr_rc failed_before(const struct mr_log_writer *w, struct mr_err *err)
{
    if (w->failure.rc != MR_OK && err)
        *err = w->failure;
    return w->failure.rc;
}

static enum mr_rc open_dir(struct mr_log_writer *w, struct mr_err *err)
{
    const char *dir = w->options.dir;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return mr_fail(err, MR_FATAL, "make log directory %s", dir);
    w->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->dir_fd < 0)
        return mr_fail(err, MR_FATAL, "open log directory %s", dir);
    return MR_OK;
}

static enum mr_rc take_lock(struct mr_log_writer *w, struct mr_err *err)
{
    const char *dir = w->options.dir;
    w->lock_fd = openat(w->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (w->lock_fd < 0)
        return mr_fail(err, MR_FATAL, "open %s/lock", dir);
    char holder[32] = "";
    if (flock(w->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return mr_fail(err, MR_FATAL, "lock %s/lock", dir);
        ssize_t len = pread(w->lock_fd, holder, sizeof holder - 1, 0);
        holder[len > 0 ? strcspn(holder, "\n") : 0] = '\0';
        return mr_reject(err, MR_RETRY, "lock log %s: process %s has it open for writing", dir,
                         holder[0] ? holder : "unknown");
    }
    int len = snprintf(holder, sizeof holder, "%ld\n", (long)getpid());
    if (ftruncate(w->lock_fd, 0) != 0 || pwrite(w->lock_fd, holder, (size_t)len, 0) != len)
        return mr_fail(err, MR_FATAL, "write %s/lock", dir);
    return MR_OK;
}

static enum mr_rc check_options(const struct mr_log_options *options, struct mr_err *err)
{
    if (options->segment_bytes < SEGMENT_BYTES_MIN || options->segment_bytes > INT64_MAX / 2)
        return mr_reject(err, MR_USAGE, "log segment size %" PRIu64 ": expected at least %d bytes",
                         options->segment_bytes, SEGMENT_BYTES_MIN);
    if (options->batch_bytes < BATCH_BYTES_MIN || options->batch_bytes > MR_LOG_BATCH_SIZE_MAX)
        return mr_reject(err, MR_USAGE, "log batch size %" PRIu64 ": expected %d to %d bytes",
                         options->batch_bytes, BATCH_BYTES_MIN, MR_LOG_BATCH_SIZE_MAX);
    return MR_OK;
}

static enum mr_rc allocate(struct mr_log_writer *w, const struct mr_log_options *options,
                           struct mr_err *err)
{
    w->options = *options;
    w->options.dir = strdup(options->dir);
    w->small_bytes = mr_log_pad8(options->batch_bytes) + BATCH_FRAME_BYTES;
    w->small = aligned_alloc(64, (w->small_bytes + 63) & ~(size_t)63);
    w->offsets_max = (uint32_t)(options->batch_bytes / sizeof(struct mr_log_frame)) + 1;
    w->offsets = calloc(w->offsets_max, sizeof *w->offsets);
    w->batch = w->small;
    w->batch_bytes = w->small_bytes;
    w->used = sizeof(struct mr_log_batch_head);
    if (!w->options.dir || !w->small || !w->offsets)
        return mr_fail(err, MR_FATAL, "open log %s for writing", options->dir);
    return MR_OK;
}

static void destroy(struct mr_log_writer *w)
{
    if (w->io)
        mr_log_roll_close(w);
    mr_log_io_close(&w->io);
    if (w->lock_fd >= 0)
        close(w->lock_fd);
    if (w->dir_fd >= 0)
        close(w->dir_fd);
    if (w->batch != w->small)
        free(w->batch);
    free(w->small);
    free(w->offsets);
    free((char *)w->options.dir);
    free(w);
}

static enum mr_rc open_found(struct mr_log_writer *w, struct mr_err *err)
{
    struct mr_log_recovered found;
    enum mr_rc rc = mr_log_recover(&found, w->dir_fd, w->options.dir, err);
    w->batch_first = found.next_sequence;
    if (rc == MR_OK)
        rc = mr_log_roll_open(w, &found, err);
    mr_log_segment_close(&found.last);
    free(found.parts);
    return rc;
}

enum mr_rc mr_log_writer_open(struct mr_log_writer **out, const struct mr_log_options *options,
                              struct mr_err *err)
{
    struct mr_err unheard;
    err = err ? err : &unheard;
    enum mr_rc rc = check_options(options, err);
    if (rc != MR_OK)
        return rc;
    struct mr_log_writer *w = calloc(1, sizeof *w);
    if (!w)
        return mr_fail(err, MR_FATAL, "open log %s for writing", options->dir);
    w->dir_fd = w->lock_fd = w->spare_fd = -1;
    rc = allocate(w, options, err);
    if (rc == MR_OK)
        rc = open_dir(w, err);
    if (rc == MR_OK)
        rc = take_lock(w, err);
    if (rc == MR_OK)
        rc = mr_log_io_open(&w->io, options->no_uring, err);
    if (rc == MR_OK)
        rc = open_found(w, err);
    if (rc != MR_OK) {
        destroy(w);
        return rc;
    }
    *out = w;
    return MR_OK;
}

enum mr_rc mr_log_writer_close(struct mr_log_writer **writer, struct mr_err *err)
{
    struct mr_log_writer *w = *writer;
    if (!w)
        return MR_OK;
    *writer = NULL;
    enum mr_rc rc = mr_log_sync(w, err);
    destroy(w);
    return rc;
}

void mr_log_writer_state(const struct mr_log_writer *w, struct mr_log_state *out)
{
    *out = w->state;
}

uint64_t mr_log_next_sequence(const struct mr_log_writer *w)
{
    return w->state.last + 1;
}

int mr_log_fd(const struct mr_log_writer *w)
{
    return mr_log_io_fd(w->io);
}

/* Give up the sealed batch and begin the next one. */
static void begin_batch(struct mr_log_writer *w)
{
    if (w->batch != w->small)
        free(w->batch);
    w->batch = w->small;
    w->batch_bytes = w->small_bytes;
    w->used = sizeof(struct mr_log_batch_head);
    w->count = 0;
    w->sealed = false;
    w->batch_first = w->state.last + 1;
}

/* A batch for one record that is larger than batch_bytes. */
static enum mr_rc begin_large(struct mr_log_writer *w, uint32_t len)
{
    size_t bytes = BATCH_FRAME_BYTES + sizeof(struct mr_log_frame) + mr_log_pad8(len);
    uint8_t *room = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (!room)
        return MR_FULL; /* out of memory now: the caller polls and tries again */
    if (w->batch != w->small)
        free(w->batch);
    w->batch = room;
    w->batch_bytes = bytes;
    return MR_OK;
}

enum mr_rc mr_log_claim(struct mr_log_writer *w, uint32_t len, void **out)
{
    if (w->failure.rc != MR_OK)
        return MR_FATAL;
    if (len > MR_LOG_RECORD_MAX)
        return MR_USAGE;
    if (w->unsynced_bytes >= MR_LOG_UNSYNCED_BYTES_MAX ||
        (mr_log_roll_wanted(w, 0) && !mr_log_roll_possible(w)))
        return MR_FULL;
    if (w->sealed)
        begin_batch(w);
    uint64_t room = w->batch_bytes - MR_LOG_POSITION_MAX - w->used;
    if (sizeof(struct mr_log_frame) + mr_log_pad8(len) > room || w->count == w->offsets_max) {
        if (w->count > 0)
            return MR_FULL;
        enum mr_rc rc = begin_large(w, len);
        if (rc != MR_OK)
            return rc;
    }
    w->claimed = len;
    *out = w->batch + w->used + sizeof(struct mr_log_frame);
    return MR_OK;
}

uint64_t mr_log_commit(struct mr_log_writer *w, uint32_t len)
{
    MR_ASSERT(!w->sealed && len <= w->claimed);
    struct mr_log_frame frame = {.len = len};
    uint8_t *at = w->batch + w->used;
    memcpy(at, &frame, sizeof frame);
    memset(at + sizeof frame + len, 0, mr_log_pad8(len) - len);
    w->offsets[w->count++] = w->used;
    w->used += (uint32_t)(sizeof frame + mr_log_pad8(len));
    w->claimed = 0;
    return ++w->state.last;
}

/* Head and position around the records. */
static struct mr_log_batch_head *finish_batch(struct mr_log_writer *w, const void *position,
                                              uint32_t position_len)
{
    uint8_t *at = w->batch + w->used;
    if (position_len > 0)
        memcpy(at, position, position_len);
    memset(at + position_len, 0, mr_log_pad8(position_len) - position_len);
    struct mr_log_batch_head *head = (struct mr_log_batch_head *)w->batch;
    *head = (struct mr_log_batch_head){.magic = MR_LOG_BATCH_MAGIC,
                                       .length = w->used + (uint32_t)mr_log_pad8(position_len),
                                       .count = w->count,
                                       .first_sequence = w->batch_first,
                                       .wall_us = mr_clock_wall_us(),
                                       .position_len = position_len};
    return head;
}

/* Put the finished batch into the file, into a new one when it is time. */
static enum mr_rc write_batch(struct mr_log_writer *w, uint32_t length, struct mr_err *err)
{
    enum mr_rc rc = MR_OK;
    if (mr_log_roll_wanted(w, length) && mr_log_roll_possible(w)) {
        if (mr_log_current(w)->first_sequence < w->batch_first)
            rc = mr_log_roll(w, err);
        else if (w->count == 0 && !w->op_sync.busy) /* at work on what would be replaced */
            rc = mr_log_roll_fill(w, err);
    }
    if (rc == MR_OK)
        rc = mr_log_roll_write(w, mr_log_current(w), err);
    if (rc == MR_OK)
        w->unsynced_bytes += length;
    return rc;
}

enum mr_rc mr_log_seal(struct mr_log_writer *w, const void *position, uint32_t position_len,
                       uint64_t now_ns, struct mr_err *err)
{
    struct mr_err unheard;
    err = err ? err : &unheard;
    MR_ASSERT(position_len <= MR_LOG_POSITION_MAX);
    if (failed_before(w, err) != MR_OK)
        return MR_FATAL;
    if (w->sealed)
        begin_batch(w);
    const struct mr_log_batch_head *head = finish_batch(w, position, position_len);
    w->sealed = true;
    enum mr_rc rc = write_batch(w, head->length, err);
    if (rc != MR_OK)
        return keep_failure(w, rc, err);
    w->state.written = w->state.last;
    w->state.written_bytes += head->length;
    w->state.seals++;
    w->state.position_len = position_len;
    if (position_len > 0)
        memmove(w->state.position, position, position_len); /* it may be our own */
    mr_log_durable_start(w, now_ns, false);
    return MR_OK;
}

enum mr_rc mr_log_poll(struct mr_log_writer *w, uint64_t releasable, uint64_t now_ns,
                       struct mr_err *err)
{
    struct mr_err unheard;
    err = err ? err : &unheard;
    enum mr_rc rc = failed_before(w, err);
    while (rc == MR_OK)
        rc = mr_log_durable_reap(w, false, err);
    if (rc != MR_AGAIN)
        return keep_failure(w, rc, err);
    if (w->spare_state == MR_LOG_SPARE_FAILED && mr_log_roll_wanted(w, 0)) {
        *err = w->spare_err;
        return keep_failure(w, MR_FATAL, err);
    }
    mr_log_roll_spare(w);
    mr_log_durable_retire(w, releasable);
    mr_log_durable_start(w, now_ns, false);
    return MR_OK;
}

void mr_log_hurry(struct mr_log_writer *w, uint64_t now_ns)
{
    if (w->failure.rc == MR_OK)
        mr_log_durable_start(w, now_ns, true);
}

enum mr_rc mr_log_sync(struct mr_log_writer *w, struct mr_err *err)
{
    struct mr_err unheard;
    err = err ? err : &unheard;
    enum mr_rc rc = failed_before(w, err);
    while (rc == MR_OK && !mr_log_durable_all(w)) {
        mr_log_durable_start(w, mr_clock_ns(), true);
        rc = mr_log_durable_reap(w, true, err);
    }
    return keep_failure(w, rc, err);
}

enum mr_rc mr_log_batch_record(const struct mr_log_writer *w, uint64_t sequence,
                               struct mr_log_record *out)
{
    if (!w->sealed || sequence < w->batch_first || sequence - w->batch_first >= w->count)
        return MR_AGAIN;
    const uint8_t *at = w->batch + w->offsets[sequence - w->batch_first];
    struct mr_log_frame frame;
    memcpy(&frame, at, sizeof frame);
    *out =
        (struct mr_log_record){.data = at + sizeof frame, .len = frame.len, .sequence = sequence};
    return MR_OK;
}
