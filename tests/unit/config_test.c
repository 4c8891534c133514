/* Unit tests of common/config.h and common/config_value.h. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/config.h"
#include "common/config_value.h"
#include "tests/unit/config_cases.h"

static struct mr_config config, other;

static void set(const char *path, const char *text)
{
    struct mr_err err = {0};
    if (mr_config_set(&config, path, text, &err) != MR_OK)
        fail_msg("%s=%s: %s", path, text, err.text);
}

static void defaults_are_set_and_pass_the_check(void **state)
{
    struct mr_err err = {0};
    (void)state;
    mr_config_init(&config);
    assert_int_equal(mr_config_check(&config, &err), MR_OK);
    assert_string_equal(config.source_kind.text, "generator");
    assert_int_equal(config.ring_event_size, 4 << 20);
    assert_int_equal(config.checkpoint_interval, 1000000000);
    assert_true(config.postgres_create);
    assert_int_equal(config.postgres_tables.count, 0);
}

static void every_row_has_a_type_a_text_and_known_readers(void **state)
{
    size_t count;
    const struct mr_config_row *rows = mr_config_rows(&count);
    (void)state;
    assert_true(count > 50);
    for (size_t i = 0; i < count; i++) {
        assert_non_null(mr_config_type_find(rows[i].type));
        assert_true(strlen(rows[i].text) > 10);
        assert_true(rows[i].readers < 32);
        assert_ptr_equal(mr_config_find(rows[i].path), &rows[i]);
        assert_true(strcmp(rows[i].type, "CHOICE") != 0 || rows[i].choices);
    }
}

static void quantities_are_read_exactly(void **state)
{
    static const struct {
        const char *path, *text;
        uint64_t value;
    } cases[] = {
        {"log.retention_age", "1s", 1000000000},
        {"log.retention_age", "1m30s", 90000000000},
        {"log.retention_age", "1.5h", 5400000000000},
        {"log.retention_age", "2d", 172800000000000},
        {"log.retention_age", "1h0m1s", 3601000000000},
        {"log.commit_interval", "0", 0},
        {"log.commit_interval", "0.25us", 250},
        {"log.commit_interval", "10 ms", 10000000},
        {"log.retention_size", "10GiB", UINT64_C(10) << 30},
        {"log.retention_size", "10GB", 10000000000},
        {"log.retention_size", "1.5MiB", 3 << 19},
        {"log.retention_size", "1PiB", UINT64_C(1) << 50},
        {"log.retention_size", "1048576", 1048576},
        {"generator.seed", "18446744073709551615", UINT64_MAX},
    };
    (void)state;
    mr_config_init(&config);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set(cases[i].path, cases[i].text);
        uint64_t value;
        memcpy(&value, (char *)&config + mr_config_find(cases[i].path)->offset, sizeof value);
        if (value != cases[i].value)
            fail_msg("%s=%s gave %llu", cases[i].path, cases[i].text, (unsigned long long)value);
    }
}

static void a_list_takes_items_between_commas(void **state)
{
    (void)state;
    mr_config_init(&config);
    set("postgres.tables", " public.a, public.b ,x.y");
    assert_int_equal(config.postgres_tables.count, 3);
    assert_string_equal(config.postgres_tables.items[1], "public.b");
    set("postgres.tables", "");
    assert_int_equal(config.postgres_tables.count, 0);
}

static void a_wrong_value_is_refused_with_key_expectation_and_finding(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken_values / sizeof *broken_values; i++) {
        const struct broken_value *broken = &broken_values[i];
        struct mr_err err = {0};
        mr_config_init(&config);
        mr_config_init(&other);
        if (mr_config_set(&config, broken->path, broken->value, &err) != MR_USAGE)
            fail_msg("%s=%s was taken", broken->path, broken->value);
        if (!strstr(err.text, broken->error))
            fail_msg("%s=%s: \"%s\" lacks \"%s\"", broken->path, broken->value, err.text,
                     broken->error);
        assert_int_equal(strncmp(err.text, broken->path, strlen(broken->path)), 0);
        assert_memory_equal(&config, &other, sizeof config); /* nothing was stored */
    }
}

static void a_wrong_combination_is_refused_by_the_check(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken_combinations / sizeof *broken_combinations; i++) {
        const struct broken_combination *broken = &broken_combinations[i];
        struct mr_err err = {0};
        mr_config_init(&config);
        for (size_t j = 0; j < 2 && broken->pairs[j].path; j++)
            set(broken->pairs[j].path, broken->pairs[j].value);
        if (mr_config_check(&config, &err) != MR_USAGE)
            fail_msg("combination %zu (%s) was taken", i, broken->error);
        if (!strstr(err.text, broken->error))
            fail_msg("\"%s\" lacks \"%s\"", err.text, broken->error);
    }
}

static void a_secret_never_shows_in_an_error(void **state)
{
    struct mr_err err = {0};
    (void)state;
    mr_config_init(&config);
    assert_int_equal(mr_config_set(&config, "postgres.url", "hunter2\n", &err), MR_USAGE);
    assert_null(strstr(err.text, "hunter2"));
}

static void text_of_wrong_bytes_is_refused(void **state)
{
    static const char *const wrong[] = {"\x80",      "\xc0\xaf",         "\xed\xa0\x80",
                                        "a\xe2\x82", "\xf4\x90\x80\x80", "\x1b[0m"};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(mr_config_text_clean(wrong[i]));
    assert_true(mr_config_text_clean("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"));
}

