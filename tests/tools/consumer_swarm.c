/* Many consumers of the log at once, in one process: each joins at a place of its own, some read
 * slowly, some are cut off again and again and come back with their marker. Every one must get
 * every event of the log behind its place once, in order, with the bytes that the log holds:
 * checked by sequence as they come, and against the log itself at the end. One line of JSON, exit 1
 * when something was wrong. consumer_swarm TARGET LOG_DIR LAST [KEY=VALUE]... LAST sequence at
 * which the consumers are done consumers=200 seed=1 slow=20 killed=30 (percent) join_ms=3000
 * seconds=120 same_id=0 batch=80 */
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "common/clock.h"
#include "log/log.h"
#include "proto/event.h"
#include "proto/json.h"
#include "proto/marker.h"
#include "proto/protobuf.h"
#include "proto/puller_fields.h"

enum { THREADS = 2, CONSUMERS_MAX = 8192, PROBLEM_BYTES = 512 };
enum tag { TAG_READ = 1, TAG_STATUS, TAG_START };

struct settings {
    uint64_t consumers, seed, slow, killed, join_ms, seconds, same_id, batch;
};
static struct settings settings = {200, 1, 20, 30, 3000, 120, 0, 80};
static const char *target, *log_dir;
static uint64_t last, log_id;
/* What the first consumer to get an event saw of it; 0: nobody has. By sequence. */
static _Atomic uint64_t *seen;
static _Atomic uint64_t received, cuts, wrong, mine_done;
static pthread_mutex_t problem_lock = PTHREAD_MUTEX_INITIALIZER;
static char problem[PROBLEM_BYTES];

static void blame(const char *text, uint64_t consumer, uint64_t sequence, uint64_t expected)
{
    pthread_mutex_lock(&problem_lock);
    if (!problem[0])
        snprintf(problem, sizeof problem,
                 "consumer %" PRIu64 ": %.300s: sequence %" PRIu64 ", expected %" PRIu64, consumer,
                 text, sequence, expected);
    pthread_mutex_unlock(&problem_lock);
    atomic_fetch_add(&wrong, 1);
}

struct consumer {
    uint64_t index, random;
    uint64_t sequence; /* got through; UINT64_MAX: whatever comes first */
    char after[MR_MARKER_TEXT_MAX];
    bool slow, killed, batch, done, open, reading, paused, cancelled, begun;
    uint64_t join_ns, resume_ns, cut_after; /* messages to the next cut */
    uint64_t taken, pause_at;               /* events; a slow one pauses when it has so many */
    grpc_channel *channel;
    grpc_call *call;
    grpc_byte_buffer *message;
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice details;
    uint32_t pending;
};

static uint64_t dice(struct consumer *c, uint64_t below)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return (c->random >> 11) % below;
}

static void start(struct consumer *c, const grpc_op *ops, size_t count, enum tag tag)
{
    void *word = (void *)((uintptr_t)c | tag); /* consumers are aligned to eight bytes */
    grpc_call_error rc = grpc_call_start_batch(c->call, ops, count, word, NULL);
    MR_ASSERT(rc == GRPC_CALL_OK);
    c->pending++;
}

static void read_next(struct consumer *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &c->message;
    c->reading = true;
    start(c, &op, 1, TAG_READ);
}

static void open_stream(struct consumer *c, grpc_completion_queue *queue)
{
    uint8_t bytes[256], *at = bytes;
    char id[32];
    snprintf(id, sizeof id, settings.same_id ? "swarm" : "swarm-%" PRIu64, c->index);
    at = mr_pb_put_text(at, MR_FIELD_FOLLOW_CONSUMER_ID, mr_str_from(id));
    at = mr_pb_put_text(at, MR_FIELD_FOLLOW_AFTER, mr_str_from(c->after));
    at = mr_pb_put_number(at, MR_FIELD_FOLLOW_BATCH, c->batch);
    if (!c->channel) {
        grpc_arg args[2] = {{.type = GRPC_ARG_INTEGER}, {.type = GRPC_ARG_INTEGER}};
        args[0].key = (char *)(uintptr_t)GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL;
        args[0].value.integer = 1;
        args[1].key = (char *)(uintptr_t)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH;
        args[1].value.integer = -1;
        grpc_channel_args all = {2, args};
        grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
        c->channel = grpc_channel_create(target, credentials, &all);
        grpc_channel_credentials_release(credentials);
    }
    grpc_slice method = grpc_slice_from_static_string("/syntrix.puller.v1.PullerService/Subscribe");
    c->call = grpc_channel_create_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue, method,
                                       NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    c->details = grpc_empty_slice();
    c->open = true;
    c->cancelled = false;
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    status.data.recv_status_on_client.trailing_metadata = &c->trailing;
    status.data.recv_status_on_client.status = &c->status;
    status.data.recv_status_on_client.status_details = &c->details;
    start(c, &status, 1, TAG_STATUS);
    grpc_slice request = grpc_slice_from_copied_buffer((const char *)bytes, (size_t)(at - bytes));
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&request, 1);
    grpc_slice_unref(request);
    grpc_op ops[4] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                      {.op = GRPC_OP_RECV_INITIAL_METADATA},
                      {.op = GRPC_OP_SEND_MESSAGE},
                      {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT}};
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &c->initial;
    ops[2].data.send_message.send_message = message;
    start(c, ops, 4, TAG_START);
    grpc_byte_buffer_destroy(message);
    read_next(c);
}

