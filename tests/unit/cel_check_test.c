#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cel/syntax.h"

struct bench {
    struct mr_cel_env *env;
    struct mr_cel_limits limits;
    struct mr_cel_arena arena;
    struct mr_cel_diag diag;
    struct mr_cel_front front;
    struct mr_cel_ast ast;
};

static void variable(struct bench *b, const char *name, const char *type)
{
    struct mr_err err;
    if (mr_cel_env_add_variable(b->env, mr_str_from(name), mr_str_from(type), &err) != MR_OK)
        fail_msg("%s", err.text);
}

static void function(struct bench *b, const char *name, bool member, const char *result,
                     const char *first, const char *second)
{
    struct mr_err err;
    const struct mr_str arguments[] = {mr_str_from(first), mr_str_from(second)};
    const struct mr_cel_signature signature = {.name = mr_str_from(name),
                                               .result = mr_str_from(result),
                                               .arguments = arguments,
                                               .argument_count = second ? 2 : 1,
                                               .member = member};
    if (mr_cel_env_add_function(b->env, &signature, &err) != MR_OK)
        fail_msg("%s", err.text);
}

static int set_up_with(void **state, uint32_t libraries)
{
    struct bench *b = calloc(1, sizeof *b);
    struct mr_err err;
    if (!b || mr_cel_env_create(libraries, &b->env, &err) != MR_OK)
        return 1;
    b->limits = mr_cel_limits_default;
    mr_cel_arena_init(&b->arena, NULL, 0, 8 << 20);
    b->front = (struct mr_cel_front){
        .env = b->env, .limits = &b->limits, .arena = &b->arena, .diag = &b->diag};
    variable(b, "doc", "dyn");
    variable(b, "i", "int");
    variable(b, "s", "string");
    variable(b, "l", "list(int)");
    variable(b, "m", "map(string, double)");
    *state = b;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, MR_CEL_LIBRARIES_DEFAULT);
}

static int set_up_bare(void **state)
{
    return set_up_with(state, 0);
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    mr_cel_env_destroy(&b->env);
    mr_cel_arena_fini(&b->arena);
    free(b);
    return 0;
}

static enum mr_rc check(struct bench *b, const char *source)
{
    mr_cel_arena_reset(&b->arena);
    enum mr_rc rc = mr_cel_parse(&b->front, mr_str_from(source), &b->ast);
    return rc == MR_OK ? mr_cel_check(&b->front, &b->ast) : rc;
}

static const struct mr_cel_node *typed(struct bench *b, const char *source, const char *type)
{
    char text[256];
    if (check(b, source) != MR_OK)
        fail_msg("%s: %u:%u: %s", source, b->diag.line, b->diag.column, b->diag.text);
    mr_cel_type_print(b->ast.root->type, text, sizeof text);
    if (strcmp(text, type) != 0)
        fail_msg("%s: expected %s, got %s", source, type, text);
    return b->ast.root;
}

static void refused(struct bench *b, const char *source, uint32_t column, const char *text)
{
    if (check(b, source) == MR_OK)
        fail_msg("%s was not refused", source);
    if (b->diag.column != column || !strstr(b->diag.text, text))
        fail_msg("%s: expected 1:%u: %s, got 1:%u: %s", source, column, text, b->diag.column,
                 b->diag.text);
}

static void the_type_of_a_value_is_deduced(void **state)
{
    struct bench *b = *state;
    typed(b, "1 + 2", "int");
    typed(b, "doc.a + 1", "int");
    typed(b, "doc.a + doc.b", "dyn");
    typed(b, "doc.a == 1 && i > 2.5", "bool");
    typed(b, "[1, 2u]", "list(dyn)");
    typed(b, "[[], [[]], [[[1]]]]", "list(list(list(list(int))))");
    typed(b, "{'a': [1]}.a", "list(int)");
    typed(b, "l.map(x, string(x))", "list(string)");
    typed(b, "m.map(k, k)", "list(string)");
    typed(b, "m.transformMap(k, v, v > 1.0)", "map(string, bool)");
    typed(b, "l.transformMap(k, v, s)", "map(int, string)");
    typed(b, "l.filter(x, x > 1).sortBy(x, -x)", "list(int)");
    typed(b, "cel.bind(x, [i], x + l)", "list(int)");
    typed(b, "optional.of(i).optMap(x, s)", "optional_type(string)");
    typed(b, "m.?a", "optional_type(double)");
    typed(b, "m[?s].orValue(1.0)", "double");
    typed(b, "[optional.of(1), null][0]", "optional_type(int)");
    typed(b, "true ? timestamp(0) : null", "google.protobuf.Timestamp");
    typed(b, "type(l) == list", "bool");
    typed(b, "type(l)", "type(list(int))");
    typed(b, "math.greatest(1, 2, 3)", "int");
    typed(b, "math.greatest(1, 2u, 3.0)", "dyn");
    typed(b, "has(doc.a.b)", "bool");
    typed(b, "ip('::1').family()", "int");
}

