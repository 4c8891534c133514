/* cel/check.c: the checker's walk over the tree. Its recursion is as deep as the tree, which the
 * parser bounds. */
#include <stdio.h>

#include "cel/checker.h"

const struct mr_cel_type *mr_cel_checker_over(struct mr_cel_checker *c,
                                              const struct mr_cel_node *node,
                                              enum mr_cel_limit limit)
{
    (void)mr_cel_diag_limit(c->front->diag, c->ast->source, node->at, limit, c->front->limits);
    return NULL;
}

/* What is pointed at: a name, a sign, or a whole literal. */
static uint32_t pointed_len(const struct mr_cel_node *node)
{
    if (node->kind == MR_CEL_NODE_LITERAL)
        return node->end - node->start;
    bool named = node->kind == MR_CEL_NODE_IDENT || node->kind == MR_CEL_NODE_SELECT ||
                 node->kind == MR_CEL_NODE_MACRO ||
                 (node->kind == MR_CEL_NODE_CALL && node->function == MR_CEL_FN_NONE);
    return named && node->text.len > 0 ? (uint32_t)node->text.len : 1;
}

const struct mr_cel_type *mr_cel_checker_mismatch(struct mr_cel_checker *c,
                                                  const struct mr_cel_node *node,
                                                  const char *format, ...)
{
    if (c->failed)
        return mr_cel_checker_over(c, node, c->failed);
    if (c->front->flags & MR_CEL_NO_CHECK)
        return mr_cel_type_simple(MR_CEL_TYPE_DYN);
    char text[sizeof c->front->diag->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)mr_cel_diag_set(c->front->diag, c->ast->source, node->at, pointed_len(node),
                          MR_CEL_STAGE_CHECK, "%s", text);
    return NULL;
}

const char *mr_cel_checker_text(struct mr_cel_checker *c, const struct mr_cel_type *type,
                                char text[MR_CEL_TYPE_TEXT])
{
    const struct mr_cel_type *known = mr_cel_infer_substitute(c, type, true);
    mr_cel_type_print(known ? known : type, text, MR_CEL_TYPE_TEXT);
    return text;
}

bool mr_cel_check_bool(struct mr_cel_checker *c, const struct mr_cel_node *node, const char *what)
{
    const struct mr_cel_type *type = node->type;
    char text[MR_CEL_TYPE_TEXT];
    if (type->kind == MR_CEL_TYPE_BOOL || type->kind == MR_CEL_TYPE_DYN ||
        mr_cel_infer_assign(c, type, mr_cel_type_simple(MR_CEL_TYPE_BOOL)))
        return true;
    struct mr_cel_node whole = *node;
    whole.at = node->start;
    return mr_cel_checker_mismatch(c, &whole, "expected a bool as %s, got %s", what,
                                   mr_cel_checker_text(c, type, text)) != NULL;
}

static const struct mr_cel_type *check_literal(const struct mr_cel_node *node)
{
    static const uint8_t kinds[] = {
        [MR_CEL_LITERAL_NULL] = MR_CEL_TYPE_NULL,     [MR_CEL_LITERAL_BOOL] = MR_CEL_TYPE_BOOL,
        [MR_CEL_LITERAL_INT] = MR_CEL_TYPE_INT,       [MR_CEL_LITERAL_UINT] = MR_CEL_TYPE_UINT,
        [MR_CEL_LITERAL_DOUBLE] = MR_CEL_TYPE_DOUBLE, [MR_CEL_LITERAL_STRING] = MR_CEL_TYPE_STRING,
        [MR_CEL_LITERAL_BYTES] = MR_CEL_TYPE_BYTES,
    };
    return mr_cel_type_simple((enum mr_cel_type_kind)kinds[node->sub]);
}

static const struct mr_cel_type *optional_of(struct mr_cel_checker *c,
                                             const struct mr_cel_node *node,
                                             const struct mr_cel_type *value)
{
    const struct mr_cel_type *type = mr_cel_type_optional(c->front->arena, value);
    return type ? type : mr_cel_checker_over(c, node, MR_CEL_LIMIT_COMPILE_BYTES);
}

/* What a field of a value of this type is. */
static const struct mr_cel_type *field_type(struct mr_cel_checker *c,
                                            const struct mr_cel_node *node,
                                            const struct mr_cel_type *operand)
{
    char text[MR_CEL_TYPE_TEXT];
    switch ((enum mr_cel_type_kind)operand->kind) {
    case MR_CEL_TYPE_DYN:
    case MR_CEL_TYPE_VARIABLE:
        return mr_cel_type_simple(MR_CEL_TYPE_DYN);
    case MR_CEL_TYPE_MAP:
        return mr_cel_infer_resolve(c, operand->params[1]);
    default:
        break;
    }
    int len = (int)(node->text.len < 80 ? node->text.len : 80);
    const struct mr_cel_name *function = mr_cel_env_find(c->front->env, node->text);
    mr_cel_checker_text(c, operand, text);
    if (function && function->function != MR_CEL_FN_NONE)
        return mr_cel_checker_mismatch(c, node, "%s has no fields; did you mean .%.*s()?", text,
                                       len, node->text.data);
    return mr_cel_checker_mismatch(c, node, "%s has no fields, so no .%.*s; only maps have", text,
                                   len, node->text.data);
}

