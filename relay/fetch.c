#include "relay/fetch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "log/log.h"
#include "relay/coalesce.h"

enum {
    READERS = 8,
    LOCATE_EVENTS = 65536, /* looked at before others have their turn */
};

struct reader {
    struct mr_log_reader *log; /* NULL: none yet */
    uint64_t next;             /* sequence that it gives next; 0: unknown */
    uint64_t used;             /* when, in requests */
};

struct mr_fetcher {
    struct mr_fetcher_options options;
    char dir[4096];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t submitted;
    STAILQ_HEAD(, mr_fetch) todo; /* lock */
    bool stop;                    /* lock */
    bool joined;                  /* whoever stops and closes it */
    struct reader readers[READERS];
    uint64_t requests;
    struct mr_piece_builder builder;
    struct mr_coalesce coalesce;
    uint8_t *raw; /* bytes of the events being coalesced */
    size_t raw_len, raw_capacity;
    size_t raw_at[MR_COALESCE_MAX], raw_size[MR_COALESCE_MAX];
    _Atomic uint64_t events, coalesced;
};

/* A reader that stands before sequence. */
static enum mr_rc take_reader(struct mr_fetcher *f, uint64_t sequence, struct reader **out,
                              struct mr_fetch *fetch)
{
    struct reader *oldest = &f->readers[0];
    f->requests++;
    for (uint32_t i = 0; i < READERS; i++) {
        struct reader *reader = &f->readers[i];
        if (reader->log && reader->next == sequence) {
            reader->used = f->requests;
            *out = reader;
            return MR_OK;
        }
        if (reader->used < oldest->used)
            oldest = reader;
    }
    enum mr_rc rc = MR_OK;
    if (!oldest->log)
        rc = mr_log_reader_open(&oldest->log, f->dir, &fetch->err);
    oldest->next = 0;
    if (rc == MR_OK)
        rc = mr_log_seek(oldest->log, sequence - 1, &fetch->floor, &fetch->err);
    if (rc != MR_OK)
        return rc;
    f->builder.log_id = mr_log_reader_id(oldest->log);
    oldest->next = sequence;
    oldest->used = f->requests;
    *out = oldest;
    return MR_OK;
}

static enum mr_rc next_event(struct reader *reader, struct mr_event *event,
                             struct mr_log_record *record, struct mr_err *err)
{
    enum mr_rc rc = mr_log_next(reader->log, record, err);
    if (rc != MR_OK) {
        reader->next = 0;
        return rc;
    }
    reader->next = record->sequence + 1;
    if (mr_event_decode(record->data, record->len, event) != MR_OK)
        return mr_reject(err, MR_CORRUPT, "record %" PRIu64 " of the log is no event",
                         record->sequence);
    return MR_OK;
}

/* The log ended before what it was said to have: it comes again in a moment. */
static enum mr_rc not_yet(enum mr_rc rc, const struct mr_fetch *fetch, struct mr_err *err)
{
    return rc == MR_AGAIN ? mr_reject(err, MR_RETRY, "the log ends before %" PRIu64, fetch->through)
                          : rc;
}

static uint64_t end_of_bucket(uint64_t sequence, uint64_t through)
{
    uint64_t end = sequence | (MR_PIECE_EVENTS_MAX - 1);
    return end < through ? end : through;
}

static enum mr_rc fetch_piece(struct mr_fetcher *f, struct mr_fetch *fetch)
{
    uint64_t last = end_of_bucket(fetch->sequence, fetch->through), at = fetch->sequence;
    struct reader *reader;
    struct mr_event event;
    struct mr_log_record record;
    fetch->piece = mr_cache_get(f->options.cache, fetch->sequence);
    if (fetch->piece)
        return MR_OK; /* somebody else was quicker */
    enum mr_rc rc = take_reader(f, fetch->sequence, &reader, fetch);
    while (rc == MR_OK && at <= last && f->builder.len < f->options.piece_bytes) {
        rc = next_event(reader, &event, &record, &fetch->err);
        if (rc == MR_OK)
            rc = mr_piece_add(&f->builder, &event, at, at, &fetch->err);
        at += rc == MR_OK;
    }
    if (at > fetch->sequence) /* what was read before a failure is good */
        rc = mr_piece_finish(&f->builder, fetch->sequence, at - 1, &fetch->piece, &fetch->err);
    if (rc == MR_OK) {
        atomic_fetch_add_explicit(&f->events, at - fetch->sequence, memory_order_relaxed);
        mr_cache_put(f->options.cache, fetch->piece);
    }
    return not_yet(rc, fetch, &fetch->err);
}

