#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "log/io.h"

struct uring {
    struct mr_log_io io;
    struct io_uring ring;
};

static void prepare(struct io_uring_sqe *sqe, struct mr_log_op *op)
{
    switch (op->kind) {
    case MR_LOG_OP_OPEN:
        io_uring_prep_openat(sqe, op->fd, op->name,
                             O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        break;
    case MR_LOG_OP_ALLOCATE:
        io_uring_prep_fallocate(sqe, op->fd, 0, 0, (off_t)op->len);
        break;
    case MR_LOG_OP_SYNC_DATA:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    case MR_LOG_OP_SYNC:
        io_uring_prep_fsync(sqe, op->fd, 0);
        break;
    case MR_LOG_OP_UNLINK:
        io_uring_prep_unlinkat(sqe, op->fd, op->name, 0);
        break;
    case MR_LOG_OP_TIMER: {
        struct __kernel_timespec *after = (struct __kernel_timespec *)op->timer;
        after->tv_sec = (int64_t)(op->len / 1000000000);
        after->tv_nsec = (int64_t)(op->len % 1000000000);
        io_uring_prep_timeout(sqe, after, 0, 0);
        break;
    }
    }
    io_uring_sqe_set_data(sqe, op);
}

static void uring_submit(struct mr_log_io *io, struct mr_log_op *op)
{
    struct uring *uring = (struct uring *)io;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    MR_ASSERT(sqe); /* the queue has room for every operation that may be under way */
    prepare(sqe, op);
    int submitted;
    do
        submitted = io_uring_submit(&uring->ring);
    while (submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY);
    /* What is left are bugs and a kernel that forgot io_uring meanwhile: the operation would never
     * end. */
    MR_ASSERT(submitted == 1);
}

static struct mr_log_op *uring_reap(struct mr_log_io *io, bool wait)
{
    struct uring *uring = (struct uring *)io;
    struct io_uring_cqe *cqe = NULL;
    int rc;
    do
        rc = wait ? io_uring_wait_cqe(&uring->ring, &cqe) : io_uring_peek_cqe(&uring->ring, &cqe);
    while (rc == -EINTR || (wait && rc == -EAGAIN));
    if (rc != 0)
        return NULL;
    struct mr_log_op *op = io_uring_cqe_get_data(cqe);
    op->result = op->kind == MR_LOG_OP_TIMER ? 0 : cqe->res; /* a timer ends with ETIME */
    io_uring_cqe_seen(&uring->ring, cqe);
    return op;
}

static int uring_fd(const struct mr_log_io *io)
{
    return ((const struct uring *)io)->ring.ring_fd;
}

static void uring_close(struct mr_log_io *io)
{
    struct uring *uring = (struct uring *)io;
    io_uring_queue_exit(&uring->ring);
    free(uring);
}

static const struct mr_log_io_ops uring_ops = {"io_uring", uring_submit, uring_reap, uring_fd,
                                               uring_close};

/* Does this kernel know every operation that we use? */
static bool knows_all(struct io_uring *ring)
{
    static const uint8_t wanted[] = {IORING_OP_OPENAT, IORING_OP_FALLOCATE, IORING_OP_FSYNC,
                                     IORING_OP_UNLINKAT, IORING_OP_TIMEOUT};
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool all = probe != NULL;
    for (size_t i = 0; all && i < sizeof wanted; i++)
        all = io_uring_opcode_supported(probe, wanted[i]);
    io_uring_free_probe(probe);
    return all;
}

enum mr_rc mr_log_io_uring(struct mr_log_io **out, struct mr_err *err)
{
    struct uring *uring = calloc(1, sizeof *uring);
    if (!uring)
        return mr_fail(err, MR_FATAL, "set up io_uring");
    int rc = io_uring_queue_init(MR_LOG_IO_OPS_MAX, &uring->ring, 0);
    if (rc != 0) {
        free(uring);
        errno = -rc;
        return mr_fail(err, MR_RETRY, "set up io_uring");
    }
    if (!knows_all(&uring->ring)) {
        uring_close(&uring->io);
        return mr_reject(err, MR_RETRY, "set up io_uring: the kernel is too old");
    }
    uring->io.ops = &uring_ops;
    *out = &uring->io;
    return MR_OK;
}
