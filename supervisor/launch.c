#include "supervisor/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Returns an errno value. */
static int prepare(posix_spawnattr_t *attributes, posix_spawn_file_actions_t *actions,
                   const struct mr_launch *launch)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int rc = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                      POSIX_SPAWN_SETSIGDEF);
    if (rc == 0)
        rc = posix_spawnattr_setpgroup(attributes, 0);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(attributes, &none);
    if (rc == 0)
        rc = posix_spawnattr_setsigdefault(attributes, &all);
    if (rc == 0 && !launch->keep_stdin)
        rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    /* Every descriptor of ours is close-on-exec; dup2 makes one that is not, also onto itself. */
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(actions, launch->config_fd, MR_LAUNCH_CONFIG_FD);
    return rc;
}

enum mr_rc mr_launch(const struct mr_launch *launch, pid_t *pid, int *pidfd, struct mr_err *err)
{
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    if (posix_spawnattr_init(&attributes) != 0)
        return mr_reject(err, MR_RETRY, "start %s: out of memory", launch->path);
    if (posix_spawn_file_actions_init(&actions) != 0) {
        posix_spawnattr_destroy(&attributes);
        return mr_reject(err, MR_RETRY, "start %s: out of memory", launch->path);
    }
    /* libmongoc makes a file in /dev/shm for its counters while it is loaded, before anything of
     * ours runs, and a killed process leaves it behind. */
    setenv("MONGOC_DISABLE_SHM", "1", 1);
    int rc = prepare(&attributes, &actions, launch);
    if (rc == 0)
        rc = posix_spawn(pid, launch->path, &actions, &attributes, launch->arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (rc != 0) {
        errno = rc;
        bool missing = rc == ENOENT || rc == EACCES || rc == ENOEXEC || rc == ENOTDIR;
        return mr_fail(err, missing ? MR_USAGE : MR_RETRY, "start %s", launch->path);
    }
    /* Nobody but us reaps it, so its pid cannot have become another's. */
    *pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
    if (*pidfd < 0) {
        mr_fail(err, MR_RETRY, "watch %s (pid %d)", launch->path, *pid);
        kill(*pid, SIGKILL);
        waitpid(*pid, NULL, 0);
        *pid = 0; /* another's soon */
        return MR_RETRY;
    }
    return MR_OK;
}
