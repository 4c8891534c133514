#include "cel/normalise.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cel/cel.h"
#include "cel/timestamp.h"

enum {
    ARENA_BYTES_MAX = 16 << 20,
    TERMS_MAX = 1000, /* what an expression may unfold to before it is taken as one piece of code */
    DEPTH_MAX = 24,   /* of AND and OR in turn, likewise */
};

struct mr_program_compiler {
    struct mr_cel_env *env;
    struct mr_cel_arena arena; /* trees, terms, constants; code is in it, too */
    struct mr_cel_arena code;  /* of one leaf's compilation */
    struct mr_cel_diag diag;
};

/* One normalisation. truth: is the term to say that the expression is true, or that it is false? */
struct normaliser {
    struct mr_program_compiler *compiler;
    struct mr_str source;
    uint32_t terms, depth;
    bool failed;    /* out of memory */
    bool too_large; /* take it as code instead */
};

enum mr_rc mr_program_compiler_create(struct mr_program_compiler **out, struct mr_err *err)
{
    struct mr_program_compiler *compiler = calloc(1, sizeof *compiler);
    if (!compiler)
        return mr_fail(err, MR_FATAL, "create a filter compiler");
    mr_cel_arena_init(&compiler->arena, NULL, 0, ARENA_BYTES_MAX);
    mr_cel_arena_init(&compiler->code, NULL, 0, ARENA_BYTES_MAX);
    enum mr_rc rc = mr_cel_env_create(MR_CEL_LIBRARIES_DEFAULT, &compiler->env, err);
    if (rc == MR_OK)
        rc = mr_cel_env_add_variable(compiler->env, MR_STR("doc"), MR_STR("dyn"), err);
    if (rc != MR_OK) {
        mr_program_compiler_destroy(&compiler);
        return rc;
    }
    *out = compiler;
    return MR_OK;
}

void mr_program_compiler_destroy(struct mr_program_compiler **out)
{
    struct mr_program_compiler *compiler = *out;
    if (!compiler)
        return;
    if (compiler->env)
        mr_cel_env_destroy(&compiler->env);
    mr_cel_arena_fini(&compiler->arena);
    mr_cel_arena_fini(&compiler->code);
    free(compiler);
    *out = NULL;
}

const struct mr_cel_diag *mr_program_compiler_diag(const struct mr_program_compiler *compiler)
{
    return &compiler->diag;
}

/* ---- terms ---- */

static void *allocate(struct normaliser *n, size_t size)
{
    void *bytes = mr_cel_arena_alloc(&n->compiler->arena, size ? size : 1);
    n->failed |= !bytes;
    return bytes;
}

static const struct mr_term *make(struct normaliser *n, enum mr_term_kind kind, uint32_t count,
                                  const struct mr_term *const *children)
{
    for (uint32_t i = 0; i < count; i++)
        if (!children[i])
            return NULL;
    struct mr_term *term = allocate(n, sizeof *term);
    const struct mr_term **own = allocate(n, count * sizeof *own);
    if (!term || !own)
        return NULL;
    n->terms++;
    n->too_large |= n->terms > TERMS_MAX;
    for (uint32_t i = 0; i < count; i++)
        own[i] = children[i];
    *term = (struct mr_term){.kind = kind, .count = count, .children = own};
    return term;
}

static const struct mr_term *pair(struct normaliser *n, enum mr_term_kind kind,
                                  const struct mr_term *a, const struct mr_term *b)
{
    const struct mr_term *const both[] = {a, b};
    return make(n, kind, 2, both);
}

static const struct mr_term *leaf(struct normaliser *n, struct mr_str path, enum mr_predicate_op op,
                                  struct mr_const value)
{
    struct mr_term *term = allocate(n, sizeof *term);
    if (!term)
        return NULL;
    n->terms++;
    n->too_large |= n->terms > TERMS_MAX;
    *term = (struct mr_term){
        .kind = MR_TERM_LEAF,
        .leaf = {.path = path, .op = op, .cel = true, .value = value},
    };
    return term;
}

