/* publisher/rest/guard.h: connections that take too long to ask. The HTTP library gives a silent
 * connection up, but not one that sends a byte now and then: whoever has not asked anything whole
 * for rest.request_timeout is cut. Any thread. */
#ifndef MR_PUBLISHER_REST_GUARD_H
#define MR_PUBLISHER_REST_GUARD_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct mr_rest_guarded {
    int fd; /* -1: free */
    bool busy;
    uint64_t since_ns; /* not busy: when it began, or was answered last */
};
struct mr_rest_guard {
    pthread_mutex_t lock;
    struct mr_rest_guarded *places;
    uint32_t count;
};

bool mr_rest_guard_init(struct mr_rest_guard *guard, uint32_t connections);
void mr_rest_guard_fini(struct mr_rest_guard *guard);
/* The place of a new connection; NULL: none is free. */
struct mr_rest_guarded *mr_rest_guard_enter(struct mr_rest_guard *guard, int fd, uint64_t now_ns);
void mr_rest_guard_leave(struct mr_rest_guard *guard, struct mr_rest_guarded *place);
/* Its request is whole, and is being worked at; or it has been answered. NULL is allowed. */
void mr_rest_guard_busy(struct mr_rest_guard *guard, struct mr_rest_guarded *place, bool busy,
                        uint64_t now_ns);
/* Shut down those that have taken longer than timeout_ns. */
void mr_rest_guard_sweep(struct mr_rest_guard *guard, uint64_t now_ns, uint64_t timeout_ns);
#endif
