#include "supervisor/cli.h"

#include <string.h>

extern char **environ;

enum option {
    OPTION_CONFIG,
    OPTION_INSTANCE,
    OPTION_JSON,
    OPTION_HELP,
    OPTION_VERSION,
    OPTION_COUNT
};

static const struct {
    char letter; /* 0: none */
    const char *name, *argument, *text;
} options[OPTION_COUNT] = {
    [OPTION_CONFIG] = {'c', "config", "FILE", "read the configuration from FILE"},
    [OPTION_INSTANCE] = {'i', "instance", "NAME",
                         "speak to the instance NAME, without reading a configuration"},
    [OPTION_JSON] = {0, "json", NULL, "print JSON"},
    [OPTION_HELP] = {'h', "help", NULL, "print this help"},
    [OPTION_VERSION] = {'v', "version", NULL, "print the version"},
};

/* Which option an argument is: OPTION_COUNT for none. *value: what follows "=" in it, or NULL. */
static enum option find_option(const char *argument, const char **value)
{
    *value = NULL;
    for (enum option i = 0; i < OPTION_COUNT; i++) {
        size_t len = strlen(options[i].name);
        if (argument[1] == options[i].letter && options[i].letter && !argument[2])
            return i;
        if (argument[1] != '-' || strncmp(argument + 2, options[i].name, len) != 0)
            continue;
        if (argument[2 + len] == '=' && options[i].argument)
            *value = argument + 2 + len + 1;
        if (!argument[2 + len] || *value)
            return i;
    }
    return OPTION_COUNT;
}

static void set_option(struct mr_cli *cli, enum option option, const char *value)
{
    if (option == OPTION_CONFIG)
        cli->source.file = value;
    else if (option == OPTION_INSTANCE)
        cli->instance = value;
    cli->json |= option == OPTION_JSON;
    cli->help |= option == OPTION_HELP;
    cli->version |= option == OPTION_VERSION;
}

const char *mr_command_nearest(const char *word)
{
    size_t count, best = SIZE_MAX;
    const struct mr_command *commands = mr_commands(&count), *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t distance = mr_config_distance(word, commands[i].name);
        if (distance < best && distance <= strlen(commands[i].name) / 3 + 1) {
            best = distance;
            nearest = &commands[i];
        }
    }
    return nearest ? nearest->name : NULL;
}

static enum mr_rc take_word(struct mr_cli *cli, const char *word, struct mr_err *err)
{
    size_t count;
    const struct mr_command *commands = mr_commands(&count);
    if (cli->command) {
        if (!cli->command->argument || cli->argument)
            return mr_reject(err, MR_USAGE, "%s: \"%s\" is one argument too many",
                             cli->command->name, word);
        cli->argument = word;
        return MR_OK;
    }
    for (size_t i = 0; i < count && !cli->command; i++)
        if (strcmp(commands[i].name, word) == 0)
            cli->command = &commands[i];
    if (cli->command)
        return MR_OK;
    const char *nearest = mr_command_nearest(word);
    return mr_reject(err, MR_USAGE,
                     nearest ? "unknown command \"%s\"; did you mean %s?"
                             : "unknown command \"%s\"; millrace help lists them",
                     word, nearest);
}

/* One argument that begins with '-'. *i moves on when the next one is its value. */
static enum mr_rc take_flag(struct mr_cli *cli, int argc, char **argv, int *i, struct mr_err *err)
{
    const char *argument = argv[*i], *value;
    enum option option = find_option(argument, &value);
    if (option != OPTION_COUNT) {
        if (options[option].argument && !value) {
            if (*i + 1 >= argc)
                return mr_reject(err, MR_USAGE, "option %s: expected %s behind it", argument,
                                 options[option].argument);
            value = argv[++*i];
        }
        set_option(cli, option, value);
        return MR_OK;
    }
    size_t name = strcspn(argument, "=");
    if (strncmp(argument, "--", 2) != 0 || !memchr(argument, '.', name))
        return mr_reject(err, MR_USAGE,
                         "unknown option \"%s\"; keys of the configuration are --section.key=value",
                         argument);
    if (cli->source.flag_count == MR_CLI_FLAGS_MAX)
        return mr_reject(err, MR_USAGE, "over %d flags", MR_CLI_FLAGS_MAX);
    cli->flags[cli->source.flag_count++] = argv[*i];
    return MR_OK;
}

enum mr_rc mr_cli_parse(struct mr_cli *cli, int argc, char **argv, struct mr_err *err)
{
    *cli = (struct mr_cli){.source = {.environment = environ}};
    cli->source.flags = cli->flags;
    bool options_end = false;
    enum mr_rc rc = MR_OK;
    for (int i = 1; i < argc && rc == MR_OK; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0)
            options_end = true;
        else if (!options_end && argv[i][0] == '-' && argv[i][1])
            rc = take_flag(cli, argc, argv, &i, err);
        else
            rc = take_word(cli, argv[i], err);
        if (cli->command && cli->command->executable)
            break; /* the rest is for it */
    }
    if (rc == MR_OK && cli->command && cli->command->argument && cli->command->argument[0] != '[' &&
        !cli->argument && !cli->help)
        rc =
            mr_reject(err, MR_USAGE, "%s: expected %s", cli->command->name, cli->command->argument);
    return rc;
}

static void print_keys(FILE *out)
{
    size_t count;
    const struct mr_config_row *rows = mr_config_rows(&count);
    fputs("\nConfiguration (file section.key, flag --section.key=value, environment "
          "MILLRACE_SECTION_KEY):\n",
          out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "  --%-40s %s [%s]\n", rows[i].path, rows[i].text, rows[i].value);
}

void mr_cli_help(const struct mr_command *command, FILE *out)
{
    size_t count;
    const struct mr_command *commands = mr_commands(&count);
    if (command)
        fprintf(out, "usage: millrace %s %s%s%s\n%s\n", command->name,
                command->executable ? "[ARGUMENTS]" : "[OPTIONS]", command->argument ? " " : "",
                command->argument ? command->argument : "", command->text);
    else
        fputs("usage: millrace COMMAND [OPTIONS]\n\nCommands:\n", out);
    for (size_t i = 0; i < count && !command; i++)
        fprintf(out, "  %-14s %-9s %s\n", commands[i].name,
                commands[i].argument ? commands[i].argument : "", commands[i].text);
    fputs("\nOptions:\n", out);
    for (enum option i = 0; i < OPTION_COUNT; i++)
        fprintf(out, "  %c%c --%-8s %-5s %s\n", options[i].letter ? '-' : ' ',
                options[i].letter ? options[i].letter : ' ', options[i].name,
                options[i].argument ? options[i].argument : "", options[i].text);
    if (out == stderr)
        fputs(
            "\nA first look: scripts/demo, or millrace run with the built-in defaults. Keys of the "
            "configuration: millrace help\n",
            out);
    else
        print_keys(out);
}
