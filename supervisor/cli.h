/* supervisor/cli.h: the command line of millrace. Commands and options are tables; help is derived.
 */
#ifndef MR_SUPERVISOR_CLI_H
#define MR_SUPERVISOR_CLI_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common/err.h"
#include "supervisor/config_source.h"

enum { MR_CLI_FLAGS_MAX = 128 };

struct mr_cli {
    const struct mr_command *command; /* NULL: none given */
    const char *argument;             /* of the command, where it takes one */
    const char *instance;             /* -i; NULL: as configured */
    bool json, help, version;
    struct mr_config_source source;
    char *flags[MR_CLI_FLAGS_MAX]; /* that source.flags points to */
};

/* One command. run returns the exit code. */
struct mr_command {
    const char *name;
    const char *argument; /* its name in help, "N"; NULL: takes none */
    const char *text;
    int (*run)(struct mr_cli *cli);
    const char *executable; /* instead of run: what follows the name is handed to this one */
};
const struct mr_command *mr_commands(size_t *count);
const char *mr_command_nearest(const char *word); /* the one that was meant; NULL: no idea */

/* MR_USAGE: the text says what is wrong. */
MR_MUST_USE enum mr_rc mr_cli_parse(struct mr_cli *cli, int argc, char **argv, struct mr_err *err);
void mr_cli_help(const struct mr_command *command, FILE *out); /* NULL: of the whole */
#endif