/* ---- what predicates are made of ---- */

/* The key that a node selects of its operand: "a.b" and a["b"]. Not one that a path cannot have. */
static bool key_of(const struct mr_cel_node *node, struct mr_str *key)
{
    *key = node->text;
    if (node->kind == MR_CEL_NODE_CALL) {
        const struct mr_cel_node *index = mr_cel_node_child(node, 1);
        if (node->function != MR_CEL_FN_INDEX || (node->flags & MR_CEL_FLAG_OPTIONAL) || !index ||
            index->kind != MR_CEL_NODE_LITERAL || index->sub != MR_CEL_LITERAL_STRING)
            return false;
        *key = index->text;
    } else if (node->kind != MR_CEL_NODE_SELECT || (node->flags & MR_CEL_FLAG_OPTIONAL)) {
        return false;
    }
    return key->len > 0 && !memchr(key->data, '.', key->len) && !memchr(key->data, 0, key->len);
}

/* The dotted path of doc.a.b.c; of has(doc.a.b.c), too. */
static bool path_of(struct normaliser *n, const struct mr_cel_node *node, struct mr_str *out)
{
    struct mr_str keys[MR_PROGRAM_PATH_PARTS_MAX];
    uint32_t count = 0;
    size_t len = 0;
    for (; node->kind != MR_CEL_NODE_IDENT; node = node->first) {
        if (count == MR_PROGRAM_PATH_PARTS_MAX || !key_of(node, &keys[count]))
            return false;
        if (count > 0 && node->kind == MR_CEL_NODE_SELECT && (node->flags & MR_CEL_FLAG_TEST_ONLY))
            return false;
        len += keys[count++].len + 1;
    }
    if (count == 0 || node->sub != MR_CEL_REF_VARIABLE)
        return false;
    char *text = allocate(n, len);
    if (!text)
        return false;
    *out = (struct mr_str){text, len - 1};
    while (count-- > 0) {
        memcpy(text, keys[count].data, keys[count].len);
        text += keys[count].len;
        *text++ = '.';
    }
    return true;
}

static bool date_of(const struct mr_cel_node *node, struct mr_const *out)
{
    const struct mr_cel_node *text = node->first;
    struct mr_cel_time time;
    if (node->function != MR_CEL_FN_TIMESTAMP || node->count != 1 ||
        text->kind != MR_CEL_NODE_LITERAL || text->sub != MR_CEL_LITERAL_STRING ||
        !mr_cel_time_parse(text->text, &time) || time.nanos % 1000000 != 0)
        return false;
    *out = (struct mr_const){.kind = MR_CONST_DATE,
                             .integer = time.seconds * 1000 + time.nanos / 1000000};
    return true;
}

/* CEL compares an int beside a double as doubles, so from here on it calls numbers equal that are
 * not, and predicates, which are exact, cannot say the same. */
static const double EXACT_END = 0x1p53;

static bool scalar_of(const struct mr_cel_node *node, struct mr_const *out)
{
    if (node->kind == MR_CEL_NODE_CALL)
        return date_of(node, out);
    if (node->kind != MR_CEL_NODE_LITERAL)
        return false;
    *out = (struct mr_const){.kind = MR_CONST_NULL};
    switch ((enum mr_cel_literal)node->sub) {
    case MR_CEL_LITERAL_NULL:
        return true;
    case MR_CEL_LITERAL_BOOL:
        out->kind = MR_CONST_BOOL;
        out->boolean = node->boolean;
        return true;
    case MR_CEL_LITERAL_INT:
        out->kind = MR_CONST_INT;
        out->integer = node->integer;
        return fabs((double)node->integer) < EXACT_END;
    case MR_CEL_LITERAL_UINT: /* numbers compare by value */
        out->kind = MR_CONST_INT;
        out->integer = (int64_t)node->natural;
        return (double)node->natural < EXACT_END;
    case MR_CEL_LITERAL_DOUBLE:
        out->kind = MR_CONST_DOUBLE;
        out->number = node->number;
        return fabs(node->number) < EXACT_END;
    case MR_CEL_LITERAL_STRING:
        out->kind = MR_CONST_STRING;
        out->string = node->text;
        return true;
    default:
        return false;
    }
}

