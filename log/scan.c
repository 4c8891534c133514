#include "log/scan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* At the live end most reads find zeros: read little there, much when there is much. */
enum { FILL_BYTES_MIN = 4096, FILL_BYTES_MAX = 256 * 1024 };

void mr_log_scan_init(struct mr_log_scan *scan)
{
    *scan = (struct mr_log_scan){.fd = -1, .fill_bytes = FILL_BYTES_MIN};
}

void mr_log_scan_fini(struct mr_log_scan *scan)
{
    free(scan->buffer);
    mr_log_scan_init(scan);
}

void mr_log_scan_start(struct mr_log_scan *scan, const struct mr_log_segment *segment,
                       uint64_t offset, uint64_t next_sequence)
{
    scan->fd = segment->fd;
    scan->salt = segment->head.salt;
    scan->offset = offset;
    scan->next_sequence = next_sequence;
    scan->window_len = 0;
}

/* Read afresh from the scan's offset: at least len bytes, if the file has them. */
static enum mr_rc fill(struct mr_log_scan *scan, size_t len, struct mr_err *err)
{
    size_t wanted = len > scan->fill_bytes ? len : scan->fill_bytes;
    if (wanted > scan->capacity) {
        size_t capacity = wanted > FILL_BYTES_MAX ? wanted : FILL_BYTES_MAX;
        uint8_t *larger = malloc(capacity);
        if (!larger)
            return mr_fail(err, MR_FATAL, "read segment: %zu bytes for a batch", capacity);
        free(scan->buffer);
        scan->buffer = larger;
        scan->capacity = capacity;
    }
    scan->window_len = 0;
    scan->window_offset = scan->offset;
    if (mr_log_pread(scan->fd, scan->buffer, wanted, scan->offset, &scan->window_len) != MR_OK)
        return mr_fail(err, MR_FATAL, "read segment at offset %" PRIu64, scan->offset);
    return MR_OK;
}

/* len bytes at the scan's offset, when the buffer has them. */
static const void *in_window(const struct mr_log_scan *scan, size_t len)
{
    if (scan->offset < scan->window_offset)
        return NULL;
    uint64_t skip = scan->offset - scan->window_offset;
    if (skip > scan->window_len || len > scan->window_len - skip)
        return NULL;
    return scan->buffer + skip;
}

static const struct mr_log_batch_head *head_in_window(const struct mr_log_scan *scan)
{
    const struct mr_log_batch_head *head = in_window(scan, sizeof *head);
    return head && mr_log_batch_head_ok(head, scan->next_sequence) ? head : NULL;
}

/* A plausible head may still lie about its length: believe it only as far as the file reaches. */
static bool reaches(const struct mr_log_scan *scan, uint32_t length)
{
    struct stat info;
    return fstat(scan->fd, &info) == 0 && info.st_size >= 0 &&
           scan->offset + length <= (uint64_t)info.st_size;
}

/* The head at the scan's offset; read afresh unless the buffer has a good one. NULL in *out: none.
 */
static enum mr_rc load_head(struct mr_log_scan *scan, const struct mr_log_batch_head **out,
                            struct mr_err *err)
{
    *out = head_in_window(scan);
    if (*out)
        return MR_OK;
    enum mr_rc rc = fill(scan, sizeof **out, err);
    *out = rc == MR_OK ? head_in_window(scan) : NULL;
    return rc;
}

static enum mr_rc load_batch(struct mr_log_scan *scan, const struct mr_log_batch_head **out,
                             struct mr_err *err)
{
    const struct mr_log_batch_head *head;
    enum mr_rc rc = load_head(scan, &head, err);
    *out = NULL;
    if (rc != MR_OK || !head)
        return rc;
    uint32_t length = head->length;
    if (!in_window(scan, length)) {
        if (!reaches(scan, length))
            return MR_OK;
        scan->fill_bytes *= scan->fill_bytes < FILL_BYTES_MAX ? 2 : 1;
        rc = fill(scan, length, err);
        /* The file may have been written meanwhile: the head counts only as it is now. */
        head = rc == MR_OK ? head_in_window(scan) : NULL;
        if (!head || !in_window(scan, head->length))
            return rc;
    }
    if (mr_log_batch_ok(head, scan->salt, scan->offset))
        *out = head;
    return MR_OK;
}

enum mr_rc mr_log_scan_next(struct mr_log_scan *scan, const struct mr_log_batch_head **out,
                            struct mr_err *err)
{
    enum mr_rc rc = load_batch(scan, out, err);
    if (rc != MR_OK)
        return rc;
    if (!*out) {
        scan->window_len =
            0; /* what was read before the writer came here proves nothing next time */
        scan->fill_bytes = FILL_BYTES_MIN;
        return MR_AGAIN;
    }
    scan->offset += (*out)->length;
    scan->next_sequence += (*out)->count;
    return MR_OK;
}

enum mr_rc mr_log_scan_skip(struct mr_log_scan *scan, uint64_t sequence, struct mr_err *err)
{
    const struct mr_log_batch_head *head;
    enum mr_rc rc = load_head(scan, &head, err);
    if (rc != MR_OK)
        return rc;
    if (!head || head->first_sequence + head->count > sequence || !reaches(scan, head->length))
        return MR_AGAIN;
    scan->offset += head->length;
    scan->next_sequence += head->count;
    return MR_OK;
}

enum mr_rc mr_log_scan_tail(struct mr_log_scan *scan, uint64_t *bytes, struct mr_err *err)
{
    uint64_t start = scan->offset, last = start;
    enum mr_rc rc;
    scan->fill_bytes = FILL_BYTES_MAX;
    while ((rc = fill(scan, FILL_BYTES_MAX, err)) == MR_OK && scan->window_len > 0) {
        size_t len = scan->window_len;
        while (len > 0 && scan->buffer[len - 1] == 0)
            len--;
        if (len > 0)
            last = scan->offset + len;
        scan->offset += scan->window_len;
    }
    scan->offset = start;
    scan->window_len = 0;
    scan->fill_bytes = FILL_BYTES_MIN;
    *bytes = last - start;
    return rc;
}
