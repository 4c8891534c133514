#include "puller/sources/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024 };

enum mr_rc mr_lines_init(struct mr_lines *lines, const char *path, bool follow,
                         uint64_t line_bytes_max, struct mr_err *err)
{
    *lines = (struct mr_lines){.path = path,
                               .follow = follow,
                               .fd = -1,
                               .notify_fd = -1,
                               .line_bytes_max = line_bytes_max};
    lines->capacity = READ_BYTES;
    lines->buffer = malloc(lines->capacity);
    return lines->buffer ? MR_OK : mr_fail(err, MR_FATAL, "allocate a line buffer");
}

static void close_file(struct mr_lines *lines)
{
    if (lines->fd > STDIN_FILENO)
        close(lines->fd);
    if (lines->notify_fd >= 0)
        close(lines->notify_fd);
    lines->fd = lines->notify_fd = -1;
}

void mr_lines_fini(struct mr_lines *lines)
{
    close_file(lines);
    free(lines->buffer);
    lines->buffer = NULL;
}

/* Without inotify (its watches are limited) the end of the file is looked at from time to time. */
static void watch(struct mr_lines *lines)
{
    lines->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (lines->notify_fd >= 0 &&
        inotify_add_watch(lines->notify_fd, lines->path,
                          IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF | IN_ATTRIB) < 0) {
        close(lines->notify_fd);
        lines->notify_fd = -1;
    }
}

enum mr_rc mr_lines_open(struct mr_lines *lines, uint64_t offset, uint64_t number,
                         struct mr_err *err)
{
    bool standard_input = strcmp(lines->path, "-") == 0;
    int fd = standard_input ? STDIN_FILENO : open(lines->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && lines->follow)
        return MR_AGAIN;
    if (fd < 0)
        return mr_fail(err, MR_USAGE, "open %s", lines->path);
    struct stat status;
    if (fstat(fd, &status) != 0 || S_ISDIR(status.st_mode)) {
        errno = S_ISDIR(status.st_mode) ? EISDIR : errno;
        if (!standard_input)
            close(fd);
        return mr_fail(err, MR_USAGE, "read %s", lines->path);
    }
    close_file(lines);
    lines->fd = fd;
    lines->regular = S_ISREG(status.st_mode);
    lines->device = status.st_dev;
    lines->inode = status.st_ino;
    lines->start = lines->end = lines->line_len = 0;
    lines->ended = lines->skipping = lines->finishing = false;
    lines->offset = offset;
    lines->number = number;
    if (lines->regular && lseek(fd, (off_t)offset, SEEK_SET) < 0)
        return mr_fail(err, MR_FATAL, "seek in %s to %" PRIu64, lines->path, offset);
    if (lines->regular && lines->follow && !standard_input)
        watch(lines);
    return MR_OK;
}

/* Room behind the unread bytes, for at most one line and what is read with it. */
static enum mr_rc make_room(struct mr_lines *lines, struct mr_err *err)
{
    memmove(lines->buffer, lines->buffer + lines->start, lines->end - lines->start);
    lines->end -= lines->start;
    lines->start = 0;
    if (lines->capacity - lines->end >= READ_BYTES / 2)
        return MR_OK;
    char *buffer = realloc(lines->buffer, lines->capacity * 2);
    if (!buffer)
        return mr_fail(err, MR_FATAL, "allocate %zu bytes for a line", lines->capacity * 2);
    lines->buffer = buffer;
    lines->capacity *= 2;
    return MR_OK;
}

/* Read on. MR_OK: more bytes are there; MR_AGAIN: none now; MR_CLOSED: end of file. */
static enum mr_rc fill(struct mr_lines *lines, struct mr_err *err)
{
    if (lines->ended && !lines->follow)
        return MR_CLOSED;  /* a terminal would ask for more */
    if (!lines->regular) { /* standard input may be shared: it is asked, not made non-blocking */
        struct pollfd ready = {.fd = lines->fd, .events = POLLIN};
        if (poll(&ready, 1, 0) <= 0)
            return MR_AGAIN;
    }
    enum mr_rc rc = make_room(lines, err);
    if (rc != MR_OK)
        return rc;
    ssize_t n = read(lines->fd, lines->buffer + lines->end, lines->capacity - lines->end);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? MR_AGAIN
                                                 : mr_fail(err, MR_FATAL, "read %s", lines->path);
    lines->ended = n == 0;
    lines->end += (size_t)n;
    return n > 0 ? MR_OK : MR_CLOSED;
}

static void consume(struct mr_lines *lines, size_t len)
{
    lines->start += len;
    lines->offset += len;
}

/* A line is too long: throw away what is there of it, keep looking for its end. */
static void skip_part(struct mr_lines *lines)
{
    lines->skipping = true;
    consume(lines, lines->end - lines->start);
}

static enum mr_rc show(struct mr_lines *lines, size_t len, size_t end_len, struct mr_str *line,
                       struct mr_err *err)
{
    lines->line_len = len + end_len;
    *line = (struct mr_str){lines->buffer + lines->start, len};
    if (!lines->skipping && len <= lines->line_bytes_max)
        return MR_OK;
    return mr_reject(err, MR_USAGE, "longer than ndjson.line_bytes_max, %zu bytes",
                     lines->line_bytes_max);
}

enum mr_rc mr_lines_next(struct mr_lines *lines, struct mr_str *line, struct mr_err *err)
{
    size_t searched = 0;
    for (;;) {
        const char *from = lines->buffer + lines->start + searched;
        size_t left = lines->end - lines->start - searched;
        const char *lf = left > 0 ? memchr(from, '\n', left) : NULL;
        if (lf)
            return show(lines, (size_t)(lf - (lines->buffer + lines->start)), 1, line, err);
        searched += left;
        if (searched > lines->line_bytes_max) {
            skip_part(lines);
            searched = 0;
        }
        enum mr_rc rc = fill(lines, err);
        if (rc == MR_OK)
            continue;
        if (rc != MR_CLOSED)
            return rc;
        if (lines->follow && lines->regular && !lines->finishing)
            return MR_AGAIN;
        return searched > 0 || lines->skipping ? show(lines, searched, 0, line, err) : MR_CLOSED;
    }
}

void mr_lines_done(struct mr_lines *lines)
{
    consume(lines, lines->line_len);
    lines->line_len = 0;
    lines->skipping = false;
    lines->number++;
}

enum mr_rc mr_lines_look(struct mr_lines *lines, enum mr_lines_change *change, struct mr_err *err)
{
    *change = MR_LINES_SAME;
    char events[4096];
    if (lines->notify_fd >= 0)
        while (read(lines->notify_fd, events, sizeof events) > 0)
            ;
    struct stat status;
    if (!lines->regular || strcmp(lines->path, "-") == 0)
        return MR_OK;
    if (stat(lines->path, &status) != 0)
        return errno == ENOENT ? MR_OK : mr_fail(err, MR_FATAL, "look at %s", lines->path);
    if (status.st_dev != lines->device || status.st_ino != lines->inode)
        *change = MR_LINES_ROTATED;
    else if ((uint64_t)status.st_size < lines->offset + (lines->end - lines->start))
        *change = MR_LINES_TRUNCATED;
    lines->finishing = *change == MR_LINES_ROTATED;
    if (*change != MR_LINES_TRUNCATED)
        return MR_OK;
    enum mr_rc rc = mr_lines_open(lines, 0, 0, err);
    return rc == MR_AGAIN ? MR_OK : rc; /* gone meanwhile: seen at the next look */
}
