/* cel/parse.c: the parser: recursive descent for what nests, operator precedence for the rest.
 *
 * Recursion is bounded by the limit DEPTH, and so is the height of the tree, because what walks the
 * tree later recurses as deep. Chains of ! and -, of a ? b : c ? d : e, and of operators of one
 * precedence are loops here: they cost no stack, but height (&& and || not even that). */
#include "cel/parser.h"
#include "cel/utf8.h"

static bool take_if(struct mr_cel_parser *p, enum mr_cel_token_kind kind)
{
    if (p->token.kind != kind)
        return false;
    mr_cel_parser_take(p);
    return true;
}

/* One level deeper; left by p->depth--. */
static bool deeper(struct mr_cel_parser *p)
{
    if (p->depth >= p->front->limits->depth_max) {
        (void)mr_cel_parser_over(p, p->token.start, MR_CEL_LIMIT_DEPTH);
        return false;
    }
    p->depth++;
    return true;
}

/* A node whose children are complete. */
static struct mr_cel_node *complete(struct mr_cel_parser *p, struct mr_cel_node *node)
{
    if (node->height > p->front->limits->depth_max)
        return mr_cel_parser_over(p, node->at, MR_CEL_LIMIT_DEPTH);
    node->end = p->taken_end;
    return node;
}

static struct mr_cel_node *expression(struct mr_cel_parser *p);

/* f(a, b: the current token is the opening parenthesis. */
static struct mr_cel_node *arguments(struct mr_cel_parser *p, struct mr_cel_node *call,
                                     struct mr_cel_node *last)
{
    mr_cel_parser_take(p);
    while (p->token.kind != MR_CEL_T_RPAREN) {
        struct mr_cel_node *argument = expression(p);
        if (!argument)
            return NULL;
        last = mr_cel_node_append(call, last, argument);
        if (p->token.kind == MR_CEL_T_RPAREN)
            break;
        if (!take_if(p, MR_CEL_T_COMMA))
            return mr_cel_parser_expected(p, "\",\" or \")\" behind an argument");
        if (p->token.kind == MR_CEL_T_RPAREN)
            return mr_cel_parser_expected(p, "an argument behind \",\"");
    }
    mr_cel_parser_take(p);
    if (!complete(p, call))
        return NULL;
    return p->front->flags & MR_CEL_NO_MACROS ? call : mr_cel_parser_macro(p, call);
}

/* ?e, ?k: in lists and maps. *optional says whether it was there. */
static bool optional_mark(struct mr_cel_parser *p, bool *optional)
{
    *optional = p->token.kind == MR_CEL_T_QUESTION;
    if (!*optional)
        return true;
    if (!(mr_cel_env_libraries(p->front->env) & MR_CEL_LIBRARY(OPTIONALS))) {
        (void)mr_cel_parser_fail(p, p->token.start, 1,
                                 "? is not available: the library of optional values is off");
        return false;
    }
    mr_cel_parser_take(p);
    return true;
}

static bool room_for_item(struct mr_cel_parser *p, const struct mr_cel_node *node,
                          uint32_t per_item)
{
    if (node->count / per_item < p->front->limits->literal_items_max)
        return true;
    (void)mr_cel_parser_over(p, p->token.start, MR_CEL_LIMIT_LITERAL_ITEMS);
    return false;
}

static struct mr_cel_node *list(struct mr_cel_parser *p)
{
    struct mr_cel_node *node = mr_cel_parser_node(p, MR_CEL_NODE_LIST, p->token.start);
    struct mr_cel_node *last = NULL;
    if (!node)
        return NULL;
    mr_cel_parser_take(p);
    while (p->token.kind != MR_CEL_T_RBRACKET) {
        bool optional;
        if (!room_for_item(p, node, 1) || !optional_mark(p, &optional))
            return NULL;
        struct mr_cel_node *item = expression(p);
        if (!item)
            return NULL;
        if (optional)
            item->flags |= MR_CEL_FLAG_OPTIONAL_ENTRY;
        last = mr_cel_node_append(node, last, item);
        if (!take_if(p, MR_CEL_T_COMMA) && p->token.kind != MR_CEL_T_RBRACKET)
            return mr_cel_parser_expected(p, "\",\" or \"]\" behind a list's item");
    }
    mr_cel_parser_take(p);
    return complete(p, node);
}

