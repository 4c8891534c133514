/* Unit tests of common/log.h: what a line looks like, read back from a pipe in place of stderr. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"

static int saved_stderr, pipe_read;
static char text[1 << 20];

static int open_pipe(void **state)
{
    int fds[2];
    (void)state;
    if (pipe2(fds, O_CLOEXEC) || fcntl(fds[0], F_SETFL, O_NONBLOCK))
        return -1;
    saved_stderr = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    pipe_read = fds[0];
    return 0;
}

static int close_pipe(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(pipe_read);
    return 0;
}

static char *captured(void)
{
    ssize_t len = 0, n;
    while ((n = read(pipe_read, text + len, sizeof text - 1 - (size_t)len)) > 0)
        len += n;
    text[len] = '\0';
    return text;
}

/* The line without its time, which is checked for its form. */
static char *after_time(char *line)
{
    unsigned y, mo, d, h, mi, s, ms;
    assert_int_equal(sscanf(line, "%4u-%2u-%2uT%2u:%2u:%2u.%3uZ", &y, &mo, &d, &h, &mi, &s, &ms),
                     7);
    return line + strlen("2026-01-01T00:00:00.000Z ");
}

static void text_line_has_level_topic_event_process_and_pairs(void **state)
{
    (void)state;
    mr_log_setup(MR_LOG_INFO, MR_LOG_TEXT, "puller");
    mr_log_info("t1", "opened", "path=%s bytes=%d why=\"%s\"", "/x", 5, "no reason");
    assert_string_equal(after_time(captured()),
                        "info t1 opened process=puller path=/x bytes=5 why=\"no reason\"\n");
    mr_log_warn("t1", "bare", NULL);
    assert_string_equal(after_time(captured()), "warn t1 bare process=puller\n");
}

static void json_line_has_the_same_members(void **state)
{
    (void)state;
    mr_log_setup(MR_LOG_INFO, MR_LOG_JSON, "matcher/3");
    mr_log_error("t2", "opened",
                 "path=%s bytes=%d ok=true code=007 v=1.5 w=-3 big=12345678901234567 e=", "/x", 5);
    char *line = captured();
    assert_int_equal(strncmp(line, "{\"time\":\"20", 11), 0);
    assert_string_equal(
        strstr(line, "Z\"") + 2,
        ",\"level\":\"error\",\"topic\":\"t2\",\"event\":\"opened\",\"process\":\"matcher/3\","
        "\"path\":\"/x\",\"bytes\":5,\"ok\":true,\"code\":\"007\",\"v\":1.5,\"w\":-3,"
        "\"big\":\"12345678901234567\",\"e\":\"\"}\n");
}

static void quotes_newlines_and_loose_text_cannot_break_a_line(void **state)
{
    (void)state;
    mr_log_setup(MR_LOG_INFO, MR_LOG_JSON, "");
    mr_log_info("t3", "failed", "error=\"%s\" next=1", "key: got \"many\"\n\x01 \\end");
    assert_non_null(strstr(
        captured(), "\"error\":\"key: got \\\"many\\\"\\u000a\\u0001 \\\\end\",\"next\":1}\n"));
    mr_log_info("t3", "loose", "%s", "no pair here key=v");
    assert_non_null(strstr(captured(), "\"text\":\"no pair here\",\"key\":\"v\"}\n"));
    mr_log_setup(MR_LOG_INFO, MR_LOG_TEXT, "");
    mr_log_info("t3", "failed", "error=\"%s\" x=a\nb", "got \"many\"");
    assert_string_equal(after_time(captured()),
                        "info t3 failed error=\"got \\\"many\\\"\" x=\"a\\u000ab\"\n");
}

static void an_overlong_line_is_cut_and_stays_one_well_formed_line(void **state)
{
    static char big[6000];
    (void)state;
    memset(big, '"', sizeof big - 1);
    mr_log_setup(MR_LOG_INFO, MR_LOG_JSON, "p");
    mr_log_info("t4", "big", "a=\"%s\" b=2", big);
    char *line = captured();
    size_t len = strlen(line);
    assert_true(len <= 4096);
    assert_string_equal(line + len - 3, "\"}\n");
    assert_ptr_equal(strchr(line, '\n'), line + len - 1);
}

static void lines_below_the_level_are_not_written(void **state)
{
    (void)state;
    mr_log_setup(MR_LOG_WARN, MR_LOG_TEXT, "p");
    mr_log_info("t5", "x", NULL);
    assert_string_equal(captured(), "");
    mr_log_set_level(MR_LOG_DEBUG);
    mr_log_debug("t5", "y", NULL);
    assert_string_not_equal(captured(), "");
}

static void wait_for_a_new_second(void)
{
    uint64_t second = mr_clock_ns() / MR_NS_PER_S;
    while (mr_clock_ns() / MR_NS_PER_S == second)
        usleep(1000);
}

static size_t count_of(const char *haystack, const char *needle)
{
    size_t count = 0;
    for (; (haystack = strstr(haystack, needle)) != NULL; haystack++)
        count++;
    return count;
}

static void a_flood_is_cut_to_twenty_a_second_and_counted(void **state)
{
    (void)state;
    mr_log_setup(MR_LOG_INFO, MR_LOG_TEXT, "p");
    wait_for_a_new_second();
    for (int i = 0; i < 100; i++)
        mr_log_info("t6", "flood", NULL);
    mr_log_info("t6", "other", NULL);
    char *lines = captured();
    assert_int_equal(count_of(lines, "t6 flood"), 20);
    assert_int_equal(count_of(lines, "t6 other"), 1);
    wait_for_a_new_second();
    mr_log_info("t6", "flood", "a=1");
    assert_string_equal(after_time(captured()), "info t6 flood process=p a=1 suppressed=80\n");
}

static void a_stderr_that_nobody_reads_does_not_stop_the_process(void **state)
{
    static const char fill[4096];
    (void)state;
    mr_log_setup(MR_LOG_INFO, MR_LOG_TEXT, "p");
    fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK);
    while (write(STDERR_FILENO, fill, sizeof fill) > 0)
        ;
    fcntl(STDERR_FILENO, F_SETFL, 0);
    mr_log_info("t7", "lost", NULL); /* would hang here */
    captured();
    mr_log_info("t7", "lost", NULL);
    assert_string_equal(after_time(captured()), "info t7 lost process=p suppressed=1\n");
}

static void *write_many(void *context)
{
    for (int i = 0; i < 10; i++)
        mr_log_info("t8", context, "i=%d", i);
    return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
    static char names[4][2] = {"a", "b", "c", "d"};
    pthread_t threads[4];
    (void)state;
    mr_log_setup(MR_LOG_INFO, MR_LOG_TEXT, "p");
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, write_many, names[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    char *lines = captured();
    assert_int_equal(count_of(lines, "\n"), 40);
    assert_int_equal(count_of(lines, " info t8 "), 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_line_has_level_topic_event_process_and_pairs),
        cmocka_unit_test(json_line_has_the_same_members),
        cmocka_unit_test(quotes_newlines_and_loose_text_cannot_break_a_line),
        cmocka_unit_test(an_overlong_line_is_cut_and_stays_one_well_formed_line),
        cmocka_unit_test(lines_below_the_level_are_not_written),
        cmocka_unit_test(a_flood_is_cut_to_twenty_a_second_and_counted),
        cmocka_unit_test(a_stderr_that_nobody_reads_does_not_stop_the_process),
        cmocka_unit_test(lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, open_pipe, close_pipe);
}
