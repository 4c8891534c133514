/* puller/sources/lines.h: the lines of a file, of standard input, or of a file that grows, is
 * rotated or cut off. */
#ifndef MR_PULLER_SOURCES_LINES_H
#define MR_PULLER_SOURCES_LINES_H
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

struct mr_lines {
    const char *path; /* borrowed; "-": standard input */
    bool follow, regular;
    int fd;        /* -1: not open (yet) */
    int notify_fd; /* inotify on the file that is followed; -1: none */
    char *buffer;
    size_t capacity, start, end; /* unread bytes */
    size_t line_bytes_max;
    size_t line_len; /* with its end; of the line that was shown last, 0: none */
    bool ended;      /* read returned end of file */
    bool skipping;   /* inside a line that is too long */
    bool finishing;  /* another file has taken the name: this one has an end now */
    uint64_t offset; /* in the file, of the byte at start */
    uint64_t number; /* of the line that was shown last, from 1 */
    uint64_t device, inode;
};

/* What became of the file while it was followed. */
enum mr_lines_change { MR_LINES_SAME, MR_LINES_ROTATED, MR_LINES_TRUNCATED };

/* Nothing is opened yet. */
MR_MUST_USE enum mr_rc mr_lines_init(struct mr_lines *lines, const char *path, bool follow,
                                     uint64_t line_bytes_max, struct mr_err *err);
void mr_lines_fini(struct mr_lines *lines);
/* Open at offset, in front of line number + 1. MR_AGAIN: not there yet, and followed; MR_USAGE: it
 * cannot be read. */
MR_MUST_USE enum mr_rc mr_lines_open(struct mr_lines *lines, uint64_t offset, uint64_t number,
                                     struct mr_err *err);
/* The next line without its LF, borrowed until mr_lines_done, which goes behind it; until then the
 * same line is shown again. The last one needs no LF unless the file is followed. MR_AGAIN: none
 * now; MR_CLOSED: the end; MR_USAGE: longer than line_bytes_max, and skipped by mr_lines_done;
 * MR_FATAL. */
MR_MUST_USE enum mr_rc mr_lines_next(struct mr_lines *lines, struct mr_str *line,
                                     struct mr_err *err);
void mr_lines_done(struct mr_lines *lines);
/* At the end of a followed file. Rotated: another one has taken its name; this one can be read to
 * its end (MR_CLOSED), and then mr_lines_open opens the other. Truncated: reading has begun anew.
 */
MR_MUST_USE enum mr_rc mr_lines_look(struct mr_lines *lines, enum mr_lines_change *change,
                                     struct mr_err *err);
#endif
