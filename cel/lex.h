/* cel/lex.h: the words of an expression. Internal to the front end. */
#ifndef MR_CEL_LEX_H
#define MR_CEL_LEX_H
#include <stdint.h>

#include "common/str.h"

enum mr_cel_token_kind {
    MR_CEL_T_END,
    MR_CEL_T_BAD, /* no token: see mr_cel_lex.problem */
    MR_CEL_T_IDENT,
    MR_CEL_T_RESERVED, /* a name that may only stand behind a dot */
    MR_CEL_T_QUOTED,   /* `name`, the quotes included */
    MR_CEL_T_INT,
    MR_CEL_T_UINT,
    MR_CEL_T_DOUBLE,
    MR_CEL_T_STRING, /* with prefix and quotes */
    MR_CEL_T_BYTES,
    MR_CEL_T_NULL,
    MR_CEL_T_TRUE,
    MR_CEL_T_FALSE,
    MR_CEL_T_LPAREN,
    MR_CEL_T_RPAREN,
    MR_CEL_T_LBRACKET,
    MR_CEL_T_RBRACKET,
    MR_CEL_T_LBRACE,
    MR_CEL_T_RBRACE,
    MR_CEL_T_DOT,
    MR_CEL_T_COMMA,
    MR_CEL_T_COLON,
    MR_CEL_T_QUESTION,
    MR_CEL_T_NOT,
    /* Binary operators from here on. */
    MR_CEL_T_OR,
    MR_CEL_T_AND,
    MR_CEL_T_EQUAL,
    MR_CEL_T_NOT_EQUAL,
    MR_CEL_T_LESS,
    MR_CEL_T_LESS_EQUAL,
    MR_CEL_T_GREATER,
    MR_CEL_T_GREATER_EQUAL,
    MR_CEL_T_IN,
    MR_CEL_T_PLUS,
    MR_CEL_T_MINUS,
    MR_CEL_T_STAR,
    MR_CEL_T_SLASH,
    MR_CEL_T_PERCENT,
    MR_CEL_T_COUNT
};

struct mr_cel_token {
    enum mr_cel_token_kind kind;
    uint32_t start, end; /* offsets in the source: [start, end) */
};

struct mr_cel_lex {
    struct mr_str source;
    uint32_t at;
    const char *problem; /* behind a BAD token: what is wrong with it; NULL: nothing starts so */
};

/* The next token. Behind the end: END again and again; behind a BAD one the lexer does not go on.
 */
struct mr_cel_token mr_cel_lex_next(struct mr_cel_lex *lex);
#endif
