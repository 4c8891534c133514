#include "common/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

enum mr_rc mr_listen(const char *key, const char *address, int *out, struct mr_err *err)
{
    char host[256];
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || (size_t)(colon - address) >= sizeof host)
        return mr_reject(err, MR_USAGE, "%s: expected host:port, got \"%s\"", key, address);
    bool bracketed = address[0] == '[' && colon[-1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(colon - address) - 2 * bracketed,
             address + bracketed);
    int status = getaddrinfo(host, colon + 1, &hints, &found);
    if (status != 0)
        return mr_reject(err, MR_USAGE, "listen on %s %s: %s", key, address, gai_strerror(status));
    enum mr_rc rc = MR_OK;
    int one = 1, fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        rc = mr_fail(err, errno == EADDRINUSE ? MR_RETRY : MR_USAGE, "listen on %s %s", key,
                     address);
        if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(found);
    *out = fd;
    return rc;
}
