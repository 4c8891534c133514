/* Expressions that mean no good: each is refused or checked in little time, little memory and
 * little stack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <pthread.h>
#include <time.h>

#include <cmocka.h>

#include "cel/syntax.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum {
    SOURCE_MAX = 1 << 20,
    STACK_BYTES = 1 << 20,
    /* What is promised; a build for debugging needs more. */
    STACK_PROMISED = 64 << 10,
    MEMORY_MAX = 8 << 20,
    TIME_MAX_MS = 10,
};

/* before, part count times, middle, close count times, after */
struct hostile {
    const char *before, *part, *middle, *close, *after;
    unsigned count;
};

static const struct hostile cases[] = {
    /* What brought others down. */
    {"", "[", "1", "]", "", 240},
    {"", "[", "", "", "", 5000},
    {"['aa']", ".map(x, [x+x, x+x])", "", "", "", 12},
    {"['aa']", ".map(x, [x+x, x+x])", "", "", "", 500},
    {"", "[1,2,3,4,5,6,7,8,9,10].all(x, ", "true", ")", "", 6},
    {"doc.s.matches('", "(", "a", "){1,1000}", "')", 2},
    {"", "!!(!!!(", "a", "))", "", 18},
    {"", "!!(!!!(", "", "", "", 18},
    {"", "!!(!!!(", "a", "))", "", 5000},
    {"", "a ? b : ", "c", "", "", 5000},
    {"", "(a ? b : ", "c", ")", "", 5000},
    {"1", "+1", "", "", "", 10000},
    /* Nesting of everything. */
    {"", "(", "1", ")", "", 99},
    {"", "(", "1", ")", "", 15000},
    {"", "{1:", "1", "}", "", 99},
    {"", "{", "", "", "", 30000},
    {"", "{1:", "1", "}", "", 7000},
    {"", "f(", "1", ")", "", 99},
    {"", "size(", "''", ")", "", 99},
    {"", "dyn(", "1", ")", "", 99},
    {"", "optional.of(", "1", ")", "", 99},
    {"", "type(", "1", ")", "", 99},
    {"", "a[", "0", "]", "", 99},
    {"", "doc[", "0", "]", "", 99},
    {"doc", "[0]", "", "", "", 99},
    {"doc", ".a", "", "", "", 99},
    {"doc", ".a", "", "", "", 16000},
    {"doc", ".?a", "", "", "", 99},
    {"doc", ".f(1)", "", "", "", 99},
    {"doc", "[?0]", "", "", "", 99},
    {"has(doc", ".a", "", "", ")", 98},
    {"", "!", "true", "", "", 99},
    {"", "-", "doc", "", "", 99},
    {"", "- ", "doc", "", "", 16000},
    {"", "! ", "", "", "", 16000},
    {"", "M{a:", "1", "}", "", 99},
    {"", "1 + (2 * (3 - (", "4", ")))", "", 33},
    {"", "a || b && c == d + e * (", "f", ")", "", 60},
    {"", "true || (false && (", "true", "))", "", 49},
    {"", "[[", "", "], [", "", 40},
    {"", "cel.bind(x, [1], ", "x", ")", "", 99},
    {"", "cel.bind(x, doc, [", "x", "])", "", 49},
    {"", "[1].map(x, ", "x", ")", "", 50},
    {"", "doc.filter(x, ", "x", ")", "", 99},
    {"", "optional.of(1).optMap(x, ", "x", ")", "", 99},
    {"doc", ".map(x, x)", "", "", "", 99},
    {"doc", ".map(x, [x])", "", "", "", 99},
    /* Long chains. */
    {"true", " || true", "", "", "", 4000},
    {"doc.a == 1", "&&doc.a==1", "", "", "", 3000},
    {"1 == 1", " == true", "", "", "", 4000},
    {"1", "<1", "", "", "", 10000},
    {"''", "+''", "", "", "", 10000},
    {"1", "*1u", "", "", "", 90},
    {"a", " in a", "", "", "", 5000},
    {"[", "1,", "", "", "1]", 8191},
    {"[", "1,", "", "", "1]", 20000},
    {"[", "[],", "", "", "[1]]", 5000},
    {"[", "{},", "", "", "{1:1}]", 5000},
    {"[", "optional.none(),", "", "", "optional.of(1)]", 1900},
    {"{", "1:1,", "", "", "2:2}", 4000},
    {"{", "[1]:1,", "", "", "2:2}", 4000},
    {"f(", "1,", "", "", "1)", 15000},
    {"math.greatest(", "1,", "", "", "2.0)", 15000},
    {"doc.a(", "x,", "", "", "1)", 15000},
    {"M{", "a:1,", "", "", "b:1}", 4000},
    /* Types that would be larger than any memory. */
    {"cel.bind(a, {1:{1:1}}, ", "cel.bind(a, {1:a}, ", "a", ")", ")", 90},
    {"cel.bind(a, [1], ", "cel.bind(a, [a, a], ", "a == a", ")", ")", 90},
    {"cel.bind(a, {'a': 1}, ", "cel.bind(a, {'a': a, 'b': [a]}, ", "a", ")", ")", 90},
    {"", "[[],", "[1]", "]", "", 98},
    {"", "[", "[], [1]", ", []]", "", 98},
    {"", "true ? [] : [", "1", "]", "", 90},
    {"[", "[[[[[[[[[[]]]]]]]]]],", "", "", "[1]]", 700},
    /* Long words and bad bytes. */
    {"'", "a", "", "", "'", 32000},
    {"'", "\\n", "", "", "'", 16000},
    {"b'", "\\377", "", "", "'", 8000},
    {"'''", "''\\''", "", "", "'''", 6000},
    {"'", "a", "", "", "", 32000},
    {"'", "\\", "", "", "", 32001},
    {"", "a", "", "", "", 32000},
    {"", "9", "", "", "", 32000},
    {"0.", "9", "", "", "e9", 32000},
    {"0x", "f", "", "", "", 32000},
    {"1e", "9", "", "", "", 32000},
    {"a.`", "b", "", "", "`", 32000},
    {"// ", "a", "", "", "", 32000},
    {"", "//\n", "", "", "", 10000},
    {"", "\n", "1", "", "", 30000},
    {"", "\xff", "", "", "", 1000},
    {"'", "\xed\xa0\x80", "", "", "'", 1000},
    {"", "\xc3", "", "", "", 1000},
    {"'", "\xf0\x9f\x98\x80", "", "", "'", 8000},
    {"", "$", "", "", "", 1000},
    {"", "?", "", "", "", 1000},
    {"", ".", "", "", "", 1000},
    {"", ",", "", "", "", 1000},
    {"", "a b ", "", "", "", 1000},
    {"", "in ", "", "", "", 1000},
    {"unknown", "n", "", "", "", 30},
    {"", "unknown_", "(1)", "", "", 4},
};
enum { CASE_COUNT = sizeof cases / sizeof cases[0] };

