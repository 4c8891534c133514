/* bench-grpc: deliveries through the gRPC sink to one C client in another process, and the same
 * bytes through a TCP connection on the loopback interface as the floor, in the same run.
 *
 *   bench-grpc [--messages N] [--bytes N] [--rate N] [--seconds N] [--turn N]
 *
 * messages: of a flat-out run; bytes: of one delivery on the wire, about; rate, seconds: of the
 * latency run; turn: deliveries between two flushes in the flat-out run. JSON on standard output.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bson.h"
#include "common/clock.h"
#include "common/log.h"
#include "proto/marker.h"
#include "publisher/sink.h"
#include "shm/histogram.h"
#include "tools/client/client.h"

enum {
    HEAD_BYTES = 130,
    TCP_BUFFER_BYTES = 64 * 1024
}; /* of a delivery beside its padding, about */

struct options {
    uint64_t messages, bytes, rate, seconds, turn;
};

/* What the receiving process found. */
struct result {
    uint64_t count, bytes, first_ns, last_ns, p50_ns, p99_ns, max_ns, cpu_ns;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench-grpc: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static uint64_t cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * MR_NS_PER_S +
           ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * MR_NS_PER_US;
}

/* A child that runs body and hands back a result through a pipe; port comes through another one. */
struct child {
    pid_t pid;
    int to, from;
};

static struct child spawn(void (*body)(uint16_t port, uint64_t want, struct result *out),
                          uint64_t want)
{
    int down[2], up[2];
    if (pipe(down) != 0 || pipe(up) != 0)
        die("pipe");
    struct child child = {.to = down[1], .from = up[0], .pid = fork()};
    if (child.pid < 0)
        die("fork");
    if (child.pid > 0) {
        close(down[0]);
        close(up[1]);
        return child;
    }
    uint16_t port;
    struct result result = {0};
    close(down[1]);
    if (read(down[0], &port, sizeof port) != sizeof port)
        exit(EXIT_FAILURE);
    body(port, want, &result);
    result.cpu_ns = cpu_ns();
    if (write(up[1], &result, sizeof result) != sizeof result)
        exit(EXIT_FAILURE);
    _exit(EXIT_SUCCESS);
}

static struct result collect(struct child *child)
{
    struct result result = {0};
    if (read(child->from, &result, sizeof result) != sizeof result)
        die("the receiving process has failed");
    close(child->from);
    close(child->to);
    waitpid(child->pid, NULL, 0);
    return result;
}

static void tell_port(const struct child *child, uint16_t port)
{
    if (write(child->to, &port, sizeof port) != sizeof port)
        die("write to the receiving process");
}

/* The gRPC client. */

struct receiver {
    struct result *out;
    struct mr_histogram_shm latency;
};

static void on_delivery(void *context, const struct mr_client_delivery *delivery)
{
    struct receiver *r = context;
    uint64_t now = mr_clock_ns();
    if (r->out->count++ == 0)
        r->out->first_ns = now;
    r->out->last_ns = now;
    r->out->bytes += delivery->document_json.len;
    mr_histogram_add(&r->latency, now - (uint64_t)delivery->source_timestamp_us); /* ns, see emit */
}

static void receive(uint16_t port, uint64_t want, struct result *out)
{
    static struct receiver receiver;
    struct mr_err err = {0};
    char target[64];
    struct mr_client *client;
    receiver.out = out;
    snprintf(target, sizeof target, "127.0.0.1:%u", port);
    const struct mr_client_handlers handlers = {.delivery = on_delivery, .context = &receiver};
    const struct mr_client_subscription subscription = {.subscription_id =
                                                            MR_STR("bench-subscription"),
                                                        .collection = MR_STR("bench"),
                                                        .database = MR_STR("default")};
    struct mr_client_queue *queue = mr_client_queue_create();
    enum mr_rc rc = mr_client_open(&client, queue, target, &handlers, &err);
    if (rc == MR_OK) {
        mr_client_subscribe(client, &subscription);
        while (out->count < want && (rc == MR_OK || rc == MR_AGAIN))
            rc = mr_client_work(queue, MR_NS_PER_S, &err);
        mr_client_close(&client);
    }
    mr_client_queue_destroy(&queue);
    if (out->count < want)
        fprintf(stderr, "bench-grpc: %s\n", err.text);
    out->p50_ns = mr_histogram_quantile_ns(&receiver.latency, 0.5);
    out->p99_ns = mr_histogram_quantile_ns(&receiver.latency, 0.99);
    out->max_ns = receiver.latency.max_ns;
}

/* The pump. */

struct pump {
    struct mr_sink *sink;
    mr_gateway_id gateway;
    struct mr_bson_writer document;
    uint64_t sequence;
};

