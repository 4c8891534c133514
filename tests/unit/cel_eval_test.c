/* The compiler and the evaluator on what the conformance suite does not ask: documents in place,
 * limits, the bytes of a program, memory. The language itself is tested by tests/cel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "cel/cel.h"

/* Allocations of this process. The sanitizers' own malloc stays in place. */
static uint64_t allocations;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void *__libc_malloc(size_t size);
void *malloc(size_t size);
void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}
#endif

struct bed {
    struct mr_cel_env *env;
    struct mr_cel_arena scratch, arena;
    struct mr_bson_writer writer;
    struct mr_cel_val variables[2];
    struct mr_cel_run run;
    struct mr_cel_diag diag;
    _Alignas(8) uint8_t bytes[1 << 16];
};

static void put_document(struct mr_bson_writer *w)
{
    mr_bson_begin(w);
    mr_bson_put_string(w, MR_STR("status"), MR_STR("active"));
    mr_bson_put_double(w, MR_STR("price"), 150.5);
    mr_bson_put_int32(w, MR_STR("n"), 5);
    mr_bson_put_int64(w, MR_STR("a_long_key_name"), 1);
    mr_bson_put_int64(w, MR_STR("a_long_key_nam"), 2);
    mr_bson_put_int64(w, MR_STR("sevenby"), 7);
    mr_bson_put_int64(w, MR_STR("eightbyt"), 8);
    mr_bson_put_null(w, MR_STR("nothing"));
    mr_bson_begin_array(w, MR_STR("tags"));
    mr_bson_put_string(w, MR_STR("0"), MR_STR("a"));
    mr_bson_put_string(w, MR_STR("1"), MR_STR("go"));
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("a"));
    mr_bson_begin_document(w, MR_STR("b"));
    mr_bson_put_int32(w, MR_STR("c"), 3);
    mr_bson_end(w);
    mr_bson_end(w);
    mr_bson_put_date_ms(w, MR_STR("date"), -1);
    mr_bson_put_binary(w, MR_STR("blob"), 0, MR_STR("\1\2"));
    /* 12.5 and 10^40 as decimal128: significand and biased exponent */
    mr_bson_put_decimal128(w, MR_STR("dec"), 125, (uint64_t)(6176 - 1) << 49);
    mr_bson_put_decimal128(w, MR_STR("huge"), 1, (uint64_t)(6176 + 40) << 49);
    struct mr_bson_value oid = {MR_BSON_OID, (const uint8_t *)"abcdefghijkl", 12};
    mr_bson_put_value(w, MR_STR("oid"), &oid);
    struct mr_bson_value least = {MR_BSON_MINKEY, (const uint8_t *)"", 0};
    mr_bson_put_value(w, MR_STR("least"), &least);
    struct mr_bson_value regex = {MR_BSON_REGEX, (const uint8_t *)"a.b\0i", 6};
    mr_bson_put_value(w, MR_STR("regex"), &regex);
    struct mr_bson_value stamp = {MR_BSON_TIMESTAMP, (const uint8_t *)"\1\0\0\0\2\0\0\0", 8};
    mr_bson_put_value(w, MR_STR("stamp"), &stamp);
    mr_bson_put_bool(w, MR_STR("z"), true);
    mr_bson_end(w);
}

static int set_up(void **state)
{
    struct bed *b = calloc(1, sizeof *b);
    struct mr_err err;
    assert_non_null(b);
    assert_int_equal(mr_cel_env_create(MR_CEL_LIBRARIES_DEFAULT, &b->env, &err), MR_OK);
    assert_int_equal(mr_cel_env_add_variable(b->env, MR_STR("doc"), MR_STR("dyn"), &err), MR_OK);
    assert_int_equal(mr_cel_env_add_variable(b->env, MR_STR("x"), MR_STR("dyn"), &err), MR_OK);
    mr_cel_arena_init(&b->scratch, NULL, 0, 8 << 20);
    mr_cel_arena_init(&b->arena, b->bytes, sizeof b->bytes, sizeof b->bytes);
    mr_bson_writer_init(&b->writer);
    put_document(&b->writer);
    struct mr_str doc = mr_bson_bytes(&b->writer);
    assert_non_null(doc.data);
    b->variables[0] = mr_cel_document(doc.data, (uint32_t)doc.len);
    b->variables[1] = mr_cel_null();
    b->run =
        (struct mr_cel_run){.variables = b->variables, .variable_count = 2, .arena = &b->arena};
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bed *b = *state;
    mr_cel_arena_fini(&b->scratch);
    mr_cel_env_destroy(&b->env);
    mr_bson_writer_fini(&b->writer);
    free(b);
    return 0;
}

