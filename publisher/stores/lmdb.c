/* The store of one machine: LMDB, in DATA_DIR/subscriptions. A commit is one transaction with its
 * fsync, so a crash at any instant leaves either all of a commit or nothing of it. */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "publisher/store.h"

/* The file is sparse: this is address space, and a bound against a store that grows for ever. */
#define MAP_BYTES (UINT64_C(16) << 30)
enum { PATH_BYTES = 4096 };

struct lmdb_store {
    struct mr_store base;
    MDB_env *env;
    MDB_dbi tables[MR_STORE_TABLE_COUNT];
    char path[PATH_BYTES];
};

static struct lmdb_store *from_base(struct mr_store *store)
{
    MR_ASSERT(store->ops == &mr_store_lmdb);
    return (struct lmdb_store *)(void *)store;
}

static enum mr_rc fail(const struct lmdb_store *s, int rc, const char *what, struct mr_err *err)
{
    bool later = rc == ENOSPC || rc == MDB_MAP_FULL || rc == EIO || rc == EDQUOT || rc == ENOMEM;
    return mr_reject(err, later ? MR_RETRY : MR_FATAL, "%s in subscription store %s: %s", what,
                     s->path, mdb_strerror(rc));
}

static enum mr_rc open_tables(struct lmdb_store *s, struct mr_err *err)
{
    static const char *const names[MR_STORE_TABLE_COUNT] = {"subscriptions", "gateways"};
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0)
        return fail(s, rc, "begin", err);
    for (int i = 0; i < MR_STORE_TABLE_COUNT && rc == 0; i++)
        rc = mdb_dbi_open(txn, names[i], MDB_CREATE, &s->tables[i]);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return fail(s, rc, "open a table", err);
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? MR_OK : fail(s, rc, "create the tables", err);
}

static enum mr_rc open_env(struct lmdb_store *s, const char *data_dir, struct mr_err *err)
{
    int len = snprintf(s->path, sizeof s->path, "%s/subscriptions", data_dir);
    if (len < 0 || (size_t)len >= sizeof s->path)
        return mr_reject(err, MR_USAGE, "subscription store under %s: the path is too long",
                         data_dir);
    if (mkdir(s->path, 0700) != 0 && errno != EEXIST)
        return mr_fail(err, MR_FATAL, "make subscription store %s", s->path);
    int rc = mdb_env_create(&s->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(s->env, MR_STORE_TABLE_COUNT);
    if (rc == 0)
        rc = mdb_env_set_mapsize(s->env, MAP_BYTES);
    if (rc == 0)
        rc = mdb_env_open(s->env, s->path, MDB_NOTLS, 0600);
    return rc == 0 ? open_tables(s, err) : fail(s, rc, "open", err);
}

static void store_close(struct mr_store *store)
{
    struct lmdb_store *s = from_base(store);
    if (s->env)
        mdb_env_close(s->env);
    free(s);
}

static enum mr_rc store_open(struct mr_store **out, const struct mr_config *config,
                             struct mr_err *err)
{
    struct lmdb_store *s = calloc(1, sizeof *s);
    if (!s)
        return mr_fail(err, MR_FATAL, "open the subscription store");
    s->base.ops = &mr_store_lmdb;
    enum mr_rc rc = open_env(s, config->instance_data_dir.text, err);
    if (rc != MR_OK) {
        store_close(&s->base);
        return rc;
    }
    *out = &s->base;
    return MR_OK;
}

static MDB_val to_val(struct mr_str text)
{
    return (MDB_val){text.len, (void *)(uintptr_t)text.data};
}

static struct mr_str to_str(MDB_val val)
{
    return (struct mr_str){val.mv_data, val.mv_size};
}

static enum mr_rc store_load(struct mr_store *store, enum mr_store_table table,
                             mr_store_visit *visit, void *context, struct mr_err *err)
{
    struct lmdb_store *s = from_base(store);
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    enum mr_rc result = MR_OK;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return fail(s, rc, "begin to read", err);
    rc = mdb_cursor_open(txn, s->tables[table], &cursor);
    while (rc == 0 && result == MR_OK) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        if (rc == 0)
            result = visit(context, to_str(key), to_str(value), err);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    if (result == MR_OK && rc != MDB_NOTFOUND)
        return fail(s, rc, "read", err);
    return result;
}

static int apply(struct lmdb_store *s, MDB_txn *txn, const struct mr_store_change *change)
{
    MDB_val key = to_val(change->key), value = to_val(change->value);
    if (change->value.data)
        return mdb_put(txn, s->tables[change->table], &key, &value, 0);
    int rc = mdb_del(txn, s->tables[change->table], &key, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static enum mr_rc store_commit(struct mr_store *store, const struct mr_store_changes *changes,
                               struct mr_err *err)
{
    struct lmdb_store *s = from_base(store);
    const struct mr_store_change *change;
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0)
        return fail(s, rc, "begin to write", err);
    STAILQ_FOREACH(change, changes, next)
    {
        rc = apply(s, txn, change);
        if (rc != 0) {
            mdb_txn_abort(txn);
            return fail(s, rc, "write", err);
        }
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? MR_OK : fail(s, rc, "commit", err);
}

const struct mr_store_ops mr_store_lmdb = {
    .name = "lmdb",
    .open = store_open,
    .load = store_load,
    .commit = store_commit,
    .close = store_close,
};