static void answer_requests(struct pump *p)
{
    struct mr_request request;
    while (mr_sink_grpc.poll(p->sink, &request) == MR_OK) {
        if (request.kind == MR_REQUEST_SUBSCRIBE) {
            struct mr_response yes = {.subscription_id = request.subscription_id, .success = true};
            (void)mr_sink_grpc.respond(p->sink, request.gateway, &yes);
            mr_sink_grpc.flush(p->sink);
            p->gateway = request.gateway;
        } else if (request.kind == MR_REQUEST_CLOSE) {
            p->gateway = 0;
        }
    }
}

/* One event, encoded and queued; its time travels in nanoseconds in the field of the source time.
 */
static void emit(struct pump *p)
{
    static const struct mr_str id = {"bench-subscription", sizeof "bench-subscription" - 1};
    char marker[MR_MARKER_TEXT_MAX];
    struct mr_event event = {.database = MR_STR("default"),
                             .collection = MR_STR("bench"),
                             .document_id = MR_STR("document-1"),
                             .document = mr_bson_bytes(&p->document)};
    event.head = (struct mr_event_head){.sequence = ++p->sequence,
                                        .source_order = p->sequence,
                                        .op = MR_OP_UPDATE,
                                        .ingest_time_us = mr_clock_wall_us(),
                                        .source_time_us = (int64_t)mr_clock_ns()};
    size_t len = mr_marker_format((struct mr_marker){.log_id = 1, .sequence = p->sequence}, marker);
    struct mr_parcel *parcel = mr_sink_grpc.encode(p->sink, &event);
    MR_ASSERT(parcel != NULL);
    const struct mr_delivery delivery = {
        .subscription_ids = &id, .count = 1, .progress = {marker, len}};
    (void)mr_sink_grpc.deliver(p->sink, p->gateway, parcel, &delivery);
    mr_sink_grpc.release(p->sink, parcel);
}

static void flat_out(struct pump *p, const struct options *options)
{
    for (uint64_t i = 0; i < options->messages && p->gateway;) {
        for (uint64_t j = 0; j < options->turn && i < options->messages; j++, i++)
            emit(p);
        mr_sink_grpc.flush(p->sink);
        while (p->gateway && mr_sink_grpc.fill(p->sink, p->gateway) > 0.5)
            usleep(100);
    }
}

static void paced(struct pump *p, const struct options *options)
{
    uint64_t start = mr_clock_ns(), interval = MR_NS_PER_S / options->rate;
    for (uint64_t i = 0; i < options->rate * options->seconds && p->gateway; i++) {
        uint64_t due = start + i * interval, now = mr_clock_ns();
        if (now < due)
            usleep((useconds_t)((due - now) / MR_NS_PER_US));
        emit(p);
        mr_sink_grpc.flush(p->sink);
    }
}

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        die("find a free port");
    close(fd);
    return ntohs(address.sin_port);
}

static void fill_document(struct pump *p, uint64_t bytes)
{
    static char padding[1 << 20];
    uint64_t len = bytes > HEAD_BYTES + 16 ? bytes - HEAD_BYTES - 16 : 1;
    len = len < sizeof padding ? len : sizeof padding;
    memset(padding, 'x', len);
    mr_bson_writer_init(&p->document);
    mr_bson_begin(&p->document);
    mr_bson_put_int64(&p->document, MR_STR("n"), 1);
    mr_bson_put_string(&p->document, MR_STR("text"), (struct mr_str){padding, len});
    mr_bson_end(&p->document);
}

/* One run; the sink's own process time comes back in *own_cpu_ns. */
static struct result run_grpc(const struct options *options, struct child *child,
                              void (*load)(struct pump *, const struct options *),
                              uint64_t *own_cpu_ns, uint64_t *wire_bytes)
{
    static struct mr_config config;
    static struct mr_cell_shm cell;
    struct pump pump = {0};
    struct mr_err err = {0};
    char listen[64];
    mr_config_init(&config);
    uint16_t port = free_port();
    snprintf(listen, sizeof listen, "127.0.0.1:%u", port);
    if (mr_config_set(&config, "publisher.grpc_listen", listen, &err) != MR_OK ||
        mr_sink_grpc.open(&pump.sink, &config, &cell, &err) != MR_OK) {
        fprintf(stderr, "bench-grpc: %s\n", err.text);
        exit(EXIT_FAILURE);
    }
    tell_port(child, port);
    fill_document(&pump, options->bytes);
    while (!pump.gateway) {
        answer_requests(&pump);
        usleep(1000);
    }
    uint64_t before = cpu_ns(), bytes = mr_counter_get(&cell, MR_COUNTER_DELIVERY_BYTES);
    load(&pump, options);
    struct result result = collect(child);
    *own_cpu_ns = cpu_ns() - before;
    *wire_bytes = mr_counter_get(&cell, MR_COUNTER_DELIVERY_BYTES) - bytes;
    mr_sink_grpc.close(pump.sink, mr_clock_ns() + MR_NS_PER_S);
    mr_bson_writer_fini(&pump.document);
    return result;
}

