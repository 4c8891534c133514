/* cel/parser.h: what the files of the parser share. Internal to the front end. */
#ifndef MR_CEL_PARSER_H
#define MR_CEL_PARSER_H
#include "cel/lex.h"
#include "cel/syntax.h"

struct mr_cel_parser {
    const struct mr_cel_front *front;
    struct mr_cel_lex lex;
    struct mr_cel_token token; /* the current one, not yet taken */
    uint32_t taken_end;        /* where the token before it ended */
    uint32_t depth;            /* of the recursion */
    uint32_t node_count;
};

/* All that return a node return NULL when the diag is set and parsing is to end. */

/* Text of the current token. */
struct mr_str mr_cel_parser_text(const struct mr_cel_parser *p);
/* "expected WHAT, got the current token". */
struct mr_cel_node *mr_cel_parser_expected(struct mr_cel_parser *p, const char *what);
/* The same behind a whole value, with hints for what stands there in other languages. */
struct mr_cel_node *mr_cel_parser_expected_end(struct mr_cel_parser *p,
                                               const struct mr_cel_node *before);
/* Take the current token. */
void mr_cel_parser_take(struct mr_cel_parser *p);
/* "format", about len bytes from start. */
struct mr_cel_node *mr_cel_parser_fail(struct mr_cel_parser *p, uint32_t start, uint32_t len,
                                       const char *format, ...) MR_PRINTF(4, 5);
/* limit: which is exceeded there. */
struct mr_cel_node *mr_cel_parser_over(struct mr_cel_parser *p, uint32_t start,
                                       enum mr_cel_limit limit);
/* A new node that points at and starts at the offset, and ends with the token taken last. */
struct mr_cel_node *mr_cel_parser_node(struct mr_cel_parser *p, enum mr_cel_node_kind kind,
                                       uint32_t start);

/* The current token, a literal, as a node; it is taken. minus: offset of the sign that belongs to
 * it (INT and DOUBLE only); UINT32_MAX: none. */
struct mr_cel_node *mr_cel_parser_literal(struct mr_cel_parser *p, uint32_t minus);

/* What a CALL becomes if it is a macro (cel/macro.c): itself, changed, or one of its children. */
struct mr_cel_node *mr_cel_parser_macro(struct mr_cel_parser *p, struct mr_cel_node *call);
#endif