static size_t build(const struct hostile *h, char *out)
{
    char *at = stpcpy(out, h->before);
    for (unsigned i = 0; i < h->count; i++)
        at = stpcpy(at, h->part);
    at = stpcpy(at, h->middle);
    for (unsigned i = 0; i < h->count; i++)
        at = stpcpy(at, h->close);
    at = stpcpy(at, h->after);
    return (size_t)(at - out);
}

struct work {
    const struct mr_cel_env *env;
    struct mr_str source;
    struct mr_cel_diag diag;
    enum mr_rc rc;
    double milliseconds;
    size_t memory;
};

static void *compile(void *argument)
{
    struct work *work = argument;
    struct mr_cel_arena arena;
    struct timespec from, to;
    struct mr_cel_ast ast;
    mr_cel_arena_init(&arena, NULL, 0, MEMORY_MAX);
    struct mr_cel_front front = {
        .env = work->env, .limits = &mr_cel_limits_default, .arena = &arena, .diag = &work->diag};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    work->rc = mr_cel_parse(&front, work->source, &ast);
    if (work->rc == MR_OK)
        work->rc = mr_cel_check(&front, &ast);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    work->milliseconds =
        (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
    work->memory = mr_cel_arena_used(&arena);
    mr_cel_arena_fini(&arena);
    return NULL;
}

/* Bytes of stack that the work used: what is left of a pattern tells. */
static size_t on_small_stack(struct work *work)
{
    static uint8_t *stack;
    static const uint8_t pattern = 0xa5;
    if (!stack)
        stack = aligned_alloc(4096, STACK_BYTES);
    assert_non_null(stack);
    memset(stack, pattern, STACK_BYTES);
    pthread_attr_t attributes;
    pthread_t thread;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstack(&attributes, stack, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attributes, compile, work), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
    size_t untouched = 0;
    while (untouched < STACK_BYTES && stack[untouched] == pattern)
        untouched++;
    return STACK_BYTES - untouched;
}

static void hostile_expressions_cost_little(void **state)
{
    (void)state;
    if (getenv("MILLRACE_TEST_BRIEF"))
        skip(); /* valgrind takes a change of stacks for damage */
    struct mr_cel_env *env;
    struct mr_err err;
    char *source = malloc(SOURCE_MAX);
    assert_non_null(source);
    assert_int_equal(mr_cel_env_create(MR_CEL_LIBRARIES_DEFAULT, &env, &err), MR_OK);
    assert_int_equal(mr_cel_env_add_variable(env, MR_STR("doc"), MR_STR("dyn"), &err), MR_OK);
    bool slow = SANITIZED;
    size_t stack_most = 0, memory_most = 0;
    double most_ms = 0;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        struct work work = {.env = env};
        work.source = (struct mr_str){source, build(&cases[i], source)};
        size_t stack = on_small_stack(&work);
        if (work.memory > MEMORY_MAX || stack >= STACK_BYTES ||
            (!slow && work.milliseconds > TIME_MAX_MS))
            fail_msg("%.60s (%u times): %.1f ms, %zu bytes, %zu bytes of stack", source,
                     cases[i].count, work.milliseconds, work.memory, stack);
        assert_true(work.rc == MR_OK || work.diag.text[0] != 0);
        stack_most = stack > stack_most ? stack : stack_most;
        memory_most = work.memory > memory_most ? work.memory : memory_most;
        most_ms = work.milliseconds > most_ms ? work.milliseconds : most_ms;
        if (getenv("MILLRACE_TEST_VERBOSE"))
            print_message("%-50.50s %6u %6.2f ms %8zu B %6zu B stack: %s\n", source, cases[i].count,
                          work.milliseconds, work.memory, stack,
                          work.rc == MR_OK ? "ok" : work.diag.text);
    }
    print_message("%d expressions: at most %.2f ms, %zu bytes, %zu bytes of stack\n",
                  (int)CASE_COUNT, most_ms, memory_most, stack_most);
#ifdef __OPTIMIZE__
    if (!slow)
        assert_in_range(stack_most, 1, STACK_PROMISED);
#endif
    mr_cel_env_destroy(&env);
    free(source);
}

