#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cel/print.h"
#include "cel/syntax.h"

struct bench {
    struct mr_cel_env *env;
    struct mr_cel_limits limits;
    struct mr_cel_arena arena;
    struct mr_cel_diag diag;
    struct mr_cel_front front;
    struct mr_cel_ast ast;
};

static int set_up(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct mr_err err;
    if (!b || mr_cel_env_create(MR_CEL_LIBRARIES_DEFAULT, &b->env, &err) != MR_OK)
        return 1;
    b->limits = mr_cel_limits_default;
    mr_cel_arena_init(&b->arena, NULL, 0, 8 << 20);
    b->front = (struct mr_cel_front){
        .env = b->env, .limits = &b->limits, .arena = &b->arena, .diag = &b->diag};
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    mr_cel_env_destroy(&b->env);
    mr_cel_arena_fini(&b->arena);
    free(b);
    return 0;
}

static const struct mr_cel_node *parse_bytes(struct bench *b, struct mr_str source)
{
    mr_cel_arena_reset(&b->arena);
    if (mr_cel_parse(&b->front, source, &b->ast) != MR_OK)
        fail_msg("%.*s: %u:%u: %s", (int)source.len, source.data, b->diag.line, b->diag.column,
                 b->diag.text);
    return b->ast.root;
}

static const struct mr_cel_node *parse(struct bench *b, const char *source)
{
    return parse_bytes(b, mr_str_from(source));
}

static void refused(struct bench *b, const char *source, uint32_t line, uint32_t column,
                    const char *text)
{
    mr_cel_arena_reset(&b->arena);
    if (mr_cel_parse(&b->front, mr_str_from(source), &b->ast) == MR_OK)
        fail_msg("%s was not refused", source);
    if (b->diag.line != line || b->diag.column != column || !strstr(b->diag.text, text))
        fail_msg("%s: expected %u:%u: %s, got %u:%u: %s", source, line, column, text, b->diag.line,
                 b->diag.column, b->diag.text);
}

static void refused_by_limit(struct bench *b, const char *source, enum mr_cel_limit limit)
{
    mr_cel_arena_reset(&b->arena);
    assert_int_equal(mr_cel_parse(&b->front, mr_str_from(source), &b->ast), MR_USAGE);
    if (b->diag.stage != MR_CEL_STAGE_LIMIT || b->diag.limit != limit)
        fail_msg("%.60s: got %s", source, b->diag.text);
}

static void assert_string(struct bench *b, const char *source, const char *value, size_t len)
{
    const struct mr_cel_node *node = parse(b, source);
    assert_int_equal(node->kind, MR_CEL_NODE_LITERAL);
    assert_int_equal(node->text.len, len);
    assert_memory_equal(node->text.data, value, len);
}

static void a_string_is_read_by_its_prefix_and_escapes(void **state)
{
    struct bench *b = *state;
    assert_string(b, "'abc'", "abc", 3);
    assert_string(b, "r'a\\nb'", "a\\nb", 4);
    assert_string(b, "'\\x41\\101\\u00e9\\U0001F600\\n\\`'", "AA\xc3\xa9\xf0\x9f\x98\x80\n`", 10);
    assert_string(b, "'\\xff'", "\xc3\xbf", 2);
    assert_string(b, "b'\\xff\\377'", "\xff\xff", 2);
    assert_string(b, "b'\xc3\xbf'", "\xc3\xbf", 2);
    assert_string(b, "'''a'b\n\"c'''", "a'b\n\"c", 6);
    assert_string(b, "bR\"\"\"\\\"\"\"", "\\", 1);
    assert_string(b, "''", "", 0);
    const struct mr_cel_node *nul = parse_bytes(b, (struct mr_str){"'a\0b'", 5});
    assert_int_equal(nul->text.len, 3);
    refused(b, "'\\s'", 1, 2, "\\s: no escape");
    refused(b, "'\\400'", 1, 2, "\\4: no escape");
    refused(b, "'\\x4g'", 1, 2, "two hexadecimal digits");
    refused(b, "'\\ud800'", 1, 2, "not a Unicode code point");
    refused(b, "b'\\u00ff'", 1, 3, "\\u and \\U are for strings");
    refused(b, "rb'a'", 1, 1, "br");
    refused(b, "'abc", 1, 1, "not closed");
    refused(b, "'a\nb'", 1, 1, "not closed on its line");
}

