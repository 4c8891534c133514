/* Normalised filters against the evaluator: the combination of predicates must be true exactly
 * where the expression as a whole is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "cel/cel.h"
#include "cel/normalise.h"

static uint64_t random_state;

static uint32_t below(uint32_t n)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ z >> 31) % n);
}

struct text {
    char data[8192];
    size_t len;
};

static void put(struct text *t, const char *format, ...) MR_PRINTF(2, 3);
static void put(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(t->data + t->len, sizeof t->data - t->len, format, args);
    va_end(args);
    assert_true(len >= 0 && t->len + (size_t)len < sizeof t->data);
    t->len += (size_t)len;
}

#define PICK(list) ((list)[below(sizeof(list) / sizeof *(list))])

static const char *const paths[] = {"doc.a",   "doc.b",        "doc.c",      "doc[\"a\"]",
                                    "doc.c.a", "doc.c.c.b",    "doc.l",      "doc.l[0]",
                                    "doc.c.l", "doc[\"x.y\"]", "doc.d",      "doc.o",
                                    "doc.?a",  "doc.none.a",   "doc[doc.s]", "doc.s"};
static const char *const constants[] = {"1",
                                        "2.0",
                                        "1.5",
                                        "-1",
                                        "\"x\"",
                                        "\"\"",
                                        "true",
                                        "null",
                                        "2u",
                                        "b\"x\"",
                                        "\"xy\"",
                                        "1e300",
                                        "false",
                                        "[1]",
                                        "{\"a\": 1}",
                                        "timestamp(\"1970-01-01T00:00:00.002Z\")",
                                        "9007199254740993",
                                        "\"a\"",
                                        "0.0",
                                        "-0.0"};

static void expression(struct text *t, uint32_t depth);

static void list(struct text *t)
{
    uint32_t count = below(4);
    put(t, "[");
    for (uint32_t i = 0; i < count; i++)
        put(t, "%s%s", i ? ", " : "", PICK(constants));
    put(t, "]");
}

static void atom(struct text *t)
{
    static const char *const orders[] = {"==", "!=", "<", "<=", ">", ">="};
    const char *path = PICK(paths), *constant = PICK(constants);
    switch (below(13)) {
    case 0:
        put(t, "%s %s %s", constant, PICK(orders), path);
        break;
    case 1:
        put(t, "%s in ", path);
        list(t);
        break;
    case 2:
        put(t, "%s in %s", constant, path);
        break;
    case 3:
        put(t, "%s.startsWith(%s)", path, PICK(constants));
        break;
    case 4:
        put(t, "has(doc.%s)", PICK(((const char *const[]){"a", "c", "c.a", "c.c.b", "l", "l.a"})));
        break;
    case 5:
        put(t, "%s.exists(i, i == %s)", path, constant);
        break;
    case 6:
        put(t, "%s.all(i, %s != i)", path, constant);
        break;
    case 7:
        put(t, "%s", path);
        break;
    case 8:
        put(t, "%s.exists(i, i > %s)", path, constant);
        break;
    case 9:
        put(t, "%s",
            PICK(((const char *const[]){"true", "false", "size(doc.l) > 1", "doc.a == doc.b",
                                        "doc.a + 1 > 2", "1 / 0 > 1", "doc.s.contains(\"x\")"})));
        break;
    default:
        put(t, "%s %s %s", path, PICK(orders), constant);
        break;
    }
}

static void expression(struct text *t, uint32_t depth)
{
    uint32_t kind = depth >= 4 ? 9 : below(10);
    const char *sign = below(2) ? " && " : " || ";
    if (kind < 4) {
        uint32_t count = 2 + below(3);
        put(t, "(");
        for (uint32_t i = 0; i < count; i++) {
            put(t, "%s", i ? sign : "");
            expression(t, depth + 1);
        }
        put(t, ")");
    } else if (kind == 4) {
        put(t, "!(");
        expression(t, depth + 1);
        put(t, ")");
    } else if (kind == 5) {
        put(t, "(");
        expression(t, depth + 1);
        put(t, " ? ");
        expression(t, depth + 1);
        put(t, " : ");
        expression(t, depth + 1);
        put(t, ")");
    } else {
        atom(t);
    }
}

/* ---- documents ---- */