/* A field's name in Message{field: value}. */
static struct mr_cel_node *field_name(struct mr_cel_parser *p)
{
    enum mr_cel_token_kind kind = p->token.kind;
    if (kind != MR_CEL_T_IDENT && kind != MR_CEL_T_RESERVED && kind != MR_CEL_T_QUOTED)
        return mr_cel_parser_expected(p, "the name of a field");
    struct mr_cel_node *node = mr_cel_parser_node(p, MR_CEL_NODE_IDENT, p->token.start);
    if (!node)
        return NULL;
    node->text = mr_cel_parser_text(p);
    node->end = p->token.end;
    if (kind == MR_CEL_T_QUOTED) {
        node->text = (struct mr_str){node->text.data + 1, node->text.len - 2};
        node->flags |= MR_CEL_FLAG_QUOTED;
    }
    mr_cel_parser_take(p);
    return node;
}

/* The entries of a map or a message, from the opening brace. */
static struct mr_cel_node *entries(struct mr_cel_parser *p, struct mr_cel_node *node)
{
    struct mr_cel_node *last = NULL;
    mr_cel_parser_take(p);
    while (p->token.kind != MR_CEL_T_RBRACE) {
        bool optional;
        if (!room_for_item(p, node, 2) || !optional_mark(p, &optional))
            return NULL;
        struct mr_cel_node *key = node->kind == MR_CEL_NODE_MAP ? expression(p) : field_name(p);
        if (!key)
            return NULL;
        if (optional)
            key->flags |= MR_CEL_FLAG_OPTIONAL_ENTRY;
        last = mr_cel_node_append(node, last, key);
        if (!take_if(p, MR_CEL_T_COLON))
            return mr_cel_parser_expected(p, "\":\" and a value behind the key");
        struct mr_cel_node *value = expression(p);
        if (!value)
            return NULL;
        last = mr_cel_node_append(node, last, value);
        if (!take_if(p, MR_CEL_T_COMMA) && p->token.kind != MR_CEL_T_RBRACE)
            return mr_cel_parser_expected(p, "\",\" or \"}\" behind an entry");
    }
    mr_cel_parser_take(p);
    return complete(p, node);
}

static struct mr_cel_node *parentheses(struct mr_cel_parser *p)
{
    uint32_t start = p->token.start;
    mr_cel_parser_take(p);
    struct mr_cel_node *node = expression(p);
    if (!node)
        return NULL;
    if (!take_if(p, MR_CEL_T_RPAREN))
        return mr_cel_parser_expected(p, "\")\" or an operator");
    node->flags |= MR_CEL_FLAG_PARENS;
    node->start = start;
    node->end = p->taken_end;
    return node;
}

/* name, .name, name(...): the leading dot is taken already, if there was one. */
static struct mr_cel_node *name(struct mr_cel_parser *p, uint32_t start, bool absolute)
{
    if (p->token.kind != MR_CEL_T_IDENT)
        return mr_cel_parser_expected(p, absolute ? "a name behind \".\"" : "a value");
    struct mr_cel_node *node = mr_cel_parser_node(p, MR_CEL_NODE_IDENT, start);
    if (!node)
        return NULL;
    node->at = p->token.start;
    node->text = mr_cel_parser_text(p);
    node->flags = absolute ? MR_CEL_FLAG_ABSOLUTE : 0;
    mr_cel_parser_take(p);
    node->end = p->taken_end;
    if (p->token.kind != MR_CEL_T_LPAREN)
        return node;
    node->kind = MR_CEL_NODE_CALL;
    return arguments(p, node, NULL);
}

static struct mr_cel_node *primary(struct mr_cel_parser *p)
{
    struct mr_cel_node *node;
    uint32_t start = p->token.start;
    switch (p->token.kind) {
    case MR_CEL_T_IDENT:
        return name(p, start, false);
    case MR_CEL_T_DOT:
        mr_cel_parser_take(p);
        return name(p, start, true);
    case MR_CEL_T_LPAREN:
        return parentheses(p);
    case MR_CEL_T_LBRACKET:
        return list(p);
    case MR_CEL_T_LBRACE:
        node = mr_cel_parser_node(p, MR_CEL_NODE_MAP, start);
        return node ? entries(p, node) : NULL;
    case MR_CEL_T_INT:
    case MR_CEL_T_UINT:
    case MR_CEL_T_DOUBLE:
    case MR_CEL_T_STRING:
    case MR_CEL_T_BYTES:
    case MR_CEL_T_NULL:
    case MR_CEL_T_TRUE:
    case MR_CEL_T_FALSE:
        return mr_cel_parser_literal(p, UINT32_MAX);
    case MR_CEL_T_MINUS:
    case MR_CEL_T_NOT:
        return mr_cel_parser_expected(
            p, "a value (! and - cannot follow each other without parentheses)");
    default:
        return mr_cel_parser_expected(p, "a value");
    }
}

