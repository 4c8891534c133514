/* The floors under JetStream: nats.c's own asynchronous publisher, flat out or at a rate, and a
 * forwarder that does nothing but turn pgoutput into JSON and publish it (inserts only; no log, no
 * matching, no restart).
 *   bench-nats publish URL SUBJECT COUNT BYTES
 *   bench-nats forward URL SUBJECT COUNT DSN SLOT PUBLICATION
 * One line of JSON: messages a second from the first one to the last acknowledgement, and CPU.
 *   bench-nats pace URL SUBJECT RATE BYTES
 * to SUBJECT.0 to SUBJECT.999 in turns, until standard input ends; each line there is answered with
 * one of JSON: how long after it was published a message was acknowledged, since the last
 * answer. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <nats/nats.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "shm/histogram.h"

enum {
    IN_FLIGHT = 4000,
    COLUMNS_MAX = 64,
    HEADER_BYTES = 25,
    PACE_SUBJECTS = 1000,
    PACE_RING = 1 << 20, /* messages that may wait for their acknowledgement */
    TICK_NS = 200 * 1000,
    TEXT_BYTES = 256,
};

struct bench {
    natsConnection *connection;
    jsCtx *js;
    const char *subject;
    uint64_t count, sent, start_ns;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench-nats: %s: %s\n", what, why);
    exit(1);
}

static void must(natsStatus s, const char *what)
{
    if (s != NATS_OK)
        die(what, natsStatus_GetText(s));
}

/* asap: each message is written at once, by whoever publishes it. */
static void connect_to(struct bench *b, const char *url, bool asap)
{
    natsOptions *options;
    must(natsOptions_Create(&options), "make options");
    must(natsOptions_SetURL(options, url), "take the URL");
    must(natsOptions_SetSendAsap(options, asap), "set options");
    must(natsConnection_Connect(&b->connection, options), "connect to NATS");
    natsOptions_Destroy(options);
}

static void publish(struct bench *b, const char *data, size_t len)
{
    if (b->sent++ == 0)
        b->start_ns = mr_clock_ns();
    must(js_PublishAsync(b->js, b->subject, data, (int)len, NULL), "publish");
}

static void finish(struct bench *b)
{
    must(js_PublishAsyncComplete(b->js, NULL), "wait for acknowledgements");
    double seconds = (double)(mr_clock_ns() - b->start_ns) / 1e9;
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    printf("{\"messages\":%" PRIu64 ",\"seconds\":%.3f,\"per_second\":%.0f,\"cpu_us_each\":%.2f}\n",
           b->sent, seconds, (double)b->sent / seconds,
           ((double)cpu.tv_sec * 1e6 + (double)cpu.tv_nsec / 1e3) / (double)b->sent);
}

static void publish_all(struct bench *b, size_t bytes)
{
    char *data = malloc(bytes);
    if (!data)
        die("allocate", "out of memory");
    memset(data, 'x', bytes);
    while (b->sent < b->count)
        publish(b, data, bytes);
    finish(b);
    free(data);
}

/* What nats.c's thread tells the main one. */
static struct mr_histogram_shm acknowledged;
static _Atomic uint64_t published_ns[PACE_RING];

static void on_answer(natsConnection *connection, natsSubscription *subscription, natsMsg *answer,
                      void *context)
{
    (void)connection;
    (void)subscription;
    (void)context;
    const char *number = strrchr(natsMsg_GetSubject(answer), '.') + 1;
    mr_histogram_add(&acknowledged,
                     mr_clock_ns() - published_ns[strtoull(number, NULL, 10) % PACE_RING]);
    natsMsg_Destroy(answer);
}

static void answer_question(void)
{
    static struct mr_histogram_shm before, now, window;
    memcpy(&now, &acknowledged, sizeof now);
    for (uint32_t i = 0; i < MR_HISTOGRAM_BUCKETS; i++) {
        window.buckets[i] = now.buckets[i] - before.buckets[i];
        window.count += window.buckets[i];
    }
    printf("{\"acknowledged\":%" PRIu64 ",\"p50\":%.1f,\"p99\":%.1f}\n", window.count,
           (double)mr_histogram_quantile_ns(&window, 0.5) / 1e3,
           (double)mr_histogram_quantile_ns(&window, 0.99) / 1e3);
    fflush(stdout);
    before = now;
    window = (struct mr_histogram_shm){0};
}

static void pace(struct bench *b, const char *inbox, const char *data, size_t bytes)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    const struct timespec tick = {.tv_nsec = TICK_NS};
    uint64_t interval_ns = MR_NS_PER_S / b->count;
    b->start_ns = mr_clock_ns();
    for (;;) {
        char c, subject[TEXT_BYTES], reply[TEXT_BYTES];
        if (ppoll(&in, 1, &tick, NULL) > 0) {
            if (read(STDIN_FILENO, &c, 1) <= 0)
                return;
            answer_question();
        }
        uint64_t due = (mr_clock_ns() - b->start_ns) / interval_ns;
        for (; b->sent < due; b->sent++) {
            snprintf(subject, sizeof subject, "%s.%" PRIu64, b->subject, b->sent % PACE_SUBJECTS);
            snprintf(reply, sizeof reply, "%s.%" PRIu64, inbox, b->sent);
            published_ns[b->sent % PACE_RING] = mr_clock_ns();
            must(natsConnection_PublishRequest(b->connection, subject, reply, data, (int)bytes),
                 "publish");
        }
    }
}

