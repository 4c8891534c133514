/* Unit tests of supervisor/config_source.h: file, environment, flags, and what is wrong with them.
 */
#include <ctype.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/config_source.h"
#include "tests/unit/config_cases.h"
#include "tests/unit/keep_case.h"

static struct mr_config config;
static char path[] = "/tmp/millrace-config-XXXXXX";

static int make_file(void **state)
{
    int fd = mkstemp(path);
    (void)state;
    setenv("MR_SET", "7", 1);
    setenv("MR_EMPTY", "", 1);
    setenv("MR_YAML", "7\n  shards: 9", 1);
    unsetenv("MR_UNSET");
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_bytes(const char *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

static enum mr_rc load(const char *text, char *const *environment, char **flags, struct mr_err *err)
{
    struct mr_config_source source = {.file = path, .environment = environment, .flags = flags};
    while (flags && flags[source.flag_count])
        source.flag_count++;
    write_bytes(text, strlen(text));
    return mr_config_load(&source, &config, err);
}

/* The file, and what the error must hold behind "FILE". */
static const struct {
    const char *text, *error;
} broken_files[] = {
    {"ring:\n  event_size: many\n", ":2: ring.event_size: expected a size"},
    {"ring:\n  evnt_size: 4MiB\n",
     ":2: ring.evnt_size: unknown key; did you mean ring.event_size?"},
    {"rings:\n  event_size: 4MiB\n", ":1: rings: unknown section; did you mean ring?"},
    {"puplisher:\n  gateways_max: 1\n", ":1: puplisher: unknown section; did you mean publisher?"},
    {"zebra:\n  a: 1\n", ":1: zebra: unknown section"},
    {"ring.event_size: 4MiB\n", ":1: ring.event_size: unknown section"},
    {"matcher:\n  shards: 2\n  shards: 3\n", ":3: matcher.shards: set twice, first in line 2"},
    {"matcher:\n  shards: 2\nmatcher:\n  shards: 2\n", ":3: matcher: section given twice"},
    {"matcher: 4\n", ":1: matcher: expected keys with values, got a single value"},
    {"matcher:\n  - shards\n", ":1: matcher: expected keys with values, got a list"},
    {"matcher:\n  shards: [2]\n", ":2: matcher.shards: expected a single value, got a list"},
    {"matcher:\n  shards:\n    count: 2\n",
     ":3: matcher.shards: expected a single value, got a mapping"},
    {"matcher:\n  shards:\n", ":2: matcher.shards: no value; write \"\" for an empty text"},
    {"matcher:\n  [a]: 2\n", ":2: matcher: expected a key, got a list"},
    {"[a]: 2\n", ":1: expected a section, got a list"},
    {"- matcher\n", ":1: expected sections, got a list"},
    {"just text\n", ":1: expected sections, got a single value"},
    {"matcher:\n\tshards: 2\n", ":2: a tab in the indentation; use blanks"},
    {"matcher:\n  shards: 2\n \tx: 1\n", ":3: a tab in the indentation"},
    {"matcher:\n  shards: 2\n source:\n", ":3: no YAML: did not find expected key"},
    {"matcher: {shards: 2\n", ":2: no YAML: "},
    {"matcher:\n  shards: \"2\n", ":3: no YAML: found unexpected end of stream"},
    {"matcher:\n  shards: 2\n---\nmatcher:\n", ":3: a second document"},
    {"matcher: &a\n  shards: 2\n", ":1: anchors, aliases and tags are not supported"},
    {"matcher:\n  shards: !!int 2\n", ":2: anchors, aliases and tags are not supported"},
    {"matcher:\n  shards: *a\n", ":2: "},
    {"source:\n  database: \xff\n", ":2: expected UTF-8 text: "},
    {"source:\n  database: a\x01\n", ":2: expected UTF-8 text: control characters are not allowed"},
    {"source:\n  database: \"a\\0b\"\n", ":2: source.database: a NUL character"},
    {"source:\n  database: \"a\\nb\"\n",
     ":2: source.database: expected UTF-8 text without control"},
    {"source:\n  database: |\n    a\n    b\n",
     ":2: source.database: expected UTF-8 text without control"},
    {"postgres:\n  tables: [a.b, \"c,d\"]\n",
     ":2: postgres.tables: expected items without comma, got \"c,d\""},
    {"postgres:\n  tables:\n    - a.b\n    - ''\n",
     ":4: postgres.tables: expected items without comma"},
    {"postgres:\n  tables:\n    - a.b\n    - [c.d]\n",
     ":4: postgres.tables: expected a single value, got a list"},
    {"postgres:\n  tables: [orders]\n", ": postgres.tables: expected schema.table, got \"orders\""},
    {"matcher:\n  shards: ${MR_UNSET}\n",
     ":2: matcher.shards: environment variable MR_UNSET is not set; ${MR_UNSET:-default}"},
    {"matcher:\n  shards: ${MR_SET\n", ":2: matcher.shards: \"${\" without \"}\""},
    {"matcher:\n  shards: ${}\n", ":2: matcher.shards: environment variable  is not set"},
    {"matcher:\n  shards: ${MR_EMPTY:-many}\n",
     ":2: matcher.shards: expected a whole number from 1 to 16, got \"many\""},
    {"matcher:\n  shards: ${MR_YAML}\n", ":2: matcher.shards: expected a whole number"},
    {"matcher:\n  shards: 1${MR_SET}\n",
     ":2: matcher.shards: expected a whole number from 1 to 16, got \"17\""},
    {"source:\n  kind: postgres\n", ": postgres.url: source.kind postgres needs it"},
    {"source:\n  backoff_min: 1m\n", ": source.backoff_min: 1m is greater than source.backoff_max"},
    {"ring:\n  match_size: 100KiB\n", ": ring.match_size: expected a power of two"},
};

static void a_broken_file_is_refused_with_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken_files / sizeof *broken_files; i++) {
        struct mr_err err = {0};
        char expected[600];
        snprintf(expected, sizeof expected, "%s%s", path, broken_files[i].error);
        if (load(broken_files[i].text, NULL, NULL, &err) != MR_USAGE)
            fail_msg("taken: %s", broken_files[i].text);
        if (!strstr(err.text, expected))
            fail_msg("\"%s\"\n gave \"%s\"\n and not \"%s\"", broken_files[i].text, err.text,
                     expected);
        keep_case("file", i, broken_files[i].text, strlen(broken_files[i].text));
    }
}

