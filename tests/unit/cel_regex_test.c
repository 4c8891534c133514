#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cel/glob.h"
#include "cel/regex.h"

static const struct mr_cel_regex_limits limits = MR_CEL_REGEX_LIMITS_DEFAULT;

static bool found(const char *pattern, const char *text)
{
    struct mr_cel_regex *regex;
    char why[128];
    if (mr_cel_regex_create(pattern, strlen(pattern), &limits, &regex, why) != MR_CEL_REGEX_OK)
        fail_msg("%s: %s", pattern, why);
    bool result = mr_cel_regex_search(regex, text, strlen(text));
    mr_cel_regex_destroy(&regex);
    return result;
}

static void a_match_may_be_anywhere(void **state)
{
    (void)state;
    assert_true(found("b+", "abbc"));
    assert_false(found("^b", "abbc"));
    assert_true(found("", ""));
    assert_true(found("^h.*o$", "hello"));
    assert_false(found("o$", "hello\n")); /* $ is the end of the text alone */
    assert_true(found("^.$", "\xe2\x82\xac"));
    assert_true(found("\\pL", "\xc3\xa9"));
}

static void what_re2_does_not_know_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const char *const bad[] = {"(", "a**", "(?=x)", "(a)\\1", "[z-a]", "x{1001}", "\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct mr_cel_regex *regex;
        char why[128] = "";
        assert_int_equal(mr_cel_regex_create(bad[i], strlen(bad[i]), &limits, &regex, why),
                         MR_CEL_REGEX_SYNTAX);
        assert_true(why[0] != '\0');
    }
}

static void a_pattern_over_a_limit_is_refused_by_name(void **state)
{
    (void)state;
    struct mr_cel_regex *regex;
    char why[128], pattern[2000];
    memset(pattern, 'a', sizeof pattern);
    assert_int_equal(mr_cel_regex_create(pattern, sizeof pattern, &limits, &regex, why),
                     MR_CEL_REGEX_TOO_BIG);
    assert_string_equal(why, "the pattern is longer than 1024 bytes");
    static const char *const big[] = {"(x{1000}){1000}", "((a{100}){100}){100}", "(\\pL{100}){20}"};
    for (size_t i = 0; i < sizeof big / sizeof big[0]; i++)
        assert_int_not_equal(mr_cel_regex_create(big[i], strlen(big[i]), &limits, &regex, why),
                             MR_CEL_REGEX_OK);
}

static void no_pattern_takes_more_than_linear_time(void **state)
{
    (void)state;
    char *text = malloc(100000);
    assert_non_null(text);
    memset(text, 'a', 100000);
    static const char *const slow[] = {"^(a+)+$", "(a|aa)*b", "(a*)*(a*)*b", "(.*)(.*)(.*)(.*)x"};
    for (size_t i = 0; i < sizeof slow / sizeof slow[0]; i++) {
        struct mr_cel_regex *regex;
        char why[128];
        assert_int_equal(mr_cel_regex_create(slow[i], strlen(slow[i]), &limits, &regex, why),
                         MR_CEL_REGEX_OK);
        clock_t start = clock();
        mr_cel_regex_search(regex, text, 100000);
        assert_true(clock() - start < CLOCKS_PER_SEC);
        mr_cel_regex_destroy(&regex);
    }
    free(text);
}

static void the_cache_remembers_patterns_and_their_faults(void **state)
{
    (void)state;
    struct mr_cel_regex_cache *cache;
    const struct mr_cel_regex *first, *regex;
    const char *why;
    assert_int_equal(mr_cel_regex_cache_create(&limits, &cache), MR_CEL_REGEX_OK);
    assert_int_equal(mr_cel_regex_cache_get(cache, "a+", 2, &first, &why), MR_CEL_REGEX_OK);
    assert_int_equal(mr_cel_regex_cache_get(cache, "a+", 2, &regex, &why), MR_CEL_REGEX_OK);
    assert_ptr_equal(first, regex);
    for (int turn = 0; turn < 2; turn++) {
        assert_int_equal(mr_cel_regex_cache_get(cache, "(", 1, &regex, &why), MR_CEL_REGEX_SYNTAX);
        assert_string_equal(why, "missing ): (");
    }
    for (int i = 0; i < 100; i++) { /* more than it holds */
        char pattern[16];
        size_t len = (size_t)snprintf(pattern, sizeof pattern, "^%d$", i);
        assert_int_equal(mr_cel_regex_cache_get(cache, pattern, len, &regex, &why),
                         MR_CEL_REGEX_OK);
        assert_true(mr_cel_regex_search(regex, pattern + 1, len - 2));
    }
    char lengthy[2000] = "";
    assert_int_equal(mr_cel_regex_cache_get(cache, lengthy, sizeof lengthy, &regex, &why),
                     MR_CEL_REGEX_TOO_BIG);
    mr_cel_regex_cache_destroy(&cache);
}

/* What is decided without RE2 is what RE2 decides: in a group, the same pattern is none of glob's.
 */
static void simple_patterns_mean_what_they_mean_to_re2(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "b", "ab", ".*", ".*", "\\.", "^", "$", "\xc3\xa9"};
    static const char *const texts[] = {"a", "b", "ab", "aab", ".", "\n", "\xc3\xa9", "\xff"};
    unsigned simple = 0;
    srand(7);
    for (int i = 0; i < 3000; i++) {
        char pattern[64] = "", grouped[80], text[64] = "";
        for (int parts = rand() % 6; parts > 0; parts--)
            strcat(pattern, pieces[(unsigned)rand() % (sizeof pieces / sizeof pieces[0])]);
        snprintf(grouped, sizeof grouped, "(?:%s)", pattern);
        struct mr_cel_glob glob;
        simple += mr_cel_glob_parse(pattern, strlen(pattern), &glob);
        assert_false(mr_cel_glob_parse(grouped, strlen(grouped), &glob));
        struct mr_cel_regex *regex;
        char why[128];
        if (mr_cel_regex_create(pattern, strlen(pattern), &limits, &regex, why) != MR_CEL_REGEX_OK)
            continue;
        mr_cel_regex_destroy(&regex);
        for (int turn = 0; turn < 20; turn++) {
            text[0] = 0;
            for (int parts = rand() % 6; parts > 0; parts--)
                strcat(text, texts[(unsigned)rand() % (sizeof texts / sizeof texts[0])]);
            if (found(pattern, text) != found(grouped, text))
                fail_msg("\"%s\" in \"%s\"", pattern, text);
        }
    }
    assert_true(simple > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_match_may_be_anywhere),
        cmocka_unit_test(what_re2_does_not_know_is_refused_with_its_reason),
        cmocka_unit_test(a_pattern_over_a_limit_is_refused_by_name),
        cmocka_unit_test(no_pattern_takes_more_than_linear_time),
        cmocka_unit_test(simple_patterns_mean_what_they_mean_to_re2),
        cmocka_unit_test(the_cache_remembers_patterns_and_their_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
