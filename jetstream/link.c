#include "jetstream/link.h"

#include <errno.h>
#include <nats/nats.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

enum {
    CONNECT_MS = 2000,
    PING_MS = 10 * 1000,
    SERVERS_MAX = 32,
    OUT_BYTES = 512 * 1024, /* written in pieces of at most this; a larger message goes alone */
    LINE_BYTES = 512,       /* beside subject, id, headers and payload */
};

struct mr_js_link {
    natsConnection *control, *events;
    natsSubscription *answers;
    natsMsg *answer; /* given out last */
    char *inbox;     /* answers come to inbox.NUMBER */
    size_t inbox_len;
    size_t payload_max;
    bool plain; /* no TLS: this file writes */
    /* Set by nats.c from its own threads, too. */
    _Atomic int fd; /* -1: detached */
    _Atomic bool nats_writes;
    uint8_t *out;
    size_t out_at, out_len, out_size;
};

static enum mr_rc fail(struct mr_err *err, enum mr_rc rc, const char *what, natsStatus status)
{
    const char *detail = nats_GetLastError(NULL);
    return mr_reject(err, rc, "%s: %s%s%s", what, natsStatus_GetText(status),
                     detail && *detail ? ": " : "", detail ? detail : "");
}

/* Servers in the order given: the first one that answers is used. */
static natsStatus set_servers(natsOptions *o, const char *url)
{
    const char *servers[SERVERS_MAX];
    char *text = strdup(url), *rest = NULL;
    int count = 0;
    natsStatus status = NATS_NO_MEMORY;
    if (!text)
        return status;
    for (char *at = strtok_r(text, ", ", &rest); at && count < SERVERS_MAX;
         at = strtok_r(NULL, ", ", &rest))
        servers[count++] = at;
    status = count > 0 ? natsOptions_SetServers(o, servers, count) : NATS_INVALID_ARG;
    free(text);
    return status;
}

static natsStatus set_options(natsOptions *o, const struct mr_js_options *options)
{
    natsStatus s = set_servers(o, options->url);
    if (s == NATS_OK)
        s = natsOptions_SetAllowReconnect(o, false);
    if (s == NATS_OK)
        s = natsOptions_SetNoRandomize(o, true);
    if (s == NATS_OK)
        s = natsOptions_SetTimeout(o, CONNECT_MS);
    if (s == NATS_OK)
        s = natsOptions_SetPingInterval(o, PING_MS);
    if (s == NATS_OK)
        s = natsOptions_SetName(o, options->name);
    if (s == NATS_OK && *options->credentials)
        s = natsOptions_SetUserCredentialsFromFiles(o, options->credentials, NULL);
    if (s == NATS_OK && *options->ca)
        s = natsOptions_LoadCATrustedCertificates(o, options->ca);
    return s;
}

static natsStatus on_attach(void **user, void *loop, natsConnection *nc, natsSock socket)
{
    struct mr_js_link *link = loop;
    (void)nc;
    atomic_store_explicit(&link->fd, (int)socket, memory_order_release);
    *user = link;
    return NATS_OK;
}

static natsStatus on_read(void *user, bool add)
{
    (void)user;
    (void)add; /* it is read as long as it is there */
    return NATS_OK;
}

static natsStatus on_write(void *user, bool add)
{
    struct mr_js_link *link = user;
    atomic_store_explicit(&link->nats_writes, add, memory_order_release);
    return NATS_OK;
}

static natsStatus on_detach(void *user)
{
    struct mr_js_link *link = user;
    atomic_store_explicit(&link->fd, -1, memory_order_release);
    return NATS_OK;
}

static enum mr_rc connect_one(natsConnection **out, const struct mr_js_options *options,
                              struct mr_js_link *loop, struct mr_err *err)
{
    natsOptions *o = NULL;
    natsStatus s = natsOptions_Create(&o);
    if (s == NATS_OK)
        s = set_options(o, options);
    if (s == NATS_OK && !loop)
        s = natsOptions_SetSendAsap(o, true); /* requests are few and waited for */
    if (s == NATS_OK && loop)
        s = natsOptions_SetEventLoop(o, loop, on_attach, on_read, on_write, on_detach);
    enum mr_rc rc = MR_OK;
    if (s != NATS_OK) {
        rc = fail(err, s == NATS_NO_MEMORY ? MR_FATAL : MR_USAGE, "NATS options", s);
    } else {
        s = natsConnection_Connect(out, o);
        if (s != NATS_OK)
            rc = fail(err, MR_RETRY, "connect to NATS", s);
    }
    natsOptions_Destroy(o);
    return rc;
}