/* .field, .?field, .method(...), from the dot. */
static struct mr_cel_node *selection(struct mr_cel_parser *p, struct mr_cel_node *operand)
{
    mr_cel_parser_take(p);
    bool optional;
    if (!optional_mark(p, &optional))
        return NULL;
    enum mr_cel_token_kind kind = p->token.kind;
    if (kind == MR_CEL_T_IN || kind == MR_CEL_T_TRUE || kind == MR_CEL_T_FALSE ||
        kind == MR_CEL_T_NULL)
        return mr_cel_parser_fail(
            p, p->token.start, p->token.end - p->token.start,
            "%.*s cannot be the name of a field behind \".\"; write [\"%.*s\"]",
            (int)mr_cel_parser_text(p).len, mr_cel_parser_text(p).data,
            (int)mr_cel_parser_text(p).len, mr_cel_parser_text(p).data);
    if (kind != MR_CEL_T_IDENT && kind != MR_CEL_T_RESERVED && kind != MR_CEL_T_QUOTED)
        return mr_cel_parser_expected(p, operand->kind == MR_CEL_NODE_LITERAL &&
                                                 operand->sub == MR_CEL_LITERAL_INT
                                             ? "digits behind \".\", as in 1.0"
                                             : "the name of a field or method behind \".\"");
    struct mr_cel_node *node = mr_cel_parser_node(p, MR_CEL_NODE_SELECT, operand->start);
    if (!node)
        return NULL;
    node->at = p->token.start;
    node->text = mr_cel_parser_text(p);
    if (kind == MR_CEL_T_QUOTED) {
        node->text = (struct mr_str){node->text.data + 1, node->text.len - 2};
        node->flags |= MR_CEL_FLAG_QUOTED;
    }
    if (optional)
        node->flags |= MR_CEL_FLAG_OPTIONAL;
    mr_cel_parser_take(p);
    struct mr_cel_node *last = mr_cel_node_append(node, NULL, operand);
    if (p->token.kind == MR_CEL_T_LPAREN && !optional && kind != MR_CEL_T_QUOTED) {
        node->kind = MR_CEL_NODE_CALL;
        node->flags |= MR_CEL_FLAG_MEMBER;
        return arguments(p, node, last);
    }
    return complete(p, node);
}

/* operand[index], operand[?index], from the bracket. */
static struct mr_cel_node *index_of(struct mr_cel_parser *p, struct mr_cel_node *operand)
{
    struct mr_cel_node *node = mr_cel_parser_node(p, MR_CEL_NODE_CALL, p->token.start);
    bool optional;
    if (!node)
        return NULL;
    node->start = operand->start;
    mr_cel_parser_take(p);
    if (!optional_mark(p, &optional))
        return NULL;
    node->function = optional ? MR_CEL_FN_OPTIONAL_INDEX : MR_CEL_FN_INDEX;
    node->text = mr_cel_function_row(node->function)->name;
    struct mr_cel_node *last = mr_cel_node_append(node, NULL, operand);
    struct mr_cel_node *index = expression(p);
    if (!index)
        return NULL;
    mr_cel_node_append(node, last, index);
    if (!take_if(p, MR_CEL_T_RBRACKET))
        return mr_cel_parser_expected(p, "\"]\" behind an index");
    return complete(p, node);
}

/* The message's name that a chain of selections spells, into node. */
static bool spell(struct mr_cel_parser *p, const struct mr_cel_node *chain,
                  struct mr_cel_node *node)
{
    size_t len = 0;
    const struct mr_cel_node *at = chain;
    for (; at->kind == MR_CEL_NODE_SELECT && at->flags == 0; at = at->first)
        len += at->text.len + 1;
    if (at->kind != MR_CEL_NODE_IDENT || (at->flags & MR_CEL_FLAG_PARENS)) {
        (void)mr_cel_parser_expected(p, "an operator or the end");
        return false;
    }
    len += at->text.len;
    node->flags = at->flags & MR_CEL_FLAG_ABSOLUTE;
    char *text = mr_cel_arena_alloc(p->front->arena, len);
    if (!text) {
        (void)mr_cel_parser_over(p, chain->at, MR_CEL_LIMIT_COMPILE_BYTES);
        return false;
    }
    node->text = (struct mr_str){text, len};
    for (at = chain; at; at = at->first) {
        len -= at->text.len;
        memcpy(text + len, at->text.data, at->text.len);
        if (at->first)
            text[--len] = '.';
    }
    return true;
}

