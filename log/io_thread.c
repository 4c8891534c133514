#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "log/io.h"

/* The helper thread: one operation after the other, in the order given; timers run beside them. */
struct helper {
    struct mr_log_io io;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int event_fd; /* counts what is in ended */
    bool stop;
    uint32_t waiting_count, ended_count;
    struct mr_log_op *waiting[MR_LOG_IO_OPS_MAX], *ended[MR_LOG_IO_OPS_MAX];
};

static int perform(const struct mr_log_op *op)
{
    int rc = 0;
    switch (op->kind) {
    case MR_LOG_OP_OPEN:
        rc = openat(op->fd, op->name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        break;
    case MR_LOG_OP_ALLOCATE:
        rc = fallocate(op->fd, 0, 0, (off_t)op->len);
        break;
    case MR_LOG_OP_SYNC_DATA:
        rc = fdatasync(op->fd);
        break;
    case MR_LOG_OP_SYNC:
        rc = fsync(op->fd);
        break;
    case MR_LOG_OP_UNLINK:
        rc = unlinkat(op->fd, op->name, 0);
        break;
    case MR_LOG_OP_TIMER:
        break;
    }
    return rc < 0 ? -errno : rc;
}

/* The next operation that can be done now, taken out of the queue; NULL: wait, until *deadline_ns.
 */
static struct mr_log_op *take(struct helper *helper, uint64_t *deadline_ns)
{
    uint64_t now_ns = mr_clock_ns();
    *deadline_ns = UINT64_MAX;
    for (uint32_t i = 0; i < helper->waiting_count; i++) {
        struct mr_log_op *op = helper->waiting[i];
        uint64_t due_ns = op->kind == MR_LOG_OP_TIMER ? (uint64_t)op->timer[0] : 0;
        if (due_ns > now_ns) {
            *deadline_ns = due_ns < *deadline_ns ? due_ns : *deadline_ns;
            continue;
        }
        helper->waiting_count--;
        for (uint32_t j = i; j < helper->waiting_count; j++)
            helper->waiting[j] = helper->waiting[j + 1];
        return op;
    }
    return NULL;
}

static void *helper_main(void *context)
{
    struct helper *helper = context;
    pthread_mutex_lock(&helper->mutex);
    while (!helper->stop) {
        uint64_t deadline_ns;
        struct mr_log_op *op = take(helper, &deadline_ns);
        if (!op && deadline_ns == UINT64_MAX) {
            pthread_cond_wait(&helper->changed, &helper->mutex);
            continue;
        }
        if (!op) {
            struct timespec until = {.tv_sec = (time_t)(deadline_ns / MR_NS_PER_S),
                                     .tv_nsec = (long)(deadline_ns % MR_NS_PER_S)};
            pthread_cond_timedwait(&helper->changed, &helper->mutex, &until);
            continue;
        }
        pthread_mutex_unlock(&helper->mutex);
        int result = perform(op);
        pthread_mutex_lock(&helper->mutex);
        op->result = result;
        helper->ended[helper->ended_count++] = op;
        eventfd_write(helper->event_fd, 1);
    }
    pthread_mutex_unlock(&helper->mutex);
    return NULL;
}

static void helper_submit(struct mr_log_io *io, struct mr_log_op *op)
{
    struct helper *helper = (struct helper *)io;
    if (op->kind == MR_LOG_OP_TIMER)
        op->timer[0] = (int64_t)(mr_clock_ns() + op->len);
    pthread_mutex_lock(&helper->mutex);
    MR_ASSERT(helper->waiting_count < MR_LOG_IO_OPS_MAX);
    helper->waiting[helper->waiting_count++] = op;
    pthread_cond_signal(&helper->changed);
    pthread_mutex_unlock(&helper->mutex);
}

static struct mr_log_op *helper_reap(struct mr_log_io *io, bool wait)
{
    struct helper *helper = (struct helper *)io;
    eventfd_t count;
    int rc; /* semaphore mode: one read, one operation */
    while ((rc = eventfd_read(helper->event_fd, &count)) != 0 && wait) {
        struct pollfd ready = {.fd = helper->event_fd, .events = POLLIN};
        poll(&ready, 1, -1);
    }
    if (rc != 0)
        return NULL;
    pthread_mutex_lock(&helper->mutex);
    MR_ASSERT(helper->ended_count > 0);
    struct mr_log_op *op = helper->ended[0];
    helper->ended_count--;
    for (uint32_t i = 0; i < helper->ended_count; i++)
        helper->ended[i] = helper->ended[i + 1];
    pthread_mutex_unlock(&helper->mutex);
    return op;
}

static int helper_fd(const struct mr_log_io *io)
{
    return ((const struct helper *)io)->event_fd;
}

static void helper_close(struct mr_log_io *io)
{
    struct helper *helper = (struct helper *)io;
    pthread_mutex_lock(&helper->mutex);
    helper->stop = true;
    pthread_cond_signal(&helper->changed);
    pthread_mutex_unlock(&helper->mutex);
    pthread_join(helper->thread, NULL);
    pthread_cond_destroy(&helper->changed);
    pthread_mutex_destroy(&helper->mutex);
    close(helper->event_fd);
    free(helper);
}

static const struct mr_log_io_ops helper_ops = {"thread", helper_submit, helper_reap, helper_fd,
                                                helper_close};

enum mr_rc mr_log_io_thread(struct mr_log_io **out, struct mr_err *err)
{
    struct helper *helper = calloc(1, sizeof *helper);
    if (!helper)
        return mr_fail(err, MR_FATAL, "start the log's helper thread");
    helper->io.ops = &helper_ops;
    helper->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (helper->event_fd < 0) {
        free(helper);
        return mr_fail(err, MR_FATAL, "start the log's helper thread");
    }
    pthread_mutex_init(&helper->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&helper->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    sigset_t all, before; /* signals belong to the process's own loop */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errno = pthread_create(&helper->thread, NULL, helper_main, helper);
    int failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        pthread_cond_destroy(&helper->changed);
        pthread_mutex_destroy(&helper->mutex);
        close(helper->event_fd);
        free(helper);
        errno = failed;
        return mr_fail(err, MR_FATAL, "start the log's helper thread");
    }
    *out = &helper->io;
    return MR_OK;
}