static const struct mr_cel_type *check_select(struct mr_cel_checker *c, struct mr_cel_node *node)
{
    if (!mr_cel_resolve_chain(c, node))
        return c->failed ? mr_cel_checker_over(c, node, c->failed) : NULL;
    if (node->kind == MR_CEL_NODE_IDENT)
        return node->type;
    const struct mr_cel_type *operand = mr_cel_check_node(c, node->first);
    if (!operand)
        return NULL;
    operand = mr_cel_infer_resolve(c, operand);
    bool through = operand->kind == MR_CEL_TYPE_OPTIONAL;
    if (through)
        operand = mr_cel_infer_resolve(c, operand->params[0]);
    const struct mr_cel_type *type = field_type(c, node, operand);
    if (!type)
        return NULL;
    if (node->flags & MR_CEL_FLAG_TEST_ONLY)
        return mr_cel_type_simple(MR_CEL_TYPE_BOOL);
    return through || (node->flags & MR_CEL_FLAG_OPTIONAL) ? optional_of(c, node, type) : type;
}

/* The type of an element or entry: of one that may be missing, what is inside of its optional. */
static const struct mr_cel_type *entry_type(struct mr_cel_checker *c, struct mr_cel_node *value,
                                            bool optional)
{
    char text[MR_CEL_TYPE_TEXT];
    const struct mr_cel_type *type = mr_cel_check_node(c, value);
    if (!type || !optional)
        return type;
    type = mr_cel_infer_resolve(c, type);
    if (type->kind == MR_CEL_TYPE_OPTIONAL)
        return mr_cel_infer_resolve(c, type->params[0]);
    if (type->kind == MR_CEL_TYPE_DYN)
        return type;
    return mr_cel_checker_mismatch(c, value, "expected an optional value behind ?, got %s",
                                   mr_cel_checker_text(c, type, text));
}

static const struct mr_cel_type *check_list(struct mr_cel_checker *c, struct mr_cel_node *node)
{
    const struct mr_cel_type *element = NULL;
    for (struct mr_cel_node *item = node->first; item; item = item->next) {
        const struct mr_cel_type *type =
            entry_type(c, item, item->flags & MR_CEL_FLAG_OPTIONAL_ENTRY);
        if (!type)
            return NULL;
        element = mr_cel_infer_join(c, element, type);
    }
    if (!element)
        element = mr_cel_infer_fresh(c);
    const struct mr_cel_type *list =
        element && !c->failed ? mr_cel_type_list(c->front->arena, element) : NULL;
    return list ? list
                : mr_cel_checker_over(c, node, c->failed ? c->failed : MR_CEL_LIMIT_COMPILE_BYTES);
}

static bool can_be_key(const struct mr_cel_type *type)
{
    return type->kind == MR_CEL_TYPE_DYN || type->kind == MR_CEL_TYPE_VARIABLE ||
           type->kind == MR_CEL_TYPE_BOOL || type->kind == MR_CEL_TYPE_INT ||
           type->kind == MR_CEL_TYPE_UINT || type->kind == MR_CEL_TYPE_STRING;
}

static const struct mr_cel_type *check_map(struct mr_cel_checker *c, struct mr_cel_node *node)
{
    char text[MR_CEL_TYPE_TEXT];
    const struct mr_cel_type *key = NULL, *value = NULL;
    for (struct mr_cel_node *k = node->first; k; k = k->next->next) {
        const struct mr_cel_type *key_type = mr_cel_check_node(c, k);
        if (!key_type)
            return NULL;
        if (!can_be_key(mr_cel_infer_resolve(c, key_type)) &&
            !mr_cel_checker_mismatch(c, k,
                                     "expected bool, int, uint or string as a map's key, got %s",
                                     mr_cel_checker_text(c, key_type, text)))
            return NULL;
        const struct mr_cel_type *value_type =
            entry_type(c, k->next, k->flags & MR_CEL_FLAG_OPTIONAL_ENTRY);
        if (!value_type)
            return NULL;
        key = mr_cel_infer_join(c, key, key_type);
        value = mr_cel_infer_join(c, value, value_type);
    }
    if (!key) {
        key = mr_cel_infer_fresh(c);
        value = mr_cel_infer_fresh(c);
    }
    const struct mr_cel_type *map =
        key && value && !c->failed ? mr_cel_type_map(c->front->arena, key, value) : NULL;
    return map ? map
               : mr_cel_checker_over(c, node, c->failed ? c->failed : MR_CEL_LIMIT_COMPILE_BYTES);
}

