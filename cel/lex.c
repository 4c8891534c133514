/* cel/lex.c: see cel/lex.h. One look at the first byte decides what a token is. */
#include "cel/lex.h"

enum class {
    CLASS_OTHER,
    CLASS_SPACE,
    CLASS_LETTER, /* and underscore */
    CLASS_DIGIT,
    CLASS_QUOTE,
    CLASS_SIGN, /* starts an operator or is a bracket */
};

/* Of ASCII; all else is CLASS_OTHER. */
static const uint8_t classes[256] = {
#define o CLASS_OTHER
#define s CLASS_SPACE
#define l CLASS_LETTER
#define d CLASS_DIGIT
#define q CLASS_QUOTE
#define x CLASS_SIGN
    /* clang-format off */
    o, o, o, o, o, o, o, o, o, s, s, o, s, s, o, o,
    o, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o,
    s, x, q, o, o, x, x, q, x, x, x, x, x, x, x, x,
    d, d, d, d, d, d, d, d, d, d, x, o, x, x, x, x,
    o, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l,
    l, l, l, l, l, l, l, l, l, l, l, x, o, x, o, l,
    o, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l,
    l, l, l, l, l, l, l, l, l, l, l, x, x, x, o, o,
/* clang-format on */
#undef o
#undef s
#undef l
#undef d
#undef q
#undef x
};

/* The byte at an offset; behind the end: 0, which continues no token. */
static uint8_t byte_at(const struct mr_cel_lex *lex, uint32_t offset)
{
    return offset < lex->source.len ? (uint8_t)lex->source.data[offset] : 0;
}

static struct mr_cel_token token(struct mr_cel_lex *lex, enum mr_cel_token_kind kind,
                                 uint32_t start, uint32_t end)
{
    lex->at = end;
    return (struct mr_cel_token){kind, start, end};
}

static struct mr_cel_token bad(struct mr_cel_lex *lex, uint32_t start, uint32_t end,
                               const char *problem)
{
    lex->problem = problem;
    return token(lex, MR_CEL_T_BAD, start, end);
}

static void skip_space(struct mr_cel_lex *lex)
{
    for (;;) {
        uint8_t byte = byte_at(lex, lex->at);
        if (classes[byte] == CLASS_SPACE) {
            lex->at++;
        } else if (byte == '/' && byte_at(lex, lex->at + 1) == '/') {
            const char *rest = lex->source.data + lex->at;
            const char *line = memchr(rest, '\n', lex->source.len - lex->at);
            lex->at = line ? (uint32_t)(line - lex->source.data) : (uint32_t)lex->source.len;
        } else {
            return;
        }
    }
}

/* Names that are no names. Sorted by length, so that few are compared. */
static const struct {
    struct mr_str text;
    enum mr_cel_token_kind kind;
} words[] = {
#define WORD(text, kind)                          \
    {                                             \
        {text, sizeof(text) - 1}, MR_CEL_T_##kind \
    }
    WORD("in", IN),
    WORD("as", RESERVED),
    WORD("if", RESERVED),
    WORD("for", RESERVED),
    WORD("let", RESERVED),
    WORD("var", RESERVED),
    WORD("null", NULL),
    WORD("true", TRUE),
    WORD("else", RESERVED),
    WORD("loop", RESERVED),
    WORD("void", RESERVED),
    WORD("false", FALSE),
    WORD("break", RESERVED),
    WORD("const", RESERVED),
    WORD("while", RESERVED),
    WORD("import", RESERVED),
    WORD("return", RESERVED),
    WORD("package", RESERVED),
    WORD("continue", RESERVED),
    WORD("function", RESERVED),
    WORD("namespace", RESERVED),
#undef WORD
};
enum { WORD_LEN_MIN = 2, WORD_LEN_MAX = 9 };
/* Index of the first word of each length, and one behind. */
static const uint8_t words_by_len[WORD_LEN_MAX + 2] = {
    [2] = 0, [3] = 3, [4] = 6, [5] = 11, [6] = 15, [7] = 17, [8] = 18, [9] = 20, [10] = 21};

static enum mr_cel_token_kind word_kind(struct mr_str text)
{
    if (text.len < WORD_LEN_MIN || text.len > WORD_LEN_MAX)
        return MR_CEL_T_IDENT;
    for (unsigned i = words_by_len[text.len]; i < words_by_len[text.len + 1]; i++)
        if (words[i].text.data[0] == text.data[0] &&
            memcmp(words[i].text.data, text.data, text.len) == 0)
            return words[i].kind;
    return MR_CEL_T_IDENT;
}

