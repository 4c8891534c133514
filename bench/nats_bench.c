/* The floors under JetStream: nats.c's own asynchronous publisher, and a forwarder that does
 * nothing but turn pgoutput into JSON and publish it (inserts only; no log, no matching, no
 * restart). bench-nats publish URL SUBJECT COUNT BYTES bench-nats forward URL SUBJECT COUNT DSN
 * SLOT PUBLICATION One line of JSON: messages a second from the first one to the last
 * acknowledgement, and CPU. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"

enum { IN_FLIGHT = 4000, COLUMNS_MAX = 64, HEADER_BYTES = 25 };

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
        die("usage", "bench-nats publish URL SUBJECT COUNT BYTES | forward URL SUBJECT COUNT DSN "
                     "SLOT PUBLICATION");
    struct bench b = {.subject = argv[3], .count = strtoull(argv[4], NULL, 10)};
    jsOptions options;
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = IN_FLIGHT;
    options.PublishAsync.StallWait = 60000; /* ms: a busy machine is slow, not broken */
    must(natsConnection_ConnectTo(&b.connection, argv[2]), "connect to NATS");
    must(natsConnection_JetStream(&b.js, b.connection, &options), "use JetStream");
    if (strcmp(argv[1], "publish") == 0)
        publish_all(&b, strtoull(argv[5], NULL, 10));
    else if (argc >= 8)
        forward_all(&b, argv[5], argv[6], argv[7]);
    jsCtx_Destroy(b.js);
    natsConnection_Destroy(b.connection);
    return 0;
}