static void a_number_is_what_its_form_says(void **state)
{
    struct bench *b = *state;
    assert_int_equal(parse(b, "-9223372036854775808")->integer, INT64_MIN);
    assert_int_equal(parse(b, "0x7fffffffffffffff")->integer, INT64_MAX);
    assert_int_equal(parse(b, "-0x10")->integer, -16);
    assert_true(parse(b, "18446744073709551615u")->natural == UINT64_MAX);
    assert_true(parse(b, "0xFFu")->natural == 255);
    assert_true(parse(b, ".5")->number == 0.5);
    assert_true(parse(b, "-1.5e3")->number == -1500);
    assert_true(parse(b, "1e-400")->number == 0);
    refused(b, "9223372036854775808", 1, 1, "does not fit an int");
    refused(b, "--9223372036854775808", 1, 3, "does not fit an int");
    refused(b, "18446744073709551616u", 1, 1, "does not fit a uint");
    refused(b, "1e400", 1, 1, "does not fit a double");
    refused(b, "1_000", 1, 1, "1_000: no number");
    refused(b, "1.", 1, 3, "expected digits behind \".\", as in 1.0");
}

static void operators_bind_as_the_specification_says(void **state)
{
    struct bench *b = *state;
    const struct mr_cel_node *node = parse(b, "1 + 2 * 3 - 4");
    assert_int_equal(node->function, MR_CEL_FN_SUBTRACT);
    assert_int_equal(node->first->function, MR_CEL_FN_ADD);
    assert_int_equal(node->first->first->next->function, MR_CEL_FN_MULTIPLY);
    node = parse(b, "a || b && c == d || e");
    assert_int_equal(node->kind, MR_CEL_NODE_OR);
    assert_int_equal(node->count, 3);
    assert_int_equal(node->first->next->kind, MR_CEL_NODE_AND);
    assert_int_equal(parse(b, "(a || b) || c")->count, 2);
    node = parse(b, "a ? b : c ? d : e");
    assert_int_equal(node->kind, MR_CEL_NODE_IF);
    assert_int_equal(node->first->next->next->kind, MR_CEL_NODE_IF);
    node = parse(b, "-a.b");
    assert_int_equal(node->function, MR_CEL_FN_NEGATE);
    assert_int_equal(parse(b, "-1.f()")->kind, MR_CEL_NODE_CALL);
    assert_int_equal(parse(b, "-1.f()")->first->integer, -1);
    assert_int_equal(parse(b, "4--4")->first->next->integer, -4);
    refused(b, "!-a", 1, 2, "write !(-x)");
    refused(b, "a ? b ? c : d : e", 1, 7, "expected \":\"");
}

static void a_node_knows_its_text(void **state)
{
    struct bench *b = *state;
    const char *source = " ( a.b + 1 ) * f(x)[2] ";
    const struct mr_cel_node *node = parse(b, source);
    assert_int_equal(node->start, 1);
    assert_int_equal(node->end, strlen(source) - 1);
    assert_int_equal(node->at, 13);
    assert_int_equal(node->first->start, 1);
    assert_int_equal(node->first->end, 12);
    const struct mr_cel_node *index = node->first->next;
    assert_int_equal(index->start, 15);
    assert_int_equal(index->at, 19);
    assert_int_equal(index->end, 22);
}

