/* log/scan.h: walk over the batches of one segment, each checked once, in a buffer of our own: what
 * has been checked cannot change any more, and a file that shrinks is a short read and no SIGBUS.
 * Private to log/. Not thread-safe. */
#ifndef MR_LOG_SCAN_H
#define MR_LOG_SCAN_H
#include "log/segment.h"

struct mr_log_scan {
    int fd; /* borrowed */
    uint64_t salt;
    uint64_t offset;        /* of the next batch */
    uint64_t next_sequence; /* that it must begin with */
    uint8_t *buffer;
    size_t capacity;
    uint64_t window_offset; /* what of the file lies in buffer */
    size_t window_len;
    size_t fill_bytes; /* how much to read at once: grows with success */
};

void mr_log_scan_init(struct mr_log_scan *scan);
void mr_log_scan_fini(struct mr_log_scan *scan);
/* Begin with the batch at offset, which begins with next_sequence. */
void mr_log_scan_start(struct mr_log_scan *scan, const struct mr_log_segment *segment,
                       uint64_t offset, uint64_t next_sequence);

/* The next batch, checked; *out is borrowed until the next call. MR_AGAIN: no good batch here - not
 * written yet, torn or damaged, which only the caller can tell apart. MR_FATAL: the read failed. */
MR_MUST_USE enum mr_rc mr_log_scan_next(struct mr_log_scan *scan,
                                        const struct mr_log_batch_head **out, struct mr_err *err);
/* Step over the next batch when it holds nothing at or behind the record sequence; looks at its
 * head only. MR_AGAIN: it does hold it, or there is no batch head here. */
MR_MUST_USE enum mr_rc mr_log_scan_skip(struct mr_log_scan *scan, uint64_t sequence,
                                        struct mr_err *err);
/* Bytes from offset through the last one in the file that is not zero: what a torn tail holds. */
MR_MUST_USE enum mr_rc mr_log_scan_tail(struct mr_log_scan *scan, uint64_t *bytes,
                                        struct mr_err *err);
#endif