/* A seed's bytes in any order, cut anywhere: whatever it is, it ends with an answer. */
static void scrambled_expressions_end_with_an_answer(void **state)
{
    (void)state;
    static const char seed[] = "doc.a.b(x) && [1, 2u, .5e3].all(v, v in {'k': b'\\x00', ?r\"q\": "
                               "1}[?0]) || has(m.n) ? !-1 : `x y` // c";
    uint64_t random = 88172645463325252u;
    char text[400];
    struct mr_cel_env *env;
    struct mr_err err;
    assert_int_equal(mr_cel_env_create(MR_CEL_LIBRARIES_DEFAULT, &env, &err), MR_OK);
    for (unsigned round = 0; round < 3000; round++) {
        size_t len = 0;
        while (len < sizeof text - 20) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if (random % 16 == 0)
                break;
            size_t from = (random >> 8) % (sizeof seed - 1), part = 1 + (random >> 32) % 12;
            if (part > sizeof seed - 1 - from)
                part = sizeof seed - 1 - from;
            memcpy(text + len, seed + from, part);
            len += part;
        }
        struct work work = {.env = env, .source = {text, len}};
        compile(&work);
        assert_true(work.rc == MR_OK || work.rc == MR_USAGE);
    }
    mr_cel_env_destroy(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_expressions_cost_little),
        cmocka_unit_test(scrambled_expressions_end_with_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
