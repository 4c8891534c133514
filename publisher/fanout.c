#include "publisher/fanout.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "jetstream/subject.h"
#include "publisher/fanout_message.h"
#include "publisher/sinks/jetstream_sender.h"

enum {
    TURN_EVENTS = 512, /* read between two looks at the connection */
    LANE_BUCKETS = 1024,
    PATH_BYTES = 4096,
};
#define IDLE_NS   (100 * MR_NS_PER_MS)
#define FLIGHT_NS (500 * MR_NS_PER_US) /* between two looks at the log while answers are due */
#define FULL_NS   (2 * MR_NS_PER_MS)   /* and while more waits than may be sent */
#define LOG_NS    (20 * MR_NS_PER_MS)  /* between two tries to open the log */

/* A stream that is written: one for all collections, or one each. */
struct lane {
    struct lane *next; /* of its bucket */
    char *subject;
    uint32_t number; /* of the writer's */
};

struct mr_fanout {
    const struct mr_config *config;
    struct mr_board_shm *board;
    struct mr_cell_shm *cell;
    struct mr_js_outbox outbox;
    struct mr_js_writer *writer;
    struct mr_log_reader *log;
    uint64_t log_id, read; /* through which sequence the log has been read */
    uint64_t log_tried_ns;
    bool single;
    struct lane *buckets[LANE_BUCKETS]; /* split by collection */
    uint64_t lane_count;
    uint64_t oversize; /* for the outbox; the writer counts those for the server */
    struct mr_fanout_message message;
    struct mr_log_record record; /* read and not queued: the outbox was full */
    bool has_record;
    bool dead; /* the log is damaged or gone; said once */
    _Atomic uint64_t stop_ns;
    pthread_t thread;
};

static void hold(struct mr_fanout *f, uint64_t through)
{
    atomic_store_explicit(&f->board->held_through[MR_HOLDER_FANOUT], 1 + through,
                          memory_order_release);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_SEQUENCE, through);
}

static void count(struct mr_fanout *f)
{
    const struct mr_js_writer_stats *stats = mr_js_writer_stats(f->writer);
    const struct mr_breaker *breaker = mr_js_writer_breaker(f->writer);
    uint64_t pending = atomic_load_explicit(&f->outbox.tail, memory_order_relaxed) -
                       atomic_load_explicit(&f->outbox.head, memory_order_relaxed);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_BREAKER, breaker->state);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_BREAKER_OPENS, breaker->opens);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_PUBLISHED, stats->published);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_BYTES, stats->bytes);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_RESENT, stats->resent);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_DUPLICATES, stats->duplicates);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_OVERSIZE, stats->oversize + f->oversize);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_FAILURES, stats->failures);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_PENDING, pending);
    mr_gauge(f->cell, MR_COUNTER_FANOUT_STREAMS, f->lane_count);
    uint64_t tag = mr_js_outbox_pending_tag(&f->outbox);
    hold(f, tag != UINT64_MAX ? tag - 1 : f->read - (f->has_record ? 1 : 0));
}

static void acknowledged(void *context, uint64_t latency_ns)
{
    struct mr_fanout *f = context;
    mr_histogram_add(&f->cell->histograms[MR_HISTOGRAM_FANOUT_ACK], latency_ns);
}

/* What the last message of the stream says: everything of this log through there is in it. */
static uint64_t stored_through(void *context, uint32_t lane, const struct mr_js_lane_state *state)
{
    const struct mr_fanout *f = context;
    struct mr_marker marker;
    (void)lane;
    if (state->stored.stream_sequence == 0 ||
        mr_marker_parse(mr_str_from(state->stored.position), &marker, NULL) != MR_OK ||
        marker.log_id != f->log_id)
        return 0;
    return marker.sequence;
}

static enum mr_rc add_lane(struct mr_fanout *f, const char *name, const char *subject,
                           uint32_t *number, struct mr_err *err)
{
    const struct mr_config *config = f->config;
    const struct mr_js_stream stream = {
        .name = name,
        .subject = subject,
        .retention_ns = config->query_jetstream_retention,
        .replicas = (uint32_t)config->query_jetstream_replicas,
        .create = true,
        .consumer =
            *config->query_jetstream_consumer.text ? config->query_jetstream_consumer.text : NULL,
        .max_ack_pending = (uint32_t)config->query_jetstream_max_ack_pending,
        .ack_wait_ns = config->query_jetstream_ack_wait,
    };
    f->lane_count++;
    return mr_js_writer_add(f->writer, &stream, number, err);
}

