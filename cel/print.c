/* cel/print.c: see cel/print.h. */
#include "cel/print.h"

#include "cel/number.h"
#include "cel/utf8.h"

struct printer {
    struct mr_cel_arena *arena;
    char *text;
    size_t len, size;
    unsigned indent;
    bool line_start, failed;
};

static void put_bytes(struct printer *p, const char *bytes, size_t len)
{
    if (p->failed)
        return;
    if (p->size - p->len < len) {
        size_t size = (p->size + len) * 2;
        char *larger = mr_cel_arena_alloc(p->arena, size);
        if (!larger) {
            p->failed = true;
            return;
        }
        if (p->len > 0)
            memcpy(larger, p->text, p->len);
        p->text = larger;
        p->size = size;
    }
    memcpy(p->text + p->len, bytes, len);
    p->len += len;
}

static void put(struct printer *p, struct mr_str text)
{
    if (p->line_start) {
        p->line_start = false;
        for (unsigned i = 0; i < p->indent; i++)
            put_bytes(p, "  ", 2);
    }
    put_bytes(p, text.data, text.len);
}

static void put_text(struct printer *p, const char *text)
{
    put(p, mr_str_from(text));
}

static void line(struct printer *p)
{
    put_bytes(p, "\n", 1);
    p->line_start = true;
}

static void put_kind(struct printer *p, const char *kind)
{
    put_text(p, "^#*expr.");
    put_text(p, kind);
    put_text(p, "#");
}

static void put_hex(struct printer *p, const char *prefix, uint32_t value, unsigned digits)
{
    char text[8];
    for (unsigned i = 0; i < digits; i++)
        text[i] = "0123456789abcdef"[value >> (4 * (digits - 1 - i)) & 15];
    put_text(p, prefix);
    put(p, (struct mr_str){text, digits});
}

/* Code points that show something: what is left out are controls, spaces, format characters,
 * surrogates, private and non-characters. */
static bool is_printable(uint32_t c)
{
    static const struct {
        uint32_t first, last;
    } hidden[] = {
        {0x00, 0x1f},     {0x7f, 0xa0},        {0xad, 0xad},     {0x600, 0x605},   {0x61c, 0x61c},
        {0x6dd, 0x6dd},   {0x1680, 0x1680},    {0x180e, 0x180e}, {0x2000, 0x200f}, {0x2028, 0x202f},
        {0x205f, 0x206f}, {0x3000, 0x3000},    {0xd800, 0xf8ff}, {0xfeff, 0xfeff}, {0xfff0, 0xfffb},
        {0xfffe, 0xffff}, {0x323b0, 0x10ffff},
    };
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++)
        if (c >= hidden[i].first && c <= hidden[i].last)
            return false;
    return true;
}

static bool put_escape(struct printer *p, uint32_t c)
{
    static const char from[] = "\a\b\t\n\v\f\r\"\\", to[] = "abtnvfr\"\\";
    const char *found = c > 0 && c < 0x80 ? strchr(from, (int)c) : NULL;
    if (!found)
        return false;
    put_text(p, "\\");
    put(p, (struct mr_str){&to[found - from], 1});
    return true;
}

static void put_quoted(struct printer *p, struct mr_str text, bool bytes)
{
    put_text(p, bytes ? "b\"" : "\"");
    for (size_t at = 0; at < text.len;) {
        size_t start = at;
        uint32_t c = mr_cel_utf8_next(text, &at);
        bool damaged = c == 0xfffd && at == start + 1;
        if (damaged || (bytes && c == 0xfffd)) {
            at = start + 1;
            put_hex(p, "\\x", (uint8_t)text.data[start], 2);
        } else if (put_escape(p, c)) {
            continue;
        } else if (is_printable(c)) {
            put(p, (struct mr_str){text.data + start, at - start});
        } else if (bytes || c < 0x80) {
            at = start + 1;
            put_hex(p, "\\x", (uint8_t)text.data[start], 2);
        } else {
            put_hex(p, c < 0x10000 ? "\\u" : "\\U", c, c < 0x10000 ? 4 : 8);
        }
    }
    put_text(p, "\"");
}