static void value(struct mr_bson_writer *w, const char *key, uint32_t depth)
{
    static const char *const texts[] = {"x", "", "xy", "a", "000000000000000000000001"};
    static const double doubles[] = {1.5, 2.0, -0.0, 1e300, __builtin_nan(""), 9007199254740992.0};
    static const char oid[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    struct mr_str k = mr_str_from(key);
    switch (below(depth < 3 ? 16 : 11)) {
    case 0:
        mr_bson_put_int32(w, k, (int32_t)below(3));
        break;
    case 1:
        mr_bson_put_int64(w, k, below(2) ? INT64_C(9007199254740993) : -1);
        break;
    case 2:
        mr_bson_put_double(w, k, PICK(doubles));
        break;
    case 3:
    case 4:
        mr_bson_put_string(w, k, mr_str_from(PICK(texts)));
        break;
    case 5:
        mr_bson_put_bool(w, k, below(2));
        break;
    case 6:
        mr_bson_put_null(w, k);
        break;
    case 7:
        mr_bson_put_date_ms(w, k,
                            depth > 0 || below(8) ? (int64_t)below(4) : INT64_C(253402300800000));
        break;
    case 8:
        mr_bson_put_decimal128(w, k, below(30), (uint64_t)(0x3040 - 2 * below(2)) << 48);
        break;
    case 9:
        mr_bson_put_value(w, k, &(struct mr_bson_value){MR_BSON_OID, (const uint8_t *)oid, 12});
        break;
    case 10:
        mr_bson_put_binary(w, k, 0, MR_STR("x"));
        break;
    case 11:
    case 12: {
        static const char *const indexes[] = {"0", "1", "2"};
        uint32_t count = below(4);
        mr_bson_begin_array(w, k);
        for (uint32_t i = 0; i < count; i++)
            value(w, indexes[i], depth + 1);
        mr_bson_end(w);
        break;
    }
    default: {
        static const char *const keys[] = {"a", "b", "c", "l", "x"};
        uint32_t count = below(5);
        mr_bson_begin_document(w, k);
        for (uint32_t i = 0; i < count; i++)
            value(w, keys[(i + below(2)) % 5], depth + 1);
        mr_bson_end(w);
        break;
    }
    }
}

static struct mr_str document(struct mr_bson_writer *w)
{
    static const char *const keys[] = {"a", "b", "c", "l", "d", "o", "s", "x.y"};
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (below(5))
            value(w, keys[i], 0);
    mr_bson_end(w);
    return mr_bson_bytes(w);
}

/* ---- the comparison ---- */

struct whole {
    struct mr_cel_env *env;
    struct mr_cel_arena arena;
    struct mr_cel_diag diag;
};

static bool whole_holds(struct whole *whole, const struct mr_cel_program *program,
                        struct mr_str doc)
{
    struct mr_cel_val variable = mr_cel_document(doc.data, (uint32_t)doc.len);
    struct mr_cel_run run = {.variables = &variable, .variable_count = 1, .arena = &whole->arena};
    struct mr_cel_val result = mr_cel_eval(program, &run);
    mr_cel_arena_reset(&whole->arena);
    return result.kind == MR_CEL_BOOL && result.boolean;
}

static uint32_t code_leaves(const struct mr_program *program)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < program->leaf_count; i++) {
        struct mr_predicate p;
        mr_program_predicate(program, i, &p);
        count += p.op == MR_PRED_CODE;
    }
    return count;
}