/* Message{...}, from the brace. */
static struct mr_cel_node *message(struct mr_cel_parser *p, struct mr_cel_node *type)
{
    struct mr_cel_node *node = mr_cel_parser_node(p, MR_CEL_NODE_STRUCT, type->start);
    if (!node || !spell(p, type, node))
        return NULL;
    node->at = type->at;
    return entries(p, node);
}

static struct mr_cel_node *member(struct mr_cel_parser *p, struct mr_cel_node *node)
{
    while (node) {
        if (p->token.kind == MR_CEL_T_DOT)
            node = selection(p, node);
        else if (p->token.kind == MR_CEL_T_LBRACKET)
            node = index_of(p, node);
        else if (p->token.kind == MR_CEL_T_LBRACE)
            node = message(p, node);
        else
            return node;
    }
    return NULL;
}

static bool is_signed_number(enum mr_cel_token_kind kind)
{
    return kind == MR_CEL_T_INT || kind == MR_CEL_T_DOUBLE;
}

/* !-1: of what starts with a minus, only numbers may follow a sign. */
static struct mr_cel_node *negative_number(struct mr_cel_parser *p)
{
    uint32_t minus = p->token.start;
    mr_cel_parser_take(p);
    if (is_signed_number(p->token.kind))
        return mr_cel_parser_literal(p, minus);
    return mr_cel_parser_fail(p, minus, 1, "expected a value behind !, got -; write !(-x)");
}

/* A member behind any number of equal signs, ! or -. One - before a number belongs to the number.
 * The signs' nodes wait in a list, innermost first, until their operand is there. */
static struct mr_cel_node *unary(struct mr_cel_parser *p)
{
    enum mr_cel_token_kind kind = p->token.kind;
    struct mr_cel_node *waiting = NULL;
    if (kind != MR_CEL_T_NOT && kind != MR_CEL_T_MINUS)
        return member(p, primary(p));
    while (p->token.kind == kind) {
        uint32_t at = p->token.start;
        mr_cel_parser_take(p);
        if (kind == MR_CEL_T_MINUS && !waiting && is_signed_number(p->token.kind))
            return member(p, mr_cel_parser_literal(p, at));
        struct mr_cel_node *node = mr_cel_parser_node(p, MR_CEL_NODE_CALL, at);
        if (!node)
            return NULL;
        node->function = kind == MR_CEL_T_NOT ? MR_CEL_FN_NOT : MR_CEL_FN_NEGATE;
        node->text = mr_cel_function_row(node->function)->name;
        node->next = waiting;
        waiting = node;
    }
    bool number = kind == MR_CEL_T_NOT && p->token.kind == MR_CEL_T_MINUS;
    struct mr_cel_node *operand = member(p, number ? negative_number(p) : primary(p));
    while (operand && waiting) {
        struct mr_cel_node *node = waiting;
        waiting = node->next;
        node->next = NULL;
        mr_cel_node_append(node, NULL, operand);
        operand = complete(p, node);
    }
    return operand;
}

/* Precedence and meaning of a binary operator. 0: the token is none. */
static const struct {
    uint8_t precedence;
    uint8_t kind; /* enum mr_cel_node_kind */
    uint16_t function;
} operators[MR_CEL_T_COUNT] = {
    [MR_CEL_T_OR] = {1, MR_CEL_NODE_OR, 0},
    [MR_CEL_T_AND] = {2, MR_CEL_NODE_AND, 0},
    [MR_CEL_T_EQUAL] = {3, MR_CEL_NODE_CALL, MR_CEL_FN_EQUAL},
    [MR_CEL_T_NOT_EQUAL] = {3, MR_CEL_NODE_CALL, MR_CEL_FN_NOT_EQUAL},
    [MR_CEL_T_LESS] = {3, MR_CEL_NODE_CALL, MR_CEL_FN_LESS},
    [MR_CEL_T_LESS_EQUAL] = {3, MR_CEL_NODE_CALL, MR_CEL_FN_LESS_EQUAL},
    [MR_CEL_T_GREATER] = {3, MR_CEL_NODE_CALL, MR_CEL_FN_GREATER},
    [MR_CEL_T_GREATER_EQUAL] = {3, MR_CEL_NODE_CALL, MR_CEL_FN_GREATER_EQUAL},
    [MR_CEL_T_IN] = {3, MR_CEL_NODE_CALL, MR_CEL_FN_IN},
    [MR_CEL_T_PLUS] = {4, MR_CEL_NODE_CALL, MR_CEL_FN_ADD},
    [MR_CEL_T_MINUS] = {4, MR_CEL_NODE_CALL, MR_CEL_FN_SUBTRACT},
    [MR_CEL_T_STAR] = {5, MR_CEL_NODE_CALL, MR_CEL_FN_MULTIPLY},
    [MR_CEL_T_SLASH] = {5, MR_CEL_NODE_CALL, MR_CEL_FN_DIVIDE},
    [MR_CEL_T_PERCENT] = {5, MR_CEL_NODE_CALL, MR_CEL_FN_MODULO},
};

