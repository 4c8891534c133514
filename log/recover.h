/* log/recover.h: what a writer finds when it opens a directory: check, cut the torn tail. Private
 * to log/. Called under the directory's lock. */
#ifndef MR_LOG_RECOVER_H
#define MR_LOG_RECOVER_H
#include "log/segment.h"

struct mr_log_recovered {
    uint64_t log_id; /* 0: the directory holds no log */
    uint64_t next_sequence;
    uint64_t torn_bytes;
    struct mr_log_segment last; /* open for writing; the caller closes it */
    uint64_t end;               /* of the last batch in it */
    struct mr_log_part *parts;  /* all segments, ascending; from malloc, caller frees */
    uint32_t count;
    uint32_t position_len;
    uint8_t position[MR_LOG_POSITION_MAX];
};
struct mr_log_part {
    uint64_t first_sequence;
    uint64_t size;
    int64_t created_us; /* also the time at which the one before it ended */
};

/* Everything that is kept is on disk when this returns MR_OK. MR_CORRUPT changes nothing. */
MR_MUST_USE enum mr_rc mr_log_recover(struct mr_log_recovered *out, int dir_fd, const char *dir,
                                      struct mr_err *err);
#endif
