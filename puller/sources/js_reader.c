#include "puller/sources/js_reader.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "puller/sources/backoff.h"

enum { ITEMS = 4096, QUEUE_BYTES = 16 * 1024 * 1024, NEXT_MS = 200, QUIET_TURNS = 25 };

struct mr_js_feed {
    const struct mr_config *config;
    pthread_t thread;
    int wake_fd;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t room;
    struct mr_js_item items[ITEMS];
    uint64_t head, tail; /* ever growing */
    size_t bytes;
    bool stopping, connected;
    uint64_t reconnects;
    struct mr_err wrong; /* rc MR_USAGE: the stream is of no use */
    /* The thread's. */
    uint64_t after;     /* the last stream sequence queued ... */
    int64_t created_ns; /* ... of the stream that was made then; 0: not known */
    uint32_t attempts;
    uint64_t random;
};

static bool is_stopping(struct mr_js_feed *f)
{
    pthread_mutex_lock(&f->lock);
    bool stopping = f->stopping;
    pthread_mutex_unlock(&f->lock);
    return stopping;
}

static void set_connected(struct mr_js_feed *f, bool connected)
{
    pthread_mutex_lock(&f->lock);
    f->connected = connected;
    pthread_mutex_unlock(&f->lock);
}

static void wake(struct mr_js_feed *f)
{
    uint64_t one = 1;
    (void)!write(f->wake_fd, &one, sizeof one); /* full only when it is readable anyway */
}

/* Queue an item, which owns its record; waits for room. */
static void push(struct mr_js_feed *f, const struct mr_js_item *item)
{
    pthread_mutex_lock(&f->lock);
    while (!f->stopping && (f->tail - f->head == ITEMS || f->bytes > QUEUE_BYTES))
        pthread_cond_wait(&f->room, &f->lock);
    bool was_empty = f->head == f->tail, taken = !f->stopping;
    if (taken) {
        struct mr_js_item *to = &f->items[f->tail++ % ITEMS];
        *to = *item;
        to->created_ns = f->created_ns;
        f->bytes += item->record_len;
        f->after = item->stream_sequence;
    }
    pthread_mutex_unlock(&f->lock);
    if (!taken)
        free(item->record);
    else if (was_empty)
        wake(f);
}

static void push_gap(struct mr_js_feed *f, uint64_t from, uint64_t to, const char *cause)
{
    const struct mr_js_item item = {
        .kind = MR_JS_GAP, .stream_sequence = to, .gap_from = from, .gap_cause = cause};
    mr_log_warn("upstream", "gap", "stream=%s from=%" PRIu64 " to=%" PRIu64 " cause=\"%s\"",
                f->config->upstream_stream.text, from, to, cause);
    push(f, &item);
}

/* Does the stream still reach back to where we are? At the very first start it begins where it
 * begins, and that is our place from then on, though nothing was read. */
static void check_range(struct mr_js_feed *f, struct mr_js_range range)
{
    bool first = f->created_ns == 0 && f->after == 0;
    bool other = f->created_ns != 0 && f->created_ns != range.created_ns;
    f->created_ns = range.created_ns;
    if (first)
        push(f, &(struct mr_js_item){.kind = MR_JS_BEGIN, .stream_sequence = range.first - 1});
    else if (range.last < f->after || other) {
        mr_log_warn("upstream", "stream_went_back",
                    "stream=%s read=%" PRIu64 " last=%" PRIu64
                    " effect=\"read from its beginning\"",
                    f->config->upstream_stream.text, f->after, range.last);
        push_gap(f, f->after + 1, range.first - 1, "the stream was made anew");
    } else if (range.first > f->after + 1)
        push_gap(f, f->after + 1, range.first - 1,
                 "no longer in the stream (query.jetstream_retention)");
}

/* To pass over events in a format that cannot be read would lose them. */
static enum mr_rc refuse(const struct mr_js_feed *f, struct mr_str format, struct mr_err *err)
{
    return mr_reject(err, MR_USAGE,
                     "stream %s holds messages of format \"%.*s\", expected record/1: set "
                     "query.jetstream_format to record where they are written",
                     f->config->upstream_stream.text, (int)format.len, format.data);
}

static enum mr_rc take(struct mr_js_feed *f, const struct mr_js_received *m, struct mr_err *err)
{
    if (m->stream_sequence <= f->after)
        return MR_OK;
    if (m->stream_sequence > f->after + 1)
        push_gap(f, f->after + 1, m->stream_sequence - 1, "deleted from the stream");
    if (m->format.len == 0) {
        push(f, &(struct mr_js_item){.kind = MR_JS_STRANGE, .stream_sequence = m->stream_sequence});
        return MR_OK;
    }
    if (!mr_str_equal(m->format, MR_STR("record/1")))
        return refuse(f, m->format, err);
    if (m->payload.len == 0) {
        push_gap(f, m->stream_sequence, m->stream_sequence, "event larger than its server allowed");
        return MR_OK;
    }
    struct mr_js_item item = {.kind = MR_JS_RECORD,
                              .stream_sequence = m->stream_sequence,
                              .record = malloc(m->payload.len),
                              .record_len = (uint32_t)m->payload.len};
    if (!item.record)
        return mr_fail(err, MR_RETRY, "take an event of %zu bytes", m->payload.len);
    memcpy(item.record, m->payload.data, m->payload.len);
    snprintf(item.position, sizeof item.position, "%.*s", (int)m->position.len, m->position.data);
    push(f, &item);
    return MR_OK;
}