/* All operators of at least this precedence behind left. */
static struct mr_cel_node *binary(struct mr_cel_parser *p, struct mr_cel_node *left,
                                  unsigned precedence_min)
{
    struct mr_cel_node *chain = NULL, *chain_last = NULL; /* && or || that may get more terms */
    while (left && operators[p->token.kind].precedence >= precedence_min) {
        enum mr_cel_token_kind kind = p->token.kind;
        unsigned precedence = operators[kind].precedence;
        bool more = chain && chain == left && chain->kind == operators[kind].kind;
        struct mr_cel_node *node = left;
        if (!more) {
            node = mr_cel_parser_node(p, operators[kind].kind, p->token.start);
            if (!node)
                return NULL;
            node->function = operators[kind].function;
            node->text = mr_cel_function_row(node->function)->name;
            node->start = left->start;
        }
        mr_cel_parser_take(p);
        struct mr_cel_node *right = unary(p);
        if (right && operators[p->token.kind].precedence > precedence) {
            if (!deeper(p))
                return NULL;
            right = binary(p, right, precedence + 1);
            p->depth--;
        }
        if (!right)
            return NULL;
        struct mr_cel_node *last = more ? chain_last : mr_cel_node_append(node, NULL, left);
        chain_last = mr_cel_node_append(node, last, right);
        chain = node->kind == MR_CEL_NODE_CALL ? NULL : node;
        left = complete(p, node);
    }
    return left;
}

/* A whole expression: a ? b : c ? d : e is a loop, whose nodes wait in a list, innermost first. */
static struct mr_cel_node *expression(struct mr_cel_parser *p)
{
    if (!deeper(p))
        return NULL;
    struct mr_cel_node *waiting = NULL;
    for (;;) {
        struct mr_cel_node *value = binary(p, unary(p), 1);
        if (!value)
            return NULL;
        if (p->token.kind != MR_CEL_T_QUESTION) {
            p->depth--;
            while (value && waiting) {
                struct mr_cel_node *node = waiting;
                waiting = node->next;
                node->next = NULL;
                mr_cel_node_append(node, node->first->next, value);
                value = complete(p, node);
            }
            return value;
        }
        struct mr_cel_node *node = mr_cel_parser_node(p, MR_CEL_NODE_IF, p->token.start);
        if (!node)
            return NULL;
        node->start = value->start;
        mr_cel_parser_take(p);
        struct mr_cel_node *then = binary(p, unary(p), 1);
        if (!then)
            return NULL;
        mr_cel_node_append(node, mr_cel_node_append(node, NULL, value), then);
        if (!take_if(p, MR_CEL_T_COLON))
            return mr_cel_parser_expected(p, "\":\" and the value for false (a ? b : c)");
        node->next = waiting;
        waiting = node;
    }
}

static enum mr_rc refuse_bytes(const struct mr_cel_front *front, struct mr_str source)
{
    size_t at = 0, start = 0;
    uint32_t code_point = 0;
    while (at < source.len && (code_point != 0xfffd || at != start + 1)) {
        start = at;
        code_point = mr_cel_utf8_next(source, &at);
    }
    return mr_cel_diag_set(front->diag, source, (uint32_t)start, 1, MR_CEL_STAGE_PARSE,
                           "the byte 0x%02x is not UTF-8", (uint8_t)source.data[start]);
}

enum mr_rc mr_cel_parse(const struct mr_cel_front *front, struct mr_str source,
                        struct mr_cel_ast *out)
{
    struct mr_cel_parser p = {.front = front, .lex = {.source = source}};
    *out = (struct mr_cel_ast){.source = source};
    if (source.len > front->limits->source_bytes_max)
        return mr_cel_diag_limit(front->diag, source, front->limits->source_bytes_max,
                                 MR_CEL_LIMIT_SOURCE_BYTES, front->limits);
    if (!mr_cel_utf8_valid(source))
        return refuse_bytes(front, source);
    p.token = mr_cel_lex_next(&p.lex);
    struct mr_cel_node *root = expression(&p);
    if (root && p.token.kind != MR_CEL_T_END)
        root = mr_cel_parser_expected_end(&p, root);
    if (!root)
        return MR_USAGE;
    out->root = root;
    out->node_count = p.node_count;
    return MR_OK;
}