/* What counts of an event, in one number: the same from a message and from the log. */
static uint64_t digest(const struct mr_str *parts, size_t count)
{
    uint64_t value = 7;
    for (size_t i = 0; i < count; i++)
        value = XXH64(parts[i].data, parts[i].len, value + parts[i].len);
    return value ? value : 1;
}

static uint64_t digest_change(struct mr_str change)
{
    static const uint32_t wanted[] = {MR_FIELD_CHANGE_EVENT_ID,   MR_FIELD_CHANGE_DATABASE,
                                      MR_FIELD_CHANGE_COLLECTION, MR_FIELD_CHANGE_DOCUMENT_ID,
                                      MR_FIELD_CHANGE_OP,         MR_FIELD_CHANGE_DOCUMENT};
    struct mr_str parts[6] = {{NULL, 0}};
    struct mr_pb_reader reader = mr_pb_read(change);
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field))
        for (size_t i = 0; i < 6; i++)
            if (field.number == wanted[i])
                parts[i] = field.bytes;
    return digest(parts, 6);
}

static void take_event(struct consumer *c, struct mr_str change, struct mr_str progress)
{
    struct mr_marker marker;
    if (mr_marker_parse(progress, &marker, NULL) != MR_OK || marker.log_id != log_id) {
        blame("an event without a marker of this log", c->index, 0, 0);
        return;
    }
    uint64_t expected = c->sequence == UINT64_MAX ? marker.sequence : c->sequence + 1;
    if (marker.sequence != expected)
        blame("lost, repeated or out of order", c->index, marker.sequence, expected);
    c->sequence = marker.sequence;
    c->begun = true;
    c->taken++;
    if (marker.sequence > last)
        return;
    uint64_t value = digest_change(change), none = 0;
    if (!atomic_compare_exchange_strong(&seen[marker.sequence], &none, value) && none != value)
        blame("other bytes than another consumer got", c->index, marker.sequence, expected);
    atomic_fetch_add_explicit(&received, 1, memory_order_relaxed);
}

static void take_message(struct consumer *c, struct mr_str message)
{
    struct mr_pb_reader reader = mr_pb_read(message);
    struct mr_pb_field field;
    struct mr_str change = {NULL, 0}, progress = {NULL, 0};
    bool event = false;
    while (mr_pb_next(&reader, &field)) {
        if (field.number == MR_FIELD_PULLER_BATCH)
            take_message(c, field.bytes);
        else if (field.number == MR_FIELD_PULLER_PROGRESS)
            progress = field.bytes;
        else if (field.number == MR_FIELD_PULLER_CHANGE) {
            change = field.bytes;
            event = true;
        }
    }
    struct mr_marker here;
    if (event)
        take_event(c, change, progress);
    else if (c->sequence == UINT64_MAX && mr_marker_parse(progress, &here, NULL) == MR_OK)
        c->sequence = here.sequence; /* a heartbeat: from here on */
}

/* Messages until the next cut. */
static uint64_t life(struct consumer *c)
{
    return 1 + dice(c, c->batch ? 20 + last / 1024 : 200 + last / 8);
}

static void cut(struct consumer *c)
{
    if (c->open && !c->cancelled) {
        c->cancelled = true;
        grpc_call_cancel(c->call, NULL);
    }
}