/* Until the connection breaks, or has been quiet so long that it is worth asking anew. */
static enum mr_rc read_on(struct mr_js_feed *f, struct mr_js_reader *reader, struct mr_err *err)
{
    uint32_t quiet = 0;
    while (!is_stopping(f) && quiet < QUIET_TURNS) {
        struct mr_js_received message;
        enum mr_rc rc = mr_js_reader_next(reader, NEXT_MS, &message, err);
        quiet = rc == MR_AGAIN ? quiet + 1 : 0;
        if (rc == MR_OK) {
            f->attempts = 0;
            rc = take(f, &message, err);
        }
        if (rc != MR_OK && rc != MR_AGAIN)
            return rc;
    }
    return MR_OK;
}

static void rest(struct mr_js_feed *f)
{
    uint64_t until_ns = mr_clock_ns() + mr_source_backoff_ns(f->config, ++f->attempts, &f->random);
    while (!is_stopping(f) && mr_clock_ns() < until_ns)
        usleep(10 * 1000);
}

static enum mr_rc session(struct mr_js_feed *f, struct mr_err *err)
{
    const struct mr_config *config = f->config;
    const char *url = config->upstream_url.text;
    const struct mr_js_options options = {.url = *url ? url : config->nats_url.text,
                                          .credentials = config->nats_credentials.text,
                                          .ca = config->nats_ca.text,
                                          .name = "millrace-upstream"};
    struct mr_js_reader *reader = NULL;
    enum mr_rc rc =
        mr_js_reader_open(&reader, &options, config->upstream_stream.text, f->after, err);
    if (rc != MR_OK)
        return rc;
    uint64_t asked = f->after;
    check_range(f, mr_js_reader_range(reader));
    set_connected(f, true);
    if (f->after >= asked) /* else it begins elsewhere: open it there */
        rc = read_on(f, reader, err);
    set_connected(f, false);
    mr_js_reader_close(&reader);
    return rc;
}

/* The source says why, and the process ends. */
static void give_up(struct mr_js_feed *f, const struct mr_err *err)
{
    pthread_mutex_lock(&f->lock);
    f->wrong = *err;
    pthread_mutex_unlock(&f->lock);
    wake(f);
}

static void *run(void *context)
{
    struct mr_js_feed *f = context;
    bool again = false;
    while (!is_stopping(f)) {
        struct mr_err err = {0};
        enum mr_rc rc = session(f, &err);
        if (rc == MR_USAGE) {
            give_up(f, &err);
            return NULL;
        }
        if (rc == MR_OK)
            continue;
        mr_log_warn("upstream", "failed", "stream=%s why=\"%s\"", f->config->upstream_stream.text,
                    err.text);
        pthread_mutex_lock(&f->lock);
        f->reconnects += again;
        pthread_mutex_unlock(&f->lock);
        again = true;
        rest(f);
    }
    return NULL;
}

enum mr_rc mr_js_feed_start(struct mr_js_feed **out, const struct mr_config *config, uint64_t after,
                            int64_t created_ns, struct mr_err *err)
{
    struct mr_js_feed *f = calloc(1, sizeof *f);
    if (!f)
        return mr_fail(err, MR_FATAL, "start reading a stream");
    f->config = config;
    f->after = after;
    f->created_ns = created_ns;
    f->random = mr_clock_ns();
    f->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->room, NULL);
    if (f->wake_fd < 0 || pthread_create(&f->thread, NULL, run, f) != 0) {
        if (f->wake_fd >= 0)
            close(f->wake_fd);
        free(f);
        return mr_fail(err, MR_FATAL, "start reading a stream");
    }
    *out = f;
    return MR_OK;
}

void mr_js_feed_stop(struct mr_js_feed **feed)
{
    struct mr_js_feed *f = *feed;
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    pthread_cond_signal(&f->room);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    for (; f->head < f->tail; f->head++)
        free(f->items[f->head % ITEMS].record);
    close(f->wake_fd);
    pthread_cond_destroy(&f->room);
    pthread_mutex_destroy(&f->lock);
    free(f);
    *feed = NULL;
}

enum mr_rc mr_js_feed_peek(struct mr_js_feed *f, struct mr_js_item **out, struct mr_err *err)
{
    uint64_t count;
    pthread_mutex_lock(&f->lock);
    bool empty = f->head == f->tail;
    enum mr_rc rc = empty ? f->wrong.rc : MR_OK;
    if (rc != MR_OK)
        *err = f->wrong;
    if (empty && rc == MR_OK) {
        (void)!read(f->wake_fd, &count, sizeof count); /* the next push writes it again */
        rc = MR_AGAIN;
    }
    *out = &f->items[f->head % ITEMS];
    pthread_mutex_unlock(&f->lock);
    return rc;
}

void mr_js_feed_pop(struct mr_js_feed *f)
{
    pthread_mutex_lock(&f->lock);
    MR_ASSERT(f->head < f->tail);
    struct mr_js_item *item = &f->items[f->head++ % ITEMS];
    f->bytes -= item->record_len;
    free(item->record);
    item->record = NULL;
    pthread_cond_signal(&f->room);
    pthread_mutex_unlock(&f->lock);
}

int mr_js_feed_fd(const struct mr_js_feed *f)
{
    return f->wake_fd;
}

void mr_js_feed_state(struct mr_js_feed *f, bool *connected, uint64_t *reconnects)
{
    pthread_mutex_lock(&f->lock);
    *connected = f->connected;
    *reconnects = f->reconnects;
    pthread_mutex_unlock(&f->lock);
}