/* Keep a record's bytes: the reader's own go with its next call. */
static bool keep_raw(struct mr_fetcher *f, uint32_t index, const struct mr_log_record *record)
{
    size_t size = (record->len + 7u) & ~(size_t)7;
    if (f->raw_capacity - f->raw_len < size) {
        size_t capacity = 2 * (f->raw_len + size);
        uint8_t *raw = realloc(f->raw, capacity);
        if (!raw)
            return false;
        f->raw = raw;
        f->raw_capacity = capacity;
    }
    memcpy(f->raw + f->raw_len, record->data, record->len);
    f->raw_at[index] = f->raw_len;
    f->raw_size[index] = record->len;
    f->raw_len += size;
    return true;
}

/* Read a run of records into raw. *count: how many. */
static enum mr_rc read_raw(struct mr_fetcher *f, struct mr_fetch *fetch, uint32_t *count)
{
    struct reader *reader;
    struct mr_event event;
    struct mr_log_record record;
    enum mr_rc rc = take_reader(f, fetch->sequence, &reader, fetch);
    f->raw_len = 0;
    *count = 0;
    while (rc == MR_OK && *count < MR_COALESCE_MAX && fetch->sequence + *count <= fetch->through &&
           f->raw_len < fetch->bytes_max) {
        rc = next_event(reader, &event, &record, &fetch->err);
        if (rc == MR_OK && !keep_raw(f, *count, &record))
            rc = mr_reject(&fetch->err, MR_FATAL, "coalesce: out of memory");
        *count += rc == MR_OK;
    }
    return *count > 0 ? MR_OK : not_yet(rc, fetch, &fetch->err);
}

static enum mr_rc fetch_coalesced(struct mr_fetcher *f, struct mr_fetch *fetch)
{
    uint32_t count;
    enum mr_rc rc = read_raw(f, fetch, &count);
    if (rc != MR_OK)
        return rc;
    uint64_t through = fetch->sequence + count - 1;
    mr_coalesce_begin(&f->coalesce, fetch->atomic);
    for (uint32_t i = 0; i < count; i++) {
        struct mr_event event;
        rc = mr_event_decode(f->raw + f->raw_at[i], f->raw_size[i], &event);
        MR_ASSERT(rc == MR_OK); /* it has been decoded once */
        mr_coalesce_add(&f->coalesce, &event);
    }
    uint32_t left = mr_coalesce_end(&f->coalesce, through);
    for (uint32_t i = 0; i < left && rc == MR_OK; i++) {
        const struct mr_coalesced *item = &f->coalesce.items[i];
        rc = mr_piece_add(&f->builder, &item->event, item->first, item->through, &fetch->err);
    }
    if (rc == MR_OK)
        rc = mr_piece_finish(&f->builder, fetch->sequence, through, &fetch->piece, &fetch->err);
    if (rc == MR_OK)
        fetch->piece->own = true;
    atomic_fetch_add_explicit(&f->events, count, memory_order_relaxed);
    atomic_fetch_add_explicit(&f->coalesced, count - left, memory_order_relaxed);
    return rc;
}

static bool is_wanted(const struct mr_event *event, const struct mr_place *place)
{
    char id[MR_EVENT_ID_MAX];
    if (event->event_id.len > 0)
        return mr_str_equal(event->event_id, mr_str_from(place->event_id));
    if (event->head.source_order != place->source_order)
        return false; /* the id would begin with other numbers */
    size_t len = mr_event_id(event, id);
    return mr_str_equal((struct mr_str){id, len}, mr_str_from(place->event_id));
}

/* Ids are not in the order of the log, so that nothing shorter than looking at all events finds
 * one. MR_AGAIN: not yet, to be gone on with. */
static enum mr_rc fetch_locate(struct mr_fetcher *f, struct mr_fetch *fetch)
{
    struct reader *reader;
    struct mr_event event;
    struct mr_log_record record;
    enum mr_rc rc = take_reader(f, fetch->sequence, &reader, fetch);
    if (rc == MR_USAGE && fetch->floor > fetch->sequence) { /* trimmed meanwhile: from there on */
        fetch->sequence = fetch->floor;
        return MR_AGAIN;
    }
    for (uint32_t i = 0; i < LOCATE_EVENTS && rc == MR_OK; i++) {
        if (fetch->sequence > fetch->through)
            return mr_reject(&fetch->err, MR_USAGE, "event %s is not in the log",
                             fetch->place->event_id);
        rc = next_event(reader, &event, &record, &fetch->err);
        if (rc == MR_OK && is_wanted(&event, fetch->place))
            return MR_OK;
        fetch->sequence += rc == MR_OK;
    }
    return rc == MR_OK ? MR_AGAIN : not_yet(rc, fetch, &fetch->err);
}