static void passwords_are_masked(void **state)
{
    static const struct {
        const char *text, *masked;
    } cases[] = {
        {"postgres://u:secret@h:5432/d", "postgres://u:***@h:5432/d"},
        {"postgres://u:se@cr:et@h/d?sslmode=off", "postgres://u:***@h/d?sslmode=off"},
        {"postgres://u@h/d", "postgres://u@h/d"},
        {"postgres://h/d?user=u&password=se&x=1", "postgres://h/d?user=u&password=***&x=1"},
        {"host=h password=se dbname=d", "host=h password=*** dbname=d"},
        {"host=h password='s \\' e' dbname=d", "host=h password=*** dbname=d"},
        {"password=", "password=***"},
        {"plain", "plain"},
        {"", ""},
    };
    char out[128];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mr_config_mask(cases[i].text, out, sizeof out);
        assert_string_equal(out, cases[i].masked);
    }
}

static char *printed(void)
{
    static char text[32768];
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    mr_config_print(&config, out);
    fclose(out);
    return text;
}

static void printing_masks_secrets_and_quotes_what_needs_it(void **state)
{
    (void)state;
    mr_config_init(&config);
    set("postgres.url", "postgres://u:secret@h/d");
    set("postgres.tables", "public.a,odd.b c");
    set("source.database", "a \"b\"");
    char *text = printed();
    assert_null(strstr(text, "secret"));
    assert_non_null(strstr(text, "\npostgres:\n  url: \"postgres://u:***@h/d\"\n"));
    assert_non_null(strstr(text, "  tables: [public.a, \"odd.b c\"]\n"));
    assert_non_null(strstr(text, "  database: \"a \\\"b\\\"\"\n"));
    assert_non_null(strstr(text, "  event_size: 4MiB\n"));
    set("postgres.url", "host=h password=secret");
    text = printed();
    assert_null(strstr(text, "secret"));
    assert_non_null(strstr(text, "  url: \"***\"\n"));
}

static void flat_form_comes_back_the_same(void **state)
{
    struct mr_err err = {0};
    int fd = memfd_create("config", MFD_CLOEXEC);
    (void)state;
    mr_config_init(&config);
    set("postgres.url", "host=h password='a=b'");
    set("postgres.tables", "public.a,public.b");
    set("log.retention_age", "90s");
    set("generator.seed", "18446744073709551615");
    set("ndjson.follow", "true");
    assert_int_equal(mr_config_write_flat(&config, fd, &err), MR_OK);
    for (int i = 0; i < 2; i++) { /* twice: a restarted process reads the same descriptor */
        memset(&other, 0xff, sizeof other);
        assert_int_equal(mr_config_read_flat(&other, fd, &err), MR_OK);
        assert_int_equal(mr_config_changed_readers(&config, &other), 0);
        assert_string_equal(other.postgres_url.text, "host=h password='a=b'");
        assert_string_equal(other.postgres_tables.items[1], "public.b");
    }
    close(fd);
}

static void flat_form_is_read_from_a_pipe_too(void **state)
{
    struct mr_err err = {0};
    int fds[2];
    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "matcher.shards=7\n", 17), 17);
    close(fds[1]);
    assert_int_equal(mr_config_read_flat(&other, fds[0], &err), MR_OK);
    assert_int_equal(other.matcher_shards, 7);
    close(fds[0]);
}

static void broken_flat_form_is_refused(void **state)
{
    static const char *const broken[] = {"matcher.shards", "matcher.shards=7",   "=1\n", "nope=1\n",
                                         "\nx=1\n",        "matcher.shards=99\n"};
    struct mr_err err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        int fd = memfd_create("config", MFD_CLOEXEC);
        assert_int_equal(write(fd, broken[i], strlen(broken[i])), (ssize_t)strlen(broken[i]));
        assert_int_equal(mr_config_read_flat(&other, fd, &err), MR_USAGE);
        close(fd);
    }
    assert_int_equal(mr_config_read_flat(&other, -1, &err), MR_FATAL);
}

static void changed_keys_name_the_processes_that_read_them(void **state)
{
    (void)state;
    mr_config_init(&other);
    mr_config_init(&config);
    assert_int_equal(mr_config_changed_readers(&other, &config), 0);
    set("checkpoint.interval", "2s");
    assert_int_equal(mr_config_changed_readers(&other, &config), 0);
    set("generator.rate", "7");
    assert_int_equal(mr_config_changed_readers(&other, &config), MR_CONFIG_READER_PULLER);
    set("publisher.gateways_max", "7");
    assert_int_equal(mr_config_changed_readers(&other, &config),
                     MR_CONFIG_READER_PULLER | MR_CONFIG_READER_PUBLISHER);
    mr_config_init(&config);
    set("http.listen", "");
    assert_int_equal(mr_config_changed_readers(&other, &config), MR_CONFIG_READER_SUPERVISOR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_set_and_pass_the_check),
        cmocka_unit_test(every_row_has_a_type_a_text_and_known_readers),
        cmocka_unit_test(quantities_are_read_exactly),
        cmocka_unit_test(a_list_takes_items_between_commas),
        cmocka_unit_test(a_wrong_value_is_refused_with_key_expectation_and_finding),
        cmocka_unit_test(a_wrong_combination_is_refused_by_the_check),
        cmocka_unit_test(a_secret_never_shows_in_an_error),
        cmocka_unit_test(text_of_wrong_bytes_is_refused),
        cmocka_unit_test(passwords_are_masked),
        cmocka_unit_test(printing_masks_secrets_and_quotes_what_needs_it),
        cmocka_unit_test(flat_form_comes_back_the_same),
        cmocka_unit_test(flat_form_is_read_from_a_pipe_too),
        cmocka_unit_test(broken_flat_form_is_refused),
        cmocka_unit_test(changed_keys_name_the_processes_that_read_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