static bool list_of(struct normaliser *n, const struct mr_cel_node *node, struct mr_const *out)
{
    if (node->kind != MR_CEL_NODE_LIST)
        return false;
    struct mr_const *items = allocate(n, node->count * sizeof *items);
    uint32_t count = 0;
    for (const struct mr_cel_node *item = node->first; items && item; item = item->next)
        if ((item->flags & MR_CEL_FLAG_OPTIONAL) || !scalar_of(item, &items[count++]))
            return false;
    *out = (struct mr_const){.kind = MR_CONST_LIST};
    out->list.items = items;
    out->list.count = count;
    return items != NULL;
}

/* ---- calls ---- */

/* "path op constant", and what says that it is false. NaN is in no order: !(x < 1) holds for it. */
static const struct mr_term *compare(struct normaliser *n, struct mr_str path,
                                     enum mr_predicate_op op, struct mr_const value, bool truth)
{
    static const enum mr_predicate_op opposite[] = {
        [MR_PRED_EQ] = MR_PRED_NE, [MR_PRED_NE] = MR_PRED_EQ, [MR_PRED_LT] = MR_PRED_GE,
        [MR_PRED_LE] = MR_PRED_GT, [MR_PRED_GT] = MR_PRED_LE, [MR_PRED_GE] = MR_PRED_LT,
    };
    if (truth)
        return leaf(n, path, op, value);
    const struct mr_term *other = leaf(n, path, opposite[op], value);
    if (op == MR_PRED_EQ || op == MR_PRED_NE ||
        (value.kind != MR_CONST_INT && value.kind != MR_CONST_DOUBLE))
        return other;
    const struct mr_const none = {.kind = MR_CONST_NULL};
    return pair(n, MR_TERM_OR, other, leaf(n, path, MR_PRED_IS_NAN, none));
}

static bool comparison(uint16_t function, enum mr_predicate_op *op, enum mr_predicate_op *turned)
{
    static const struct {
        uint16_t function;
        enum mr_predicate_op op, turned;
    } rows[] = {
        {MR_CEL_FN_EQUAL, MR_PRED_EQ, MR_PRED_EQ},
        {MR_CEL_FN_NOT_EQUAL, MR_PRED_NE, MR_PRED_NE},
        {MR_CEL_FN_LESS, MR_PRED_LT, MR_PRED_GT},
        {MR_CEL_FN_LESS_EQUAL, MR_PRED_LE, MR_PRED_GE},
        {MR_CEL_FN_GREATER, MR_PRED_GT, MR_PRED_LT},
        {MR_CEL_FN_GREATER_EQUAL, MR_PRED_GE, MR_PRED_LE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].function == function) {
            *op = rows[i].op;
            *turned = rows[i].turned;
            return true;
        }
    }
    return false;
}

static const struct mr_term *of_comparison(struct normaliser *n, const struct mr_cel_node *node,
                                           bool truth)
{
    enum mr_predicate_op op, turned;
    struct mr_str path;
    struct mr_const value;
    if (!comparison(node->function, &op, &turned) || node->count != 2)
        return NULL;
    const struct mr_cel_node *left = node->first, *right = left->next;
    bool equality = op == MR_PRED_EQ || op == MR_PRED_NE;
    if (!path_of(n, left, &path)) {
        const struct mr_cel_node *swap = left;
        left = right;
        right = swap;
        op = turned;
        if (!path_of(n, left, &path))
            return NULL;
    }
    if (left->flags & MR_CEL_FLAG_TEST_ONLY)
        return NULL;
    if (!scalar_of(right, &value) && !(equality && list_of(n, right, &value)))
        return NULL;
    if (!equality && value.kind == MR_CONST_NULL)
        return NULL;
    return compare(n, path, op, value, truth);
}

