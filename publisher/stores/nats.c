/* The store of many machines: a JetStream key-value bucket. A record is the value of s.ID, a
 * gateway's last sign that of g.NAME. Whoever starts the instance again, wherever, finds them.
 *
 * A commit publishes its changes, one after the other, and waits until the server has acknowledged
 * all of them. When it does not, a part of them may be kept all the same: who was told UNAVAILABLE
 * and asks again is right either way, and what nobody asks for again ends with its time to live. A
 * removed key leaves a marker behind, which is cleared away when there is nothing to commit: those
 * of this publisher, and those that a start finds. Not at once: a server that is killed finds out
 * from the marker that the value before it is gone, until it has written that down elsewhere. */
#include <inttypes.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "jetstream/link.h"
#include "publisher/store.h"

enum {
    BUCKET_MAX = 160,   /* bytes of the bucket's name and its NUL */
    PENDING_MAX = 4096, /* messages under way */
    SUBJECT_MAX = BUCKET_MAX + MR_STORE_KEY_MAX + 16,
    MARKERS_MAX = 100000, /* known at a time: the next start finds the others */
    PURGES_MAX = 16,      /* under way at once: a commit may have to wait for them */
};
/* How long purges are awaited, and how long they are left alone when one has failed. */
#define PURGE_MS       INT64_C(1000)
#define PURGE_AGAIN_NS (60 * MR_NS_PER_S)

struct marker {
    STAILQ_ENTRY(marker) next;
    uint64_t sequence, due_ns;
    char subject[];
};
STAILQ_HEAD(markers, marker);

struct nats_store {
    struct mr_store base;
    const struct mr_config *config;
    natsConnection *connection;
    jsCtx *js;
    kvStore *bucket;
    _Atomic uint32_t refused; /* publishes of this commit that came back with an error */
    uint64_t value_max;       /* bytes that server and bucket take */
    char name[BUCKET_MAX];
    pthread_mutex_t lock; /* of the markers: nats.c's thread finds some */
    struct markers markers;
    uint32_t marker_count;
    uint64_t purge_after_ns;
};

static struct nats_store *from_base(struct mr_store *store)
{
    MR_ASSERT(store->ops == &mr_store_nats);
    return (struct nats_store *)(void *)store;
}

static enum mr_rc fail(const struct nats_store *s, natsStatus status, const char *what,
                       struct mr_err *err)
{
    const char *detail = nats_GetLastError(NULL);
    return mr_reject(err, MR_RETRY, "%s in subscription bucket %s: %s%s%s", what, s->name,
                     natsStatus_GetText(status), detail && *detail ? ": " : "",
                     detail ? detail : "");
}

static int64_t wait_ms(const struct nats_store *s)
{
    return (int64_t)(s->config->nats_ack_timeout / MR_NS_PER_MS);
}

static void disconnect(struct nats_store *s)
{
    kvStore_Destroy(s->bucket);
    jsCtx_Destroy(s->js);
    s->bucket = NULL;
    s->js = NULL;
    if (s->connection)
        mr_js_disconnect(&s->connection);
}

/* A marker of that age. One that is not remembered is found by the next start. */
static void remember(struct nats_store *s, const char *subject, uint64_t sequence, uint64_t age_ns)
{
    uint64_t wanted_ns = s->config->subscriptions_marker_age;
    size_t len = strlen(subject) + 1;
    struct marker *marker = malloc(sizeof *marker + len);
    if (!marker)
        return;
    marker->sequence = sequence;
    marker->due_ns = mr_clock_ns() + (age_ns < wanted_ns ? wanted_ns - age_ns : 0);
    memcpy(marker->subject, subject, len);
    pthread_mutex_lock(&s->lock);
    bool room = s->marker_count < MARKERS_MAX;
    if (room) {
        STAILQ_INSERT_TAIL(&s->markers, marker, next);
        s->marker_count++;
    }
    pthread_mutex_unlock(&s->lock);
    if (!room)
        free(marker);
}

/* nats.c's thread. A message without a value is a deletion. */
static void on_published(jsCtx *js, natsMsg *message, jsPubAck *kept, jsPubAckErr *refused,
                         void *context)
{
    struct nats_store *s = context;
    (void)js;
    if (refused)
        atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed);
    else if (kept && natsMsg_GetDataLength(message) == 0)
        remember(s, natsMsg_GetSubject(message), kept->Sequence, 0);
    natsMsg_Destroy(message);
}

