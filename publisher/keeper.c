#include "publisher/keeper.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "common/log.h"

/* How often the store is asked whether something that could wait is due. */
enum { TIDY_S = 1 };

struct mr_keeper {
    struct mr_store *store;
    struct mr_doorbell_shm *bell;
    pthread_t thread;
    pthread_mutex_t lock; /* of the lists and stopping */
    pthread_cond_t more;
    struct mr_store_changes submitted, done;
    _Atomic bool waiting; /* done is not empty; lets the pump look without the lock */
    bool stopping;
};

struct mr_store_change *mr_store_change_create(enum mr_store_table table, struct mr_str key,
                                               struct mr_str value)
{
    MR_ASSERT(key.len > 0 && key.len <= MR_STORE_KEY_MAX);
    struct mr_store_change *change = malloc(sizeof *change + key.len + value.len);
    if (!change)
        return NULL;
    char *bytes = (char *)(change + 1);
    memcpy(bytes, key.data, key.len);
    *change = (struct mr_store_change){.table = table, .key = {bytes, key.len}};
    if (value.data) {
        memcpy(bytes + key.len, value.data, value.len);
        change->value = (struct mr_str){bytes + key.len, value.len};
    }
    return change;
}

static void drop_all(struct mr_store_changes *changes)
{
    struct mr_store_change *change;
    while ((change = STAILQ_FIRST(changes)) != NULL) {
        STAILQ_REMOVE_HEAD(changes, next);
        free(change);
    }
}

static void commit(struct mr_keeper *k, struct mr_store_changes *batch)
{
    struct mr_err err = {0};
    struct mr_store_change *change;
    STAILQ_FOREACH(change, batch, next)
    change->rc = MR_OK; /* it may have failed before */
    enum mr_rc rc = k->store->ops->commit(k->store, batch, &err);
    if (rc == MR_OK)
        return;
    mr_log_error("store", "not_kept", "why=\"%s\"", err.text);
    STAILQ_FOREACH(change, batch, next)
    change->rc = (uint32_t)rc;
}

/* Lock held. Until there is something to commit, or the thread is to end. */
static void wait_for_work(struct mr_keeper *k)
{
    bool (*tidy)(struct mr_store * store) = k->store->ops->tidy;
    while (STAILQ_EMPTY(&k->submitted) && !k->stopping) {
        bool more = false;
        if (tidy) {
            pthread_mutex_unlock(&k->lock);
            more = tidy(k->store);
            pthread_mutex_lock(&k->lock);
        }
        if (more || !STAILQ_EMPTY(&k->submitted) || k->stopping)
            continue;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += TIDY_S;
        if (tidy)
            pthread_cond_timedwait(&k->more, &k->lock, &until);
        else
            pthread_cond_wait(&k->more, &k->lock);
    }
}

static void *run(void *argument)
{
    struct mr_keeper *k = argument;
    struct mr_store_changes batch = STAILQ_HEAD_INITIALIZER(batch);
    pthread_mutex_lock(&k->lock);
    for (;;) {
        wait_for_work(k);
        if (STAILQ_EMPTY(&k->submitted))
            break;
        STAILQ_CONCAT(&batch, &k->submitted);
        pthread_mutex_unlock(&k->lock);
        commit(k, &batch);
        pthread_mutex_lock(&k->lock);
        STAILQ_CONCAT(&k->done, &batch);
        atomic_store_explicit(&k->waiting, true, memory_order_release);
        mr_doorbell_ring(k->bell);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

enum mr_rc mr_keeper_create(struct mr_keeper **out, struct mr_store *store,
                            struct mr_doorbell_shm *bell, struct mr_err *err)
{
    struct mr_keeper *k = calloc(1, sizeof *k);
    int rc = k ? 0 : ENOMEM;
    if (k) {
        k->store = store;
        k->bell = bell;
        STAILQ_INIT(&k->submitted);
        STAILQ_INIT(&k->done);
        pthread_mutex_init(&k->lock, NULL);
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&k->more, &attributes);
        pthread_condattr_destroy(&attributes);
        rc = pthread_create(&k->thread, NULL, run, k);
    }
    if (rc != 0) {
        store->ops->close(store);
        free(k);
        return mr_reject(err, MR_FATAL, "start the thread of the subscription store: %s",
                         strerror(rc));
    }
    pthread_setname_np(k->thread, "store");
    *out = k;
    return MR_OK;
}

void mr_keeper_stop(struct mr_keeper *k)
{
    if (k->stopping)
        return;
    pthread_mutex_lock(&k->lock);
    k->stopping = true;
    pthread_cond_signal(&k->more);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
}

void mr_keeper_destroy(struct mr_keeper **keeper)
{
    struct mr_keeper *k = *keeper;
    if (!k)
        return;
    mr_keeper_stop(k);
    drop_all(&k->done);
    k->store->ops->close(k->store);
    pthread_cond_destroy(&k->more);
    pthread_mutex_destroy(&k->lock);
    free(k);
    *keeper = NULL;
}

void mr_keeper_submit(struct mr_keeper *k, struct mr_store_changes *changes)
{
    if (STAILQ_EMPTY(changes))
        return;
    pthread_mutex_lock(&k->lock);
    STAILQ_CONCAT(&k->submitted, changes);
    pthread_cond_signal(&k->more);
    pthread_mutex_unlock(&k->lock);
}

void mr_keeper_collect(struct mr_keeper *k, struct mr_store_changes *out)
{
    if (!mr_keeper_waiting(k))
        return;
    pthread_mutex_lock(&k->lock);
    STAILQ_CONCAT(out, &k->done);
    atomic_store_explicit(&k->waiting, false, memory_order_relaxed);
    pthread_mutex_unlock(&k->lock);
}

bool mr_keeper_waiting(const struct mr_keeper *k)
{
    return atomic_load_explicit(&k->waiting, memory_order_acquire);
}
