/* puller/sources/mongo_queue.h: what the reading thread hands to the puller's: a bounded queue with
 * a descriptor to wait for. One producer, one consumer. */
#ifndef MR_PULLER_SOURCES_MONGO_QUEUE_H
#define MR_PULLER_SOURCES_MONGO_QUEUE_H
#include <pthread.h>
#include <stdbool.h>

#include "puller/sources/mongo_conn.h"
#include "puller/sources/mongo_position.h"

enum mr_mongo_item_kind {
    MR_MONGO_ITEM_NONE,
    MR_MONGO_ITEM_OPENED,        /* a stream was opened; its answer holds no changes yet */
    MR_MONGO_ITEM_BATCH,         /* changes */
    MR_MONGO_ITEM_CHUNK,         /* documents of ns as of time */
    MR_MONGO_ITEM_SNAPSHOT_DONE, /* all collections have been read */
    MR_MONGO_ITEM_WAITING,       /* the connection is lost; err says why */
    MR_MONGO_ITEM_GIVEN_UP       /* the thread has ended; err says why */
};
struct mr_mongo_item {
    enum mr_mongo_item_kind kind;
    struct mr_mongo_reply *reply; /* a cursor's answer; NULL: none */
    bool lost;                    /* OPENED: history in front of it is lost; err says why */
    bool snapshot;                /* OPENED: and a snapshot begins */
    bool last;                    /* CHUNK: empty; at its time nothing more was in ns */
    uint64_t time;                /* CHUNK: cluster time at which it was read; OPENED, BATCH: all
                                     changes through this time are in it or in front of it */
    uint64_t total;               /* CHUNK: about how many documents ns holds */
    uint64_t wait_ns;             /* WAITING: until the next attempt */
    uint32_t attempt;
    char ns[MR_MONGO_NS_MAX + 1];
    struct mr_err err;
};

enum { MR_MONGO_QUEUE_ITEMS = 4, MR_MONGO_QUEUE_BYTES = 32 * 1024 * 1024 };

struct mr_mongo_queue {
    pthread_mutex_t mutex;
    pthread_cond_t room; /* an item was taken, or stopping */
    struct mr_mongo_item items[MR_MONGO_QUEUE_ITEMS];
    uint32_t first, count;
    size_t bytes; /* of replies in the queue */
    bool stopping;
    int event_fd; /* readable while there may be items */
};

MR_MUST_USE enum mr_rc mr_mongo_queue_init(struct mr_mongo_queue *queue, struct mr_err *err);
void mr_mongo_queue_fini(struct mr_mongo_queue *queue);
/* Producer: waits for room. MR_OK: taken, the reply belongs to the queue now; MR_CLOSED: stopping,
 * nothing was taken. At least one item always fits. */
MR_MUST_USE enum mr_rc mr_mongo_queue_put(struct mr_mongo_queue *queue,
                                          const struct mr_mongo_item *item);
/* Producer: sleep, at most so long. False: stopping. */
bool mr_mongo_queue_sleep(struct mr_mongo_queue *queue, uint64_t wait_ns);
bool mr_mongo_queue_stopping(struct mr_mongo_queue *queue);
/* Consumer. MR_OK: *out is taken, with its reply; MR_AGAIN: there is none. Never blocks for longer
 * than the other side copies an item. */
MR_MUST_USE enum mr_rc mr_mongo_queue_take(struct mr_mongo_queue *queue, struct mr_mongo_item *out);
void mr_mongo_queue_stop(struct mr_mongo_queue *queue);
#endif