static void got(struct consumer *c, uint64_t now_ns)
{
    c->reading = false;
    grpc_byte_buffer *message = c->message;
    c->message = NULL;
    if (!message)
        return; /* the end: the status says why */
    grpc_byte_buffer_reader reader;
    grpc_byte_buffer_reader_init(&reader, message);
    grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
    take_message(
        c, (struct mr_str){(const char *)GRPC_SLICE_START_PTR(bytes), GRPC_SLICE_LENGTH(bytes)});
    grpc_slice_unref(bytes);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(message);
    if (c->sequence != UINT64_MAX && c->sequence >= last) {
        if (!c->done)
            atomic_fetch_add(&mine_done, 1);
        c->done = true;
        cut(c);
    } else if (c->killed && --c->cut_after == 0) {
        atomic_fetch_add(&cuts, 1);
        c->cut_after = life(c);
        cut(c);
    } else if (c->slow && c->taken >= c->pause_at) {
        c->paused = true;
        c->pause_at = c->taken + 1 + dice(c, 600);
        c->resume_ns = now_ns + dice(c, 60) * MR_NS_PER_MS;
        return;
    }
    read_next(c);
}

/* The call is over and nothing of it is under way. */
static void close_stream(struct consumer *c, uint64_t now_ns)
{
    if (!c->cancelled && !c->done) {
        char text[200];
        snprintf(text, sizeof text, "the stream ended with status %d: %.150s", (int)c->status,
                 (const char *)GRPC_SLICE_START_PTR(c->details));
        /* Its place was a guess, and the log is not there yet: it comes again. */
        bool early = !c->begun && c->status == GRPC_STATUS_OUT_OF_RANGE &&
                     strstr(text, "a place that the log has reached");
        if (c->status != GRPC_STATUS_UNAVAILABLE && !early)
            blame(text, c->index, c->sequence, 0);
    }
    grpc_call_unref(c->call);
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
    grpc_slice_unref(c->details);
    c->open = false;
    if (c->sequence != UINT64_MAX)
        mr_marker_format((struct mr_marker){.log_id = log_id, .sequence = c->sequence}, c->after);
    if (dice(c, 2) == 0) { /* the connection, too */
        grpc_channel_destroy(c->channel);
        c->channel = NULL;
    }
    c->join_ns = now_ns + dice(c, 50) * MR_NS_PER_MS;
}

static bool poll_consumers(struct consumer *all, uint32_t from, grpc_completion_queue *queue,
                           uint64_t now_ns)
{
    bool busy = false;
    for (uint64_t i = from; i < settings.consumers; i += THREADS) {
        struct consumer *c = &all[i];
        if (!c->open && !c->done && c->join_ns <= now_ns)
            open_stream(c, queue);
        if (c->paused && c->resume_ns <= now_ns) {
            c->paused = false;
            read_next(c);
        }
        if (c->open && c->pending == 0 && !c->paused)
            close_stream(c, now_ns);
        busy |= !c->done || c->open;
    }
    return busy;
}

struct worker {
    pthread_t thread;
    struct consumer *all;
    uint32_t from;
    uint64_t deadline_ns;
    bool late;
};

static void *work(void *argument)
{
    struct worker *w = argument;
    grpc_completion_queue *queue = grpc_completion_queue_create_for_next(NULL);
    uint64_t now_ns = mr_clock_ns(), looked_ns = 0;
    bool busy = true;
    while (busy) {
        gpr_timespec until =
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(2, GPR_TIMESPAN));
        grpc_event event = grpc_completion_queue_next(queue, until, NULL);
        now_ns = mr_clock_ns();
        if (event.type == GRPC_OP_COMPLETE) {
            struct consumer *c = (void *)((uintptr_t)event.tag & ~(uintptr_t)7);
            c->pending--;
            if (((uintptr_t)event.tag & 7) == TAG_READ)
                got(c, now_ns);
        }
        if (now_ns - looked_ns < 2 * MR_NS_PER_MS)
            continue;
        looked_ns = now_ns;
        busy = poll_consumers(w->all, w->from, queue, now_ns);
        if (now_ns > w->deadline_ns) {
            w->late = true;
            return NULL; /* the process ends */
        }
    }
    grpc_completion_queue_shutdown(queue);
    while (grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN)
        continue;
    grpc_completion_queue_destroy(queue);
    return NULL;
}