static const struct mr_term *of_in(struct normaliser *n, const struct mr_cel_node *node, bool truth)
{
    struct mr_str path;
    struct mr_const value;
    if (node->function != MR_CEL_FN_IN || node->count != 2)
        return NULL;
    const struct mr_cel_node *left = node->first, *right = left->next;
    if ((left->flags | right->flags) & MR_CEL_FLAG_TEST_ONLY)
        return NULL;
    if (list_of(n, right, &value) && path_of(n, left, &path))
        return leaf(n, path, truth ? MR_PRED_IN : MR_PRED_NOT_IN, value);
    if (scalar_of(left, &value) && path_of(n, right, &path))
        return leaf(n, path, truth ? MR_PRED_CONTAINS : MR_PRED_NOT_CONTAINS, value);
    return NULL;
}

static const struct mr_term *of_prefix(struct normaliser *n, const struct mr_cel_node *node,
                                       bool truth)
{
    struct mr_str path;
    struct mr_const value;
    if (node->function != MR_CEL_FN_STARTS_WITH || node->count != 2)
        return NULL;
    if ((node->first->flags & MR_CEL_FLAG_TEST_ONLY) || !path_of(n, node->first, &path) ||
        !scalar_of(node->first->next, &value) || value.kind != MR_CONST_STRING)
        return NULL;
    return leaf(n, path, truth ? MR_PRED_PREFIX : MR_PRED_NOT_PREFIX, value);
}

/* list.exists(x, x == c) is c in list, and list.all(x, x != c) its opposite: neither can fail. */
static const struct mr_term *of_macro(struct normaliser *n, const struct mr_cel_node *node,
                                      bool truth)
{
    struct mr_str path;
    struct mr_const value;
    bool exists = node->sub == MR_CEL_MACRO_EXISTS;
    if ((!exists && node->sub != MR_CEL_MACRO_ALL) || (node->flags & MR_CEL_FLAG_TWO_VARIABLES))
        return NULL;
    const struct mr_cel_node *range = node->first, *variable = range->next, *body = variable->next;
    if (body->kind != MR_CEL_NODE_CALL ||
        body->function != (exists ? MR_CEL_FN_EQUAL : MR_CEL_FN_NOT_EQUAL) ||
        (range->flags & MR_CEL_FLAG_TEST_ONLY))
        return NULL;
    const struct mr_cel_node *left = body->first, *right = left->next;
    if (left->kind != MR_CEL_NODE_IDENT) {
        left = right;
        right = body->first;
    }
    if (left->kind != MR_CEL_NODE_IDENT || left->sub != MR_CEL_REF_LOCAL ||
        left->index != variable->index || !mr_str_equal(left->text, variable->text) ||
        !scalar_of(right, &value) || !path_of(n, range, &path))
        return NULL;
    return leaf(n, path, truth == exists ? MR_PRED_CONTAINS : MR_PRED_NOT_CONTAINS, value);
}

static const struct mr_term *of_select(struct normaliser *n, const struct mr_cel_node *node,
                                       bool truth)
{
    struct mr_str path;
    const struct mr_const none = {.kind = MR_CONST_NULL};
    if (!path_of(n, node, &path))
        return NULL;
    if (!(node->flags & MR_CEL_FLAG_TEST_ONLY)) {
        const struct mr_const wanted = {.kind = MR_CONST_BOOL, .boolean = truth};
        return leaf(n, path, MR_PRED_EQ, wanted);
    }
    if (truth)
        return leaf(n, path, MR_PRED_EXISTS, none);
    size_t above = path.len;
    while (above > 0 && path.data[above - 1] != '.')
        above--;
    const struct mr_term *missing = leaf(n, path, MR_PRED_MISSING, none);
    if (above == 0)
        return missing;
    const struct mr_str parent = {path.data, above - 1}; /* has() of no document is an error */
    return pair(n, MR_TERM_AND, leaf(n, parent, MR_PRED_IS_DOCUMENT, none), missing);
}

