/* millrace: the command line and, behind "run", the supervisor. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/cli.h"

/* Become the executable NAME that stands beside ours; its arguments begin behind the command's
 * word. */
static int run_beside(const char *name, char **argv)
{
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
    char *slash = NULL;
    if (len > 0) {
        path[len] = '\0';
        slash = strrchr(path, '/');
    }
    if (slash && (size_t)(slash + 1 - path) + strlen(name) < sizeof path) {
        strcpy(slash + 1, name);
        argv[0] = path;
        execv(path, argv);
    }
    fprintf(stderr, "millrace: start %s: %s\n", slash ? path : name, strerror(errno));
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static struct mr_cli cli;
    struct mr_err err = {0};
    if (mr_cli_parse(&cli, argc, argv, &err) != MR_OK) {
        fprintf(stderr, "millrace: %s\n", err.text);
        return MR_EXIT_USAGE;
    }
    if (cli.command && cli.command->executable) {
        char **rest = argv + 1;
        while (strcmp(*rest, cli.command->name) != 0)
            rest++;
        return run_beside(cli.command->executable, rest);
    }
    if (cli.version) {
        puts("millrace " MR_VERSION);
        return MR_EXIT_DONE;
    }
    if (cli.help) {
        mr_cli_help(cli.command, stdout);
        return MR_EXIT_DONE;
    }
    if (!cli.command) {
        mr_cli_help(NULL, stderr);
        return MR_EXIT_USAGE;
    }
    return cli.command->run(&cli);
}