/* A string from its first quote, at offset quote; start is where the token starts. */
static struct mr_cel_token string(struct mr_cel_lex *lex, uint32_t start, uint32_t quote, bool raw,
                                  enum mr_cel_token_kind kind)
{
    const char *data = lex->source.data;
    uint32_t len = (uint32_t)lex->source.len, at = quote + 1;
    char mark = data[quote];
    bool triple = byte_at(lex, at) == (uint8_t)mark && byte_at(lex, at + 1) == (uint8_t)mark;
    if (triple)
        at += 2;
    for (; at < len; at++) {
        char c = data[at];
        if (c == mark) {
            if (!triple)
                return token(lex, kind, start, at + 1);
            if (byte_at(lex, at + 1) == (uint8_t)mark && byte_at(lex, at + 2) == (uint8_t)mark)
                return token(lex, kind, start, at + 3);
        } else if (c == '\\' && !raw) {
            at++;
        } else if ((c == '\n' || c == '\r') && !triple) {
            return bad(lex, start, at,
                       "the string is not closed on its line; strings over several lines are "
                       "written in \"\"\"three quotes\"\"\"");
        }
    }
    return bad(lex, start, len, "the string is not closed");
}

/* r, b, br in any case, and a quote behind them; else a name. */
static struct mr_cel_token word(struct mr_cel_lex *lex, uint32_t start)
{
    uint32_t at = start + 1;
    while (classes[byte_at(lex, at)] == CLASS_LETTER || classes[byte_at(lex, at)] == CLASS_DIGIT)
        at++;
    if (at - start <= 2 && classes[byte_at(lex, at)] == CLASS_QUOTE) {
        uint8_t first = byte_at(lex, start) | 0x20;
        uint8_t second = at - start == 2 ? byte_at(lex, start + 1) | 0x20 : 0;
        if (second == 0 && (first == 'r' || first == 'b'))
            return string(lex, start, at, first == 'r',
                          first == 'b' ? MR_CEL_T_BYTES : MR_CEL_T_STRING);
        if (first == 'b' && second == 'r')
            return string(lex, start, at, true, MR_CEL_T_BYTES);
        if (first == 'r' && second == 'b')
            return bad(lex, start, at + 1, "raw bytes are written br\"...\", not rb\"...\"");
    }
    struct mr_str text = {lex->source.data + start, at - start};
    return token(lex, word_kind(text), start, at);
}

static bool is_hex(uint8_t byte)
{
    return classes[byte] == CLASS_DIGIT || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f');
}

static uint32_t skip_digits(const struct mr_cel_lex *lex, uint32_t at)
{
    while (classes[byte_at(lex, at)] == CLASS_DIGIT)
        at++;
    return at;
}

static struct mr_cel_token number(struct mr_cel_lex *lex, uint32_t start)
{
    enum mr_cel_token_kind kind = MR_CEL_T_INT;
    uint32_t at = start;
    if (byte_at(lex, at) == '0' && (byte_at(lex, at + 1) | 0x20) == 'x' &&
        is_hex(byte_at(lex, at + 2))) {
        at += 2;
        while (is_hex(byte_at(lex, at)))
            at++;
    } else {
        at = skip_digits(lex, at);
        if (byte_at(lex, at) == '.' && classes[byte_at(lex, at + 1)] == CLASS_DIGIT) {
            kind = MR_CEL_T_DOUBLE;
            at = skip_digits(lex, at + 1);
        }
        uint32_t sign = byte_at(lex, at + 1) == '+' || byte_at(lex, at + 1) == '-';
        if ((byte_at(lex, at) | 0x20) == 'e' &&
            classes[byte_at(lex, at + 1 + sign)] == CLASS_DIGIT) {
            kind = MR_CEL_T_DOUBLE;
            at = skip_digits(lex, at + 1 + sign);
        }
    }
    if (kind == MR_CEL_T_INT && (byte_at(lex, at) | 0x20) == 'u') {
        kind = MR_CEL_T_UINT;
        at++;
    }
    if (classes[byte_at(lex, at)] == CLASS_LETTER || classes[byte_at(lex, at)] == CLASS_DIGIT) {
        while (classes[byte_at(lex, at)] == CLASS_LETTER ||
               classes[byte_at(lex, at)] == CLASS_DIGIT)
            at++;
        return bad(
            lex, start, at,
            "no number; numbers are written 42, 0x2a, 42u, 4.2 or 4e2, without _ and without "
            "other letters");
    }
    return token(lex, kind, start, at);
}