static void what_does_not_fit_is_refused_where_it_stands(void **state)
{
    struct bench *b = *state;
    refused(b, "i + s", 3, "there is no + for int and string");
    refused(b, "i && true", 1, "expected a bool as a term of &&, got int");
    refused(b, "doc.a || s", 10, "expected a bool as a term of ||, got string");
    refused(b, "l[s]", 2, "expected an int as the index of list(int), got string");
    refused(b, "s.size() == s", 10, "there is no == for int and string");
    refused(b, "i.a", 3, "int has no fields");
    refused(b, "s.contains(i)", 3, "expected string.contains(string), got string.contains(int)");
    refused(b, "size(i)", 1, "got size(int)");
    refused(b, "s.all(c, true)", 1, "expected a list or a map to go through, got string");
    refused(b, "{2.0: 1}", 2, "as a map's key, got double");
    refused(b, "[?i]", 3, "expected an optional value behind ?, got int");
    refused(b, "i ? 1 : 2", 1, "expected a bool as the condition");
    refused(b, "l == ['a']", 3, "there is no == for list(int) and list(string)");
    refused(b, "Message{a: 1}", 1, "unknown message type Message");
}

static void an_unknown_name_brings_the_nearest_one(void **state)
{
    struct bench *b = *state;
    refused(b, "dco.a", 1, "did you mean doc?");
    refused(b, "s.startWith('a')", 3, "did you mean startsWith?");
    refused(b, "l.exist(x, x > 1)", 3, "did you mean list.exists(x, condition)?");
    refused(b, "l.exists(number, numbr > 1)", 18, "did you mean number?");
    refused(b, "i == True", 6, "did you mean true?");
    refused(b, "len(s)", 1, "did you mean size?");
    refused(b, "price > 3", 1, "did you mean doc.price?");
    refused(b, "size > 3", 1, "size is a function; expected size(...)");
    refused(b, "doc.a-b > 3", 7, "written doc.`a-b`");
}

static void without_a_check_types_are_left_to_the_values(void **state)
{
    struct bench *b = *state;
    b->front.flags = MR_CEL_NO_CHECK;
    typed(b, "i + s", "dyn");
    typed(b, "unknown.a.b", "dyn");
    assert_int_equal(typed(b, "unknown", "dyn")->sub, MR_CEL_REF_NONE);
    assert_int_equal(typed(b, "unknown(1)", "dyn")->function, MR_CEL_FN_NONE);
    assert_int_equal(typed(b, "i", "int")->sub, MR_CEL_REF_VARIABLE);
    typed(b, "1 + 2", "int");
}

static void names_are_looked_up_in_the_container_first(void **state)
{
    struct bench *b = *state;
    struct mr_err err;
    variable(b, "x.y.z", "int");
    variable(b, "y.z", "string");
    variable(b, "z", "bool");
    variable(b, "x.doc", "bytes");
    function(b, "x.f", false, "uint", "dyn", NULL);
    typed(b, "y.z", "string");
    typed(b, "x.y.z", "int");
    assert_int_equal(mr_cel_env_set_container(b->env, MR_STR("x.y"), &err), MR_OK);
    typed(b, "z", "int");
    typed(b, ".z", "bool");
    typed(b, "y.z", "int");
    typed(b, ".y.z", "string");
    typed(b, "doc", "bytes");
    typed(b, ".doc.a", "dyn");
    typed(b, "f(1)", "uint");
    typed(b, "x.f(1)", "uint");
    typed(b, "s", "string");
    assert_int_equal(mr_cel_env_set_container(b->env, MR_STR("x..y"), &err), MR_USAGE);
}

