/* supervisor/notify.h: tells the service manager (systemd) how we are: one datagram to the socket
 * named by NOTIFY_SOCKET. Without that variable every call does nothing. */
#ifndef MR_SUPERVISOR_NOTIFY_H
#define MR_SUPERVISOR_NOTIFY_H
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "common/err.h"

struct mr_notify {
    int fd; /* -1: nobody to tell */
    struct sockaddr_un address;
    size_t address_len;
    uint64_t watchdog_ns; /* 0: none asked for; else a sign of life is due within this time */
    uint64_t beat_ns;     /* when the last one was given */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and removes them, so that no child speaks for
 * us. */
void mr_notify_open(struct mr_notify *notify);
void mr_notify_close(struct mr_notify *notify);
void mr_notify_send(const struct mr_notify *notify, const char *fmt, ...) MR_PRINTF(2, 3);
/* Called by the main loop each turn: a sign of life every third of the watchdog's time. The loop
 * that hangs gives none, and the service manager acts. */
void mr_notify_beat(struct mr_notify *notify, uint64_t now_ns);
#endif
