/* millrace-tail: subscribe and print what is delivered. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/clock.h"
#include "proto/json.h"
#include "tools/client/client.h"
#include "tools/client/filter.h"

enum { FILTERS_MAX = 32 };

struct tail {
    const char *server, *collection, *database, *after;
    struct mr_client_filter filters[FILTERS_MAX];
    uint32_t filter_count;
    bool json;
    uint64_t count_max, count; /* 0: no maximum */
    bool subscribed;
    enum mr_rc refused; /* MR_OK, or how the subscription failed */
    struct mr_json line;
    char progress[64];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
}

static const char usage_text[] =
    "usage: millrace-tail --collection NAME [options]\n"
    "Print changes as they are delivered.\n\n"
    "  --server HOST:PORT     the publisher (default 127.0.0.1:9000)\n"
    "  --collection NAME      collection or table, e.g. orders, or sales.orders\n"
    "  --database NAME        database (default \"default\")\n"
    "  --filter 'PATH OP VALUE'  only documents where this holds; several must all hold. OP: == != "
    "> >=\n"
    "                         < <= in contains. VALUE: 7, 1.5, true, \"text\", text, [1, 2]\n"
    "  --after MARKER         begin behind this progress marker instead of now\n"
    "  --json                 one JSON object a line\n"
    "  --count N              stop after N deliveries\n\n"
    "Exit: 0 done, 2 wrong arguments, 100 refused by the publisher, 111 publisher away.\n";

static void on_response(void *context, const struct mr_client_response *response)
{
    struct tail *t = context;
    if (response->success) {
        t->subscribed = true;
        fprintf(stderr, "millrace-tail: subscribed as %.*s; nothing is missed behind marker %.*s\n",
                (int)response->subscription_id.len, response->subscription_id.data,
                (int)response->progress.len, response->progress.data);
        return;
    }
    t->refused = MR_USAGE;
    fprintf(stderr, "millrace-tail: the publisher refused the subscription: %.*s%s\n",
            (int)response->error.len, response->error.data,
            response->resync
                ? " (the marker lies before what the log still holds: read the current "
                  "state anew and start without --after)"
                : "");
}

static void put_member(struct mr_json *json, const char *name, struct mr_str value)
{
    mr_json_put_raw(json, MR_STR(","));
    mr_json_put_string(json, mr_str_from(name));
    mr_json_put_raw(json, MR_STR(":"));
    mr_json_put_string(json, value);
}

static void build_json(struct mr_json *json, const struct mr_client_delivery *d)
{
    mr_json_put_raw(json, MR_STR("{\"operation\":"));
    mr_json_put_string(json, mr_str_from(mr_client_operation_name(d->operation)));
    put_member(json, "database", d->database);
    put_member(json, "collection", d->collection);
    put_member(json, "document_id", d->document_id);
    put_member(json, "event_id", d->event_id);
    put_member(json, "progress", d->progress);
    mr_json_put_raw(json, MR_STR(",\"timestamp_ms\":"));
    mr_json_put_int(json, d->timestamp_ms);
    mr_json_put_raw(json, MR_STR(",\"source_timestamp_us\":"));
    mr_json_put_int(json, d->source_timestamp_us);
    if (d->key_only)
        mr_json_put_raw(json, MR_STR(",\"key_only\":true"));
    mr_json_put_raw(json, MR_STR(",\"document\":"));
    mr_json_put_raw(json, d->document_json.len ? d->document_json : MR_STR("null"));
    mr_json_put_raw(json, MR_STR("}"));
}

/* For people: time, what happened, to which document, and its content. */
static void build_text(struct mr_json *json, const struct mr_client_delivery *d)
{
    char text[64];
    time_t seconds = (time_t)(d->timestamp_ms / 1000);
    struct tm parts;
    localtime_r(&seconds, &parts);
    size_t len = strftime(text, sizeof text, "%H:%M:%S", &parts);
    len += (size_t)snprintf(text + len, sizeof text - len, ".%03d %-8s ",
                            (int)(d->timestamp_ms % 1000), mr_client_operation_name(d->operation));
    mr_json_put_raw(json, (struct mr_str){text, len});
    mr_json_put_raw(json, d->collection);
    mr_json_put_raw(json, MR_STR("/"));
    mr_json_put_raw(json, d->document_id);
    mr_json_put_raw(json, MR_STR(" "));
    mr_json_put_raw(json, d->document_json);
}

