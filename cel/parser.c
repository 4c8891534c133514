/* cel/parser.c: the parser's state, and how it says what is wrong. */
#include "cel/parser.h"

#include <stdio.h>
#include <strings.h>

struct mr_cel_node *mr_cel_parser_fail(struct mr_cel_parser *p, uint32_t start, uint32_t len,
                                       const char *format, ...)
{
    char text[sizeof p->front->diag->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)mr_cel_diag_set(p->front->diag, p->lex.source, start, len, MR_CEL_STAGE_PARSE, "%s",
                          text);
    return NULL;
}

struct mr_cel_node *mr_cel_parser_over(struct mr_cel_parser *p, uint32_t start,
                                       enum mr_cel_limit limit)
{
    (void)mr_cel_diag_limit(p->front->diag, p->lex.source, start, limit, p->front->limits);
    return NULL;
}

struct mr_cel_node *mr_cel_parser_node(struct mr_cel_parser *p, enum mr_cel_node_kind kind,
                                       uint32_t start)
{
    if (p->node_count >= p->front->limits->nodes_max)
        return mr_cel_parser_over(p, start, MR_CEL_LIMIT_NODES);
    struct mr_cel_node *node = mr_cel_arena_alloc(p->front->arena, sizeof *node);
    if (!node)
        return mr_cel_parser_over(p, start, MR_CEL_LIMIT_COMPILE_BYTES);
    p->node_count++;
    memset(node, 0, sizeof *node);
    node->kind = (uint8_t)kind;
    node->at = node->start = start;
    node->end = p->taken_end;
    return node;
}

void mr_cel_parser_take(struct mr_cel_parser *p)
{
    p->taken_end = p->token.end;
    p->token = mr_cel_lex_next(&p->lex);
}

struct mr_str mr_cel_parser_text(const struct mr_cel_parser *p)
{
    return (struct mr_str){p->lex.source.data + p->token.start, p->token.end - p->token.start};
}

struct mr_cel_node *mr_cel_parser_expected(struct mr_cel_parser *p, const char *what)
{
    struct mr_str got = mr_cel_parser_text(p);
    int len = got.len < 40 ? (int)got.len : 40;
    while (len > 0 && (size_t)len < got.len && ((uint8_t)got.data[len] & 0xc0) == 0x80)
        len--;
    switch (p->token.kind) {
    case MR_CEL_T_BAD:
        if (!p->lex.problem)
            break;
        if ((int)got.len > len || memchr(got.data, '\n', got.len))
            return mr_cel_parser_fail(p, p->token.start, (uint32_t)got.len, "%s", p->lex.problem);
        return mr_cel_parser_fail(p, p->token.start, (uint32_t)got.len, "%.*s: %s", len, got.data,
                                  p->lex.problem);
    case MR_CEL_T_END:
        return mr_cel_parser_fail(p, p->token.start, 1,
                                  "expected %s, got the end of the expression", what);
    case MR_CEL_T_RESERVED:
        return mr_cel_parser_fail(
            p, p->token.start, (uint32_t)got.len,
            "expected %s, got the reserved word %.*s, which can only stand behind a dot%s", what,
            len, got.data,
            mr_str_equal(got, MR_STR("if")) ? "; a choice is written condition ? a : b" : "");
    case MR_CEL_T_QUOTED:
        return mr_cel_parser_fail(
            p, p->token.start, (uint32_t)got.len,
            "expected %s, got %.*s; a name in backticks can only stand behind a dot", what, len,
            got.data);
    default:
        break;
    }
    return mr_cel_parser_fail(p, p->token.start, (uint32_t)got.len, "expected %s, got %.*s%s", what,
                              len, got.data, (int)got.len > len ? "..." : "");
}

/* Behind a whole value there can only be an operator: what other languages have there gets a hint.
 */
struct mr_cel_node *mr_cel_parser_expected_end(struct mr_cel_parser *p,
                                               const struct mr_cel_node *before)
{
    static const struct {
        struct mr_str word;
        const char *meant;
    } words[] = {
        {{"and", 3}, "&&"}, {{"or", 2}, "||"},          {{"is", 2}, "=="},
        {{"eq", 2}, "=="},  {{"ne", 2}, "!="},          {{"not", 3}, "!(a in b)"},
        {{"mod", 3}, "%"},  {{"like", 4}, "matches()"},
    };
    struct mr_str got = mr_cel_parser_text(p);
    for (size_t i = 0; p->token.kind == MR_CEL_T_IDENT && i < sizeof words / sizeof words[0]; i++)
        if (got.len == words[i].word.len && strncasecmp(got.data, words[i].word.data, got.len) == 0)
            return mr_cel_parser_fail(p, p->token.start, (uint32_t)got.len,
                                      "expected an operator or the end, got %.*s; did you mean %s?",
                                      (int)got.len, got.data, words[i].meant);
    if (before->kind == MR_CEL_NODE_IDENT && mr_str_equal(before->text, MR_STR("not")))
        return mr_cel_parser_fail(p, before->start, 3, "not: no operator; did you mean !?");
    return mr_cel_parser_expected(p, "an operator or the end");
}
