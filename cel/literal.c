/* cel/literal.c: numbers, strings and bytes as they are written. */
#include "cel/number.h"
#include "cel/parser.h"
#include "cel/utf8.h"

static struct mr_cel_node *fail_token(struct mr_cel_parser *p, const char *problem)
{
    struct mr_str text = mr_cel_parser_text(p);
    return mr_cel_parser_fail(p, p->token.start, (uint32_t)text.len, "%.*s: %s",
                              text.len < 80 ? (int)text.len : 80, text.data, problem);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Digits in base 10, or 16 behind 0x. False: over uint64. */
static bool magnitude(struct mr_str digits, uint64_t *out)
{
    unsigned base = 10;
    if (digits.len > 2 && (digits.data[1] | 0x20) == 'x') {
        base = 16;
        digits.data += 2;
        digits.len -= 2;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < digits.len; i++)
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, (uint64_t)hex_digit(digits.data[i]), &value))
            return false;
    *out = value;
    return true;
}

static struct mr_cel_node *integer(struct mr_cel_parser *p, struct mr_cel_node *node, bool negative)
{
    uint64_t value;
    if (!magnitude(mr_cel_parser_text(p), &value) || value > (uint64_t)INT64_MAX + negative)
        return fail_token(p, "does not fit an int: -9223372036854775808 to 9223372036854775807");
    node->sub = MR_CEL_LITERAL_INT;
    node->integer = negative ? (int64_t)(0 - value) : (int64_t)value;
    return node;
}

static struct mr_cel_node *natural(struct mr_cel_parser *p, struct mr_cel_node *node)
{
    struct mr_str text = mr_cel_parser_text(p);
    text.len--; /* the u */
    if (!magnitude(text, &node->natural))
        return fail_token(p, "does not fit a uint: 0 to 18446744073709551615");
    node->sub = MR_CEL_LITERAL_UINT;
    return node;
}

static struct mr_cel_node *real(struct mr_cel_parser *p, struct mr_cel_node *node, bool negative)
{
    double value;
    if (!mr_cel_double_parse(mr_cel_parser_text(p), &value))
        return fail_token(p, "does not fit a double: at most 1.7976931348623157e308");
    node->sub = MR_CEL_LITERAL_DOUBLE;
    node->number = negative ? -value : value;
    return node;
}

/* An escape, source[at] being what follows the backslash. */
struct escape {
    const char *problem; /* NULL: value is set, and the escape ends before `end` */
    uint32_t value, end;
    bool octet; /* \x and octal: in bytes one octet, in strings a code point */
};

static struct escape digits(struct mr_str source, uint32_t at, uint32_t count, unsigned base,
                            uint32_t limit)
{
    struct escape e = {.end = at + count, .octet = count < 4};
    for (uint32_t i = at; i < at + count; i++) {
        int digit = i < limit ? hex_digit(source.data[i]) : -1;
        if (digit < 0 || (unsigned)digit >= base) {
            e.problem = base == 8 ? "an octal escape has three digits, \\000 to \\377"
                        : count == 2
                            ? "expected two hexadecimal digits behind \\x"
                            : (count == 4 ? "expected four hexadecimal digits behind \\u"
                                          : "expected eight hexadecimal digits behind \\U");
            return e;
        }
        e.value = e.value * base + (uint32_t)digit;
    }
    return e;
}

static struct escape escape_at(struct mr_str source, uint32_t at, uint32_t limit)
{
    static const char letters[] = "abfnrtv\\?\"'`", values[] = "\a\b\f\n\r\t\v\\?\"'`";
    char c = source.data[at];
    const char *letter = c ? strchr(letters, c) : NULL;
    if (letter)
        return (struct escape){.value = (uint8_t)values[letter - letters], .end = at + 1};
    switch (c) {
    case 'x':
    case 'X':
        return digits(source, at + 1, 2, 16, limit);
    case 'u':
        return digits(source, at + 1, 4, 16, limit);
    case 'U':
        return digits(source, at + 1, 8, 16, limit);
    case '0':
    case '1':
    case '2':
    case '3':
        return digits(source, at, 3, 8, limit);
    default:
        return (struct escape){
            .problem = "no escape; a backslash is written \\\\, or the string r\"...\""};
    }
}