/* Printable values can go anywhere. */
static bool printable(const char *text)
{
    for (; *text; text++)
        if (!isprint((unsigned char)*text))
            return false;
    return true;
}

static void every_broken_value_is_refused_in_file_environment_and_flag(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken_values / sizeof *broken_values; i++) {
        const struct broken_value *broken = &broken_values[i];
        char text[300], variable[300], flag[300];
        struct mr_err err = {0};
        const char *dot = strchr(broken->path, '.');
        if (!mr_config_find(broken->path) || !printable(broken->value))
            continue;
        snprintf(text, sizeof text, "%.*s:\n  %s: '%s'\n", (int)(dot - broken->path), broken->path,
                 dot + 1, broken->value);
        keep_case("value", i, text, strlen(text));
        assert_int_equal(load(text, NULL, NULL, &err), MR_USAGE);
        assert_non_null(strstr(err.text, broken->error));
        assert_non_null(strstr(err.text, ":2: "));

        int len = snprintf(variable, sizeof variable, "MILLRACE_%s", broken->path);
        for (int c = 0; c < len; c++)
            variable[c] = (char)(variable[c] == '.' ? '_' : toupper((unsigned char)variable[c]));
        snprintf(variable + len, sizeof variable - (size_t)len, "=%s", broken->value);
        char *environment[] = {(char[]){"HOME=/"}, variable, NULL};
        assert_int_equal(load("", environment, NULL, &err), MR_USAGE);
        assert_non_null(strstr(err.text, "environment: MILLRACE_"));
        assert_non_null(strstr(err.text, broken->error));

        snprintf(flag, sizeof flag, "--%s=%s", broken->path, broken->value);
        assert_int_equal(load("", NULL, (char *[]){flag, NULL}, &err), MR_USAGE);
        assert_non_null(strstr(err.text, "flag --"));
        assert_non_null(strstr(err.text, broken->error));
    }
}