static struct mr_cel_compiled compile(struct bed *b, const char *text)
{
    struct mr_cel_front front = {b->env, &mr_cel_limits_default, &b->scratch, &b->diag, 0};
    struct mr_cel_compiled compiled;
    mr_cel_arena_reset(&b->scratch);
    if (mr_cel_compile(&front, mr_str_from(text), &compiled) != MR_OK)
        fail_msg("%s: %u:%u: %s", text, b->diag.line, b->diag.column, b->diag.text);
    return compiled;
}

/* The text of an expression's value; in the arena until the next. */
static struct mr_str value_of(struct bed *b, const char *text)
{
    struct mr_cel_compiled compiled = compile(b, text);
    struct mr_cel_program program;
    struct mr_err err;
    if (mr_cel_load(compiled.bytes, compiled.len, &program, &err) != MR_OK)
        fail_msg("%s: %s", text, err.text);
    mr_cel_arena_reset(&b->arena);
    struct mr_str value = mr_cel_value_text(mr_cel_eval(&program, &b->run), &b->arena);
    static char kept[4096];
    assert_true(value.len < sizeof kept);
    memcpy(kept, value.data, value.len);
    mr_cel_unload(&program);
    free(compiled.bytes);
    return (struct mr_str){kept, value.len};
}

struct pair {
    const char *text, *value;
};

static void check(struct bed *b, const struct pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct mr_str value = value_of(b, pairs[i].text);
        if (!mr_str_equal(value, mr_str_from(pairs[i].value)))
            fail_msg("%s is %.*s, not %s", pairs[i].text, (int)value.len, value.data,
                     pairs[i].value);
    }
}

static void fields_of_a_document_are_read_in_place(void **state)
{
    static const struct pair pairs[] = {
        {"doc.status == 'active' && doc.price > 100.0", "true"},
        {"doc.a.b.c", "3"},
        {"doc['a']['b'].c + 1", "4"},
        {"doc.a_long_key_name", "1"},
        {"doc.a_long_key_nam", "2"},
        {"doc.sevenby", "7"},
        {"doc.eightbyt", "8"},
        {"has(doc.eightby)", "false"},
        {"has(doc.eightbyte)", "false"},
        {"has(doc.z) && doc.z", "true"},
        {"'a\\u0000b' in doc", "false"},
        {"doc.tags[1]", "\"go\""},
        {"doc.tags[2]", "index out of bounds: 2"},
        {"doc.tags.size() + size(doc)", "21"},
        {"doc.tags == ['a', 'go']", "true"},
        {"doc.a == {'b': {'c': 3u}}", "true"},
        {"doc == doc", "true"},
        {"'status' in doc && !('nope' in doc)", "true"},
        {"doc.filter(k, k.startsWith('s'))", "[\"status\", \"sevenby\", \"stamp\"]"},
        {"doc.nope", "no such key: nope"},
        {"doc.status.x", "no fields in a value of this type: x"},
        {"has(doc.nothing)", "true"},
        {"has(doc.nothing.x)", "no fields in a value of this type: x"},
    };
    check(*state, pairs, sizeof pairs / sizeof pairs[0]);
}

static void types_of_bson_have_their_meaning(void **state)
{
    static const struct pair pairs[] = {
        {"doc.date", "timestamp(\"1969-12-31T23:59:59.999Z\")"},
        {"doc.blob", "b\"\\x01\\x02\""},
        {"doc.dec", "12.5"},
        {"doc.huge", "1e+40"},
        {"doc.oid", "\"6162636465666768696a6b6c\""},
        {"doc.least < -1e308", "true"},
        {"doc.regex", "\"a.b\""},
        {"doc.stamp", "timestamp(\"1970-01-01T00:00:02Z\")"},
        {"doc.nothing", "null"},
        {"doc.n == 5.0 && doc.n == 5u", "true"},
    };
    check(*state, pairs, sizeof pairs / sizeof pairs[0]);
}

static void errors_are_absorbed_by_what_decides_without_them(void **state)
{
    static const struct pair pairs[] = {
        {"doc.nope > 1 || doc.n == 5", "true"},
        {"doc.n == 5 || doc.nope > 1", "true"},
        {"doc.nope > 1 && doc.n == 6", "false"},
        {"doc.nope > 1 && doc.n == 5", "no such key: nope"},
        {"(doc.nope > 1 || doc.no > 1) && doc.n == 5", "no such key: nope"},
        {"doc.n == 5 && (doc.nope || doc.z) && (doc.z && doc.n > 4)", "true"},
        {"doc.n && false", "false"},
        {"doc.n && true", "a bool is needed here"},
        {"doc.tags.exists(t, t.nope == 1 || t == 'go')", "true"},
        {"doc.tags.all(t, t.nope == 1 && t == 'go')", "false"},
        {"doc.tags.exists_one(t, t.nope == 1)", "no fields in a value of this type: nope"},
        {"doc.z ? doc.n : doc.nope", "5"},
        {"doc.n ? 1 : 2", "a bool is needed here"},
        {"1 / 0 > 0 || doc.z", "true"},
        {"x == 1", "false"},
    };
    check(*state, pairs, sizeof pairs / sizeof pairs[0]);
}