/* The lane of a collection, by its subject; made when it is the first message. */
static enum mr_rc lane_of(struct mr_fanout *f, struct mr_str subject, uint32_t *number,
                          struct mr_err *err)
{
    *number = 0;
    if (f->single)
        return MR_OK;
    struct lane **bucket = &f->buckets[mr_js_hash(subject) % LANE_BUCKETS];
    for (struct lane *lane = *bucket; lane; lane = lane->next)
        if (strcmp(lane->subject, f->message.subject) == 0) {
            *number = lane->number;
            return MR_OK;
        }
    char name[MR_JS_STREAM_NAME_MAX + 1];
    size_t len =
        (size_t)snprintf(name, sizeof name, "%.200s_", f->config->query_jetstream_stream.text);
    bool fits = mr_js_stream_append(name, sizeof name, &len, f->message.event.collection);
    MR_ASSERT(fits); /* it is cut */
    struct lane *lane = calloc(1, sizeof *lane);
    char *copy = strdup(f->message.subject);
    if (!lane || !copy) {
        free(lane);
        free(copy);
        return mr_fail(err, MR_FATAL, "add stream %s", name);
    }
    *lane = (struct lane){.next = *bucket, .subject = copy};
    enum mr_rc rc = add_lane(f, name, copy, &lane->number, err);
    if (rc != MR_OK) {
        free(copy);
        free(lane);
        return rc;
    }
    *bucket = lane;
    *number = lane->number;
    return MR_OK;
}

/* The record read last goes into the outbox. MR_FULL: later. */
static enum mr_rc queue_record(struct mr_fanout *f, struct mr_err *err)
{
    struct mr_js_message message = {0};
    enum mr_rc rc = mr_fanout_encode(&f->message, f->config, f->log_id, &f->record, &message);
    if (rc != MR_OK)
        return mr_reject(err, rc == MR_FULL ? MR_RETRY : rc, "publish event %" PRIu64 ": %s",
                         f->record.sequence, rc == MR_FULL ? "out of memory" : "it is no event");
    rc = lane_of(f, message.subject, &message.lane, err);
    if (rc != MR_OK)
        return rc;
    uint64_t now_ns = mr_clock_ns(), ingest_ns = f->message.event.head.ingest_ns;
    message.queued_ns = ingest_ns != 0 && ingest_ns < now_ns ? ingest_ns : now_ns;
    rc = mr_js_outbox_put(&f->outbox, &message);
    if (rc != MR_USAGE)
        return rc;
    /* Larger than the outbox takes: without its payload the order stays whole. */
    message.headers.len =
        mr_message_add_omitted(message.payload.len, f->message.headers, message.headers.len);
    message.payload = MR_STR("");
    rc = mr_js_outbox_put(&f->outbox, &message);
    f->oversize += rc == MR_OK;
    return rc;
}

static enum mr_rc open_log(struct mr_fanout *f, struct mr_err *err)
{
    char dir[PATH_BYTES];
    uint64_t floor = 0, now_ns = mr_clock_ns();
    if (now_ns - f->log_tried_ns < LOG_NS ||
        atomic_load_explicit(&f->board->log_id, memory_order_acquire) == 0)
        return MR_AGAIN;
    f->log_tried_ns = now_ns;
    snprintf(dir, sizeof dir, "%s/log", f->config->instance_data_dir.text);
    enum mr_rc rc = mr_log_reader_open(&f->log, dir, err);
    if (rc != MR_OK)
        return rc;
    f->log_id = mr_log_reader_id(f->log);
    rc = mr_log_seek(f->log, f->read, &floor, err);
    if (rc == MR_USAGE && f->read == 0) { /* never published: what the log still holds */
        f->read = floor > 0 ? floor - 1 : 0;
        rc = mr_log_seek(f->log, f->read, &floor, err);
    }
    mr_log_info("fanout", "opened", "after=%" PRIu64 " log_id=%016" PRIx64, f->read, f->log_id);
    return rc;
}

/* From the log into the outbox, as far as there is room. */
static enum mr_rc read_log(struct mr_fanout *f, uint64_t *done, struct mr_err *err)
{
    enum mr_rc rc = f->log ? MR_OK : open_log(f, err);
    uint64_t written = atomic_load_explicit(&f->board->log_written, memory_order_acquire);
    for (uint32_t i = 0; rc == MR_OK && i < TURN_EVENTS; i++) {
        if (!f->has_record) {
            if (f->read >= written)
                return MR_OK;
            rc = mr_log_next(f->log, &f->record, err);
            if (rc != MR_OK)
                break;
            f->has_record = true;
            f->read = f->record.sequence;
        }
        rc = queue_record(f, err);
        if (rc != MR_OK)
            break;
        f->has_record = false;
        ++*done;
    }
    return rc == MR_AGAIN || rc == MR_FULL ? MR_OK : rc;
}

static bool may_end(const struct mr_fanout *f)
{
    uint64_t stop_ns = atomic_load_explicit(&f->stop_ns, memory_order_acquire);
    return stop_ns != 0 &&
           (mr_js_outbox_pending_tag(&f->outbox) == UINT64_MAX || mr_clock_ns() >= stop_ns);
}

