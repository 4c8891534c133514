#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <math.h>

#include <cmocka.h>

#include "cel/program.h"

#define INT(v)                               \
    {                                        \
        .kind = MR_CONST_INT, .integer = (v) \
    }
#define NUMBER(v)                              \
    {                                          \
        .kind = MR_CONST_DOUBLE, .number = (v) \
    }
#define TEXT(v)                                                  \
    {                                                            \
        .kind = MR_CONST_STRING, .string = {(v), sizeof(v) - 1 } \
    }
#define BOOL(v)                               \
    {                                         \
        .kind = MR_CONST_BOOL, .boolean = (v) \
    }
#define NIL                   \
    {                         \
        .kind = MR_CONST_NULL \
    }
#define LIST(...)                                                                    \
    {                                                                                \
        .kind = MR_CONST_LIST, .list = {                                             \
            (const struct mr_const[]){__VA_ARGS__},                                  \
            sizeof((const struct mr_const[]){__VA_ARGS__}) / sizeof(struct mr_const) \
        }                                                                            \
    }
#define P(p, o, ...) \
    ((struct mr_predicate){.path = {(p), sizeof(p) - 1}, .op = MR_PRED_##o, .value = __VA_ARGS__})

static struct mr_program build(const struct mr_predicate *predicates, uint32_t count, void **bytes)
{
    struct mr_err err;
    struct mr_program program;
    uint32_t len;
    if (mr_program_build(MR_STR("db"), MR_STR("orders"), predicates, count, bytes, &len, &err) !=
        MR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(mr_program_load(*bytes, len, &program), MR_OK);
    return program;
}

/* One document with a field of each shape. */
static struct mr_str sample(struct mr_bson_writer *w)
{
    mr_bson_writer_init(w);
    mr_bson_begin(w);
    mr_bson_put_int32(w, MR_STR("i32"), 5);
    mr_bson_put_int64(w, MR_STR("i64"), (INT64_C(1) << 53) + 1);
    mr_bson_put_int64(w, MR_STR("imax"), INT64_MAX);
    mr_bson_put_int64(w, MR_STR("imin"), INT64_MIN);
    mr_bson_put_double(w, MR_STR("d5"), 5.0);
    mr_bson_put_double(w, MR_STR("dhalf"), -0.5);
    mr_bson_put_double(w, MR_STR("d2p53"), 0x1p53);
    mr_bson_put_double(w, MR_STR("d2p63"), 0x1p63);
    mr_bson_put_double(w, MR_STR("nan"), NAN);
    mr_bson_put_double(w, MR_STR("inf"), INFINITY);
    mr_bson_put_double(w, MR_STR("mzero"), -0.0);
    mr_bson_put_date_ms(w, MR_STR("date"), 1700000000000);
    mr_bson_put_string(w, MR_STR("s"), MR_STR("beta"));
    mr_bson_put_string(w, MR_STR("sfive"), MR_STR("5"));
    mr_bson_put_bool(w, MR_STR("t"), true);
    mr_bson_put_null(w, MR_STR("null"));
    mr_bson_put_binary(w, MR_STR("bin"), 0, MR_STR("beta"));
    /* 19.99; 5.0; -7.5; 12 * 10^18 (over int64); -2^63; NaN; infinity; 0E-20 */
    mr_bson_put_decimal128(w, MR_STR("m1999"), 1999, UINT64_C(0x303c000000000000));
    mr_bson_put_decimal128(w, MR_STR("m5"), 50, UINT64_C(0x303e000000000000));
    mr_bson_put_decimal128(w, MR_STR("mneg"), 75, UINT64_C(0xb03e000000000000));
    mr_bson_put_decimal128(w, MR_STR("mbig"), 12, UINT64_C(0x3064000000000000));
    mr_bson_put_decimal128(w, MR_STR("mmin"), UINT64_C(1) << 63, UINT64_C(0xb040000000000000));
    mr_bson_put_decimal128(w, MR_STR("mnan"), 0, UINT64_C(0x7c00000000000000));
    mr_bson_put_decimal128(w, MR_STR("minf"), 0, UINT64_C(0x7800000000000000));
    mr_bson_put_decimal128(w, MR_STR("mzero20"), 0, UINT64_C(0x3018000000000000));
    mr_bson_begin_array(w, MR_STR("arr"));
    mr_bson_put_int32(w, MR_STR("0"), 1);
    mr_bson_put_string(w, MR_STR("1"), MR_STR("x"));
    mr_bson_begin_document(w, MR_STR("2"));
    mr_bson_put_string(w, MR_STR("sku"), MR_STR("first"));
    mr_bson_end(w);
    mr_bson_end(w);
    mr_bson_begin_array(w, MR_STR("pair"));
    mr_bson_put_double(w, MR_STR("0"), 1.0);
    mr_bson_put_string(w, MR_STR("1"), MR_STR("x"));
    mr_bson_end(w);
    mr_bson_begin_array(w, MR_STR("empty"));
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("doc"));
    mr_bson_put_int32(w, MR_STR("key"), 1);
    mr_bson_put_null(w, MR_STR("dotted.key"));
    mr_bson_end(w);
    mr_bson_end(w);
    return mr_bson_bytes(w);
}

static const struct {
    struct mr_predicate p;
    bool holds;
} semantics[] = {
#define ROW(wanted, p, o, ...) \
    {{.path = {(p), sizeof(p) - 1}, .op = MR_PRED_##o, .value = __VA_ARGS__}, wanted},
    ROW(true, "i32", EQ, INT(5)) ROW(true, "i32", EQ, NUMBER(5.0))
        ROW(false, "i32", EQ, NUMBER(5.5)) ROW(false, "i32", EQ, TEXT("5"))
            ROW(true, "i32", NE, TEXT("5")) ROW(false, "i32", NE, INT(5))
                ROW(true, "d5", EQ, INT(5)) ROW(true, "d5", NE, INT(6))
                    ROW(true, "mzero", EQ, INT(0)) ROW(true, "mzero", EQ, NUMBER(0.0))
                        ROW(true, "i32", EQ, NUMBER(5)) ROW(false, "sfive", EQ, INT(5))
                            ROW(true, "i32", LT, INT(6)) ROW(false, "i32", LT, INT(5))
                                ROW(true, "i32", LE, INT(5)) ROW(true, "i32", GT, NUMBER(4.5))
                                    ROW(true, "i32", GE, INT(5)) ROW(false, "i32", GT, TEXT("1"))
    /* 2^53 + 1 is no double: rounding would make these equal */
    ROW(false, "i64", EQ, NUMBER(0x1p53)) ROW(
        true,
        "i64", GT, NUMBER(0x1p53)) ROW(false, "d2p53", EQ,
                                       INT((INT64_C(1) << 53) +
                                           1)) ROW(true, "d2p53", LT,
                                                   INT((INT64_C(1) << 53) +
                                                       1)) ROW(false, "imax", EQ,
                                                               NUMBER(
                                                                   0x1p63)) ROW(true, "imax", LT,
                                                                                NUMBER(0x1p63))
        ROW(false, "d2p63", EQ, INT(INT64_MAX)) ROW(true, "d2p63", GT, INT(INT64_MAX)) ROW(
            true, "imin", EQ,
            NUMBER(
                -0x1p63)) ROW(true, "imin", GT,
                              NUMBER(
                                  -0x1.0000000000001p63)) ROW(true, "dhalf", LT,
                                                              INT(0)) ROW(true, "dhalf", GT, INT(-1))
            ROW(true, "dhalf", EQ, NUMBER(-0.5)) ROW(false, "nan", EQ, INT(1)) ROW(
                true, "nan", NE, INT(1)) ROW(false, "nan", LT,
                                             INT(1)) ROW(false, "nan", GE,
                                                         NUMBER(1.5)) ROW(true, "inf", EQ, NUMBER(INFINITY))
                ROW(true, "inf", GT, INT(INT64_MAX)) ROW(true, "date", EQ, INT(1700000000000)) ROW(
                    true, "date", GT,
                    NUMBER(1e12)) ROW(false, "date", EQ,
                                      TEXT("2023")) ROW(true, "s", EQ, TEXT("beta"))
                    ROW(true, "s", GT, TEXT("Zeta")) ROW(true, "s", GT, TEXT("bet")) ROW(
                        true, "s", LT,
                        TEXT("beta0")) ROW(false, "s", LT,
                                           INT(9)) ROW(false, "bin", EQ, TEXT("beta"))
                        ROW(true, "bin", NE, TEXT("beta")) ROW(true, "t", EQ, BOOL(true)) ROW(
                            true, "t", GT, BOOL(false)) ROW(false, "t", EQ, INT(1))
                            ROW(true, "null", EQ, NIL) ROW(false, "null", NE, NIL) ROW(
                                false, "s",
                                EQ,
                                NIL) ROW(true, "s", NE,
                                         NIL) ROW(true, "null", NE,
                                                  INT(0)) ROW(false, "null", LT,
                                                              INT(0)) ROW(false, "gone", EQ, INT(1))
                                ROW(false, "gone", NE, INT(1)) ROW(false, "gone", EQ, NIL) ROW(
                                    false, "gone", IN,
                                    LIST(INT(1),
                                         NIL)) ROW(false, "gone", CONTAINS,
                                                   INT(1)) ROW(false, "gone.x", NE,
                                                               INT(1)) ROW(true, "m5", EQ, INT(5))
                                    ROW(true, "m1999", EQ, NUMBER(19.99)) ROW(
                                        true, "m1999", LT,
                                        INT(20)) ROW(true, "m1999", GT,
                                                     INT(19)) ROW(false, "m1999", EQ,
                                                                  INT(19)) ROW(true, "mneg", LT,
                                                                               INT(-7))
                                        ROW(true, "mneg", GT, INT(-8)) ROW(
                                            true, "mneg", EQ,
                                            NUMBER(
                                                -7.5)) ROW(true, "mbig", GT,
                                                           INT(INT64_MAX)) ROW(true, "mbig", EQ,
                                                                               NUMBER(12e18)) ROW(true,
                                                                                                  "mmin",
                                                                                                  EQ, INT(INT64_MIN))
                                            ROW(false, "mnan", EQ, INT(0)) ROW(true, "mnan", NE, INT(0)) ROW(
                                                true, "minf", GT,
                                                NUMBER(1e300)) ROW(true, "mzero20", EQ, INT(0))
                                                ROW(true, "i32", IN, LIST(INT(4), NUMBER(5.0))) ROW(
                                                    false, "i32", IN,
                                                    LIST(INT(4),
                                                         TEXT("5"))) ROW(false, "i32", IN,
                                                                         {.kind = MR_CONST_LIST})
                                                    ROW(true, "null", IN, LIST(NIL, INT(1))) ROW(
                                                        true, "arr", CONTAINS,
                                                        INT(1)) ROW(true, "arr", CONTAINS, NUMBER(1.0))
                                                        ROW(true, "arr", CONTAINS, TEXT("x")) ROW(
                                                            false, "arr",
                                                            CONTAINS,
                                                            TEXT("sku")) ROW(false,
                                                                             "empty", CONTAINS,
                                                                             INT(1))
                                                            ROW(false, "s", CONTAINS, TEXT("b")) ROW(
                                                                true, "doc", CONTAINS,
                                                                TEXT("key")) ROW(false, "doc",
                                                                                 CONTAINS,
                                                                                 TEXT("nokey"))
                                                                ROW(false, "doc", CONTAINS, INT(1)) ROW(
                                                                    true, "doc", CONTAINS,
                                                                    TEXT(
                                                                        "dotted.key")) ROW(true, "arr.2.sku", EQ,
                                                                                           TEXT(
                                                                                               "fir"
                                                                                               "s"
                                                                                               "t"))
                                                                    ROW(true, "arr.0", EQ, INT(1)) ROW(
                                                                        true, "pair", EQ,
                                                                        LIST(INT(1),
                                                                             TEXT("x"))) ROW(false,
                                                                                             "p"
                                                                                             "a"
                                                                                             "i"
                                                                                             "r",
                                                                                             EQ,
                                                                                             LIST(TEXT(
                                                                                                      "x"),
                                                                                                  INT(1)))
                                                                        ROW(false, "pair", EQ,
                                                                            LIST(INT(
                                                                                1))) ROW(true,
                                                                                         "pair",
                                                                                         NE,
                                                                                         LIST(INT(
                                                                                             1)))
                                                                            ROW(true, "empty", EQ,
                                                                                {.kind =
                                                                                     MR_CONST_LIST})
                                                                                ROW(true, "_id", EQ,
                                                                                    TEXT("o-1")) ROW(false,
                                                                                                     "_id",
                                                                                                     EQ,
                                                                                                     TEXT(
                                                                                                         "o-2"))
                                                                                    ROW(true, "_id",
                                                                                        NE,
                                                                                        TEXT("o-"
                                                                                             "2"))
                                                                                        ROW(true,
                                                                                            "_i"
                                                                                            "d",
                                                                                            IN,
                                                                                            LIST(
                                                                                                TEXT(
                                                                                                    "a"),
                                                                                                TEXT(
                                                                                                    "o-1")))
                                                                                            ROW(true,
                                                                                                "_i"
                                                                                                "d",
                                                                                                LT,
                                                                                                TEXT(
                                                                                                    "p"))
#undef ROW
};

static void every_operator_and_type_gives_what_the_table_says(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    struct mr_str doc = sample(&w);
    assert_int_equal(mr_bson_validate(doc.data, doc.len), MR_OK);
    for (size_t i = 0; i < sizeof semantics / sizeof *semantics; i++) {
        void *bytes;
        struct mr_program program = build(&semantics[i].p, 1, &bytes);
        bool holds = mr_program_matches(&program, doc.data, doc.len, MR_STR("o-1"), NULL);
        if (holds != semantics[i].holds)
            fail_msg("row %zu: %.*s %s gave %d", i, (int)semantics[i].p.path.len,
                     semantics[i].p.path.data, mr_predicate_op_name(semantics[i].p.op), holds);
        assert_int_equal(mr_program_leaf_holds(&program, 0, doc.data, doc.len, MR_STR("o-1"), NULL),
                         holds);
        assert_false(mr_program_matches(&program, NULL, 0, MR_STR(""), NULL));
        free(bytes);
    }
    mr_bson_writer_fini(&w);
}

static void a_decimal_is_compared_with_whole_numbers_exactly(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    mr_bson_begin(&w);
    /* 5000000000000000000000000000001 * 10^-30: its nearest double is 5.0 */
    __extension__ unsigned __int128 c = 5;
    for (int i = 0; i < 30; i++)
        c *= 10;
    c += 1;
    mr_bson_put_decimal128(&w, MR_STR("m"), (uint64_t)c,
                           (uint64_t)(c >> 64) | (uint64_t)(6176 - 30) << 49);
    mr_bson_end(&w);
    struct mr_str doc = mr_bson_bytes(&w);
    struct mr_predicate rows[] = {P("m", GT, INT(5)), P("m", LT, INT(6)), P("m", NE, INT(5)),
                                  P("m", LT, NUMBER(5.5))};
    void *bytes;
    struct mr_program program = build(rows, 4, &bytes);
    assert_true(mr_program_matches(&program, doc.data, doc.len, MR_STR("x"), NULL));
    free(bytes);
    mr_bson_writer_fini(&w);
}

static void all_conjuncts_must_hold(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    struct mr_str doc = sample(&w);
    struct mr_predicate p[] = {P("i32", GE, INT(5)), P("s", EQ, TEXT("beta")),
                               P("_id", EQ, TEXT("o"))};
    void *bytes;
    struct mr_program program = build(p, 3, &bytes);
    assert_true(mr_program_matches(&program, doc.data, doc.len, MR_STR("o"), NULL));
    assert_false(mr_program_matches(&program, doc.data, doc.len, MR_STR("other"), NULL));
    free(bytes);
    program = build(NULL, 0, &bytes);
    assert_int_equal(program.leaf_count, 0);
    assert_true(mr_program_matches(&program, NULL, 0, MR_STR(""), NULL));
    free(bytes);
    mr_bson_writer_fini(&w);
}

static void equal_filters_give_equal_bytes(void **state)
{
    (void)state;
    struct mr_predicate one[] = {P("a", IN, LIST(INT(3), TEXT("x"), INT(1))),
                                 P("b", EQ, NUMBER(2.0)), P("c", IN, LIST(BOOL(true))),
                                 P("b", EQ, INT(2))};
    struct mr_predicate two[] = {P("c", EQ, BOOL(true)), P("b", IN, LIST(NUMBER(2), INT(2))),
                                 P("a", IN, LIST(NUMBER(1.0), INT(3), TEXT("x"), TEXT("x")))};
    struct mr_predicate other[] = {P("c", EQ, BOOL(true)), P("b", EQ, INT(2)),
                                   P("a", EQ, LIST(INT(1), INT(3), TEXT("x")))};
    void *a, *b, *c;
    struct mr_program pa = build(one, 4, &a), pb = build(two, 3, &b), pc = build(other, 3, &c);
    assert_int_equal(pa.leaf_count, 3);
    assert_int_equal(pa.len, pb.len);
    assert_memory_equal(a, b, pa.len);
    assert_true(pc.len != pa.len || memcmp(a, c, pa.len) != 0);
    free(a);
    free(b);
    free(c);
}

static void what_is_built_can_be_read_back(void **state)
{
    (void)state;
    struct mr_predicate p[] = {P("z", IN, LIST(INT(1), NUMBER(0.5), TEXT("t"), BOOL(false), NIL)),
                               P("a.b", GE, NUMBER(1.5)), P("m", NE, TEXT(""))};
    void *bytes;
    struct mr_program program = build(p, 3, &bytes);
    struct mr_predicate out;
    assert_true(mr_str_equal(program.database, MR_STR("db")));
    assert_true(mr_str_equal(program.collection, MR_STR("orders")));
    mr_program_predicate(&program, 0, &out);
    assert_true(mr_str_equal(out.path, MR_STR("a.b")));
    assert_int_equal(out.op, MR_PRED_GE);
    assert_true(out.value.kind == MR_CONST_DOUBLE && out.value.number == 1.5);
    mr_program_predicate(&program, 1, &out);
    assert_true(out.value.kind == MR_CONST_STRING && out.value.string.len == 0);
    mr_program_predicate(&program, 2, &out);
    assert_int_equal(out.value.list.count, 5);
    struct mr_const item;
    mr_program_list_item(&program, 2, 4, &item);
    assert_true(item.kind == MR_CONST_STRING && mr_str_equal(item.string, MR_STR("t")));
    free(bytes);
}

static void what_makes_no_sense_is_refused_with_its_place(void **state)
{
    (void)state;
    struct mr_const nested = LIST(INT(1));
    char deep[2 * 33];
    for (size_t i = 0; i < sizeof deep; i++)
        deep[i] = i % 2 ? '.' : 'a';
    const struct {
        struct mr_predicate p;
        const char *text;
    } rows[] = {
        {P("", EQ, INT(1)), "filters[1].field \"\": empty"},
        {P("a..b", EQ, INT(1)), "filters[1].field \"a..b\": an empty part"},
        {P("a.", EQ, INT(1)), "an empty part"},
        {P(".a", EQ, INT(1)), "an empty part"},
        {P("a\0b", EQ, INT(1)), "NUL"},
        {{.path = {deep, sizeof deep - 1}, .op = MR_PRED_EQ, .value = INT(1)},
         "more than 32 parts"},
        {P("a", IN, INT(1)), "filters[1].value of \"a\" in: no list"},
        {P("a", LT, LIST(INT(1))), "filters[1].value of \"a\" <: a list"},
        {P("a", GE, NIL), "null, but order"},
        {P("a", EQ, NUMBER(NAN)), "NaN"},
        {P("a", IN, LIST(INT(1), NUMBER(NAN))), "filters[1].value[1] of \"a\" in: NaN"},
        {P("a", IN, {.kind = MR_CONST_LIST, .list = {&nested, 1}}), "a list inside a list"},
        {P("_id", EQ, INT(1)), "a document id is one"},
        {P("_id", EQ, LIST(TEXT("x"))), "a document id is one"},
        {P("_id", IN, LIST(TEXT("x"), BOOL(true))), "filters[1].value[1]"},
        {P("_id", CONTAINS, TEXT("x")), "contains nothing"},
        {{.path = MR_STR("a"), .op = (enum mr_predicate_op)0, .value = INT(1)},
         "no known operator"},
        {{.path = MR_STR("a"), .op = MR_PRED_COUNT, .value = INT(1)}, "no known operator"},
        {{.path = MR_STR("a"), .op = MR_PRED_EQ, .value = {.kind = (enum mr_const_kind)9}},
         "no known kind"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mr_predicate p[2] = {P("fine", EQ, INT(1)), rows[i].p};
        void *bytes = NULL;
        uint32_t len;
        struct mr_err err = {0};
        assert_int_equal(mr_program_build(MR_STR(""), MR_STR(""), p, 2, &bytes, &len, &err),
                         MR_USAGE);
        if (!strstr(err.text, rows[i].text))
            fail_msg("row %zu: \"%s\" lacks \"%s\"", i, err.text, rows[i].text);
        assert_null(bytes);
    }
}

static const struct mr_term *leaf(struct mr_term *out, struct mr_predicate p)
{
    *out = (struct mr_term){.kind = MR_TERM_LEAF, .leaf = p};
    return out;
}

#define GROUP(kind_, ...)                                                         \
    (&(struct mr_term){.kind = kind_,                                             \
                       .count = sizeof((const struct mr_term *[]){__VA_ARGS__}) / \
                                sizeof(struct mr_term *),                         \
                       .children = (const struct mr_term *[]){__VA_ARGS__}})
#define ALL(...) GROUP(MR_TERM_AND, __VA_ARGS__)
#define ANY(...) GROUP(MR_TERM_OR, __VA_ARGS__)

static uint32_t build_term(const struct mr_term *term, void **bytes)
{
    uint32_t len;
    struct mr_program program;
    assert_int_equal(mr_program_build_term(MR_STR("db"), MR_STR("orders"), term, bytes, &len, NULL),
                     MR_OK);
    assert_int_equal(mr_program_load(*bytes, len, &program), MR_OK);
    return len;
}

static void equal_combinations_give_equal_bytes(void **state)
{
    (void)state;
    struct mr_term leaves[4];
    const struct mr_term *a = leaf(&leaves[0], P("a", EQ, INT(1)));
    const struct mr_term *b = leaf(&leaves[1], P("b", EQ, INT(2)));
    const struct mr_term *c = leaf(&leaves[2], P("c", LT, INT(3)));
    const struct mr_term never = {.kind = MR_TERM_OR}, always = {.kind = MR_TERM_AND};
    const struct {
        const struct mr_term *one, *two;
    } rows[] = {
        {ALL(a, ALL(b, c)), ALL(c, b, a)},
        {ANY(a, ALL(b), ANY(c, a)), ANY(c, b, a)},
        {ALL(ANY(a, b), c), ALL(c, ANY(b, a, b))},
        {ALL(a, ANY(&never, b)), ALL(b, a)},
        {ALL(a, ANY(b, &always)), a},
        {ALL(a, &never), &never},
        {ANY(a, ALL(&always, ALL(&always, &always))), &always},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *one, *two;
        uint32_t len = build_term(rows[i].one, &one);
        if (build_term(rows[i].two, &two) != len || memcmp(one, two, len) != 0)
            fail_msg("row %zu: the two differ", i);
        free(one);
        free(two);
    }
}

static void a_combination_too_deep_or_too_long_is_refused(void **state)
{
    (void)state;
    struct mr_term chain[64], end;
    const struct mr_term *links[64];
    links[0] = leaf(&end, P("a", EQ, INT(1)));
    for (uint32_t i = 0; i + 1 < 64; i++) {
        chain[i] = (struct mr_term){
            .kind = i % 2 ? MR_TERM_AND : MR_TERM_OR, .count = 1, .children = &links[i]};
        links[i + 1] = &chain[i];
    }
    void *bytes;
    uint32_t len;
    struct mr_err err;
    assert_int_equal(
        mr_program_build_term(MR_STR("d"), MR_STR("c"), &chain[20], &bytes, &len, &err), MR_OK);
    free(bytes);
    assert_int_equal(
        mr_program_build_term(MR_STR("d"), MR_STR("c"), &chain[62], &bytes, &len, &err), MR_USAGE);
    const struct mr_term *many[MR_PROGRAM_TOKENS_MAX];
    for (uint32_t i = 0; i < MR_PROGRAM_TOKENS_MAX; i++)
        many[i] = &chain[0];
    struct mr_term wide = {.kind = MR_TERM_AND, .count = MR_PROGRAM_TOKENS_MAX, .children = many};
    assert_int_equal(mr_program_build_term(MR_STR("d"), MR_STR("c"), &wide, &bytes, &len, &err),
                     MR_USAGE);
}

static void sizes_are_limited(void **state)
{
    (void)state;
    static char text[MR_PROGRAM_BYTES_MAX];
    memset(text, 'a', sizeof text);
    struct mr_predicate p = {.path = MR_STR("a"),
                             .op = MR_PRED_EQ,
                             .value = {.kind = MR_CONST_STRING, .string = {text, sizeof text}}};
    void *bytes;
    uint32_t len;
    struct mr_err err;
    assert_int_equal(mr_program_build(MR_STR("d"), MR_STR("c"), &p, 1, &bytes, &len, &err),
                     MR_USAGE);
    assert_int_equal(
        mr_program_build((struct mr_str){text, 1025}, MR_STR("c"), NULL, 0, &bytes, &len, &err),
        MR_USAGE);
    struct mr_predicate *many = calloc(MR_PROGRAM_LEAVES_MAX + 1, sizeof *many);
    assert_non_null(many);
    for (uint32_t i = 0; i <= MR_PROGRAM_LEAVES_MAX; i++)
        many[i] = P("a", NE, INT(i));
    assert_int_equal(mr_program_build(MR_STR("d"), MR_STR("c"), many, MR_PROGRAM_LEAVES_MAX + 1,
                                      &bytes, &len, &err),
                     MR_USAGE);
    struct mr_program program = build(many, MR_PROGRAM_LEAVES_MAX, &bytes);
    assert_int_equal(program.leaf_count, MR_PROGRAM_LEAVES_MAX);
    free(bytes);
    free(many);
}

static void every_flipped_byte_is_refused_or_still_a_program(void **state)
{
    (void)state;
    struct mr_predicate p[] = {
        P("s", IN, LIST(INT(1), NUMBER(0.5), TEXT("beta"), BOOL(false), NIL)),
        P("i32", GE, NUMBER(1.5)), P("_id", NE, TEXT("q")), P("null", EQ, NIL)};
    struct mr_bson_writer w;
    struct mr_str doc = sample(&w);
    void *bytes;
    struct mr_program program = build(p, 4, &bytes);
    uint32_t len = program.len, accepted = 0;
    uint8_t *copy = malloc(len);
    assert_non_null(copy);
    for (size_t i = 0; i < (size_t)len * 256; i++) {
        memcpy(copy, bytes, len);
        copy[i / 256] = (uint8_t)i;
        if (mr_program_load(copy, len, &program) != MR_OK)
            continue;
        accepted++;
        (void)mr_program_matches(&program, doc.data, doc.len, MR_STR("o-1"), NULL);
    }
    assert_true(accepted >= len); /* at least the unchanged ones */
    for (uint32_t cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1);
        assert_non_null(exact);
        memcpy(exact, bytes, cut);
        assert_int_equal(mr_program_load(exact, cut, &program), MR_CORRUPT);
        free(exact);
    }
    free(copy);
    free(bytes);
    mr_bson_writer_fini(&w);
}

static void operator_names_are_parsed_and_shown(void **state)
{
    (void)state;
    static const char *const names[] = {"==", "!=", "<", "<=", ">", ">=", "in", "contains"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        enum mr_predicate_op op;
        assert_true(mr_predicate_op_parse(mr_str_from(names[i]), &op));
        assert_string_equal(mr_predicate_op_name(op), names[i]);
    }
    enum mr_predicate_op op;
    assert_false(mr_predicate_op_parse(MR_STR("eq"), &op));
    assert_false(mr_predicate_op_parse(MR_STR(""), &op));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operator_and_type_gives_what_the_table_says),
        cmocka_unit_test(a_decimal_is_compared_with_whole_numbers_exactly),
        cmocka_unit_test(all_conjuncts_must_hold),
        cmocka_unit_test(equal_filters_give_equal_bytes),
        cmocka_unit_test(what_is_built_can_be_read_back),
        cmocka_unit_test(what_makes_no_sense_is_refused_with_its_place),
        cmocka_unit_test(equal_combinations_give_equal_bytes),
        cmocka_unit_test(a_combination_too_deep_or_too_long_is_refused),
        cmocka_unit_test(sizes_are_limited),
        cmocka_unit_test(every_flipped_byte_is_refused_or_still_a_program),
        cmocka_unit_test(operator_names_are_parsed_and_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
