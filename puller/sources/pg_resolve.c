#include "puller/sources/pg_resolve.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOSTS_MAX = 16, ADDRESSES_MAX = 8, LIST_BYTES = 4096 };

/* What a lookup under way reads and writes: outlives the resolver when it cannot be cancelled. */
struct lookup {
    struct gaicb requests[HOSTS_MAX];
    struct gaicb *list[HOSTS_MAX];
    struct addrinfo hints;
    char hosts[HOSTS_MAX][256], ports[HOSTS_MAX][8];
    int count;
    bool needed[HOSTS_MAX]; /* a name, and no address or socket directory */
};
struct mr_pg_resolve {
    struct lookup *lookup;
    char hosts[LIST_BYTES], addresses[LIST_BYTES], ports[LIST_BYTES];
};

/* Entry index of a list joined by commas; the only entry serves for all. */
static void list_entry(const char *list, int index, char *out, size_t size)
{
    const char *at = list;
    for (int i = 0; i < index && strchr(at, ','); i++)
        at = strchr(at, ',') + 1;
    snprintf(out, size, "%.*s", (int)strcspn(at, ","), at);
}

static int list_count(const char *list)
{
    int count = 1;
    for (const char *at = list; (at = strchr(at, ',')) != NULL; at++)
        count++;
    return count;
}

static bool is_name(const char *host)
{
    struct in6_addr ignored;
    return host[0] != '\0' && host[0] != '/' && host[0] != '@' &&
           inet_pton(AF_INET, host, &ignored) != 1 && inet_pton(AF_INET6, host, &ignored) != 1;
}

/* False: the string names its addresses itself, or has no name to resolve. */
static bool read_hosts(const char *url, struct lookup *lookup)
{
    PQconninfoOption *options = PQconninfoParse(url, NULL);
    const char *host = getenv("PGHOST"), *port = getenv("PGPORT"), *address = getenv("PGHOSTADDR");
    for (PQconninfoOption *o = options; o && o->keyword; o++) {
        if (!o->val || !o->val[0])
            continue;
        if (strcmp(o->keyword, "host") == 0)
            host = o->val;
        else if (strcmp(o->keyword, "port") == 0)
            port = o->val;
        else if (strcmp(o->keyword, "hostaddr") == 0)
            address = o->val;
    }
    bool any = false;
    lookup->count = host && !address ? list_count(host) : 0;
    if (lookup->count > HOSTS_MAX)
        lookup->count = 0; /* left to libpq */
    for (int i = 0; i < lookup->count; i++) {
        list_entry(host, i, lookup->hosts[i], sizeof lookup->hosts[i]);
        list_entry(port ? port : "5432", i, lookup->ports[i], sizeof lookup->ports[i]);
        lookup->needed[i] = is_name(lookup->hosts[i]);
        any |= lookup->needed[i];
    }
    PQconninfoFree(options);
    return any;
}

enum mr_rc mr_pg_resolve_start(struct mr_pg_resolve **out, const char *url, struct mr_err *err)
{
    *out = NULL;
    struct mr_pg_resolve *resolve = calloc(1, sizeof *resolve);
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (!resolve || !lookup) {
        free(resolve);
        free(lookup);
        return mr_fail(err, MR_FATAL, "resolve the host of postgres.url");
    }
    resolve->lookup = lookup;
    if (!read_hosts(url, lookup)) {
        free(lookup);
        free(resolve);
        return MR_OK;
    }
    int count = 0;
    lookup->hints.ai_socktype = SOCK_STREAM;
    for (int i = 0; i < lookup->count; i++) {
        if (!lookup->needed[i])
            continue;
        lookup->requests[i] =
            (struct gaicb){.ar_name = lookup->hosts[i], .ar_request = &lookup->hints};
        lookup->list[count++] = &lookup->requests[i];
    }
    int failed = getaddrinfo_a(GAI_NOWAIT, lookup->list, count, NULL);
    if (failed != 0) {
        free(lookup);
        free(resolve);
        return mr_reject(err, MR_RETRY, "resolve the host of postgres.url: %s",
                         gai_strerror(failed));
    }
    *out = resolve;
    return MR_OK;
}

static void append(char list[LIST_BYTES], const char *text, bool first)
{
    size_t len = strlen(list);
    snprintf(list + len, LIST_BYTES - len, "%s%s", first ? "" : ",", text);
}

static void append_entry(struct mr_pg_resolve *resolve, const char *host, const char *address,
                         const char *port, bool first)
{
    append(resolve->hosts, host, first);
    append(resolve->addresses, address, first);
    append(resolve->ports, port, first);
}

/* One entry for each address of each host, in the resolver's order of preference. */
static int build_lists(struct mr_pg_resolve *resolve, int *failure)
{
    struct lookup *lookup = resolve->lookup;
    int entries = 0;
    for (int i = 0; i < lookup->count; i++) {
        if (!lookup->needed[i]) {
            append_entry(resolve, lookup->hosts[i], "", lookup->ports[i], entries++ == 0);
            continue;
        }
        int status = gai_error(&lookup->requests[i]), taken = 0;
        if (status != 0) {
            *failure = status;
            continue;
        }
        for (struct addrinfo *a = lookup->requests[i].ar_result; a && taken < ADDRESSES_MAX;
             a = a->ai_next) {
            char address[64];
            if (getnameinfo(a->ai_addr, a->ai_addrlen, address, sizeof address, NULL, 0,
                            NI_NUMERICHOST) != 0)
                continue;
            append_entry(resolve, lookup->hosts[i], address, lookup->ports[i], entries++ == 0);
            taken++;
        }
    }
    return entries;
}

enum mr_rc mr_pg_resolve_poll(struct mr_pg_resolve *resolve, struct mr_err *err)
{
    struct lookup *lookup = resolve->lookup;
    for (int i = 0; i < lookup->count; i++)
        if (lookup->needed[i] && gai_error(&lookup->requests[i]) == EAI_INPROGRESS)
            return MR_AGAIN;
    int failure = EAI_NONAME;
    if (build_lists(resolve, &failure) > 0)
        return MR_OK;
    return mr_reject(err, MR_RETRY, "resolve host %s of postgres.url: %s", lookup->hosts[0],
                     gai_strerror(failure));
}

void mr_pg_resolve_lists(const struct mr_pg_resolve *resolve, const char **hosts,
                         const char **addresses, const char **ports)
{
    *hosts = resolve->hosts;
    *addresses = resolve->addresses;
    *ports = resolve->ports;
}

void mr_pg_resolve_end(struct mr_pg_resolve **resolve)
{
    if (!*resolve)
        return;
    struct lookup *lookup = (*resolve)->lookup;
    bool running = false;
    for (int i = 0; i < lookup->count; i++) {
        if (!lookup->needed[i])
            continue;
        gai_cancel(&lookup->requests[i]);
        if (gai_error(&lookup->requests[i]) == EAI_INPROGRESS)
            running = true;
        else if (lookup->requests[i].ar_result)
            freeaddrinfo(lookup->requests[i].ar_result);
    }
    if (!running) /* else the lookup's thread still writes there: a few kilobytes stay behind */
        free(lookup);
    free(*resolve);
    *resolve = NULL;
}
