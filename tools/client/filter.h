/* tools/client/filter.h: a filter as a person writes it: "author.id == 7". */
#ifndef MR_TOOLS_CLIENT_FILTER_H
#define MR_TOOLS_CLIENT_FILTER_H
#include "cel/program.h"

enum { MR_CLIENT_FILTER_TEXT_MAX = 4096, MR_CLIENT_FILTER_LIST_MAX = 256 };

/* One filter and the room for its texts; not to be moved once it is parsed. */
struct mr_client_filter {
    struct mr_predicate predicate;
    char text[MR_CLIENT_FILTER_TEXT_MAX];
    struct mr_const items[MR_CLIENT_FILTER_LIST_MAX];
};

/* From "PATH OP VALUE". VALUE: true, false, a number (an integer when it has neither point nor
 * exponent), "text" with \" and \\, [VALUE, ...], or else text as it stands: so that a number as
 * text is written "7". MR_USAGE with a text that says what was expected. */
MR_MUST_USE enum mr_rc mr_client_filter_parse(struct mr_client_filter *out, const char *text,
                                              struct mr_err *err);
#endif
