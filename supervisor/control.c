#include "supervisor/control.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"

enum { ANSWER_BYTES_MAX = 1 << 20 };
#define PATIENCE_NS (5 * MR_NS_PER_S)

static socklen_t fill_address(struct sockaddr_un *address, const char *instance)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len =
        snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "millrace.%.64s", instance);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

static pid_t peer_pid(int fd)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

static bool peer_allowed(int fd)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static enum mr_rc reject_second(const struct sockaddr_un *address, socklen_t len,
                                const char *instance, struct mr_err *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    pid_t pid =
        fd >= 0 && connect(fd, (const struct sockaddr *)address, len) == 0 ? peer_pid(fd) : 0;
    if (fd >= 0)
        close(fd);
    return pid ? mr_reject(err, MR_RETRY, "instance %s: is running already, as pid %d", instance,
                           pid)
               : mr_reject(err, MR_RETRY, "instance %s: is running already", instance);
}

static enum mr_rc watch(struct mr_control *control, int fd, uint32_t tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = MR_EVENT_CONTROL | tag};
    return epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? MR_OK : MR_FATAL;
}

enum mr_rc mr_control_open(struct mr_control *control, const char *instance, int epoll_fd,
                           struct mr_err *err)
{
    struct sockaddr_un address;
    socklen_t len = fill_address(&address, instance);
    *control = (struct mr_control){.epoll_fd = epoll_fd};
    for (uint32_t i = 0; i < MR_CONTROL_CLIENTS; i++)
        control->client[i].fd = -1;
    control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control->fd < 0)
        return mr_fail(err, MR_FATAL, "open control socket");
    enum mr_rc rc = MR_OK;
    if (bind(control->fd, (const struct sockaddr *)&address, len) != 0)
        rc = errno == EADDRINUSE
                 ? reject_second(&address, len, instance, err)
                 : mr_fail(err, MR_FATAL, "bind control socket @millrace.%s", instance);
    else if (listen(control->fd, MR_CONTROL_CLIENTS) != 0 ||
             watch(control, control->fd, MR_CONTROL_NOBODY) != MR_OK)
        rc = mr_fail(err, MR_FATAL, "listen on control socket @millrace.%s", instance);
    if (rc != MR_OK) {
        close(control->fd);
        control->fd = -1;
    }
    return rc;
}

static void hang_up(struct mr_control_client *client)
{
    close(client->fd);
    *client = (struct mr_control_client){.fd = -1};
}

void mr_control_close(struct mr_control *control)
{
    for (uint32_t i = 0; i < MR_CONTROL_CLIENTS; i++)
        if (control->client[i].fd >= 0)
            hang_up(&control->client[i]);
    if (control->fd >= 0)
        close(control->fd);
    control->fd = -1;
}

void mr_control_accept(struct mr_control *control, uint64_t now_ns)
{
    int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (uint32_t i = 0; peer_allowed(fd) && i < MR_CONTROL_CLIENTS; i++)
        if (control->client[i].fd < 0 && watch(control, fd, i) == MR_OK) {
            control->client[i] = (struct mr_control_client){.fd = fd, .since_ns = now_ns};
            return;
        }
    close(fd); /* a stranger, or one too many */
}

const char *mr_control_read(struct mr_control *control, uint32_t index)
{
    struct mr_control_client *client = &control->client[index];
    if (client->fd < 0)
        return NULL;
    ssize_t n = read(client->fd, client->line + client->len, sizeof client->line - client->len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return NULL;
    if (n <= 0 || client->waiting) { /* gone; or it talks on while it should wait */
        hang_up(client);
        return NULL;
    }
    client->len += (uint32_t)n;
    char *end = memchr(client->line, '\n', client->len);
    if (!end && client->len == sizeof client->line)
        hang_up(client);
    if (!end)
        return NULL;
    *end = '\0';
    client->waiting = true;
    return client->line;
}

void mr_control_answer(struct mr_control *control, uint32_t index, const char *json)
{
    if (index >= MR_CONTROL_CLIENTS || control->client[index].fd < 0)
        return;
    struct mr_control_client *client = &control->client[index];
    char *line = NULL;
    int len = asprintf(&line, "%s\n", json);
    if (len >
        0) /* an answer is smaller than a socket's buffer: it goes at once, or the client is gone */
        (void)!send(client->fd, line, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    free(line);
    hang_up(client);
}

void mr_control_work(struct mr_control *control, uint64_t now_ns)
{
    for (uint32_t i = 0; i < MR_CONTROL_CLIENTS; i++) {
        struct mr_control_client *client = &control->client[i];
        if (client->fd >= 0 && !client->waiting && now_ns - client->since_ns > PATIENCE_NS)
            hang_up(client);
    }
}

/* One line from fd, or the end. */
static enum mr_rc read_answer(int fd, uint64_t deadline_ns, char *line, struct mr_err *err)
{
    size_t len = 0;
    for (;;) {
        uint64_t now_ns = mr_clock_ns();
        struct pollfd in = {.fd = fd, .events = POLLIN};
        if (now_ns >= deadline_ns)
            return mr_reject(err, MR_RETRY,
                             "no answer from the supervisor in time; it goes on with the request");
        if (poll(&in, 1, (int)((deadline_ns - now_ns) / MR_NS_PER_MS) + 1) <= 0)
            continue;
        ssize_t n = read(fd, line + len, ANSWER_BYTES_MAX - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mr_fail(err, MR_RETRY, "read the supervisor's answer");
        len += (size_t)n;
        line[len] = '\0';
        if (len > 0 && line[len - 1] == '\n') {
            line[len - 1] = '\0';
            return MR_OK;
        }
        if (n == 0)
            return mr_reject(err, MR_RETRY,
                             "the supervisor hung up without an answer: it ended, runs as another "
                             "user, or has too many clients");
    }
}

enum mr_rc mr_control_ask(const char *instance, const char *request, uint64_t timeout_ns,
                          char **out, struct mr_err *err)
{
    struct sockaddr_un address;
    socklen_t address_len = fill_address(&address, instance);
    uint64_t deadline_ns = mr_clock_ns() + timeout_ns;
    char line[MR_CONTROL_LINE_MAX];
    int len = snprintf(line, sizeof line, "%s\n", request);
    MR_ASSERT(len > 0 && (size_t)len < sizeof line);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return mr_fail(err, MR_FATAL, "open control socket");
    enum mr_rc rc = MR_OK;
    *out = malloc(ANSWER_BYTES_MAX);
    if (!*out)
        rc = mr_reject(err, MR_FATAL, "ask the supervisor: out of memory");
    else if (connect(fd, (const struct sockaddr *)&address, address_len) != 0)
        rc = errno == ECONNREFUSED
                 ? mr_reject(err, MR_CLOSED, "no instance %s is running here", instance)
                 : mr_fail(err, MR_FATAL, "connect to instance %s", instance);
    else if (send(fd, line, (size_t)len, MSG_NOSIGNAL) != len)
        rc = mr_fail(err, MR_RETRY, "send to instance %s", instance);
    else
        rc = read_answer(fd, deadline_ns, *out, err);
    close(fd);
    if (rc != MR_OK) {
        free(*out);
        *out = NULL;
    }
    return rc;
}