static struct mr_cel_token quoted_name(struct mr_cel_lex *lex, uint32_t start)
{
    uint32_t at = start + 1;
    for (;; at++) {
        uint8_t byte = byte_at(lex, at);
        if (byte == '`' && at > start + 1)
            return token(lex, MR_CEL_T_QUOTED, start, at + 1);
        if (classes[byte] != CLASS_LETTER && classes[byte] != CLASS_DIGIT && byte != '.' &&
            byte != '-' && byte != '/' && byte != ' ')
            return bad(lex, start, at > start + 1 ? at : start + 1,
                       "a name in `backticks` holds letters, digits, _ . - / and spaces, and is "
                       "closed by a backtick");
    }
}

static struct mr_cel_token pair(struct mr_cel_lex *lex, uint32_t start, char second,
                                enum mr_cel_token_kind both, enum mr_cel_token_kind one)
{
    bool two = byte_at(lex, start + 1) == (uint8_t)second;
    return token(lex, two ? both : one, start, start + (two ? 2 : 1));
}

static struct mr_cel_token doubled(struct mr_cel_lex *lex, uint32_t start,
                                   enum mr_cel_token_kind kind, const char *problem)
{
    if (byte_at(lex, start + 1) == byte_at(lex, start))
        return token(lex, kind, start, start + 2);
    return bad(lex, start, start + 1, problem);
}

static struct mr_cel_token sign(struct mr_cel_lex *lex, uint32_t start)
{
    static const uint8_t single[128] = {
        ['('] = MR_CEL_T_LPAREN,   [')'] = MR_CEL_T_RPAREN, ['['] = MR_CEL_T_LBRACKET,
        [']'] = MR_CEL_T_RBRACKET, ['{'] = MR_CEL_T_LBRACE, ['}'] = MR_CEL_T_RBRACE,
        ['.'] = MR_CEL_T_DOT,      [','] = MR_CEL_T_COMMA,  [':'] = MR_CEL_T_COLON,
        ['?'] = MR_CEL_T_QUESTION, ['+'] = MR_CEL_T_PLUS,   ['-'] = MR_CEL_T_MINUS,
        ['*'] = MR_CEL_T_STAR,     ['/'] = MR_CEL_T_SLASH,  ['%'] = MR_CEL_T_PERCENT,
    };
    switch (byte_at(lex, start)) {
    case '.':
        if (classes[byte_at(lex, start + 1)] == CLASS_DIGIT)
            return number(lex, start);
        break;
    case '!':
        return pair(lex, start, '=', MR_CEL_T_NOT_EQUAL, MR_CEL_T_NOT);
    case '<':
        if (byte_at(lex, start + 1) == '>')
            return bad(lex, start, start + 2, "no operator; did you mean !=?");
        return pair(lex, start, '=', MR_CEL_T_LESS_EQUAL, MR_CEL_T_LESS);
    case '>':
        return pair(lex, start, '=', MR_CEL_T_GREATER_EQUAL, MR_CEL_T_GREATER);
    case '=':
        if (byte_at(lex, start + 1) == '=' && byte_at(lex, start + 2) == '=')
            return bad(lex, start, start + 3, "no operator; did you mean ==?");
        return doubled(lex, start, MR_CEL_T_EQUAL, "no operator; did you mean ==?");
    case '&':
        return doubled(lex, start, MR_CEL_T_AND, "no operator; did you mean &&?");
    case '|':
        return doubled(lex, start, MR_CEL_T_OR, "no operator; did you mean ||?");
    default:
        break;
    }
    return token(lex, single[byte_at(lex, start)], start, start + 1);
}

/* A byte with which nothing starts; the bytes of one code point stay together. */
static struct mr_cel_token other(struct mr_cel_lex *lex, uint32_t start)
{
    uint32_t at = start + 1;
    while ((byte_at(lex, at) & 0xc0) == 0x80)
        at++;
    if (byte_at(lex, start) == ';')
        return bad(lex, start, at, "not expected; an expression is one value, without ;");
    if (byte_at(lex, start) >= 0x80)
        return bad(lex, start, at,
                   "not expected; outside of strings only ASCII is used, and other "
                   "fields are read by doc[\"name\"]");
    return bad(lex, start, at, NULL);
}

struct mr_cel_token mr_cel_lex_next(struct mr_cel_lex *lex)
{
    skip_space(lex);
    uint32_t start = lex->at;
    if (start >= lex->source.len)
        return (struct mr_cel_token){MR_CEL_T_END, start, start};
    switch ((enum class)classes[byte_at(lex, start)]) {
    case CLASS_LETTER:
        return word(lex, start);
    case CLASS_DIGIT:
        return number(lex, start);
    case CLASS_QUOTE:
        return string(lex, start, start, false, MR_CEL_T_STRING);
    case CLASS_SIGN:
        return sign(lex, start);
    case CLASS_SPACE:
    case CLASS_OTHER:
        break;
    }
    if (byte_at(lex, start) == '`')
        return quoted_name(lex, start);
    return other(lex, start);
}