static void close_request(struct mr_fetch *fetch)
{
    fetch->rc = MR_CLOSED;
    fetch->piece = NULL;
    fetch->done(fetch);
}

static void serve(struct mr_fetcher *f, struct mr_fetch *fetch)
{
    fetch->err = (struct mr_err){.rc = MR_OK};
    fetch->piece = NULL;
    switch (fetch->kind) {
    case MR_FETCH_PIECE:
        fetch->rc = fetch_piece(f, fetch);
        break;
    case MR_FETCH_COALESCED:
        fetch->rc = fetch_coalesced(f, fetch);
        break;
    case MR_FETCH_LOCATE:
        fetch->rc = fetch_locate(f, fetch);
        break;
    }
    if (fetch->kind == MR_FETCH_LOCATE && fetch->rc == MR_AGAIN) {
        if (!atomic_load_explicit(&fetch->left, memory_order_relaxed)) {
            mr_fetch(f, fetch); /* behind the others */
            return;
        }
        fetch->rc = MR_CLOSED;
    }
    f->builder.count = 0; /* of a piece that failed */
    f->builder.len = 0;
    fetch->done(fetch);
}

static void *run(void *argument)
{
    struct mr_fetcher *f = argument;
    pthread_mutex_lock(&f->lock);
    for (;;) {
        struct mr_fetch *fetch = STAILQ_FIRST(&f->todo);
        if (!fetch && f->stop)
            break;
        if (!fetch) {
            pthread_cond_wait(&f->submitted, &f->lock);
            continue;
        }
        STAILQ_REMOVE_HEAD(&f->todo, link);
        bool stop = f->stop;
        pthread_mutex_unlock(&f->lock);
        if (stop)
            close_request(fetch);
        else
            serve(f, fetch);
        pthread_mutex_lock(&f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

enum mr_rc mr_fetcher_open(struct mr_fetcher **out, const struct mr_fetcher_options *options,
                           struct mr_err *err)
{
    struct mr_fetcher *f = calloc(1, sizeof *f);
    if (!f)
        return mr_reject(err, MR_FATAL, "open the reader of the log: out of memory");
    f->options = *options;
    snprintf(f->dir, sizeof f->dir, "%s", options->dir);
    f->builder.backend = options->backend;
    STAILQ_INIT(&f->todo);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->submitted, NULL);
    int rc = pthread_create(&f->thread, NULL, run, f);
    if (rc != 0) {
        free(f);
        return mr_reject(err, MR_FATAL, "start the thread that reads the log: %s", strerror(rc));
    }
    pthread_setname_np(f->thread, "fetch");
    *out = f;
    return MR_OK;
}

void mr_fetcher_stop(struct mr_fetcher *f)
{
    if (!f || f->joined)
        return;
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_signal(&f->submitted);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    f->joined = true;
}

void mr_fetcher_close(struct mr_fetcher **fetcher)
{
    struct mr_fetcher *f = *fetcher;
    if (!f)
        return;
    *fetcher = NULL;
    mr_fetcher_stop(f);
    for (uint32_t i = 0; i < READERS; i++)
        if (f->readers[i].log)
            mr_log_reader_close(&f->readers[i].log);
    mr_piece_builder_fini(&f->builder);
    pthread_cond_destroy(&f->submitted);
    pthread_mutex_destroy(&f->lock);
    free(f->raw);
    free(f);
}

void mr_fetch(struct mr_fetcher *f, struct mr_fetch *fetch)
{
    pthread_mutex_lock(&f->lock);
    bool stop = f->stop;
    if (!stop) {
        STAILQ_INSERT_TAIL(&f->todo, fetch, link);
        pthread_cond_signal(&f->submitted);
    }
    pthread_mutex_unlock(&f->lock);
    if (stop)
        close_request(fetch);
}

uint64_t mr_fetcher_events(const struct mr_fetcher *f)
{
    return atomic_load_explicit(&f->events, memory_order_relaxed);
}

uint64_t mr_fetcher_coalesced(const struct mr_fetcher *f)
{
    return atomic_load_explicit(&f->coalesced, memory_order_relaxed);
}