/* Nothing is on its way: the next thing to happen is a longer log. */
static void wait_for_log(struct mr_fanout *f)
{
    struct mr_doorbell_shm *bell = &f->board->log_bell;
    mr_doorbell_announce(bell);
    if (atomic_load_explicit(&f->board->log_written, memory_order_acquire) > f->read ||
        atomic_load_explicit(&f->stop_ns, memory_order_acquire) != 0)
        mr_doorbell_cancel(bell);
    else
        mr_doorbell_wait(bell, IDLE_NS);
}

static void turn(struct mr_fanout *f)
{
    struct mr_err err = {0};
    uint64_t read = 0, sent = 0;
    enum mr_rc rc = f->dead ? MR_OK : read_log(f, &read, &err);
    if (rc != MR_OK) {
        f->dead = rc != MR_RETRY;
        mr_log_error("fanout", "log_not_read", "why=\"%s\" effect=\"%s\"", err.text,
                     f->dead ? "the checkpoint stays where it is" : "tried again");
    }
    bool pending = mr_js_outbox_pending_tag(&f->outbox) != UINT64_MAX;
    bool connected = mr_js_writer_connected(f->writer);
    uint64_t flight_ns = mr_js_writer_full(f->writer) ? FULL_NS : FLIGHT_NS;
    uint64_t timeout_ns = connected ? (pending ? flight_ns : 0) : IDLE_NS;
    rc = mr_js_writer_work(f->writer, read > 0 && connected ? 0 : timeout_ns, &sent, &err);
    if (rc != MR_OK)
        mr_log_warn("fanout", "failed", "stream=%s why=\"%s\"",
                    f->config->query_jetstream_stream.text, err.text);
    count(f);
    if (read == 0 && sent == 0 && !pending && connected)
        wait_for_log(f);
}

static void *run(void *context)
{
    struct mr_fanout *f = context;
    while (!may_end(f))
        turn(f);
    return NULL;
}

static void fanout_free(struct mr_fanout *f)
{
    for (uint32_t i = 0; i < LANE_BUCKETS; i++)
        for (struct lane *lane = f->buckets[i], *next; lane; lane = next) {
            next = lane->next;
            free(lane->subject);
            free(lane);
        }
    mr_js_writer_destroy(&f->writer);
    mr_js_outbox_fini(&f->outbox);
    mr_json_fini(&f->message.json);
    if (f->log)
        mr_log_reader_close(&f->log);
    free(f);
}

static enum mr_rc open_writer(struct mr_fanout *f, struct mr_err *err)
{
    uint32_t lane;
    struct mr_js_writer_options options =
        mr_js_common_options(f->config, f->config->query_jetstream_url.text, "millrace-fanout");
    options.stored_through = stored_through;
    options.acknowledged = acknowledged;
    options.context = f;
    enum mr_rc rc = mr_js_outbox_init(&f->outbox, f->config->query_jetstream_queue_size, err);
    if (rc == MR_OK)
        rc = mr_js_writer_create(&f->writer, &options, &f->outbox, err);
    if (rc == MR_OK && f->single)
        rc = add_lane(f, f->config->query_jetstream_stream.text, MR_FANOUT_SUBJECT ">", &lane, err);
    return rc;
}

enum mr_rc mr_fanout_open(struct mr_fanout **out, const struct mr_config *config,
                          struct mr_board_shm *board, struct mr_cell_shm *cell, struct mr_err *err)
{
    *out = NULL;
    if (!config->query_jetstream_enabled) {
        atomic_store_explicit(&board->held_through[MR_HOLDER_FANOUT], 0, memory_order_release);
        return MR_OK;
    }
    struct mr_fanout *f = calloc(1, sizeof *f);
    if (!f)
        return mr_fail(err, MR_FATAL, "open the fan-out");
    f->outbox.wake_fd = -1;
    f->config = config;
    f->board = board;
    f->cell = cell;
    f->single = strcmp(config->query_jetstream_split.text, "none") == 0;
    f->read = atomic_load_explicit(&board->checkpoint, memory_order_acquire);
    hold(f, f->read);
    enum mr_rc rc = open_writer(f, err);
    if (rc == MR_OK && pthread_create(&f->thread, NULL, run, f) != 0)
        rc = mr_fail(err, MR_FATAL, "start the fan-out");
    if (rc != MR_OK) {
        fanout_free(f);
        return mr_err_prefix(err, "fan-out");
    }
    *out = f;
    return MR_OK;
}

void mr_fanout_close(struct mr_fanout **fanout, uint64_t deadline_ns)
{
    struct mr_fanout *f = *fanout;
    if (!f)
        return;
    atomic_store_explicit(&f->stop_ns, deadline_ns, memory_order_release);
    mr_doorbell_ring(&f->board->log_bell);
    pthread_join(f->thread, NULL);
    fanout_free(f);
    *fanout = NULL;
}