static void a_macro_is_a_node_with_its_parts(void **state)
{
    struct bench *b = *state;
    const struct mr_cel_node *node = parse(b, "a.b.map(x, x > 1, x * 2)");
    assert_int_equal(node->kind, MR_CEL_NODE_MACRO);
    assert_int_equal(node->sub, MR_CEL_MACRO_MAP_LIST);
    assert_true(node->flags & MR_CEL_FLAG_FILTERED);
    assert_int_equal(node->count, 4);
    node = parse(b, "has(a.b)");
    assert_int_equal(node->kind, MR_CEL_NODE_SELECT);
    assert_true(node->flags & MR_CEL_FLAG_TEST_ONLY);
    node = parse(b, "cel.bind(x, 1, x + 1)");
    assert_int_equal(node->sub, MR_CEL_MACRO_BIND);
    assert_int_equal(node->count, 3);
    b->front.flags = MR_CEL_NO_MACROS;
    assert_int_equal(parse(b, "a.all(x, x)")->kind, MR_CEL_NODE_CALL);
    b->front.flags = 0;
    refused(b, "has(a)", 1, 5, "has() takes the selection of a field");
    refused(b, "has(a['b'])", 1, 5, "has() takes the selection of a field");
    refused(b, "a.all(x.y, true)", 1, 7, "expected a simple name as the variable of all, got x.y");
    refused(b, "a.all(x, x, true)", 1, 10, "two different variables");
}

static void optional_marks_are_kept_apart(void **state)
{
    struct bench *b = *state;
    const struct mr_cel_node *node = parse(b, "[?a.?b, c]");
    assert_true(node->first->flags & MR_CEL_FLAG_OPTIONAL_ENTRY);
    assert_true(node->first->flags & MR_CEL_FLAG_OPTIONAL);
    assert_false(node->first->next->flags & MR_CEL_FLAG_OPTIONAL_ENTRY);
    node = parse(b, "{?'a': b}");
    assert_true(node->first->flags & MR_CEL_FLAG_OPTIONAL_ENTRY);
    assert_int_equal(parse(b, "a[?0]")->function, MR_CEL_FN_OPTIONAL_INDEX);
}

static void what_was_expected_is_said_where(void **state)
{
    struct bench *b = *state;
    refused(b, "", 1, 1, "expected a value, got the end of the expression");
    refused(b, "a &&", 1, 5, "expected a value, got the end");
    refused(b, "a & b", 1, 3, "&: no operator; did you mean &&?");
    refused(b, "a = b", 1, 3, "=: no operator; did you mean ==?");
    refused(b, "f(a, )", 1, 6, "expected an argument");
    refused(b, "[1 2]", 1, 4, "expected \",\" or \"]\"");
    refused(b, "{1}", 1, 3, "expected \":\"");
    refused(b, "a.1", 1, 2, "expected an operator or the end, got .1");
    refused(b, "if", 1, 1, "reserved word if");
    refused(b, "a\n  + \xc3\xa9 + b", 2, 5, "only ASCII");
    refused(b, "'\xc3\xa9' + $", 1, 7, "expected a value, got $");
    assert_non_null(parse(b, "a.if + a.in2 // comment"));
    refused(b, "a.in", 1, 3, "write [\"in\"]");
    refused(b, "a.", 1, 3, "expected the name of a field");
    assert_int_equal(mr_cel_parse(&b->front, (struct mr_str){"'\xff'", 3}, &b->ast), MR_USAGE);
    assert_string_equal(b->diag.text, "the byte 0xff is not UTF-8");
}

/* A text of `count` times `part`, between two others. */
static char *repeated(const char *before, const char *part, unsigned count, const char *after)
{
    size_t len = strlen(part);
    char *text = malloc(strlen(before) + len * count + strlen(after) + 1);
    assert_non_null(text);
    char *at = stpcpy(text, before);
    for (unsigned i = 0; i < count; i++)
        at = stpcpy(at, part);
    stpcpy(at, after);
    return text;
}