static void the_longest_name_that_is_one_counts(void **state)
{
    struct bench *b = *state;
    variable(b, "a", "map(string, int)");
    variable(b, "a.b", "map(string, string)");
    const struct mr_cel_node *node = typed(b, "a.b.c", "string");
    assert_int_equal(node->kind, MR_CEL_NODE_SELECT);
    assert_int_equal(node->first->kind, MR_CEL_NODE_IDENT);
    assert_true(mr_str_equal(node->first->text, MR_STR("a.b")));
    typed(b, "a.c", "int");
    typed(b, "has(a.b.c)", "bool");
    typed(b, "a.?b", "optional_type(int)");
    typed(b, "google.protobuf.Timestamp", "type(google.protobuf.Timestamp)");
}

static void a_macros_variable_hides_what_is_outside(void **state)
{
    struct bench *b = *state;
    variable(b, "x", "bytes");
    variable(b, "x.y", "bool");
    typed(b, "[1].map(x, x)", "list(int)");
    typed(b, "[1].map(x, .x)", "list(bytes)");
    typed(b, "[{'y': 1}].map(x, x.y)", "list(int)");
    typed(b, "[1].map(x, ['a'].map(x, x))", "list(list(string))");
    refused(b, "[1].map(v, v) == v", 18, "unknown name v");
    typed(b, "[1].map(int, int)", "list(int)");
    typed(b, "[1].map(math, math)", "list(int)");
}

static void locals_side_by_side_share_their_slots(void **state)
{
    struct bench *b = *state;
    typed(b, "l.all(x, x > 0) && l.exists(y, y > 0)", "bool");
    assert_int_equal(b->ast.local_count, 1);
    typed(b, "l.all(x, l.all(j, y, x == y))", "bool");
    assert_int_equal(b->ast.local_count, 3);
    const struct mr_cel_node *node = typed(b, "cel.bind(a, 1, cel.bind(b, 2, a + b))", "int");
    assert_int_equal(b->ast.local_count, 2);
    const struct mr_cel_node *sum = mr_cel_node_child(mr_cel_node_child(node, 2), 2);
    assert_int_equal(sum->first->index, 0);
    assert_int_equal(sum->first->next->index, 1);
}

static void declared_functions_are_numbered_and_generic(void **state)
{
    struct bench *b = *state;
    function(b, "pair", false, "Pair(A, B)", "A", "B");
    function(b, "swap", true, "Pair(B, A)", "Pair(A, B)", NULL);
    function(b, "size", false, "int", "Pair(A, B)", NULL);
    typed(b, "pair(1, 'a')", "Pair(int, string)");
    typed(b, "pair(1, 'a').swap()", "Pair(string, int)");
    typed(b, "size(pair(1, 2))", "int");
    typed(b, "size(l)", "int");
    typed(b, "[pair(1, 2u), pair(dyn(1), dyn(2u))][0]", "Pair(dyn, dyn)");
    refused(b, "pair(1)", 1, "expected pair(A, B), got pair(int)");
    const struct mr_cel_node *node = typed(b, "pair(1, 2).swap()", "Pair(int, int)");
    assert_int_equal(node->function, MR_CEL_FN_DECLARED);
    assert_true(mr_str_equal(mr_cel_env_function_name(b->env, node->index), MR_STR("swap")));
}

static void a_library_that_is_off_is_not_known(void **state)
{
    struct bench *b = *state;
    refused(b, "s.trim()", 3, "unknown function trim");
    refused(b, "math.abs(1)", 1, "unknown name math");
    refused(b, "doc.?a", 5, "the library of optional values is off");
    refused(b, "l.all(i, v, true)", 3, "expected list.all(x, condition)");
    typed(b, "s.startsWith('a') && size(l) > 1", "bool");
}

static void declarations_that_cannot_be_are_refused(void **state)
{
    struct bench *b = *state;
    struct mr_err err;
    static const char *const names[] = {"", "1a", "a.", ".a", "a..b", "a b", "a-b", "doc"};
    static const char *const types[] = {"",     "list(",   "list(int",   "map(int)",
                                        "int)", "int int", "list(int,)", "type(,)"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(
            mr_cel_env_add_variable(b->env, mr_str_from(names[i]), MR_STR("int"), &err), MR_USAGE);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        assert_int_equal(
            mr_cel_env_add_variable(b->env, MR_STR("fresh"), mr_str_from(types[i]), &err),
            MR_USAGE);
    variable(b, "fresh", " map( string , list( optional( bytes ) ) ) ");
    typed(b, "fresh", "map(string, list(optional_type(bytes)))");
    char deep[200] = "";
    for (int i = 0; i < 30; i++)
        strcat(deep, "list(");
    assert_int_equal(mr_cel_env_add_variable(b->env, MR_STR("deep"), mr_str_from(deep), &err),
                     MR_USAGE);
}

static void an_environment_of_many_names_finds_each(void **state)
{
    struct bench *b = *state;
    char name[32], source[32];
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "v%u.w%u", i % 70, i);
        variable(b, name, i % 2 ? "int" : "string");
    }
    for (unsigned i = 0; i < 5000; i += 37) {
        snprintf(source, sizeof source, "v%u.w%u", i % 70, i);
        assert_int_equal(typed(b, source, i % 2 ? "int" : "string")->index, 5 + i);
    }
}

