#include "puller/sources/mongo_queue.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"

enum mr_rc mr_mongo_queue_init(struct mr_mongo_queue *queue, struct mr_err *err)
{
    memset(queue, 0, sizeof *queue);
    queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->event_fd < 0)
        return mr_fail(err, MR_FATAL, "make an eventfd for the mongodb source");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->room, &attributes);
    pthread_condattr_destroy(&attributes);
    return MR_OK;
}

void mr_mongo_queue_fini(struct mr_mongo_queue *queue)
{
    for (; queue->count > 0; queue->count--, queue->first++)
        mr_mongo_reply_free(&queue->items[queue->first % MR_MONGO_QUEUE_ITEMS].reply);
    pthread_cond_destroy(&queue->room);
    pthread_mutex_destroy(&queue->mutex);
    close(queue->event_fd);
}

static size_t bytes_of(const struct mr_mongo_item *item)
{
    return item->reply ? mr_mongo_reply_bytes(item->reply).len : 0;
}

enum mr_rc mr_mongo_queue_put(struct mr_mongo_queue *queue, const struct mr_mongo_item *item)
{
    size_t bytes = bytes_of(item);
    pthread_mutex_lock(&queue->mutex);
    while (!queue->stopping && (queue->count == MR_MONGO_QUEUE_ITEMS ||
                                (queue->count > 0 && queue->bytes + bytes > MR_MONGO_QUEUE_BYTES)))
        pthread_cond_wait(&queue->room, &queue->mutex);
    bool stopping = queue->stopping;
    bool was_empty = queue->count == 0;
    if (!stopping) {
        queue->items[(queue->first + queue->count++) % MR_MONGO_QUEUE_ITEMS] = *item;
        queue->bytes += bytes;
    }
    pthread_mutex_unlock(&queue->mutex);
    if (stopping)
        return MR_CLOSED;
    if (was_empty) {
        ssize_t written = write(queue->event_fd, &(uint64_t){1}, sizeof(uint64_t));
        MR_ASSERT(written == sizeof(uint64_t) || errno == EAGAIN);
    }
    return MR_OK;
}

bool mr_mongo_queue_sleep(struct mr_mongo_queue *queue, uint64_t wait_ns)
{
    uint64_t until_ns = mr_clock_ns() + wait_ns;
    struct timespec until = {.tv_sec = (time_t)(until_ns / MR_NS_PER_S),
                             .tv_nsec = (long)(until_ns % MR_NS_PER_S)};
    pthread_mutex_lock(&queue->mutex);
    while (!queue->stopping &&
           pthread_cond_timedwait(&queue->room, &queue->mutex, &until) != ETIMEDOUT)
        ;
    bool stopping = queue->stopping;
    pthread_mutex_unlock(&queue->mutex);
    return !stopping;
}

bool mr_mongo_queue_stopping(struct mr_mongo_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    bool stopping = queue->stopping;
    pthread_mutex_unlock(&queue->mutex);
    return stopping;
}

enum mr_rc mr_mongo_queue_take(struct mr_mongo_queue *queue, struct mr_mongo_item *out)
{
    uint64_t drained;
    pthread_mutex_lock(&queue->mutex);
    bool have = queue->count > 0;
    if (have) {
        *out = queue->items[queue->first % MR_MONGO_QUEUE_ITEMS];
        queue->items[queue->first % MR_MONGO_QUEUE_ITEMS].reply = NULL;
        queue->first++;
        queue->count--;
        queue->bytes -= bytes_of(out);
        pthread_cond_signal(&queue->room);
    } else if (read(queue->event_fd, &drained, sizeof drained) < 0) {
        MR_ASSERT(errno == EAGAIN); /* not rung since */
    }
    pthread_mutex_unlock(&queue->mutex);
    return have ? MR_OK : MR_AGAIN;
}

void mr_mongo_queue_stop(struct mr_mongo_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->stopping = true;
    pthread_cond_broadcast(&queue->room);
    pthread_mutex_unlock(&queue->mutex);
}