static void every_broken_combination_is_refused_from_a_file(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken_combinations / sizeof *broken_combinations; i++) {
        const struct broken_combination *broken = &broken_combinations[i];
        char text[600];
        size_t len = 0;
        struct mr_err err = {0};
        for (size_t j = 0; j < 2 && broken->pairs[j].path; j++) {
            const char *path_now = broken->pairs[j].path, *dot = strchr(path_now, '.');
            size_t section = (size_t)(dot - path_now);
            bool same = j > 0 && strncmp(path_now, broken->pairs[0].path, section + 1) == 0;
            if (!same)
                len += (size_t)snprintf(text + len, sizeof text - len, "%.*s:\n", (int)section,
                                        path_now);
            len += (size_t)snprintf(text + len, sizeof text - len, "  %s: '%s'\n", dot + 1,
                                    broken->pairs[j].value);
        }
        keep_case("pair", i, text, len);
        assert_int_equal(load(text, NULL, NULL, &err), MR_USAGE);
        if (!strstr(err.text, broken->error))
            fail_msg("\"%s\"\n gave \"%s\"\n and not \"%s\"", text, err.text, broken->error);
    }
}

static void flags_beat_environment_beats_file_beats_default(void **state)
{
    struct mr_err err = {0};
    char *environment[] = {(char[]){"MILLRACE_MATCHER_SHARDS=3"},
                           (char[]){"MILLRACE_RING_EVENT_SIZE=8MiB"},
                           (char[]){"MILLRACE_TEST_ANYTHING=1"}, (char[]){"OTHER=1"}, NULL};
    char *flags[] = {(char[]){"--matcher.shards=4"}, NULL};
    (void)state;
    assert_int_equal(load("matcher:\n  shards: 5\nring:\n  event_size: 16MiB\n  match_size: 2MiB\n",
                          environment, flags, &err),
                     MR_OK);
    assert_int_equal(config.matcher_shards, 4);
    assert_int_equal(config.ring_event_size, 8 << 20);
    assert_int_equal(config.ring_match_size, 2 << 20);
    assert_int_equal(config.ring_control_size, 64 << 10);
}

static void unknown_variables_and_flags_are_refused_with_a_guess(void **state)
{
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(load("", (char *[]){(char[]){"MILLRACE_MATCHER_SHARD=1"}, NULL}, NULL, &err),
                     MR_USAGE);
    assert_string_equal(err.text, "environment: MILLRACE_MATCHER_SHARD: unknown variable; did you "
                                  "mean MILLRACE_MATCHER_SHARDS?");
    assert_int_equal(load("", (char *[]){(char[]){"MILLRACE_NONSENSE_AT_ALL=1"}, NULL}, NULL, &err),
                     MR_USAGE);
    assert_string_equal(err.text, "environment: MILLRACE_NONSENSE_AT_ALL: unknown variable");
    assert_int_equal(load("", NULL, (char *[]){(char[]){"--matcher.shard=1"}, NULL}, &err),
                     MR_USAGE);
    assert_string_equal(
        err.text, "flag --matcher.shard: matcher.shard: unknown key; did you mean matcher.shards?");
    assert_int_equal(load("", NULL, (char *[]){(char[]){"--matcher.shards"}, NULL}, &err),
                     MR_USAGE);
    assert_string_equal(err.text, "flag --matcher.shards: expected --section.key=value");
}