static void unknowns_go_where_errors_go_and_before_them(void **state)
{
    struct bed *b = *state;
    b->variables[1] = (struct mr_cel_val){.kind = MR_CEL_UNKNOWN, .bits = 2};
    static const struct pair pairs[] = {
        {"x == 1 || doc.z", "true"},
        {"x == 1 && doc.z", "unknown: variables 0x2"},
        {"x && doc.n == 6", "false"},
        {"doc.nope == 1 || x", "unknown: variables 0x2"},
        {"x + doc.nope", "unknown: variables 0x2"},
        {"[1, x].size()", "unknown: variables 0x2"},
        {"doc.tags.map(t, x)", "unknown: variables 0x2"},
    };
    check(b, pairs, sizeof pairs / sizeof pairs[0]);
}

static void sets_of_constants_find_what_lists_find(void **state)
{
    static const struct pair pairs[] = {
        {"doc.n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]", "true"},
        {"doc.n in [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]", "false"},
        {"doc.n in [1.5, 2.0, 3.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 0.0]", "true"},
        {"doc.status in ['a','b','c','d','e','f','g','h','active','i']", "true"},
        {"doc.tags in ['a','b','c','d','e','f','g','h','active','i']", "false"},
        {"doc.price in [1, 'a', 150.5]", "true"},
        {"doc.nope in [1]", "no such key: nope"},
    };
    check(*state, pairs, sizeof pairs / sizeof pairs[0]);
}

static void an_expression_that_works_too_long_is_ended(void **state)
{
    struct bed *b = *state;
    b->run.steps_max = 1000;
    const char *text = "[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, "
                       "[0,1,2,3,4,5,6,7,8,9].all(c, a + b + c >= doc.n - 5)))";
    assert_true(mr_str_equal(value_of(b, text), MR_STR("limit of evaluation steps reached")));
    assert_true(b->run.steps_used == 1000);
    b->run.steps_max = 100000;
    assert_true(mr_str_equal(value_of(b, text), MR_STR("true")));
    assert_true(b->run.steps_used > 1000 && b->run.steps_used < 100000);
}

static void time_is_limited_too(void **state)
{
    struct bed *b = *state;
    b->run.steps_max = UINT64_MAX;
    b->run.time_ns_max = 1000000;
    const char *text =
        "[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9]"
        ".all(c, lists.range(100000).all(d, a + b + c + d >= doc.n - 5))))";
    mr_cel_arena_init(&b->arena, NULL, 0, 1 << 24);
    assert_true(mr_str_equal(value_of(b, text), MR_STR("limit of evaluation time reached")));
    mr_cel_arena_fini(&b->arena);
}

static void memory_is_limited_too(void **state)
{
    assert_true(mr_str_equal(
        value_of(*state, "[doc.status].map(x, [x+x+x+x+x+x+x+x]).map(x, x+x+x+x+x+x+x+x).map(x, "
                         "x+x+x+x+x+x+x+x).map(x, x+x+x+x+x+x+x+x).map(x, x+x+x+x+x+x+x+x)"
                         ".size() == 1 && doc.n == 6 || doc.z"),
        MR_STR("limit of evaluation memory reached")));
}

static void an_evaluation_asks_the_heap_for_nothing(void **state)
{
    struct bed *b = *state;
    static const char *const texts[] = {
        "doc.status == 'active' && doc.price > 100.0",
        "doc.tags.exists(t, t == 'go')",
        "doc.status.startsWith('ac')",
        "doc.n in [1,2,3,5,8]",
        "has(doc.a.b) && doc.a.b.c == 3",
        "size(doc.tags) > 1 && doc.tags[0] == 'a'",
        "timestamp('2024-06-01T00:00:00Z') > doc.date",
        "doc.status.matches('^a.*e$')",
        "doc.tags.map(t, t + '!') == ['a!', 'go!']",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct mr_cel_compiled compiled = compile(b, texts[i]);
        struct mr_cel_program program;
        assert_int_equal(mr_cel_load(compiled.bytes, compiled.len, &program, NULL), MR_OK);
        uint64_t before = 0;
        for (int turn = 0; turn < 100; turn++) {
            if (turn == 1) /* RE2 makes its automaton when it first searches */
                before = allocations;
            mr_cel_arena_reset(&b->arena);
            struct mr_cel_val v = mr_cel_eval(&program, &b->run);
            assert_true(v.kind == MR_CEL_BOOL && v.boolean);
        }
        assert_true(allocations == before);
        mr_cel_unload(&program);
        free(compiled.bytes);
    }
}