/* ---- code ---- */

/* The node's own text, compiled; with truth false its negation. NULL: failed. */
static const struct mr_term *of_code(struct normaliser *n, const struct mr_cel_node *node,
                                     bool truth)
{
    struct mr_program_compiler *compiler = n->compiler;
    size_t len = node->end - node->start;
    char *text = allocate(n, len + 4);
    if (!text)
        return NULL;
    len = (size_t)snprintf(text, len + 4, "%s%.*s%s", truth ? "" : "!(", (int)len,
                           n->source.data + node->start, truth ? "" : ")");
    const struct mr_cel_front front = {.env = compiler->env,
                                       .limits = &mr_cel_limits_default,
                                       .arena = &compiler->code,
                                       .diag = &compiler->diag,
                                       .flags = MR_CEL_STRIPPED};
    struct mr_cel_compiled compiled;
    mr_cel_arena_reset(&compiler->code);
    if (mr_cel_compile(&front, (struct mr_str){text, len}, &compiled) != MR_OK) {
        /* A part that cannot stand alone: the whole can. */
        n->failed |= n->too_large;
        n->too_large = true;
        return NULL;
    }
    char *bytes = allocate(n, compiled.len);
    if (bytes)
        memcpy(bytes, compiled.bytes, compiled.len);
    free(compiled.bytes);
    const struct mr_const code = {.kind = MR_CONST_STRING, .string = {bytes, compiled.len}};
    return bytes ? leaf(n, (struct mr_str){NULL, 0}, MR_PRED_CODE, code) : NULL;
}

/* ---- the tree ---- */

static const struct mr_term *term_of(struct normaliser *n, const struct mr_cel_node *node,
                                     bool truth);

static const struct mr_term *of_chain(struct normaliser *n, const struct mr_cel_node *node,
                                      bool truth)
{
    bool is_and = (node->kind == MR_CEL_NODE_AND) == truth;
    const struct mr_term **children = allocate(n, node->count * sizeof *children);
    uint32_t count = 0;
    for (const struct mr_cel_node *child = node->first; children && child; child = child->next)
        children[count++] = term_of(n, child, truth);
    return children ? make(n, is_and ? MR_TERM_AND : MR_TERM_OR, count, children) : NULL;
}

/* c ? a : b is true if c is true and a, or c is false and b. */
static const struct mr_term *of_if(struct normaliser *n, const struct mr_cel_node *node, bool truth)
{
    const struct mr_cel_node *condition = node->first, *then = condition->next;
    const struct mr_term *yes =
        pair(n, MR_TERM_AND, term_of(n, condition, true), term_of(n, then, truth));
    const struct mr_term *no =
        pair(n, MR_TERM_AND, term_of(n, condition, false), term_of(n, then->next, truth));
    return pair(n, MR_TERM_OR, yes, no);
}

static const struct mr_term *of_call(struct normaliser *n, const struct mr_cel_node *node,
                                     bool truth)
{
    const struct mr_term *term = of_comparison(n, node, truth);
    if (!term)
        term = of_in(n, node, truth);
    if (!term)
        term = of_prefix(n, node, truth);
    if (!term && node->function == MR_CEL_FN_INDEX)
        term = of_select(n, node, truth);
    return term;
}

static const struct mr_term *inner_of(struct normaliser *n, const struct mr_cel_node *node,
                                      bool truth)
{
    switch ((enum mr_cel_node_kind)node->kind) {
    case MR_CEL_NODE_AND:
    case MR_CEL_NODE_OR:
        return of_chain(n, node, truth);
    case MR_CEL_NODE_IF:
        return of_if(n, node, truth);
    case MR_CEL_NODE_CALL:
        if (node->function == MR_CEL_FN_NOT)
            return term_of(n, node->first, !truth);
        return of_call(n, node, truth);
    case MR_CEL_NODE_SELECT:
        return of_select(n, node, truth);
    case MR_CEL_NODE_MACRO:
        return of_macro(n, node, truth);
    case MR_CEL_NODE_LITERAL:
        if (node->sub != MR_CEL_LITERAL_BOOL)
            return NULL;
        return make(n, node->boolean == truth ? MR_TERM_AND : MR_TERM_OR, 0, NULL);
    default:
        return NULL;
    }
}

