#include "publisher/rest/guard.h"

#include <stdlib.h>
#include <sys/socket.h>

bool mr_rest_guard_init(struct mr_rest_guard *guard, uint32_t connections)
{
    guard->places = calloc(connections, sizeof *guard->places);
    guard->count = connections;
    if (!guard->places)
        return false;
    for (uint32_t i = 0; i < connections; i++)
        guard->places[i].fd = -1;
    pthread_mutex_init(&guard->lock, NULL);
    return true;
}

void mr_rest_guard_fini(struct mr_rest_guard *guard)
{
    if (!guard->places)
        return;
    pthread_mutex_destroy(&guard->lock);
    free(guard->places);
}

struct mr_rest_guarded *mr_rest_guard_enter(struct mr_rest_guard *guard, int fd, uint64_t now_ns)
{
    struct mr_rest_guarded *place = NULL;
    pthread_mutex_lock(&guard->lock);
    for (uint32_t i = 0; i < guard->count && !place; i++)
        if (guard->places[i].fd < 0)
            place = &guard->places[i];
    if (place)
        *place = (struct mr_rest_guarded){.fd = fd, .since_ns = now_ns};
    pthread_mutex_unlock(&guard->lock);
    return place;
}

void mr_rest_guard_leave(struct mr_rest_guard *guard, struct mr_rest_guarded *place)
{
    if (!place)
        return;
    pthread_mutex_lock(&guard->lock); /* from here on the number may be another connection's */
    place->fd = -1;
    pthread_mutex_unlock(&guard->lock);
}

void mr_rest_guard_busy(struct mr_rest_guard *guard, struct mr_rest_guarded *place, bool busy,
                        uint64_t now_ns)
{
    if (!place)
        return;
    pthread_mutex_lock(&guard->lock);
    place->busy = busy;
    place->since_ns = now_ns;
    pthread_mutex_unlock(&guard->lock);
}

void mr_rest_guard_sweep(struct mr_rest_guard *guard, uint64_t now_ns, uint64_t timeout_ns)
{
    pthread_mutex_lock(&guard->lock);
    for (uint32_t i = 0; i < guard->count; i++) {
        const struct mr_rest_guarded *place = &guard->places[i];
        if (place->fd >= 0 && !place->busy && place->since_ns + timeout_ns < now_ns)
            shutdown(place->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&guard->lock);
}