/* Every byte of a program changed: refused, or evaluated within its limits. */
static void damaged_programs_are_refused_or_harmless(void **state)
{
    struct bed *b = *state;
    struct mr_cel_compiled compiled = compile(
        b, "doc.tags.exists(t, t in ['a', 'b', 'go']) && {'a': [1, 2u]}.size() == doc.n || "
           "doc.tags.map(x, x + 'a').filter(y, y > 'b').size() > 1 || doc.?a.?b.orValue(1) == 2");
    uint8_t *copy = malloc(compiled.len);
    assert_non_null(copy);
    uint32_t refused = 0;
    for (uint32_t at = 0; at < compiled.len; at++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, compiled.bytes, compiled.len);
            copy[at] ^= (uint8_t)(1 << bit);
            struct mr_cel_program program;
            if (mr_cel_load(copy, compiled.len, &program, NULL) != MR_OK) {
                refused++;
                continue;
            }
            mr_cel_arena_reset(&b->arena);
            (void)mr_cel_eval(&program, &b->run);
            (void)mr_cel_disassemble(&program, &b->arena);
            mr_cel_unload(&program);
        }
    assert_true(refused > compiled.len);
    for (uint32_t len = 0; len < compiled.len; len++)
        assert_int_equal(mr_cel_load(compiled.bytes, len, &(struct mr_cel_program){0}, NULL),
                         MR_CORRUPT);
    free(copy);
    free(compiled.bytes);
}

static void damaged_documents_are_errors(void **state)
{
    struct bed *b = *state;
    struct mr_str doc = mr_bson_bytes(&b->writer);
    struct mr_cel_compiled compiled =
        compile(b, "doc.all(k, v, has(doc.zz) || v == v) || doc.tags.exists(t, t == 'x')");
    struct mr_cel_program program;
    assert_int_equal(mr_cel_load(compiled.bytes, compiled.len, &program, NULL), MR_OK);
    uint8_t *copy = malloc(doc.len);
    assert_non_null(copy);
    for (size_t at = 4; at < doc.len; at++) {
        memcpy(copy, doc.data, doc.len);
        copy[at] ^= 0xff;
        b->variables[0] = mr_cel_document(copy, (uint32_t)doc.len);
        mr_cel_arena_reset(&b->arena);
        (void)mr_cel_eval(&program, &b->run);
    }
    free(copy);
    mr_cel_unload(&program);
    free(compiled.bytes);
}

static void the_value_of_each_part_is_told(void **state)
{
    struct bed *b = *state;
    struct mr_cel_front front = {b->env, &mr_cel_limits_default, &b->scratch, &b->diag, 0};
    struct mr_str text;
    assert_int_equal(mr_cel_explain(&front,
                                    MR_STR("doc.n > 6 && doc.z || doc.tags.all(t, t < 'b')"),
                                    &b->run, &text),
                     MR_OK);
    assert_true(mr_str_equal(
        text, MR_STR("false                     doc.n > 6 && doc.z || doc.tags.all(t, t < 'b')\n"
                     "false                       doc.n > 6 && doc.z\n"
                     "false                         doc.n > 6\n"
                     "5                               doc.n\n"
                     "(not evaluated)               doc.z\n"
                     "false                       doc.tags.all(t, t < 'b')\n"
                     "[\"a\", \"go\"]                   doc.tags\n"
                     "false                         t < 'b'   (2 times, the last)\n")));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(fields_of_a_document_are_read_in_place),
        TEST(types_of_bson_have_their_meaning),
        TEST(errors_are_absorbed_by_what_decides_without_them),
        TEST(unknowns_go_where_errors_go_and_before_them),
        TEST(sets_of_constants_find_what_lists_find),
        TEST(an_expression_that_works_too_long_is_ended),
        TEST(time_is_limited_too),
        TEST(memory_is_limited_too),
        TEST(an_evaluation_asks_the_heap_for_nothing),
        TEST(damaged_programs_are_refused_or_harmless),
        TEST(damaged_documents_are_errors),
        TEST(the_value_of_each_part_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
