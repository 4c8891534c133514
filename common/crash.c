#include "common/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POINTS_MAX = 64, POINT_BYTES = 96 };

/* Those of this program. Filled once, before anybody passes. */
static struct point {
    char name[POINT_BYTES];
    _Atomic uint32_t left;
    uint32_t sleep_ms; /* 0: die */
} points[POINTS_MAX];
static uint32_t point_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The file that says that the point has fired; made by whoever dies there first. False: somebody
 * has. */
static bool mark(const char *point)
{
    char path[512];
    const char *dir = getenv("MRTEST_CRASH_DIR");
    if (!dir)
        return true;
    snprintf(path, sizeof path, "%s/%s@%s", dir, program_invocation_short_name, point);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void read_environment(void)
{
    const char *at = getenv("MRTEST_CRASH");
    size_t program_len = strlen(program_invocation_short_name);
    while (at && *at && point_count < POINTS_MAX) {
        size_t len = strcspn(at, " ");
        const char *colon = memchr(at, ':', len);
        bool ours = colon && strncmp(at, program_invocation_short_name, program_len) == 0 &&
                    at[program_len] == '@';
        if (ours) {
            const char *name = at + program_len + 1;
            struct point *point = &points[point_count++];
            snprintf(point->name, sizeof point->name, "%.*s", (int)(colon - name), name);
            char *end;
            atomic_store(&point->left, (uint32_t)strtoul(colon + 1, &end, 10));
            point->sleep_ms = *end == '~' ? (uint32_t)strtoul(end + 1, NULL, 10) : 0;
        }
        at += len;
        at += strspn(at, " ");
    }
}

static void die(void)
{
    raise(SIGKILL);
    for (;;) /* the signal is on its way */
        pause();
}

void mr_crash_hit(const char *name)
{
    pthread_once(&once, read_environment);
    for (uint32_t i = 0; i < point_count; i++) {
        struct point *point = &points[i];
        if (strcmp(point->name, name) != 0 || atomic_fetch_sub(&point->left, 1) != 1)
            continue;
        bool first = mark(name);
        if (point->sleep_ms > 0)
            usleep(point->sleep_ms * 1000);
        else if (first)
            die();
    }
}
