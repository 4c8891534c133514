#include "relay/checkpoints.h"

#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/fault.h"

/* What the map may grow to: address space, not memory. */
#define MAP_BYTES (UINT64_C(1) << 30)
enum { VERSION = 1, GROUP_MAX = 1024 };

/* On disk; little endian. */
struct stored {
    uint32_t version, rebuild;
    uint64_t log_id, sequence;
    int64_t written_us;
};

struct mr_checkpoints {
    MDB_env *env;
    MDB_dbi dbi;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t submitted;
    STAILQ_HEAD(queue, mr_checkpoint_write) todo; /* lock */
    bool stop;                                    /* lock */
};

void mr_checkpoint_key(struct mr_checkpoint_key *out, struct mr_str consumer_id,
                       struct mr_str collection)
{
    MR_ASSERT(consumer_id.len + 1 + collection.len <= sizeof out->bytes);
    memcpy(out->bytes, consumer_id.data, consumer_id.len);
    out->bytes[consumer_id.len] = '\0';
    if (collection.len > 0)
        memcpy(out->bytes + consumer_id.len + 1, collection.data, collection.len);
    out->len = (uint32_t)(consumer_id.len + 1 + collection.len);
}

/* rc of LMDB as ours: a full disk or map may have room later. */
static enum mr_rc refuse(struct mr_err *err, int rc, const char *what)
{
    return mr_reject(err, rc == ENOSPC || rc == MDB_MAP_FULL || rc == EIO ? MR_RETRY : MR_FATAL,
                     "consumer checkpoints: %s: %s", what, mdb_strerror(rc));
}

static enum mr_rc read_value(MDB_txn *txn, MDB_dbi dbi, const struct mr_checkpoint_key *key,
                             struct mr_checkpoint_value *out, struct mr_err *err)
{
    MDB_val name = {key->len, (void *)(uintptr_t)key->bytes}, data;
    int rc = mdb_get(txn, dbi, &name, &data);
    if (rc == MDB_NOTFOUND)
        return MR_AGAIN;
    if (rc != 0)
        return refuse(err, rc, "read");
    struct stored stored;
    if (data.mv_size == sizeof stored)
        memcpy(&stored, data.mv_data, sizeof stored);
    if (data.mv_size != sizeof stored || stored.version != VERSION)
        return mr_reject(err, MR_CORRUPT,
                         "consumer checkpoints: an entry of %zu bytes is none of version %d",
                         data.mv_size, VERSION);
    *out = (struct mr_checkpoint_value){.log_id = stored.log_id,
                                        .sequence = stored.sequence,
                                        .written_us = stored.written_us,
                                        .rebuild = stored.rebuild != 0};
    return MR_OK;
}

enum mr_rc mr_checkpoints_get(struct mr_checkpoints *c, const struct mr_checkpoint_key *key,
                              struct mr_checkpoint_value *out, struct mr_err *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return refuse(err, rc, "begin to read");
    enum mr_rc result = read_value(txn, c->dbi, key, out, err);
    mdb_txn_abort(txn);
    return result;
}

/* What is to be written, from what is there. */
static void apply(struct mr_checkpoint_write *write, const struct mr_checkpoint_value *old)
{
    struct mr_checkpoint_value *value = &write->value;
    bool same_log = old && old->log_id == value->log_id;
    if (write->change == MR_CHECKPOINT_ADVANCE) {
        value->rebuild = old && old->rebuild;
        if (same_log && old->sequence > value->sequence)
            value->sequence = old->sequence;
    } else if (write->change == MR_CHECKPOINT_MARK) {
        *value = old ? *old : (struct mr_checkpoint_value){0};
        value->rebuild = true;
    } else {
        value->rebuild = false;
    }
    value->written_us = mr_clock_wall_us();
}

static int write_value(MDB_txn *txn, MDB_dbi dbi, struct mr_checkpoint_key *key,
                       const struct mr_checkpoint_value *value)
{
    struct stored stored = {.version = VERSION,
                            .rebuild = value->rebuild,
                            .log_id = value->log_id,
                            .sequence = value->sequence,
                            .written_us = value->written_us};
    MDB_val name = {key->len, key->bytes}, data = {sizeof stored, &stored};
    return mdb_put(txn, dbi, &name, &data, 0);
}

/* Who keeps places by collection rebuilds by collection, but is marked by its id. */
static int clear_mark_of_id(MDB_txn *txn, MDB_dbi dbi, const struct mr_checkpoint_key *key)
{
    struct mr_checkpoint_value value;
    struct mr_checkpoint_key id = *key;
    const char *nul = memchr(key->bytes, '\0', key->len);
    MR_ASSERT(nul != NULL);
    id.len = (uint32_t)(nul + 1 - key->bytes);
    if (id.len == key->len || read_value(txn, dbi, &id, &value, NULL) != MR_OK || !value.rebuild)
        return 0;
    MDB_val name = {id.len, id.bytes};
    if (value.log_id == 0)
        return mdb_del(txn, dbi, &name, NULL);
    value.rebuild = false;
    return write_value(txn, dbi, &id, &value);
}