/* One that forgets by itself, or with the machine, is none. */
static enum mr_rc check_bucket(struct nats_store *s, struct mr_err *err)
{
    char stream[BUCKET_MAX + 8];
    jsStreamInfo *info = NULL;
    snprintf(stream, sizeof stream, "KV_%s", s->name);
    natsStatus status = js_GetStreamInfo(&info, s->js, stream, NULL, NULL);
    if (status != NATS_OK)
        return fail(s, status, "look", err);
    bool good = info->Config->Storage == js_FileStorage && info->Config->MaxAge == 0;
    s->value_max = (uint64_t)natsConnection_GetMaxPayload(s->connection);
    if (info->Config->MaxMsgSize >= 0 && (uint64_t)info->Config->MaxMsgSize < s->value_max)
        s->value_max = (uint64_t)info->Config->MaxMsgSize;
    jsStreamInfo_Destroy(info);
    return good ? MR_OK
                : mr_reject(err, MR_USAGE,
                            "subscriptions.bucket %s: expected one with file storage and without "
                            "a time to live",
                            s->name);
}

static enum mr_rc find_bucket(struct nats_store *s, struct mr_err *err)
{
    natsStatus status = js_KeyValue(&s->bucket, s->js, s->name);
    if (status == NATS_NOT_FOUND) {
        kvConfig config;
        kvConfig_Init(&config);
        config.Bucket = s->name;
        config.Description = "durable subscriptions of millrace";
        config.History = 1;
        config.StorageType = js_FileStorage;
        config.Replicas = (int)s->config->subscriptions_replicas;
        status = js_CreateKeyValue(&s->bucket, s->js, &config);
    }
    return status == NATS_OK ? check_bucket(s, err) : fail(s, status, "open", err);
}

static enum mr_rc connect(struct nats_store *s, struct mr_err *err)
{
    const struct mr_js_options link = {.url = s->config->nats_url.text,
                                       .credentials = s->config->nats_credentials.text,
                                       .ca = s->config->nats_ca.text,
                                       .name = "millrace-subscriptions"};
    jsOptions options;
    jsOptions_Init(&options);
    options.Wait = wait_ms(s);
    options.PublishAsync.MaxPending = PENDING_MAX;
    options.PublishAsync.StallWait = wait_ms(s);
    options.PublishAsync.AckHandler = on_published;
    options.PublishAsync.AckHandlerClosure = s;
    disconnect(s);
    enum mr_rc rc = mr_js_connect(&s->connection, &link, err);
    if (rc != MR_OK)
        return rc;
    natsStatus status = natsConnection_JetStream(&s->js, s->connection, &options);
    rc = status == NATS_OK ? find_bucket(s, err) : fail(s, status, "connect", err);
    if (rc != MR_OK)
        disconnect(s);
    return rc;
}

