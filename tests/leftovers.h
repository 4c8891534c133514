/* tests/leftovers.h: a test that was killed, or ended by an assertion, leaves its segments in
 * /dev/shm. The next run of its kind removes them: instances are named PREFIX-PID-..., and what
 * belongs to a process that lives is left alone. */
#ifndef MR_TESTS_LEFTOVERS_H
#define MR_TESTS_LEFTOVERS_H
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void remove_leftovers(const char *prefix)
{
    char start[64];
    int len = snprintf(start, sizeof start, "millrace.%s-", prefix);
    DIR *dir = opendir("/dev/shm");
    if (!dir)
        return;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (strncmp(entry->d_name, start, (size_t)len) != 0)
            continue;
        int pid = atoi(entry->d_name + len);
        if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
}
#endif