static const struct mr_term *term_of(struct normaliser *n, const struct mr_cel_node *node,
                                     bool truth)
{
    if (n->failed || n->too_large)
        return NULL;
    n->too_large |= ++n->depth > DEPTH_MAX;
    const struct mr_term *term = inner_of(n, node, truth);
    n->depth--;
    if (!term && !n->failed && !n->too_large)
        term = of_code(n, node, truth);
    return term;
}

static bool may_be_bool(const struct mr_cel_type *type)
{
    return !type || type->kind == MR_CEL_TYPE_DYN || type->kind == MR_CEL_TYPE_BOOL ||
           type->kind == MR_CEL_TYPE_PARAM || type->kind == MR_CEL_TYPE_VARIABLE;
}

/* An expression as a term. err is set when there is none. */
static const struct mr_term *expression(struct mr_program_compiler *compiler, struct mr_str text,
                                        struct mr_err *err)
{
    const struct mr_cel_front front = {.env = compiler->env,
                                       .limits = &mr_cel_limits_default,
                                       .arena = &compiler->arena,
                                       .diag = &compiler->diag};
    struct mr_cel_ast ast;
    enum mr_rc rc = mr_cel_parse(&front, text, &ast);
    if (rc == MR_OK)
        rc = mr_cel_check(&front, &ast);
    if (rc == MR_OK && !may_be_bool(ast.root->type))
        rc = mr_cel_diag_set(&compiler->diag, text, ast.root->start,
                             ast.root->end - ast.root->start, MR_CEL_STAGE_CHECK,
                             "a filter must be a bool: true means that the event matches");
    if (rc != MR_OK) {
        (void)mr_reject(err, rc, "cel: %u:%u: %s", compiler->diag.line, compiler->diag.column,
                        compiler->diag.text);
        return NULL;
    }
    struct normaliser n = {.compiler = compiler, .source = text};
    const struct mr_term *term = term_of(&n, ast.root, true);
    if (!term && n.too_large && !n.failed)
        term = of_code(&n, ast.root, true); /* the second failure is final */
    if (!term)
        (void)mr_reject(err, MR_FATAL, "cel: compile %zu bytes: %s", text.len,
                        compiler->diag.text[0] ? compiler->diag.text : "out of memory");
    return term;
}

enum mr_rc mr_program_compile(struct mr_program_compiler *compiler,
                              const struct mr_program_source *source, void **out, uint32_t *len,
                              struct mr_err *err)
{
    compiler->diag.text[0] = 0;
    if (source->cel.len == 0)
        return mr_program_build(source->database, source->collection, source->predicates,
                                source->predicate_count, out, len, err);
    mr_cel_arena_reset(&compiler->arena);
    uint32_t count = source->predicate_count;
    struct mr_term *terms =
        mr_cel_arena_alloc(&compiler->arena, (count + UINT64_C(1)) * sizeof *terms);
    const struct mr_term **children =
        mr_cel_arena_alloc(&compiler->arena, (count + UINT64_C(1)) * sizeof *children);
    if (!terms || !children)
        return mr_reject(err, MR_FATAL, "compile %u filters: out of memory", count);
    for (uint32_t i = 0; i < count; i++) {
        terms[i] = (struct mr_term){.kind = MR_TERM_LEAF, .leaf = source->predicates[i]};
        children[i] = &terms[i];
    }
    struct mr_err problem = {.rc = MR_OK};
    children[count] = expression(compiler, source->cel, &problem);
    if (!children[count]) {
        if (err)
            *err = problem;
        return problem.rc;
    }
    const struct mr_term all = {.kind = MR_TERM_AND, .count = count + 1, .children = children};
    return mr_program_build_term(source->database, source->collection, &all, out, len, err);
}
