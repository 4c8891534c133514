/* supervisor/control.h: how a command reaches a running instance: a stream socket in the abstract
 * namespace, "@millrace.<instance>": one line of request, one line of JSON back. Only root and the
 * user who runs the instance are heard. Binding the name is also what refuses a second instance. */
#ifndef MR_SUPERVISOR_CONTROL_H
#define MR_SUPERVISOR_CONTROL_H
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

enum {
    MR_CONTROL_CLIENTS = 8,
    MR_CONTROL_LINE_MAX = 256,
    MR_CONTROL_NOBODY = MR_CONTROL_CLIENTS /* no client: a signal asked */
};

struct mr_control_client {
    int fd;       /* -1: free */
    bool waiting; /* its request is being worked on */
    uint64_t since_ns;
    uint32_t len;
    char line[MR_CONTROL_LINE_MAX];
};
struct mr_control {
    int fd, epoll_fd;
    struct mr_control_client client[MR_CONTROL_CLIENTS];
};

#define MR_EVENT_CONTROL \
    (UINT64_C(2) << 32) /* | client; | MR_CONTROL_NOBODY is the listening socket */

/* MR_RETRY: an instance of this name is running; the text has its pid. */
MR_MUST_USE enum mr_rc mr_control_open(struct mr_control *control, const char *instance,
                                       int epoll_fd, struct mr_err *err);
void mr_control_close(struct mr_control *control);
void mr_control_accept(struct mr_control *control, uint64_t now_ns);
/* Bytes from a client. Returns its request (without newline, borrowed until it is answered), or
 * NULL: not complete yet, or the client has gone. */
const char *mr_control_read(struct mr_control *control, uint32_t client);
/* Answer with one line and hang up. MR_CONTROL_NOBODY is answered nothing. */
void mr_control_answer(struct mr_control *control, uint32_t client, const char *json);
/* Hang up on those who connected and do not ask. */
void mr_control_work(struct mr_control *control, uint64_t now_ns);

/* The other side: send a request and wait for the answer, at most timeout_ns. out: malloc'd line
 * without newline. MR_CLOSED: no such instance runs. */
MR_MUST_USE enum mr_rc mr_control_ask(const char *instance, const char *request,
                                      uint64_t timeout_ns, char **out, struct mr_err *err);
#endif