static void literal(struct printer *p, const struct mr_cel_node *node)
{
    char text[MR_CEL_DOUBLE_TEXT_MAX];
    switch ((enum mr_cel_literal)node->sub) {
    case MR_CEL_LITERAL_NULL:
        put_text(p, "null");
        put_kind(p, "Constant_NullValue");
        return;
    case MR_CEL_LITERAL_BOOL:
        put_text(p, node->boolean ? "true" : "false");
        put_kind(p, "Constant_BoolValue");
        return;
    case MR_CEL_LITERAL_INT:
        put(p, (struct mr_str){text, mr_cel_int_format(text, node->integer)});
        put_kind(p, "Constant_Int64Value");
        return;
    case MR_CEL_LITERAL_UINT:
        put(p, (struct mr_str){text, mr_cel_uint_format(text, node->natural)});
        put_text(p, "u");
        put_kind(p, "Constant_Uint64Value");
        return;
    case MR_CEL_LITERAL_DOUBLE:
        put(p, (struct mr_str){text, mr_cel_double_format(text, node->number)});
        put_kind(p, "Constant_DoubleValue");
        return;
    case MR_CEL_LITERAL_STRING:
        put_quoted(p, node->text, false);
        put_kind(p, "Constant_StringValue");
        return;
    case MR_CEL_LITERAL_BYTES:
        put_quoted(p, node->text, true);
        put_kind(p, "Constant_BytesValue");
        return;
    }
}

static void tree(struct printer *p, const struct mr_cel_node *node);

static void open(struct printer *p, const char *text)
{
    put_text(p, text);
    p->indent++;
    line(p);
}

static void between(struct printer *p)
{
    put_text(p, ",");
    line(p);
}

static void close(struct printer *p, const char *text)
{
    p->indent--;
    line(p);
    put_text(p, text);
}

/* (a, b, c) of a call, and its kind. */
static void arguments(struct printer *p, const struct mr_cel_node *first)
{
    if (first) {
        open(p, "(");
        for (const struct mr_cel_node *node = first; node; node = node->next) {
            if (node != first)
                between(p);
            tree(p, node);
        }
        close(p, ")");
    } else {
        put_text(p, "()");
    }
    put_kind(p, "Expr_CallExpr");
}

/* Terms first to last of && or ||, as a balanced tree of calls. Operator number i stands before
 * term i + 1. */
static void balanced(struct printer *p, const struct mr_cel_node *node, uint32_t first,
                     uint32_t last)
{
    uint32_t middle = (first + last + 1) / 2;
    open(p, node->kind == MR_CEL_NODE_AND ? "_&&_(" : "_||_(");
    if (middle == first)
        tree(p, mr_cel_node_child(node, middle));
    else
        balanced(p, node, first, middle - 1);
    between(p);
    if (middle == last)
        tree(p, mr_cel_node_child(node, middle + 1));
    else
        balanced(p, node, middle + 1, last);
    close(p, ")");
    put_kind(p, "Expr_CallExpr");
}

/* Two of the same sign in a row are none. */
static void sign(struct printer *p, const struct mr_cel_node *node)
{
    const struct mr_cel_node *inner = node->first;
    if (inner->kind == MR_CEL_NODE_CALL && inner->function == node->function &&
        !(inner->flags & MR_CEL_FLAG_PARENS)) {
        tree(p, inner->first);
        return;
    }
    put(p, node->text);
    arguments(p, inner);
}

static void call(struct printer *p, const struct mr_cel_node *node)
{
    if (node->function == MR_CEL_FN_NOT || node->function == MR_CEL_FN_NEGATE) {
        sign(p, node);
        return;
    }
    const struct mr_cel_node *first = node->first;
    if (node->flags & MR_CEL_FLAG_MEMBER) {
        tree(p, first);
        put_text(p, ".");
        first = first->next;
    } else if (node->flags & MR_CEL_FLAG_ABSOLUTE) {
        put_text(p, ".");
    }
    put(p, node->text);
    arguments(p, first);
}

static void list(struct printer *p, const struct mr_cel_node *node)
{
    put_text(p, "[");
    if (node->first) {
        p->indent++;
        line(p);
        for (const struct mr_cel_node *item = node->first; item; item = item->next) {
            if (item != node->first)
                between(p);
            tree(p, item);
        }
        p->indent--;
        line(p);
    }
    put_text(p, "]");
    put_kind(p, "Expr_ListExpr");
}

