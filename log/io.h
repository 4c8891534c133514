/* log/io.h: what the writer lets the kernel do in the background: fsync and the making and removing
 * of segments. Two ways with one face: io_uring, and a helper thread where io_uring is not
 * permitted (a container's seccomp profile, an old kernel). Private to log/.
 *
 * Batches themselves are written with pwrite by the caller: docs/log.md, "Why batches are not
 * written through io_uring". */
#ifndef MR_LOG_IO_H
#define MR_LOG_IO_H
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

enum mr_log_op_kind {
    MR_LOG_OP_OPEN, /* make name in directory fd, empty, for reading and writing: result is its fd
                     */
    MR_LOG_OP_ALLOCATE,  /* reserve len bytes from 0 in fd */
    MR_LOG_OP_SYNC_DATA, /* fdatasync fd */
    MR_LOG_OP_SYNC,      /* fsync fd, a file or a directory */
    MR_LOG_OP_UNLINK,    /* remove name from directory fd */
    MR_LOG_OP_TIMER,     /* end after len nanoseconds */
};

/* One operation, owned by the caller, who leaves it alone while busy. */
struct mr_log_op {
    enum mr_log_op_kind kind;
    int fd;
    const char *name;
    uint64_t len;
    int result; /* at least 0, or a negative errno */
    bool busy;
    int64_t timer[2]; /* for the backend */
};

struct mr_log_io;
enum { MR_LOG_IO_OPS_MAX = 8 }; /* in the kernel at once */

struct mr_log_io_ops {
    const char *name;
    void (*submit)(struct mr_log_io *io, struct mr_log_op *op);
    struct mr_log_op *(*reap)(struct mr_log_io *io, bool wait); /* NULL: nothing has finished */
    int (*fd)(const struct mr_log_io *io);
    void (*close)(struct mr_log_io *io);
};
struct mr_log_io {
    const struct mr_log_io_ops *ops;
};

/* io_uring when the kernel permits it and thread is false, else the thread. */
MR_MUST_USE enum mr_rc mr_log_io_open(struct mr_log_io **out, bool thread, struct mr_err *err);
/* All operations but timers must have ended. Clears *io. */
void mr_log_io_close(struct mr_log_io **io);
/* Never blocks; what cannot be submitted ends at once with its errno. */
void mr_log_io_submit(struct mr_log_io *io, struct mr_log_op *op);
/* The next operation that has ended, no longer busy; NULL when there is none and wait is false.
 * With wait there must be one on its way. */
struct mr_log_op *mr_log_io_reap(struct mr_log_io *io, bool wait);
/* Readable while something waits to be reaped. */
int mr_log_io_fd(const struct mr_log_io *io);

/* The backends. MR_RETRY: io_uring is not to be had here. */
MR_MUST_USE enum mr_rc mr_log_io_uring(struct mr_log_io **out, struct mr_err *err);
MR_MUST_USE enum mr_rc mr_log_io_thread(struct mr_log_io **out, struct mr_err *err);
#endif