/* Messages are protocol buffers; this language has none. Left to the evaluation where types are not
 * checked. */
static const struct mr_cel_type *check_struct(struct mr_cel_checker *c, struct mr_cel_node *node)
{
    for (struct mr_cel_node *field = node->first; field; field = field->next->next) {
        field->type = mr_cel_type_simple(MR_CEL_TYPE_STRING);
        if (!mr_cel_check_node(c, field->next))
            return NULL;
    }
    return mr_cel_checker_mismatch(
        c, node, "unknown message type %.*s; a map is written {\"key\": value}",
        (int)(node->text.len < 80 ? node->text.len : 80), node->text.data);
}

static const struct mr_cel_type *check_logic(struct mr_cel_checker *c, struct mr_cel_node *node)
{
    const char *what = node->kind == MR_CEL_NODE_AND ? "a term of &&" : "a term of ||";
    for (struct mr_cel_node *term = node->first; term; term = term->next)
        if (!mr_cel_check_node(c, term) || !mr_cel_check_bool(c, term, what))
            return NULL;
    return mr_cel_type_simple(MR_CEL_TYPE_BOOL);
}

static const struct mr_cel_type *check_if(struct mr_cel_checker *c, struct mr_cel_node *node)
{
    struct mr_cel_node *condition = node->first, *yes = condition->next, *no = yes->next;
    if (!mr_cel_check_node(c, condition) ||
        !mr_cel_check_bool(c, condition, "the condition of ? :") || !mr_cel_check_node(c, yes) ||
        !mr_cel_check_node(c, no))
        return NULL;
    const struct mr_cel_type *type = mr_cel_infer_fresh(c);
    char yes_text[MR_CEL_TYPE_TEXT], no_text[MR_CEL_TYPE_TEXT];
    if (!type || !mr_cel_infer_assign(c, yes->type, type) ||
        !mr_cel_infer_assign(c, no->type, type))
        return mr_cel_checker_mismatch(
            c, node, "expected two values of one type, got %s and %s; dyn(...) makes them fit",
            mr_cel_checker_text(c, yes->type, yes_text), mr_cel_checker_text(c, no->type, no_text));
    return mr_cel_infer_resolve(c, type);
}

static const struct mr_cel_type *deduce(struct mr_cel_checker *c, struct mr_cel_node *node)
{
    switch ((enum mr_cel_node_kind)node->kind) {
    case MR_CEL_NODE_LITERAL:
        return check_literal(node);
    case MR_CEL_NODE_IDENT:
    case MR_CEL_NODE_SELECT:
        return check_select(c, node);
    case MR_CEL_NODE_CALL:
        return mr_cel_check_call(c, node);
    case MR_CEL_NODE_LIST:
        return check_list(c, node);
    case MR_CEL_NODE_MAP:
        return check_map(c, node);
    case MR_CEL_NODE_STRUCT:
        return check_struct(c, node);
    case MR_CEL_NODE_AND:
    case MR_CEL_NODE_OR:
        return check_logic(c, node);
    case MR_CEL_NODE_IF:
        return check_if(c, node);
    case MR_CEL_NODE_MACRO:
        return mr_cel_check_macro(c, node);
    case MR_CEL_NODE_COUNT:
        break;
    }
    MR_ASSERT(node->kind < MR_CEL_NODE_COUNT);
    return NULL;
}

const struct mr_cel_type *mr_cel_check_node(struct mr_cel_checker *c, struct mr_cel_node *node)
{
    const struct mr_cel_type *type = deduce(c, node);
    if (type)
        node->type = type;
    return type;
}

/* Put into every node's type what is known at the end; what is not known is dyn. */
static bool settle(struct mr_cel_checker *c, struct mr_cel_node *node)
{
    for (; node; node = node->next) {
        if (node->type && node->type->kind != MR_CEL_TYPE_DYN &&
            (node->type->param_count > 0 || node->type->kind == MR_CEL_TYPE_VARIABLE)) {
            const struct mr_cel_type *type = mr_cel_infer_substitute(c, node->type, true);
            if (!type)
                return mr_cel_checker_over(c, node, c->failed) != NULL;
            node->type = type;
        }
        if (node->first && !settle(c, node->first))
            return false;
    }
    return true;
}

enum mr_rc mr_cel_check(const struct mr_cel_front *front, struct mr_cel_ast *ast)
{
    struct mr_cel_checker c = {.front = front, .ast = ast};
    if (!mr_cel_check_node(&c, ast->root))
        return MR_USAGE;
    if (c.failed) {
        (void)mr_cel_checker_over(&c, ast->root, c.failed);
        return MR_USAGE;
    }
    if (c.variable_count > 0 && !settle(&c, ast->root))
        return MR_USAGE;
    ast->checked = true;
    return MR_OK;
}