/* The floor: bytes through a TCP connection, nothing else. */

static void receive_tcp(uint16_t port, uint64_t want, struct result *out)
{
    static char buffer[TCP_BUFFER_BYTES];
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect");
    while (out->bytes < want) {
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (got <= 0)
            break;
        if (out->bytes == 0)
            out->first_ns = mr_clock_ns();
        out->bytes += (uint64_t)got;
    }
    out->last_ns = mr_clock_ns();
    close(fd);
}

/* Messages a second when every write holds this many of them. */
static double run_tcp(uint64_t messages, uint64_t message_bytes, uint64_t each)
{
    static char buffer[1 << 20];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    struct child child = spawn(receive_tcp, messages * message_bytes);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) != 0 ||
        listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&address, &len) != 0)
        die("listen");
    tell_port(&child, ntohs(address.sin_port));
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        die("accept");
    uint64_t left = messages * message_bytes, chunk = each * message_bytes;
    chunk = chunk < sizeof buffer ? chunk : sizeof buffer;
    while (left > 0) {
        ssize_t put = write(fd, buffer, left < chunk ? left : chunk);
        if (put <= 0)
            die("write");
        left -= (uint64_t)put;
    }
    struct result result = collect(&child);
    close(fd);
    close(listener);
    return (double)messages * 1e9 / (double)(result.last_ns - result.first_ns);
}

static bool parse(int argc, char **argv, struct options *out)
{
    *out =
        (struct options){.messages = 500000, .bytes = 500, .rate = 10000, .seconds = 5, .turn = 32};
    const struct {
        const char *name;
        uint64_t *value;
    } rows[] = {{"--messages", &out->messages},
                {"--bytes", &out->bytes},
                {"--rate", &out->rate},
                {"--seconds", &out->seconds},
                {"--turn", &out->turn}};
    for (int i = 1; i + 1 < argc; i += 2) {
        bool known = false;
        for (size_t j = 0; j < sizeof rows / sizeof rows[0]; j++) {
            if (strcmp(argv[i], rows[j].name) == 0) {
                *rows[j].value = strtoull(argv[i + 1], NULL, 10);
                known = *rows[j].value > 0;
            }
        }
        if (!known)
            return false;
    }
    return argc % 2 == 1;
}

int main(int argc, char **argv)
{
    struct options options;
    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "usage: bench-grpc [--messages N] [--bytes N] [--rate N] [--seconds N] "
                        "[--turn N]\n");
        return MR_EXIT_USAGE;
    }
    mr_log_setup(MR_LOG_WARN, MR_LOG_TEXT, "bench-grpc");
    uint64_t flat_cpu, paced_cpu, flat_bytes, paced_bytes;
    /* gRPC does not live through a fork, so both receivers are made before it is used. */
    struct child flat_child = spawn(receive, options.messages);
    struct child slow_child = spawn(receive, options.rate * options.seconds);
    struct result flat = run_grpc(&options, &flat_child, flat_out, &flat_cpu, &flat_bytes);
    struct result slow = run_grpc(&options, &slow_child, paced, &paced_cpu, &paced_bytes);
    uint64_t message = flat_bytes / options.messages;
    double each = run_tcp(options.messages, message, 1);
    double batched = run_tcp(options.messages, message, TCP_BUFFER_BYTES / message + 1);
    double rate = (double)flat.count * 1e9 / (double)(flat.last_ns - flat.first_ns);
    printf("{\"messages\": %llu, \"message_bytes\": %llu, \"deliveries_per_s\": %.0f, "
           "\"sink_cpu_us_per_delivery\": %.2f, \"client_cpu_us_per_delivery\": %.2f,\n"
           " \"paced\": {\"rate\": %llu, \"received\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, "
           "\"max_us\": %.1f, \"sink_cpu_share\": %.3f, \"client_cpu_share\": %.3f},\n"
           " \"tcp_floor\": {\"write_each_per_s\": %.0f, \"write_batched_per_s\": %.0f},\n"
           " \"ratio_to_write_each\": %.3f, \"ratio_to_write_batched\": %.3f}\n",
           (unsigned long long)flat.count, (unsigned long long)message, rate,
           (double)flat_cpu / 1e3 / (double)flat.count,
           (double)flat.cpu_ns / 1e3 / (double)flat.count, (unsigned long long)options.rate,
           (unsigned long long)slow.count, (double)slow.p50_ns / 1e3, (double)slow.p99_ns / 1e3,
           (double)slow.max_ns / 1e3, (double)paced_cpu / 1e9 / (double)options.seconds,
           (double)slow.cpu_ns / 1e9 / (double)options.seconds, each, batched, rate / each,
           rate / batched);
    return flat.count == options.messages ? 0 : EXIT_FAILURE;
}