static void each_limit_of_the_check_has_its_own_error(void **state)
{
    struct bench *b = *state;
    refused(b, "l.all(a, l.all(b, l.all(c, l.all(d, l.all(e, true)))))", 39,
            "over the limit loop_depth_max");
    assert_int_equal(b->diag.stage, MR_CEL_STAGE_LIMIT);
    typed(b, "l.all(a, l.all(b, l.all(c, l.all(d, true))))", "bool");
    b->limits.check_steps_max = 20;
    assert_int_equal(check(b, "[[[[[[[[[[[[1]]]]]]]]]]]] == [[[[[[[[[[[[2]]]]]]]]]]]]"), MR_USAGE);
    assert_int_equal(b->diag.limit, MR_CEL_LIMIT_CHECK_STEPS);
    b->limits = mr_cel_limits_default;
    struct mr_cel_arena small;
    for (size_t size = 0; size < 4096; size += 8) {
        static _Alignas(8) uint8_t bytes[4096];
        mr_cel_arena_init(&small, bytes, size, size);
        b->front.arena = &small;
        struct mr_str source = MR_STR("[[], l].map(x, x + [doc.a]) == [{'a': optional.of(1)}]");
        enum mr_rc rc = mr_cel_parse(&b->front, source, &b->ast);
        if (rc == MR_OK)
            rc = mr_cel_check(&b->front, &b->ast);
        assert_true(rc == MR_USAGE);
        if (b->diag.stage == MR_CEL_STAGE_CHECK)
            return; /* large enough to see that the types do not fit */
        assert_int_equal(b->diag.limit, MR_CEL_LIMIT_COMPILE_BYTES);
    }
    fail_msg("4096 bytes were not enough");
}

static void an_arena_gives_aligned_bytes_up_to_its_cap(void **state)
{
    (void)state;
    struct mr_cel_arena arena;
    _Alignas(8) uint8_t own[64];
    mr_cel_arena_init(&arena, own, sizeof own, 100000);
    uint8_t *first = mr_cel_arena_alloc(&arena, 3), *second = mr_cel_arena_alloc(&arena, 60);
    assert_ptr_equal(first, own);
    assert_non_null(second);
    assert_int_equal((uintptr_t)second % 8, 0);
    assert_null(mr_cel_arena_alloc(&arena, 100000));
    assert_null(mr_cel_arena_alloc(&arena, SIZE_MAX));
    assert_null(mr_cel_arena_alloc(&arena, SIZE_MAX - 3));
    size_t total = 0;
    while (mr_cel_arena_alloc(&arena, 1000))
        total += 1000;
    assert_in_range(total, 60000, 100000);
    assert_in_range(mr_cel_arena_used(&arena), total, 100000);
    mr_cel_arena_reset(&arena);
    assert_true(mr_cel_arena_used(&arena) < 1000);
    assert_non_null(mr_cel_arena_alloc(&arena, 1000));
    mr_cel_arena_fini(&arena);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_type_of_a_value_is_deduced),
        TEST(what_does_not_fit_is_refused_where_it_stands),
        TEST(an_unknown_name_brings_the_nearest_one),
        TEST(without_a_check_types_are_left_to_the_values),
        TEST(names_are_looked_up_in_the_container_first),
        TEST(the_longest_name_that_is_one_counts),
        TEST(a_macros_variable_hides_what_is_outside),
        TEST(locals_side_by_side_share_their_slots),
        TEST(declared_functions_are_numbered_and_generic),
        cmocka_unit_test_setup_teardown(a_library_that_is_off_is_not_known, set_up_bare, tear_down),
        TEST(declarations_that_cannot_be_are_refused),
        TEST(an_environment_of_many_names_finds_each),
        TEST(each_limit_of_the_check_has_its_own_error),
        cmocka_unit_test(an_arena_gives_aligned_bytes_up_to_its_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