static const char *unfit(const struct escape *e, bool bytes)
{
    if (e->problem)
        return e->problem;
    if (e->octet)
        return NULL;
    if (bytes && e->value >= 0x80)
        return "\\u and \\U are for strings; bytes are written \\xff";
    return mr_cel_utf8_is_scalar(e->value) ? NULL : "not a Unicode code point";
}

/* The text between quotes, [at, end), with its escapes replaced. */
static struct mr_cel_node *unescape(struct mr_cel_parser *p, struct mr_cel_node *node, uint32_t at,
                                    uint32_t end)
{
    struct mr_str source = p->lex.source;
    bool bytes = node->sub == MR_CEL_LITERAL_BYTES;
    /* No escape is shorter than what it stands for. */
    char *out = mr_cel_arena_alloc(p->front->arena, end - at);
    if (!out)
        return mr_cel_parser_over(p, at, MR_CEL_LIMIT_COMPILE_BYTES);
    size_t len = 0;
    while (at < end) {
        if (source.data[at] != '\\') {
            out[len++] = source.data[at++];
            continue;
        }
        struct escape e = escape_at(source, at + 1, end);
        const char *problem = unfit(&e, bytes);
        if (problem)
            return mr_cel_parser_fail(p, at, 2, "%.*s: %s",
                                      (uint8_t)source.data[at + 1] < 0x80 ? 2 : 1, source.data + at,
                                      problem);
        if (bytes && e.octet)
            out[len++] = (char)e.value;
        else
            len += mr_cel_utf8_put(out + len, e.value);
        at = e.end;
    }
    node->text = (struct mr_str){out, len};
    return node;
}

static struct mr_cel_node *string(struct mr_cel_parser *p, struct mr_cel_node *node)
{
    struct mr_str text = mr_cel_parser_text(p);
    uint32_t at = 0, quotes = 1;
    bool raw = false;
    node->sub = p->token.kind == MR_CEL_T_BYTES ? MR_CEL_LITERAL_BYTES : MR_CEL_LITERAL_STRING;
    for (; text.data[at] != '"' && text.data[at] != '\''; at++)
        raw |= (text.data[at] | 0x20) == 'r';
    if (text.len - at >= 6 && text.data[at + 1] == text.data[at] &&
        text.data[at + 2] == text.data[at])
        quotes = 3;
    at += quotes;
    uint32_t len = (uint32_t)text.len - at - quotes;
    node->text = (struct mr_str){text.data + at, len};
    if (raw || !memchr(text.data + at, '\\', len))
        return node;
    return unescape(p, node, p->token.start + at, p->token.start + at + len);
}

struct mr_cel_node *mr_cel_parser_literal(struct mr_cel_parser *p, uint32_t minus)
{
    bool negative = minus != UINT32_MAX;
    struct mr_cel_node *node =
        mr_cel_parser_node(p, MR_CEL_NODE_LITERAL, negative ? minus : p->token.start);
    if (!node)
        return NULL;
    switch (p->token.kind) {
    case MR_CEL_T_INT:
        node = integer(p, node, negative);
        break;
    case MR_CEL_T_UINT:
        node = natural(p, node);
        break;
    case MR_CEL_T_DOUBLE:
        node = real(p, node, negative);
        break;
    case MR_CEL_T_STRING:
    case MR_CEL_T_BYTES:
        node = string(p, node);
        break;
    case MR_CEL_T_TRUE:
    case MR_CEL_T_FALSE:
        node->sub = MR_CEL_LITERAL_BOOL;
        node->boolean = p->token.kind == MR_CEL_T_TRUE;
        break;
    default:
        node->sub = MR_CEL_LITERAL_NULL;
        break;
    }
    if (node) {
        node->end = p->token.end;
        mr_cel_parser_take(p);
    }
    return node;
}