static void normalised_filters_hold_exactly_where_the_expression_does(void **state)
{
    (void)state;
    const char *seed = getenv("MR_TEST_SEED");
    random_state = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 1000003u;
    printf("rerun with MR_TEST_SEED=%llu\n", (unsigned long long)random_state);
    struct mr_program_compiler *compiler;
    struct mr_program_code *code;
    struct whole whole = {0};
    assert_int_equal(mr_program_compiler_create(&compiler, NULL), MR_OK);
    assert_int_equal(mr_program_code_create(&code, NULL), MR_OK);
    assert_int_equal(mr_cel_env_create(MR_CEL_LIBRARIES_DEFAULT, &whole.env, NULL), MR_OK);
    assert_int_equal(mr_cel_env_add_variable(whole.env, MR_STR("doc"), MR_STR("dyn"), NULL), MR_OK);
    mr_cel_arena_init(&whole.arena, NULL, 0, 16 << 20);
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    uint32_t checks = 0, matches = 0, refused = 0, with_code = 0;
    uint32_t rounds = getenv("MILLRACE_TEST_BRIEF") ? 100 : 3000;
    for (uint32_t round = 0; round < rounds; round++) {
        static struct text t;
        t.len = 0;
        expression(&t, 0);
        const struct mr_str source = {t.data, t.len};
        const struct mr_program_source subscription = {MR_STR(""), MR_STR("c"), NULL, 0, source};
        void *bytes;
        uint32_t len;
        struct mr_err err = {0};
        enum mr_rc rc = mr_program_compile(compiler, &subscription, &bytes, &len, &err);
        const struct mr_cel_front front = {whole.env, &mr_cel_limits_default, &whole.arena,
                                           &whole.diag, 0};
        struct mr_cel_compiled compiled;
        enum mr_rc expected = mr_cel_compile(&front, source, &compiled);
        mr_cel_arena_reset(&whole.arena);
        if (expected != MR_OK) {
            assert_int_equal(rc, MR_USAGE);
            refused++;
            continue;
        }
        if (rc != MR_OK) { /* more than a filter may be: not a bool */
            assert_non_null(strstr(err.text, "must be a bool"));
            free(compiled.bytes);
            refused++;
            continue;
        }
        struct mr_program program;
        struct mr_cel_program loaded;
        assert_int_equal(mr_program_load(bytes, len, &program), MR_OK);
        assert_int_equal(mr_cel_load(compiled.bytes, compiled.len, &loaded, NULL), MR_OK);
        with_code += code_leaves(&program) > 0;
        for (uint32_t i = 0; i < 30; i++) {
            struct mr_str doc = document(&w);
            bool is = mr_program_matches(&program, doc.data, doc.len, MR_STR("id"), code);
            if (is != whole_holds(&whole, &loaded, doc))
                fail_msg("the program says %d: %s", is, t.data);
            matches += is;
            checks++;
        }
        mr_cel_unload(&loaded);
        free(compiled.bytes);
        free(bytes);
    }
    printf("%u checks, %u matches; of %u expressions %u with code, %u refused\n", checks, matches,
           rounds, with_code, refused);
    assert_true(matches > checks / 50);
    mr_bson_writer_fini(&w);
    mr_cel_arena_fini(&whole.arena);
    mr_cel_env_destroy(&whole.env);
    mr_program_code_destroy(&code);
    mr_program_compiler_destroy(&compiler);
}

static void what_predicates_can_say_needs_no_code(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "doc.status == \"active\" && doc.price > 100.0",
        "doc.author.id == \"u1\" || !(doc.price >= 2 && doc.tag in [\"a\", \"b\"])",
        "doc.title.startsWith(\"x\") ? has(doc.a.b) : !has(doc.c.d)",
        "\"x\" in doc.labels && doc.labels.exists(l, l == \"y\") && doc.labels.all(l, l != \"z\")",
        "doc.created > timestamp(\"2024-01-01T00:00:00Z\") && !doc.hidden && doc[\"a\"].b != null",
        "true",
    };
    struct mr_program_compiler *compiler;
    assert_int_equal(mr_program_compiler_create(&compiler, NULL), MR_OK);
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        const struct mr_program_source source = {MR_STR("d"), MR_STR("c"), NULL, 0,
                                                 mr_str_from(sources[i])};
        void *bytes;
        uint32_t len;
        struct mr_program program;
        assert_int_equal(mr_program_compile(compiler, &source, &bytes, &len, NULL), MR_OK);
        assert_int_equal(mr_program_load(bytes, len, &program), MR_OK);
        if (code_leaves(&program) != 0)
            fail_msg("%s has code", sources[i]);
        free(bytes);
    }
    mr_program_compiler_destroy(&compiler);
}

static void a_wrong_expression_is_refused_with_its_place(void **state)
{
    (void)state;
    struct mr_program_compiler *compiler;
    assert_int_equal(mr_program_compiler_create(&compiler, NULL), MR_OK);
    static const char *const rows[][2] = {{"doc.a ==", "cel: 1:9: "},
                                          {"dok.a == 1", "cel: 1:1: "},
                                          {"1 + 2", "must be a bool"},
                                          {"doc.a == 1 &&\n \"x\"", "cel: 2:2: "}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct mr_program_source source = {MR_STR("d"), MR_STR("c"), NULL, 0,
                                                 mr_str_from(rows[i][0])};
        void *bytes;
        uint32_t len;
        struct mr_err err = {0};
        assert_int_equal(mr_program_compile(compiler, &source, &bytes, &len, &err), MR_USAGE);
        if (!strstr(err.text, rows[i][1]))
            fail_msg("\"%s\" lacks \"%s\"", err.text, rows[i][1]);
    }
    mr_program_compiler_destroy(&compiler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normalised_filters_hold_exactly_where_the_expression_does),
        cmocka_unit_test(what_predicates_can_say_needs_no_code),
        cmocka_unit_test(a_wrong_expression_is_refused_with_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
