#include "log/io.h"

#include <errno.h>
#include <stddef.h>

#include "common/fault.h"

enum mr_rc mr_log_io_open(struct mr_log_io **out, bool thread, struct mr_err *err)
{
    if (!thread) {
        enum mr_rc rc = mr_log_io_uring(out, err);
        if (rc != MR_RETRY)
            return rc;
    }
    return mr_log_io_thread(out, err);
}

void mr_log_io_close(struct mr_log_io **io)
{
    if (*io)
        (*io)->ops->close(*io);
    *io = NULL;
}

void mr_log_io_submit(struct mr_log_io *io, struct mr_log_op *op)
{
    MR_ASSERT(!op->busy);
    op->busy = true;
    io->ops->submit(io, op);
}

static bool fault_of(const struct mr_log_op *op)
{
    switch (op->kind) {
    case MR_LOG_OP_OPEN:
        return MR_FAULT("log.open");
    case MR_LOG_OP_ALLOCATE:
        return MR_FAULT("log.allocate");
    case MR_LOG_OP_SYNC_DATA:
        return MR_FAULT("log.sync");
    case MR_LOG_OP_SYNC:
        return MR_FAULT("log.sync_all");
    case MR_LOG_OP_UNLINK:
        return MR_FAULT("log.unlink");
    case MR_LOG_OP_TIMER:
        break;
    }
    return false;
}

struct mr_log_op *mr_log_io_reap(struct mr_log_io *io, bool wait)
{
    struct mr_log_op *op = io->ops->reap(io, wait);
    if (!op)
        return NULL;
    MR_ASSERT(op->busy);
    op->busy = false;
    if (op->result >= 0 && op->kind != MR_LOG_OP_OPEN && fault_of(op))
        op->result = -EIO;
    return op;
}

int mr_log_io_fd(const struct mr_log_io *io)
{
    return io->ops->fd(io);
}
