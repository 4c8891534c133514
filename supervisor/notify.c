/* The protocol is one datagram of NAME=value lines: too little to link libsystemd for. */
#include "supervisor/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

static void read_watchdog(struct mr_notify *notify)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!usec || (pid && strtol(pid, NULL, 10) != (long)getpid()))
        return;
    uint64_t value = strtoull(usec, NULL, 10);
    if (value > 0 && value < UINT64_MAX / MR_NS_PER_US)
        notify->watchdog_ns = value * MR_NS_PER_US;
}

void mr_notify_open(struct mr_notify *notify)
{
    const char *path = getenv("NOTIFY_SOCKET");
    *notify = (struct mr_notify){.fd = -1, .address = {.sun_family = AF_UNIX}};
    size_t len = path ? strlen(path) : 0;
    if (len > 1 && len < sizeof notify->address.sun_path && (path[0] == '/' || path[0] == '@')) {
        memcpy(notify->address.sun_path, path, len);
        if (path[0] == '@')
            notify->address.sun_path[0] = '\0'; /* the abstract namespace */
        notify->address_len = offsetof(struct sockaddr_un, sun_path) + len;
        notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        read_watchdog(notify);
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void mr_notify_close(struct mr_notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}

void mr_notify_send(const struct mr_notify *notify, const char *fmt, ...)
{
    char text[512];
    if (notify->fd < 0)
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    /* A message that is lost is no reason to stop: the next beat follows. */
    (void)!sendto(notify->fd, text, strlen(text), MSG_NOSIGNAL,
                  (const struct sockaddr *)&notify->address, (socklen_t)notify->address_len);
}

void mr_notify_beat(struct mr_notify *notify, uint64_t now_ns)
{
    if (notify->watchdog_ns == 0 || now_ns - notify->beat_ns < notify->watchdog_ns / 3)
        return;
    notify->beat_ns = now_ns;
    mr_notify_send(notify, "WATCHDOG=1");
}