static void store_close(struct mr_store *store)
{
    struct nats_store *s = from_base(store);
    disconnect(s);
    struct marker *marker;
    while ((marker = STAILQ_FIRST(&s->markers)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->markers, next);
        free(marker);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static enum mr_rc store_open(struct mr_store **out, const struct mr_config *config,
                             struct mr_err *err)
{
    struct nats_store *s = calloc(1, sizeof *s);
    if (!s)
        return mr_fail(err, MR_FATAL, "open the subscription store");
    s->base.ops = &mr_store_nats;
    s->config = config;
    pthread_mutex_init(&s->lock, NULL);
    STAILQ_INIT(&s->markers);
    if (*config->subscriptions_bucket.text)
        snprintf(s->name, sizeof s->name, "%.100s", config->subscriptions_bucket.text);
    else
        snprintf(s->name, sizeof s->name, "millrace-%.100s", config->instance_name.text);
    enum mr_rc rc = connect(s, err);
    if (rc != MR_OK) {
        store_close(&s->base);
        return rc;
    }
    *out = &s->base;
    return MR_OK;
}

static char letter_of(enum mr_store_table table)
{
    return table == MR_STORE_SUBSCRIPTIONS ? 's' : 'g';
}

/* Ask for the first markers to be purged. Returns how many. */
static uint32_t request_purges(struct nats_store *s, const char *reply)
{
    char api[BUCKET_MAX + 32], body[SUBJECT_MAX + 64];
    const struct marker *marker;
    uint32_t count = 0;
    uint64_t now_ns = mr_clock_ns();
    snprintf(api, sizeof api, "$JS.API.STREAM.PURGE.KV_%s", s->name);
    pthread_mutex_lock(&s->lock);
    STAILQ_FOREACH(marker, &s->markers, next)
    {
        /* Nothing that came later. */
        snprintf(body, sizeof body, "{\"filter\":\"%s\",\"seq\":%" PRIu64 "}", marker->subject,
                 marker->sequence + 1);
        if (count == PURGES_MAX || marker->due_ns > now_ns ||
            natsConnection_PublishRequestString(s->connection, api, reply, body) != NATS_OK)
            break;
        count++;
    }
    pthread_mutex_unlock(&s->lock);
    return count;
}

static void forget(struct nats_store *s, uint32_t count)
{
    pthread_mutex_lock(&s->lock);
    for (; count > 0; count--) {
        struct marker *marker = STAILQ_FIRST(&s->markers);
        STAILQ_REMOVE_HEAD(&s->markers, next);
        s->marker_count--;
        free(marker);
    }
    pthread_mutex_unlock(&s->lock);
}

static bool is_good(natsMsg *answer)
{
    static const char good[] = "\"success\":true";
    const char *data = natsMsg_GetData(answer);
    return data &&
           memmem(data, (size_t)natsMsg_GetDataLength(answer), good, sizeof good - 1) != NULL;
}

static natsStatus await_purges(natsSubscription *answers, uint32_t count)
{
    natsStatus status = NATS_OK;
    for (; status == NATS_OK && count > 0; count--) {
        natsMsg *answer = NULL;
        status = natsSubscription_NextMsg(&answer, answers, PURGE_MS);
        if (status == NATS_OK && !is_good(answer))
            status = NATS_ERR;
        natsMsg_Destroy(answer);
    }
    return status;
}

/* Some markers, with one round trip. */
static bool store_tidy(struct mr_store *store)
{
    struct nats_store *s = from_base(store);
    pthread_mutex_lock(&s->lock);
    const struct marker *first = STAILQ_FIRST(&s->markers);
    bool any = first && first->due_ns <= mr_clock_ns();
    pthread_mutex_unlock(&s->lock);
    if (!any || mr_clock_ns() < s->purge_after_ns || !s->connection ||
        natsConnection_IsClosed(s->connection))
        return false;
    natsInbox *inbox = NULL;
    natsSubscription *answers = NULL;
    natsStatus status = natsInbox_Create(&inbox);
    if (status == NATS_OK)
        status = natsConnection_SubscribeSync(&answers, s->connection, inbox);
    uint32_t count = status == NATS_OK ? request_purges(s, inbox) : 0;
    if (status == NATS_OK)
        status = count > 0 ? await_purges(answers, count) : NATS_ERR;
    natsSubscription_Destroy(answers);
    natsInbox_Destroy(inbox);
    if (status == NATS_OK) {
        forget(s, count);
        return true;
    }
    s->purge_after_ns = mr_clock_ns() + PURGE_AGAIN_NS;
    mr_log_warn("store", "markers_not_cleared", "bucket=%s count=%u why=\"%s\"", s->name, count,
                natsStatus_GetText(status));
    return false;
}

static void found_marker(struct nats_store *s, kvEntry *entry)
{
    char subject[SUBJECT_MAX];
    struct mr_str name = mr_str_from(kvEntry_Key(entry) + 2);
    if (name.len > MR_STORE_KEY_MAX || memchr(name.data, '"', name.len) ||
        memchr(name.data, '\\', name.len))
        return; /* none of ours */
    snprintf(subject, sizeof subject, "$KV.%s.%s", s->name, kvEntry_Key(entry));
    int64_t age_us = mr_clock_wall_us() - kvEntry_Created(entry) / (int64_t)MR_NS_PER_US;
    remember(s, subject, kvEntry_Revision(entry), age_us > 0 ? (uint64_t)age_us * MR_NS_PER_US : 0);
}

static enum mr_rc store_load(struct mr_store *store, enum mr_store_table table,
                             mr_store_visit *visit, void *context, struct mr_err *err)
{
    struct nats_store *s = from_base(store);
    const char keys[] = {letter_of(table), '.', '>', 0};
    kvWatcher *watcher = NULL;
    kvEntry *entry = NULL;
    enum mr_rc rc = MR_OK;
    natsStatus status = kvStore_Watch(&watcher, s->bucket, keys, NULL);
    while (status == NATS_OK && rc == MR_OK) {
        status = kvWatcher_Next(&entry, watcher, wait_ms(s));
        if (status != NATS_OK || !entry) /* no entry: that was all */
            break;
        if (kvEntry_Operation(entry) == kvOp_Put) {
            const struct mr_str value = {kvEntry_Value(entry), (size_t)kvEntry_ValueLen(entry)};
            rc = visit(context, mr_str_from(kvEntry_Key(entry) + 2), value, err);
        } else {
            found_marker(s, entry);
        }
        kvEntry_Destroy(entry);
        entry = NULL;
    }
    kvWatcher_Destroy(watcher);
    return rc == MR_OK && status != NATS_OK ? fail(s, status, "read", err) : rc;
}

static natsStatus publish(struct nats_store *s, const struct mr_store_change *change)
{
    char subject[SUBJECT_MAX];
    natsMsg *message = NULL;
    snprintf(subject, sizeof subject, "$KV.%s.%c.%.*s", s->name, letter_of(change->table),
             (int)change->key.len, change->key.data);
    natsStatus status = natsMsg_Create(&message, subject, NULL, change->value.data,
                                       change->value.data ? (int)change->value.len : 0);
    if (status == NATS_OK && !change->value.data)
        status = natsMsgHeader_Set(message, "KV-Operation", "DEL");
    if (status == NATS_OK)
        status = js_PublishMsgAsync(s->js, &message, NULL);
    natsMsg_Destroy(message); /* NULL when it was taken */
    return status;
}

/* nats.c would refuse it, too, and with it the whole commit. */
static bool has_room(const struct nats_store *s, struct mr_store_change *change)
{
    if (!change->value.data || change->value.len <= s->value_max)
        return true;
    mr_log_error("store", "too_large", "key=%.*s bytes=%zu max=%" PRIu64, (int)change->key.len,
                 change->key.data, change->value.len, s->value_max);
    change->rc = MR_USAGE;
    return false;
}

/* All that is under way has its acknowledgement, or an error. */
static natsStatus await_all(struct nats_store *s)
{
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MaxWait = wait_ms(s);
    return js_PublishAsyncComplete(s->js, &options);
}

/* A connection that failed is given up with all that is under way on it: the next commit makes
 * another. */
static enum mr_rc store_commit(struct mr_store *store, const struct mr_store_changes *changes,
                               struct mr_err *err)
{
    struct nats_store *s = from_base(store);
    struct mr_store_change *change;
    enum mr_rc rc =
        s->connection && !natsConnection_IsClosed(s->connection) ? MR_OK : connect(s, err);
    if (rc != MR_OK)
        return rc == MR_USAGE ? MR_RETRY : rc;
    atomic_store_explicit(&s->refused, 0, memory_order_relaxed);
    natsStatus status = NATS_OK;
    uint32_t under_way = 0;
    STAILQ_FOREACH(change, changes, next)
    {
        if (!has_room(s, change))
            continue;
        if (status == NATS_OK)
            status = publish(s, change);
        if (status == NATS_OK && ++under_way % PENDING_MAX == 0)
            status = await_all(s);
    }
    if (status == NATS_OK)
        status = await_all(s);
    if (status == NATS_OK && atomic_load_explicit(&s->refused, memory_order_relaxed) == 0)
        return MR_OK;
    rc = fail(s, status == NATS_OK ? NATS_ERR : status, "write", err);
    disconnect(s);
    return rc;
}

const struct mr_store_ops mr_store_nats = {
    .name = "nats",
    .open = store_open,
    .load = store_load,
    .commit = store_commit,
    .tidy = store_tidy,
    .close = store_close,
};
