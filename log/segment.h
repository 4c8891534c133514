/* log/segment.h: one segment file and the directory of them: names, heads, marks, batch checks.
 * Used by writer, reader and verifier alike. Private to log/. No function keeps state. */
#ifndef MR_LOG_SEGMENT_H
#define MR_LOG_SEGMENT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "log/format.h"
#include "log/log.h"

enum { MR_LOG_PATH_MAX = 4096, MR_LOG_NAME_MAX = 32 };
#define MR_LOG_SPARE_NAME "spare.tmp" /* the next segment, made in advance */

/* "<first sequence, 20 digits>.mrlog" */
void mr_log_segment_name(char out[MR_LOG_NAME_MAX], uint64_t first_sequence);
/* 0 unless name is exactly such a name: foreign files in the directory are nobody's business. */
uint64_t mr_log_segment_parse(const char *name);

/* First sequences of all segments in dir, ascending; *out from malloc, caller frees. */
MR_MUST_USE enum mr_rc mr_log_segment_list(int dir_fd, const char *dir, uint64_t **out,
                                           size_t *count, struct mr_err *err);

/* Open a segment for reading, or also writing, and check its head. MR_AGAIN without a text: it does
 * not exist. MR_CORRUPT: the head is damaged or not of this format. A head with first_sequence 0
 * passes (prepared, not yet begun) when allow_unbegun. */
struct mr_log_open {
    int dir_fd;
    const char *dir;
    uint64_t first_sequence;
    bool writable, allow_unbegun;
};
struct mr_log_segment {
    int fd; /* -1: none */
    uint64_t first_sequence;
    uint64_t size; /* of the file, when it was opened */
    struct mr_log_segment_head head;
};
MR_MUST_USE enum mr_rc mr_log_segment_open(struct mr_log_segment *out,
                                           const struct mr_log_open *how, struct mr_err *err);
void mr_log_segment_close(struct mr_log_segment *segment);

void mr_log_head_seal(struct mr_log_segment_head *head); /* set its crc */
void mr_log_mark_seal(struct mr_log_mark *mark, uint64_t salt);
/* The mark of an open segment; all zero: nothing was synced yet. MR_CORRUPT, MR_FATAL. */
MR_MUST_USE enum mr_rc mr_log_mark_read(const struct mr_log_segment *segment, const char *dir,
                                        struct mr_log_mark *out, struct mr_err *err);

/* Read len bytes at offset; short at the end of the file. *got is how many there were. */
MR_MUST_USE enum mr_rc mr_log_pread(int fd, void *out, size_t len, uint64_t offset, size_t *got);
MR_MUST_USE enum mr_rc mr_log_pwrite(int fd, const void *data, size_t len, uint64_t offset);

/* Is this the head of a batch that may stand here? Cheap: does not look at the body. */
bool mr_log_batch_head_ok(const struct mr_log_batch_head *head, uint64_t next_sequence);
uint32_t mr_log_batch_crc(const struct mr_log_batch_head *batch, uint64_t salt, uint64_t offset);
/* Check a batch that is in memory as a whole (head->length bytes): checksum, frames, position. */
bool mr_log_batch_ok(const struct mr_log_batch_head *batch, uint64_t salt, uint64_t offset);
static inline const uint8_t *mr_log_batch_position(const struct mr_log_batch_head *batch)
{
    return (const uint8_t *)batch + batch->length - mr_log_pad8(batch->position_len);
}
/* Record index of a checked batch. */
void mr_log_batch_at(const struct mr_log_batch_head *batch, uint32_t index,
                     struct mr_log_record *out);
#endif