enum mr_rc mr_js_connect(natsConnection **out, const struct mr_js_options *options,
                         struct mr_err *err)
{
    return connect_one(out, options, NULL, err);
}

void mr_js_disconnect(natsConnection **connection)
{
    natsConnection_Destroy(*connection);
    *connection = NULL;
}

static enum mr_rc lost(struct mr_err *err)
{
    return mr_reject(err, MR_RETRY, "connection to NATS: lost");
}

static bool is_gone(const struct mr_js_link *link)
{
    return atomic_load_explicit(&link->fd, memory_order_acquire) < 0 ||
           natsConnection_IsClosed(link->events);
}

/* Have nats.c write what it has (it says so by its own thread, a little later), if it may be its
 * turn: between two whole messages. */
static void let_nats_write(struct mr_js_link *link)
{
    bool wants = atomic_load_explicit(&link->nats_writes, memory_order_acquire) ||
                 (!link->plain && natsConnection_Buffered(link->events) > 0);
    if (wants && !is_gone(link))
        natsConnection_ProcessWriteEvent(link->events);
}

static enum mr_rc write_some(struct mr_js_link *link, struct mr_err *err)
{
    while (link->out_at < link->out_len) {
        int fd = atomic_load_explicit(&link->fd, memory_order_acquire);
        ssize_t n = send(fd, link->out + link->out_at, link->out_len - link->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return MR_OK;
        if (n < 0)
            return mr_fail(err, MR_RETRY, "write to NATS");
        link->out_at += (size_t)n;
    }
    link->out_at = link->out_len = 0;
    let_nats_write(link);
    return MR_OK;
}

enum mr_rc mr_js_link_work(struct mr_js_link *link, int wake_fd, uint64_t timeout_ns,
                           struct mr_err *err)
{
    if (is_gone(link))
        return lost(err);
    enum mr_rc rc = write_some(link, err);
    if (rc != MR_OK)
        return rc;
    bool writes = link->out_at < link->out_len ||
                  atomic_load_explicit(&link->nats_writes, memory_order_acquire);
    struct pollfd fds[2] = {
        {.fd = atomic_load_explicit(&link->fd, memory_order_acquire),
         .events = (short)(POLLIN | (writes ? POLLOUT : 0))},
        {.fd = wake_fd, .events = POLLIN},
    };
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / MR_NS_PER_S),
                                     .tv_nsec = (long)(timeout_ns % MR_NS_PER_S)};
    if (ppoll(fds, 2, &timeout, NULL) <= 0)
        return MR_OK;
    if (fds[0].revents & POLLOUT)
        rc = write_some(link, err);
    if (rc == MR_OK && (fds[0].revents & (POLLIN | POLLHUP | POLLERR)))
        natsConnection_ProcessReadEvent(link->events);
    return rc == MR_OK && is_gone(link) ? lost(err) : rc;
}

bool mr_js_link_answer(struct mr_js_link *link, struct mr_js_answer *out)
{
    natsMsg_Destroy(link->answer);
    link->answer = NULL;
    while (natsSubscription_NextMsg(&link->answer, link->answers, 0) == NATS_OK) {
        const char *subject = natsMsg_GetSubject(link->answer);
        size_t len = strlen(subject);
        out->number = len > link->inbox_len ? strtoull(subject + link->inbox_len, NULL, 10) : 0;
        out->payload = (struct mr_str){natsMsg_GetData(link->answer),
                                       (size_t)natsMsg_GetDataLength(link->answer)};
        if (out->number != 0)
            return true;
        natsMsg_Destroy(link->answer);
        link->answer = NULL;
    }
    return false;
}