static int put(struct mr_checkpoints *c, MDB_txn *txn, struct mr_checkpoint_write *write)
{
    struct mr_checkpoint_value old;
    enum mr_rc rc = read_value(txn, c->dbi, &write->key, &old, NULL);
    apply(write, rc == MR_OK ? &old : NULL);
    int failed = write_value(txn, c->dbi, &write->key, &write->value);
    if (failed == 0 && write->change == MR_CHECKPOINT_REBUILT)
        failed = clear_mark_of_id(txn, c->dbi, &write->key);
    return failed;
}

/* One transaction for all of these. */
static void commit(struct mr_checkpoints *c, struct queue *group)
{
    struct mr_checkpoint_write *write;
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(c->env, NULL, 0, &txn);
    STAILQ_FOREACH(write, group, link)
    if (rc == 0)
        rc = put(c, txn, write);
    if (rc == 0 && MR_FAULT("relay.checkpoint"))
        rc = EIO;
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else if (txn)
        mdb_txn_abort(txn);
    while ((write = STAILQ_FIRST(group))) {
        STAILQ_REMOVE_HEAD(group, link);
        write->rc = rc == 0 ? MR_OK : refuse(&write->err, rc, "write");
        write->done(write);
    }
}

static void *run(void *argument)
{
    struct mr_checkpoints *c = argument;
    struct queue group = STAILQ_HEAD_INITIALIZER(group);
    pthread_mutex_lock(&c->lock);
    for (;;) {
        struct mr_checkpoint_write *write;
        for (int i = 0; i < GROUP_MAX && (write = STAILQ_FIRST(&c->todo)); i++) {
            STAILQ_REMOVE_HEAD(&c->todo, link);
            STAILQ_INSERT_TAIL(&group, write, link);
        }
        bool empty = STAILQ_EMPTY(&group);
        if (empty && c->stop)
            break;
        if (empty) {
            pthread_cond_wait(&c->submitted, &c->lock);
            continue;
        }
        pthread_mutex_unlock(&c->lock);
        commit(c, &group);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static enum mr_rc open_database(struct mr_checkpoints *c, const char *dir, struct mr_err *err)
{
    MDB_txn *txn = NULL;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return mr_fail(err, MR_FATAL, "make %s for consumer checkpoints", dir);
    int rc = mdb_env_create(&c->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(c->env, MAP_BYTES);
    if (rc == 0)
        rc = mdb_env_open(c->env, dir, MDB_NOTLS, 0600);
    if (rc == 0)
        rc = mdb_txn_begin(c->env, NULL, 0, &txn);
    if (rc == 0)
        rc = mdb_dbi_open(txn, NULL, 0, &c->dbi);
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else if (txn)
        mdb_txn_abort(txn);
    return rc == 0 ? MR_OK : refuse(err, rc, dir);
}

enum mr_rc mr_checkpoints_open(struct mr_checkpoints **out, const char *dir, struct mr_err *err)
{
    struct mr_checkpoints *c = calloc(1, sizeof *c);
    if (!c)
        return mr_reject(err, MR_FATAL, "open consumer checkpoints: out of memory");
    STAILQ_INIT(&c->todo);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->submitted, NULL);
    enum mr_rc rc = open_database(c, dir, err);
    if (rc == MR_OK) {
        int failed = pthread_create(&c->thread, NULL, run, c);
        c->running = failed == 0;
        if (failed)
            rc = mr_reject(err, MR_FATAL, "start the checkpoint thread: %s", strerror(failed));
        else
            pthread_setname_np(c->thread, "checkpoints");
    }
    if (rc != MR_OK)
        mr_checkpoints_close(&c);
    else
        *out = c;
    return rc;
}

void mr_checkpoints_stop(struct mr_checkpoints *c)
{
    if (!c || !c->running)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->submitted);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    c->running = false;
}

void mr_checkpoints_close(struct mr_checkpoints **checkpoints)
{
    struct mr_checkpoints *c = *checkpoints;
    if (!c)
        return;
    *checkpoints = NULL;
    mr_checkpoints_stop(c);
    if (c->env)
        mdb_env_close(c->env);
    pthread_cond_destroy(&c->submitted);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void mr_checkpoints_put(struct mr_checkpoints *c, struct mr_checkpoint_write *write)
{
    pthread_mutex_lock(&c->lock);
    bool stop = c->stop;
    if (!stop) {
        STAILQ_INSERT_TAIL(&c->todo, write, link);
        pthread_cond_signal(&c->submitted);
    }
    pthread_mutex_unlock(&c->lock);
    if (stop) {
        write->rc = mr_reject(&write->err, MR_RETRY,
                              "consumer checkpoints: the relay is stopping; try again");
        write->done(write);
    }
}