static void map(struct printer *p, const struct mr_cel_node *node)
{
    if (node->kind == MR_CEL_NODE_STRUCT) {
        if (node->flags & MR_CEL_FLAG_ABSOLUTE)
            put_text(p, ".");
        put(p, node->text);
    }
    put_text(p, "{");
    if (node->first) {
        p->indent++;
        line(p);
        for (const struct mr_cel_node *key = node->first; key; key = key->next->next) {
            if (key != node->first)
                between(p);
            if (key->flags & MR_CEL_FLAG_OPTIONAL_ENTRY)
                put_text(p, "?");
            if (node->kind == MR_CEL_NODE_STRUCT)
                put(p, key->text);
            else
                tree(p, key);
            put_text(p, ":");
            tree(p, key->next);
            put_kind(p, "Expr_CreateStruct_Entry");
        }
        p->indent--;
        line(p);
    }
    put_text(p, "}");
    put_kind(p, "Expr_StructExpr");
}

static void select_field(struct printer *p, const struct mr_cel_node *node)
{
    if (node->flags & MR_CEL_FLAG_OPTIONAL) {
        open(p, "_?._(");
        tree(p, node->first);
        between(p);
        put_quoted(p, node->text, false);
        put_kind(p, "Constant_StringValue");
        close(p, ")");
        put_kind(p, "Expr_CallExpr");
        return;
    }
    tree(p, node->first);
    put_text(p, ".");
    put(p, node->text);
    if (node->flags & MR_CEL_FLAG_TEST_ONLY)
        put_text(p, "~test-only~");
    put_kind(p, "Expr_SelectExpr");
}

static void result(struct printer *p)
{
    put_text(p, "@result");
    put_kind(p, "Expr_IdentExpr");
}

static void number(struct printer *p, const char *text)
{
    put_text(p, text);
    put_kind(p, "Constant_Int64Value");
}

static void boolean(struct printer *p, bool value)
{
    put_text(p, value ? "true" : "false");
    put_kind(p, "Constant_BoolValue");
}

/* @not_strictly_false(@result), or of its opposite. */
static void not_decided(struct printer *p, bool opposite)
{
    open(p, "@not_strictly_false(");
    if (opposite) {
        open(p, "!_(");
        result(p);
        close(p, ")");
        put_kind(p, "Expr_CallExpr");
    } else {
        result(p);
    }
    close(p, ")");
    put_kind(p, "Expr_CallExpr");
}

/* @result + [item], or @result + 1. */
static void appended(struct printer *p, const struct mr_cel_node *item)
{
    open(p, "_+_(");
    result(p);
    between(p);
    if (item) {
        open(p, "[");
        tree(p, item);
        close(p, "]");
        put_kind(p, "Expr_ListExpr");
    } else {
        number(p, "1");
    }
    close(p, ")");
    put_kind(p, "Expr_CallExpr");
}

/* condition ? @result + ... : @result */
static void if_appended(struct printer *p, const struct mr_cel_node *condition,
                        const struct mr_cel_node *item)
{
    open(p, "_?_:_(");
    tree(p, condition);
    between(p);
    appended(p, item);
    between(p);
    result(p);
    close(p, ")");
    put_kind(p, "Expr_CallExpr");
}

static void part(struct printer *p, const char *comment)
{
    between(p);
    put_text(p, comment);
    line(p);
}

static void loop_step(struct printer *p, const struct mr_cel_node *macro,
                      const struct mr_cel_node *variable)
{
    const struct mr_cel_node *body = variable->next;
    switch ((enum mr_cel_macro)macro->sub) {
    case MR_CEL_MACRO_ALL:
    case MR_CEL_MACRO_EXISTS:
        open(p, macro->sub == MR_CEL_MACRO_ALL ? "_&&_(" : "_||_(");
        result(p);
        between(p);
        tree(p, body);
        close(p, ")");
        put_kind(p, "Expr_CallExpr");
        return;
    case MR_CEL_MACRO_EXISTS_ONE:
        if_appended(p, body, NULL);
        return;
    case MR_CEL_MACRO_FILTER:
        if_appended(p, body, variable);
        return;
    default:
        if (macro->flags & MR_CEL_FLAG_FILTERED)
            if_appended(p, body, body->next);
        else
            appended(p, body);
        return;
    }
}