/* Everything that was seen is what the log holds. */
static enum mr_rc check_log(struct mr_log_reader *reader, uint64_t *checked, struct mr_err *err)
{
    struct mr_json json = {0};
    struct mr_log_record record;
    struct mr_event event;
    char id[MR_EVENT_ID_MAX];
    uint64_t floor;
    enum mr_rc rc = mr_log_seek(reader, 0, &floor, err);
    for (*checked = 0; rc == MR_OK && *checked < last; ++*checked) {
        rc = mr_log_next(reader, &record, err);
        if (rc == MR_OK)
            rc = mr_event_decode(record.data, record.len, &event);
        if (rc != MR_OK)
            break;
        mr_json_reset(&json);
        if (event.document.len > 0)
            rc = mr_json_put_document(&json, event.document);
        struct mr_str event_id = event.event_id;
        if (event_id.len == 0)
            event_id = (struct mr_str){id, mr_event_id(&event, id)};
        const struct mr_str parts[6] = {
            event_id,
            event.database,
            event.collection,
            event.document_id,
            mr_str_from(mr_operation_name((enum mr_operation)event.head.op)),
            {json.data, json.len}};
        uint64_t got_value = atomic_load(&seen[record.sequence]);
        if (got_value != digest(parts, 6))
            blame("other bytes than the log holds, or never seen", 0, record.sequence, 0);
    }
    mr_json_fini(&json);
    return rc;
}

static void place(struct consumer *c, uint64_t begin_ns)
{
    c->random = settings.seed * UINT64_C(0x9e3779b97f4a7c15) + c->index * UINT64_C(2654435761) + 1;
    for (int i = 0; i < 8; i++)
        dice(c, 2);
    c->slow = dice(c, 100) < settings.slow;
    c->killed = dice(c, 100) < settings.killed;
    c->batch = dice(c, 100) < settings.batch;
    c->cut_after = life(c);
    c->join_ns = begin_ns + dice(c, settings.join_ms + 1) * MR_NS_PER_MS;
    uint64_t kind = c->index == 0 ? 0 : dice(c, 10); /* the first sees all */
    if (kind == 0) {
        c->sequence = 0;
        snprintf(c->after, sizeof c->after, "e30");
    } else if (kind == 1) {
        c->sequence = UINT64_MAX; /* from now on */
    } else {
        uint64_t at = c->join_ns - begin_ns; /* somewhere in what there is by then, as a guess */
        c->sequence = dice(c, 1 + last / 4 * (1 + at / MR_NS_PER_S) / 8);
        mr_marker_format((struct mr_marker){.log_id = log_id, .sequence = c->sequence}, c->after);
    }
}

static bool read_setting(const char *text)
{
    static const struct {
        const char *name;
        uint64_t *value;
    } names[] = {{"consumers", &settings.consumers}, {"seed", &settings.seed},
                 {"slow", &settings.slow},           {"killed", &settings.killed},
                 {"join_ms", &settings.join_ms},     {"seconds", &settings.seconds},
                 {"same_id", &settings.same_id},     {"batch", &settings.batch}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t len = strlen(names[i].name);
        if (strncmp(text, names[i].name, len) == 0 && text[len] == '=') {
            *names[i].value = strtoull(text + len + 1, NULL, 10);
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    static struct consumer all[CONSUMERS_MAX];
    struct worker workers[THREADS];
    struct mr_log_reader *reader = NULL;
    struct mr_err err = {.rc = MR_OK};
    if (argc < 4)
        return 2;
    target = argv[1];
    log_dir = argv[2];
    last = strtoull(argv[3], NULL, 10);
    for (int i = 4; i < argc; i++)
        if (!read_setting(argv[i]))
            return 2;
    if (settings.consumers > CONSUMERS_MAX || mr_log_reader_open(&reader, log_dir, &err) != MR_OK)
        return 2;
    log_id = mr_log_reader_id(reader);
    seen = calloc(last + 1, sizeof *seen);
    grpc_init();
    uint64_t begin_ns = mr_clock_ns(), checked = 0;
    for (uint64_t i = 0; i < settings.consumers; i++) {
        all[i].index = i;
        place(&all[i], begin_ns);
    }
    bool late = false;
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){
            .all = all, .from = i, .deadline_ns = begin_ns + settings.seconds * MR_NS_PER_S};
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        late |= workers[i].late;
    }
    double seconds = (double)(mr_clock_ns() - begin_ns) / 1e9;
    if (check_log(reader, &checked, &err) != MR_OK)
        blame(err.text, 0, checked, last);
    mr_log_reader_close(&reader);
    free(seen);
    printf("{\"consumers\": %" PRIu64 ", \"done\": %" PRIu64 ", \"events\": %" PRIu64
           ", \"cuts\": %" PRIu64 ", \"checked\": %" PRIu64 ", \"wrong\": %" PRIu64
           ", \"late\": %s, \"seconds\": %.2f, \"problem\": \"%s\"}\n",
           settings.consumers, atomic_load(&mine_done), atomic_load(&received), atomic_load(&cuts),
           checked, atomic_load(&wrong), late ? "true" : "false", seconds, problem);
    return atomic_load(&wrong) == 0 && !late ? 0 : 1;
}