static void publish_at_rate(struct bench *b, size_t bytes)
{
    natsInbox *inbox;
    natsSubscription *answers;
    char all[TEXT_BYTES], *data = calloc(1, bytes);
    if (!data || b->count == 0)
        die("usage", "expected a rate and a number of bytes above 0");
    must(natsInbox_Create(&inbox), "make an inbox");
    snprintf(all, sizeof all, "%s.*", inbox);
    must(natsConnection_Subscribe(&answers, b->connection, all, on_answer, NULL), "subscribe");
    pace(b, inbox, data, bytes);
    natsSubscription_Destroy(answers);
    natsInbox_Destroy(inbox);
    free(data);
}

/* The last relation described: one table is enough here. */
static struct {
    int count;
    char names[COLUMNS_MAX][64];
} table;

static uint32_t u32(const char *at)
{
    uint32_t n;
    memcpy(&n, at, sizeof n);
    return ntohl(n);
}

static uint16_t u16(const char *at)
{
    uint16_t n;
    memcpy(&n, at, sizeof n);
    return ntohs(n);
}

static void take_relation(const char *at)
{
    at += 5;
    at += strlen(at) + 1;
    at += strlen(at) + 1;
    table.count = u16(at + 1);
    at += 3;
    for (int i = 0; i < table.count && i < COLUMNS_MAX; i++) {
        snprintf(table.names[i], sizeof table.names[i], "%s", at + 1);
        at += 1 + strlen(at + 1) + 1 + 8;
    }
}

static char *put_text(char *out, const char *text, size_t len)
{
    *out++ = '"';
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"' || text[i] == '\\')
            *out++ = '\\';
        *out++ = text[i];
    }
    *out++ = '"';
    return out;
}

static void take_insert(struct bench *b, const char *at)
{
    static char json[1 << 20];
    char *out = json;
    int columns = u16(at + 6);
    at += 8;
    for (int i = 0; i < columns && i < COLUMNS_MAX; i++) {
        char kind = *at++;
        *out++ = i ? ',' : '{';
        out = put_text(out, table.names[i], strlen(table.names[i]));
        *out++ = ':';
        uint32_t len = kind == 't' ? u32(at) : 0;
        if (kind == 't') {
            out = put_text(out, at + 4, len);
            at += 4 + len;
        } else {
            memcpy(out, "null", 4);
            out += 4;
        }
    }
    *out++ = '}';
    publish(b, json, (size_t)(out - json));
}

static void forward_all(struct bench *b, const char *dsn, const char *slot, const char *publication)
{
    char command[512], full[1024];
    snprintf(full, sizeof full, "%s replication=database", dsn);
    PGconn *pg = PQconnectdb(full);
    if (PQstatus(pg) != CONNECTION_OK)
        die("connect to PostgreSQL", PQerrorMessage(pg));
    snprintf(command, sizeof command,
             "START_REPLICATION SLOT %s LOGICAL 0/0 (proto_version '1', publication_names '%s')",
             slot, publication);
    PGresult *result = PQexec(pg, command);
    if (PQresultStatus(result) != PGRES_COPY_BOTH)
        die("start replication", PQerrorMessage(pg));
    PQclear(result);
    while (b->sent < b->count) {
        char *message;
        int len = PQgetCopyData(pg, &message, 0);
        if (len < 0)
            die("read", PQerrorMessage(pg));
        if (message[0] == 'w' && len > HEADER_BYTES) {
            const char *change = message + HEADER_BYTES;
            if (*change == 'R')
                take_relation(change);
            else if (*change == 'I')
                take_insert(b, change);
        }
        PQfreemem(message);
    }
    finish(b);
    PQfinish(pg);
}

int main(int argc, char **argv)
{
    if (argc < 6)
        die("usage",
            "bench-nats publish URL SUBJECT COUNT BYTES | pace URL SUBJECT RATE BYTES | forward "
            "URL SUBJECT COUNT DSN SLOT PUBLICATION");
    struct bench b = {.subject = argv[3], .count = strtoull(argv[4], NULL, 10)};
    jsOptions options;
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = IN_FLIGHT;
    options.PublishAsync.StallWait = 60000; /* ms: a busy machine is slow, not broken */
    connect_to(&b, argv[2], strcmp(argv[1], "pace") == 0);
    must(natsConnection_JetStream(&b.js, b.connection, &options), "use JetStream");
    if (strcmp(argv[1], "publish") == 0)
        publish_all(&b, strtoull(argv[5], NULL, 10));
    else if (strcmp(argv[1], "pace") == 0)
        publish_at_rate(&b, strtoull(argv[5], NULL, 10));
    else if (argc >= 8)
        forward_all(&b, argv[5], argv[6], argv[7]);
    jsCtx_Destroy(b.js);
    natsConnection_Destroy(b.connection);
    return 0;
}