static char *put_text(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

static char *put_str(char *at, struct mr_str text)
{
    return text.len > 0 ? put_text(at, text.data, text.len) : at;
}
#define PUT(at, literal) put_text(at, literal, sizeof(literal) - 1)

static char *put_number(char *at, uint64_t n)
{
    char digits[20];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    while (count > 0)
        *at++ = digits[--count];
    return at;
}

static char *put_header(char *at, const struct mr_js_publish *m)
{
    at = PUT(at, "NATS/1.0\r\nNats-Msg-Id: ");
    at = put_str(at, m->id);
    if (m->expected_id.len > 0)
        at = put_str(PUT(at, "\r\nNats-Expected-Last-Msg-Id: "), m->expected_id);
    else
        at = put_number(PUT(at, "\r\nNats-Expected-Last-Sequence: "), m->expected);
    at = put_str(PUT(at, "\r\n"), m->headers);
    return PUT(at, "\r\n");
}

/* Room for need more bytes behind out_len. The buffer grows for a message larger than itself. */
static bool has_room(struct mr_js_link *link, size_t need, struct mr_err *err, enum mr_rc *rc)
{
    *rc = MR_FULL;
    if (need <= link->out_size - link->out_len)
        return true;
    if (link->out_len > 0 || need <= link->out_size)
        return false;
    uint8_t *grown = realloc(link->out, need);
    if (!grown) {
        *rc = mr_fail(err, MR_RETRY, "send a message of %zu bytes", need);
        return false;
    }
    link->out = grown;
    link->out_size = need;
    return true;
}

/* HPUB subject [reply] header-bytes all-bytes, as NATS documents its client protocol. */
static enum mr_rc publish_plain(struct mr_js_link *link, const struct mr_js_publish *m,
                                struct mr_err *err)
{
    enum mr_rc rc;
    size_t bound = LINE_BYTES + link->inbox_len + m->subject.len + m->id.len + m->expected_id.len +
                   m->headers.len;
    if (!has_room(link, 2 * bound + m->payload.len, err, &rc))
        return rc;
    /* The header is written behind the line's bound first: its length stands in the line. */
    char *begin = (char *)link->out + link->out_len, *header = begin + bound;
    size_t header_len = (size_t)(put_header(header, m) - header);
    char *at = put_str(PUT(begin, "HPUB "), m->subject);
    *at++ = ' ';
    if (m->answer != 0) {
        at = put_number(put_text(at, link->inbox, link->inbox_len), m->answer);
        *at++ = ' ';
    }
    at = put_number(at, header_len);
    *at++ = ' ';
    at = put_number(at, header_len + m->payload.len);
    at = PUT(at, "\r\n");
    memmove(at, header, header_len);
    at = put_str(at + header_len, m->payload);
    at = PUT(at, "\r\n");
    link->out_len = (size_t)(at - (char *)link->out);
    return MR_OK;
}

/* "Name: value\r\n" lines to nats.c's headers. */
static natsStatus set_headers(natsMsg *message, struct mr_str headers)
{
    natsStatus s = NATS_OK;
    const char *at = headers.data, *end = headers.data + headers.len;
    while (s == NATS_OK && at < end) {
        char name[128], value[1024];
        const char *colon = memchr(at, ':', (size_t)(end - at));
        const char *line_end = memchr(at, '\r', (size_t)(end - at));
        MR_ASSERT(colon && line_end && colon < line_end);
        snprintf(name, sizeof name, "%.*s", (int)(colon - at), at);
        snprintf(value, sizeof value, "%.*s", (int)(line_end - colon - 2), colon + 2);
        s = natsMsgHeader_Set(message, name, value);
        at = line_end + 2;
    }
    return s;
}

static enum mr_rc publish_by_nats(struct mr_js_link *link, const struct mr_js_publish *m,
                                  struct mr_err *err)
{
    char subject[MR_JS_SUBJECT_MAX + 1], reply[256], id[MR_JS_ID_MAX + 1];
    char expected[MR_JS_ID_MAX + 24];
    bool by_id = m->expected_id.len > 0;
    natsMsg *message = NULL;
    if (natsConnection_Buffered(link->events) > OUT_BYTES)
        return MR_FULL;
    snprintf(subject, sizeof subject, "%.*s", (int)m->subject.len, m->subject.data);
    snprintf(id, sizeof id, "%.*s", (int)m->id.len, m->id.data);
    if (by_id)
        snprintf(expected, sizeof expected, "%.*s", (int)m->expected_id.len, m->expected_id.data);
    else
        snprintf(expected, sizeof expected, "%llu", (unsigned long long)m->expected);
    snprintf(reply, sizeof reply, "%s%llu", link->inbox, (unsigned long long)m->answer);
    natsStatus s = natsMsg_Create(&message, subject, m->answer != 0 ? reply : NULL, m->payload.data,
                                  (int)m->payload.len);
    if (s == NATS_OK)
        s = natsMsgHeader_Set(message, "Nats-Msg-Id", id);
    if (s == NATS_OK)
        s = natsMsgHeader_Set(
            message, by_id ? "Nats-Expected-Last-Msg-Id" : "Nats-Expected-Last-Sequence", expected);
    if (s == NATS_OK)
        s = set_headers(message, m->headers);
    if (s == NATS_OK)
        s = natsConnection_PublishMsg(link->events, message);
    natsMsg_Destroy(message);
    return s == NATS_OK ? MR_OK : fail(err, MR_RETRY, "publish", s);
}

enum mr_rc mr_js_link_publish(struct mr_js_link *link, const struct mr_js_publish *m,
                              struct mr_err *err)
{
    return link->plain ? publish_plain(link, m, err) : publish_by_nats(link, m, err);
}

/* Does the server's side of the conversation come in clear? A message to our own inbox comes back:
 * "MSG ...", maybe behind "INFO ..." or "PING"; a TLS record begins with another byte. The server
 * may have demanded TLS without our asking, and nats.c tells nobody. */
static enum mr_rc find_out_plain(struct mr_js_link *link, struct mr_err *err)
{
    char probe[128];
    snprintf(probe, sizeof probe, "%s0", link->inbox);
    natsStatus s = natsConnection_PublishString(link->events, probe, "");
    if (s != NATS_OK)
        return fail(err, MR_RETRY, "write to NATS", s);
    natsConnection_ProcessWriteEvent(link->events);
    struct pollfd fd = {.fd = atomic_load_explicit(&link->fd, memory_order_acquire),
                        .events = POLLIN};
    char first;
    if (poll(&fd, 1, CONNECT_MS) <= 0 || recv(fd.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) != 1)
        return mr_reject(err, MR_RETRY, "connection to NATS: no answer to the first message");
    link->plain = first == 'M' || first == 'P' || first == 'I' || first == '+' || first == '-';
    return MR_OK;
}

static enum mr_rc subscribe_answers(struct mr_js_link *link, struct mr_err *err)
{
    natsInbox *inbox = NULL;
    char subject[128];
    natsStatus s = natsInbox_Create(&inbox);
    if (s == NATS_OK) {
        snprintf(subject, sizeof subject, "%s.", inbox);
        link->inbox = strdup(subject);
        link->inbox_len = strlen(subject);
        snprintf(subject, sizeof subject, "%s.*", inbox);
        s = link->inbox ? natsConnection_SubscribeSync(&link->answers, link->events, subject)
                        : NATS_NO_MEMORY;
    }
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(link->answers, -1, -1);
    natsInbox_Destroy(inbox);
    return s == NATS_OK ? MR_OK : fail(err, MR_RETRY, "subscribe to answers", s);
}

enum mr_rc mr_js_link_open(struct mr_js_link **out, const struct mr_js_options *options,
                           struct mr_err *err)
{
    struct mr_js_link *link = calloc(1, sizeof *link);
    if (link)
        link->out = malloc(OUT_BYTES);
    if (!link || !link->out) {
        free(link);
        return mr_fail(err, MR_FATAL, "allocate a NATS connection");
    }
    atomic_store_explicit(&link->fd, -1, memory_order_relaxed);
    link->out_size = OUT_BYTES;
    enum mr_rc rc = connect_one(&link->control, options, NULL, err);
    if (rc == MR_OK)
        rc = connect_one(&link->events, options, link, err);
    if (rc == MR_OK)
        rc = subscribe_answers(link, err);
    if (rc == MR_OK)
        rc = find_out_plain(link, err);
    if (rc == MR_OK)
        link->payload_max = (size_t)natsConnection_GetMaxPayload(link->events);
    if (rc != MR_OK)
        mr_js_link_close(&link);
    *out = link;
    return rc;
}

void mr_js_link_close(struct mr_js_link **out)
{
    struct mr_js_link *link = *out;
    if (!link)
        return;
    /* A connection that is open waits half a second for an answer that nobody would read: end it.
     */
    int fd = atomic_load_explicit(&link->fd, memory_order_acquire);
    if (fd >= 0 && shutdown(fd, SHUT_RDWR) == 0)
        natsConnection_ProcessReadEvent(link->events);
    natsMsg_Destroy(link->answer);
    natsSubscription_Destroy(link->answers);
    natsConnection_Destroy(link->events);
    natsConnection_Destroy(link->control);
    free(link->inbox);
    free(link->out);
    free(link);
    *out = NULL;
}

size_t mr_js_link_payload_max(const struct mr_js_link *link)
{
    return link->payload_max;
}

natsConnection *mr_js_link_control(struct mr_js_link *link)
{
    return link->control;
}

enum mr_rc mr_js_refused(struct mr_err *err, const char *what, const char *name, uint32_t status,
                         uint32_t code)
{
    const char *detail = nats_GetLastError(NULL);
    return mr_reject(err, MR_RETRY, "%s %s: %s%s%s (%u)", what, name,
                     natsStatus_GetText((natsStatus)status), detail && *detail ? ": " : "",
                     detail ? detail : "", code);
}
