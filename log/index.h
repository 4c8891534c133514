/* log/index.h: where in which segment a sequence is, roughly: a reader's memory of batches that it
 * has passed. Private to log/. Not thread-safe. */
#ifndef MR_LOG_INDEX_H
#define MR_LOG_INDEX_H
#include <stdint.h>

enum { MR_LOG_INDEX_POINTS = 64 };

/* At most MR_LOG_INDEX_POINTS batches of one segment, at least spacing bytes apart. */
struct mr_log_index_part {
    uint64_t first_sequence; /* of the segment */
    uint64_t spacing;
    uint32_t count;
    struct {
        uint64_t sequence, offset;
    } points[MR_LOG_INDEX_POINTS];
};
struct mr_log_index {
    struct mr_log_index_part **parts; /* ascending */
    uint32_t count, room;
};

void mr_log_index_fini(struct mr_log_index *index);
/* Remember that the batch at offset of segment first begins with sequence. Forgets rather than
 * fails. */
void mr_log_index_add(struct mr_log_index *index, uint64_t first, uint64_t sequence,
                      uint64_t offset);
/* The last known batch of the segment that begins at or before *sequence: sets both; else
 * unchanged. */
void mr_log_index_find(const struct mr_log_index *index, uint64_t first, uint64_t *sequence,
                       uint64_t *offset);
/* Segments before first are gone. */
void mr_log_index_drop(struct mr_log_index *index, uint64_t first);
#endif