static void variables_are_expanded_as_text(void **state)
{
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(load("matcher:\n  shards: ${MR_SET}\nsource:\n  database: "
                          "'a${MR_UNSET:-b}$$c${MR_EMPTY:-}$d'\n",
                          NULL, NULL, &err),
                     MR_OK);
    assert_int_equal(config.matcher_shards, 7);
    assert_string_equal(config.source_database.text, "ab$c$d");
}

static void lists_come_as_sequence_or_joined_by_commas(void **state)
{
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(load("postgres:\n  tables: [public.a, public.b]\n", NULL, NULL, &err), MR_OK);
    assert_int_equal(config.postgres_tables.count, 2);
    assert_int_equal(load("postgres:\n  tables: public.a, public.b, public.c\n", NULL, NULL, &err),
                     MR_OK);
    assert_int_equal(config.postgres_tables.count, 3);
    assert_int_equal(load("postgres:\n  tables: []\n", NULL, NULL, &err), MR_OK);
    assert_int_equal(config.postgres_tables.count, 0);
}

static void empty_files_and_empty_sections_are_defaults(void **state)
{
    static const char *const empty[] = {"", "# nothing\n", "---\n", "matcher:\n",
                                        "matcher: {}\nring:\n  # event_size: 1\n"};
    struct mr_err err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        if (load(empty[i], NULL, NULL, &err) != MR_OK || config.matcher_shards != 2)
            fail_msg("\"%s\": %s", empty[i], err.text);
}

static void what_is_printed_is_read_again_the_same(void **state)
{
    static char text[32768];
    static struct mr_config before;
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(load("source:\n  database: 'a: \"b\" # \\c'\npostgres:\n  tables: [public.a, "
                          "'x.y z']\nmatcher:\n  shards: 9\n",
                          NULL, NULL, &err),
                     MR_OK);
    before = config;
    FILE *out = fmemopen(text, sizeof text, "w");
    mr_config_print(&config, out);
    fclose(out);
    assert_int_equal(load(text, NULL, NULL, &err), MR_OK);
    assert_memory_equal(&before, &config, sizeof config);
}

static void files_that_cannot_be_read_are_named(void **state)
{
    struct mr_config_source source = {.file = "/nonexistent/millrace.yaml"};
    struct mr_err err = {0};
    (void)state;
    assert_int_equal(mr_config_load(&source, &config, &err), MR_USAGE);
    assert_string_equal(err.text,
                        "open configuration /nonexistent/millrace.yaml: No such file or directory");
    source.file = "/tmp";
    assert_int_equal(mr_config_load(&source, &config, &err), MR_USAGE);
    assert_string_equal(err.text, "configuration /tmp: is a directory");
    static char big[MR_CONFIG_FILE_BYTES_MAX + 1];
    memset(big, '#', sizeof big);
    write_bytes(big, sizeof big);
    source.file = path;
    assert_int_equal(mr_config_load(&source, &config, &err), MR_USAGE);
    assert_non_null(strstr(err.text, "over 1048576 bytes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_file_is_refused_with_its_line),
        cmocka_unit_test(every_broken_value_is_refused_in_file_environment_and_flag),
        cmocka_unit_test(every_broken_combination_is_refused_from_a_file),
        cmocka_unit_test(flags_beat_environment_beats_file_beats_default),
        cmocka_unit_test(unknown_variables_and_flags_are_refused_with_a_guess),
        cmocka_unit_test(variables_are_expanded_as_text),
        cmocka_unit_test(lists_come_as_sequence_or_joined_by_commas),
        cmocka_unit_test(empty_files_and_empty_sections_are_defaults),
        cmocka_unit_test(what_is_printed_is_read_again_the_same),
        cmocka_unit_test(files_that_cannot_be_read_are_named),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