static void each_limit_has_its_own_error(void **state)
{
    struct bench *b = *state;
    static const struct {
        const char *part;
        unsigned count;
        enum mr_cel_limit limit;
    } cases[] = {
        {"          ", 4000, MR_CEL_LIMIT_SOURCE_BYTES},
        {"a || ", 6500, MR_CEL_LIMIT_NONE},
        {"(", 101, MR_CEL_LIMIT_DEPTH},
        {"[", 101, MR_CEL_LIMIT_DEPTH},
        {"f(", 101, MR_CEL_LIMIT_DEPTH},
        {"!", 101, MR_CEL_LIMIT_DEPTH},
        {"- ", 200, MR_CEL_LIMIT_DEPTH},
        {"1 + ", 101, MR_CEL_LIMIT_DEPTH},
        {"a ? b : ", 101, MR_CEL_LIMIT_DEPTH},
        {"a[", 101, MR_CEL_LIMIT_DEPTH},
        {"{1:", 101, MR_CEL_LIMIT_DEPTH},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = repeated("", cases[i].part, cases[i].count, "a");
        if (cases[i].limit)
            refused_by_limit(b, text, cases[i].limit);
        else
            assert_non_null(parse(b, text));
        free(text);
    }
    char *items = repeated("[", "1,", 8193, "]");
    refused_by_limit(b, items, MR_CEL_LIMIT_LITERAL_ITEMS);
    free(items);
    char *chain = repeated("a", ".a", 101, "");
    refused_by_limit(b, chain, MR_CEL_LIMIT_DEPTH);
    free(chain);
    b->limits.nodes_max = 10;
    refused_by_limit(b, "[1,2,3,4,5,6,7,8,9,10]", MR_CEL_LIMIT_NODES);
}

static void a_small_arena_is_a_limit(void **state)
{
    struct bench *b = *state;
    struct mr_cel_arena small;
    _Alignas(8) uint8_t bytes[200];
    mr_cel_arena_init(&small, bytes, sizeof bytes, sizeof bytes);
    b->front.arena = &small;
    assert_int_equal(mr_cel_parse(&b->front, MR_STR("a + b + c + d"), &b->ast), MR_USAGE);
    assert_int_equal(b->diag.limit, MR_CEL_LIMIT_COMPILE_BYTES);
    mr_cel_arena_fini(&small);
}

static void the_place_is_shown_under_its_line(void **state)
{
    struct bench *b = *state;
    char text[512];
    struct mr_str source = MR_STR("a == 1 &&\n  b.c = 'x'");
    assert_int_equal(mr_cel_parse(&b->front, source, &b->ast), MR_USAGE);
    mr_cel_diag_render(&b->diag, source, text, sizeof text);
    assert_string_equal(text, "2:7: =: no operator; did you mean ==?\n"
                              " |   b.c = 'x'\n"
                              " |       ^\n");
}

static void a_tree_is_printed_as_the_suite_has_it(void **state)
{
    struct bench *b = *state;
    parse(b, "a && b && !!c");
    struct mr_str text = mr_cel_ast_print(&b->ast, &b->arena);
    static const char expected[] = "_&&_(\n"
                                   "  _&&_(\n"
                                   "    a^#*expr.Expr_IdentExpr#,\n"
                                   "    b^#*expr.Expr_IdentExpr#\n"
                                   "  )^#*expr.Expr_CallExpr#,\n"
                                   "  c^#*expr.Expr_IdentExpr#\n"
                                   ")^#*expr.Expr_CallExpr#";
    assert_int_equal(text.len, sizeof expected - 1);
    assert_memory_equal(text.data, expected, text.len);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_string_is_read_by_its_prefix_and_escapes),
        TEST(a_number_is_what_its_form_says),
        TEST(operators_bind_as_the_specification_says),
        TEST(a_node_knows_its_text),
        TEST(a_macro_is_a_node_with_its_parts),
        TEST(optional_marks_are_kept_apart),
        TEST(what_was_expected_is_said_where),
        TEST(each_limit_has_its_own_error),
        TEST(a_small_arena_is_a_limit),
        TEST(the_place_is_shown_under_its_line),
        TEST(a_tree_is_printed_as_the_suite_has_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