static void loop(struct printer *p, const struct mr_cel_node *macro)
{
    const struct mr_cel_node *range = macro->first, *variable = range->next;
    unsigned sub = macro->sub;
    open(p, "__comprehension__(");
    put_text(p, "// Variable");
    line(p);
    put(p, variable->text);
    part(p, "// Target");
    tree(p, range);
    part(p, "// Accumulator");
    put_text(p, "@result");
    part(p, "// Init");
    if (sub == MR_CEL_MACRO_ALL || sub == MR_CEL_MACRO_EXISTS) {
        boolean(p, sub == MR_CEL_MACRO_ALL);
    } else if (sub == MR_CEL_MACRO_EXISTS_ONE) {
        number(p, "0");
    } else {
        put_text(p, "[]");
        put_kind(p, "Expr_ListExpr");
    }
    part(p, "// LoopCondition");
    if (sub == MR_CEL_MACRO_ALL || sub == MR_CEL_MACRO_EXISTS)
        not_decided(p, sub == MR_CEL_MACRO_EXISTS);
    else
        boolean(p, true);
    part(p, "// LoopStep");
    loop_step(p, macro, variable);
    part(p, "// Result");
    if (sub == MR_CEL_MACRO_EXISTS_ONE) {
        open(p, "_==_(");
        result(p);
        between(p);
        number(p, "1");
        close(p, ")");
        put_kind(p, "Expr_CallExpr");
    } else {
        result(p);
    }
    put_text(p, ")");
    p->indent--;
    put_kind(p, "Expr_ComprehensionExpr");
}

static void macro(struct printer *p, const struct mr_cel_node *node)
{
    if (node->sub <= MR_CEL_MACRO_FILTER && !(node->flags & MR_CEL_FLAG_TWO_VARIABLES)) {
        loop(p, node);
        return;
    }
    const struct mr_cel_node *first = node->first;
    if (node->sub == MR_CEL_MACRO_BIND || node->sub == MR_CEL_MACRO_BLOCK) {
        put_text(p, "cel");
        put_kind(p, "Expr_IdentExpr");
    } else {
        tree(p, first);
        first = first->next;
    }
    put_text(p, ".");
    put(p, node->text);
    arguments(p, first);
}

static void tree(struct printer *p, const struct mr_cel_node *node)
{
    switch ((enum mr_cel_node_kind)node->kind) {
    case MR_CEL_NODE_LITERAL:
        literal(p, node);
        return;
    case MR_CEL_NODE_IDENT:
        if (node->flags & MR_CEL_FLAG_ABSOLUTE)
            put_text(p, ".");
        put(p, node->text);
        put_kind(p, "Expr_IdentExpr");
        return;
    case MR_CEL_NODE_SELECT:
        select_field(p, node);
        return;
    case MR_CEL_NODE_CALL:
        call(p, node);
        return;
    case MR_CEL_NODE_LIST:
        list(p, node);
        return;
    case MR_CEL_NODE_MAP:
    case MR_CEL_NODE_STRUCT:
        map(p, node);
        return;
    case MR_CEL_NODE_AND:
    case MR_CEL_NODE_OR:
        balanced(p, node, 0, node->count - 2);
        return;
    case MR_CEL_NODE_IF:
        put_text(p, "_?_:_");
        arguments(p, node->first);
        return;
    case MR_CEL_NODE_MACRO:
        macro(p, node);
        return;
    case MR_CEL_NODE_COUNT:
        break;
    }
    mr_panic(__FILE__, __LINE__, "a node of no known kind");
}

struct mr_str mr_cel_ast_print(const struct mr_cel_ast *ast, struct mr_cel_arena *arena)
{
    struct printer p = {.arena = arena, .line_start = true};
    tree(&p, ast->root);
    return p.failed ? (struct mr_str){NULL, 0} : (struct mr_str){p.text, p.len};
}
