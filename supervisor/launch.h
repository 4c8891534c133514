/* supervisor/launch.h: start one executable with nothing of ours but what it is given. */
#ifndef MR_SUPERVISOR_LAUNCH_H
#define MR_SUPERVISOR_LAUNCH_H
#include <stdbool.h>
#include <sys/types.h>

#include "common/err.h"

struct mr_launch {
    const char *path;
    char *const *arguments; /* NULL-terminated, with argument 0 */
    int config_fd;          /* becomes descriptor MR_LAUNCH_CONFIG_FD of the child */
    bool keep_stdin;        /* else standard input is /dev/null */
};
enum { MR_LAUNCH_CONFIG_FD = 3 };

/* The child has a process group of its own (a Ctrl-C at the terminal reaches the supervisor alone),
 * default signal handling and an empty mask, and inherits only descriptors 0 to 3.
 * MR_RETRY: no process to be had now; MR_USAGE: the executable is not there or is none. */
MR_MUST_USE enum mr_rc mr_launch(const struct mr_launch *launch, pid_t *pid, int *pidfd,
                                 struct mr_err *err);
#endif