static void on_delivery(void *context, const struct mr_client_delivery *delivery)
{
    struct tail *t = context;
    if (t->count_max > 0 && t->count == t->count_max)
        return;
    t->count++;
    snprintf(t->progress, sizeof t->progress, "%.*s", (int)delivery->progress.len,
             delivery->progress.data);
    mr_json_reset(&t->line);
    if (t->json)
        build_json(&t->line, delivery);
    else
        build_text(&t->line, delivery);
    mr_json_put_raw(&t->line, MR_STR("\n"));
    if (!t->line.failed)
        fwrite(t->line.data, 1, t->line.len, stdout);
}

static bool done(const struct tail *t)
{
    return interrupted || t->refused != MR_OK || (t->count_max > 0 && t->count >= t->count_max) ||
           ferror(stdout);
}

static enum mr_rc run(struct tail *t, struct mr_err *err)
{
    const struct mr_client_handlers handlers = {
        .delivery = on_delivery, .response = on_response, .context = t};
    struct mr_predicate predicates[FILTERS_MAX];
    for (uint32_t i = 0; i < t->filter_count; i++)
        predicates[i] = t->filters[i].predicate;
    const struct mr_client_subscription subscription = {.collection = mr_str_from(t->collection),
                                                        .database = mr_str_from(t->database),
                                                        .after = mr_str_from(t->after),
                                                        .filters = predicates,
                                                        .filter_count = t->filter_count};
    struct mr_client *client = NULL;
    struct mr_client_queue *queue = mr_client_queue_create();
    enum mr_rc rc = mr_client_open(&client, queue, t->server, &handlers, err);
    if (rc == MR_OK)
        mr_client_subscribe(client, &subscription);
    while ((rc == MR_OK || rc == MR_AGAIN) && !done(t)) {
        rc = mr_client_work(queue, 100 * MR_NS_PER_MS, err);
        if (rc == MR_OK)
            fflush(stdout);
    }
    fflush(stdout);
    mr_client_close(&client);
    mr_client_queue_destroy(&queue);
    if (t->refused != MR_OK)
        return t->refused;
    return done(t) ? MR_OK : rc;
}

static bool number(const char *text, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *out > 0;
}

/* MR_OK, or MR_USAGE with err. help: it was asked for. */
static enum mr_rc parse(struct tail *t, int argc, char **argv, bool *help, struct mr_err *err)
{
    static const struct option options[] = {
        {"server", required_argument, NULL, 's'},
        {"collection", required_argument, NULL, 'c'},
        {"database", required_argument, NULL, 'd'},
        {"filter", required_argument, NULL, 'f'},
        {"after", required_argument, NULL, 'a'},
        {"json", no_argument, NULL, 'j'},
        {"count", required_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK &&
           (option = getopt_long(argc, argv, "hc:d:f:a:jn:s:", options, NULL)) != -1) {
        if (option == 's')
            t->server = optarg;
        else if (option == 'c')
            t->collection = optarg;
        else if (option == 'd')
            t->database = optarg;
        else if (option == 'a')
            t->after = optarg;
        else if (option == 'j')
            t->json = true;
        else if (option == 'h')
            *help = true;
        else if (option == 'n')
            rc = number(optarg, &t->count_max)
                     ? MR_OK
                     : mr_reject(err, MR_USAGE, "--count: expected a number from 1, got \"%s\"",
                                 optarg);
        else if (option == 'f' && t->filter_count < FILTERS_MAX)
            rc = mr_client_filter_parse(&t->filters[t->filter_count++], optarg, err);
        else if (option == 'f')
            rc = mr_reject(err, MR_USAGE, "--filter: expected at most %d", FILTERS_MAX);
        else
            rc = mr_reject(err, MR_USAGE, "see millrace-tail --help");
    }
    if (rc == MR_OK && !*help && optind < argc)
        rc = mr_reject(err, MR_USAGE, "expected options only, got \"%s\"", argv[optind]);
    if (rc == MR_OK && !*help && !t->collection)
        rc = mr_reject(err, MR_USAGE, "--collection: expected the name of a collection or table");
    return rc;
}

int main(int argc, char **argv)
{
    static struct tail tail = {.server = "127.0.0.1:9000", .database = "default", .after = ""};
    struct mr_err err = {0};
    bool help = false;
    if (parse(&tail, argc, argv, &help, &err) != MR_OK) {
        fprintf(stderr, "millrace-tail: %s\n", err.text);
        return MR_EXIT_USAGE;
    }
    if (help) {
        fputs(usage_text, stdout);
        return MR_EXIT_DONE;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    enum mr_rc rc = run(&tail, &err);
    if (rc != MR_OK && rc != MR_CLOSED && tail.refused == MR_OK)
        fprintf(stderr, "millrace-tail: %s\n", err.text);
    if (tail.progress[0])
        fprintf(stderr, "millrace-tail: continue with --after %s\n", tail.progress);
    mr_json_fini(&tail.line);
    return mr_exit_code(rc);
}
