/* cel/diag.h: what is wrong with an expression, and where. */
#ifndef MR_CEL_DIAG_H
#define MR_CEL_DIAG_H
#include "cel/limits.h"
#include "common/err.h"
#include "common/str.h"

enum mr_cel_stage { MR_CEL_STAGE_PARSE, MR_CEL_STAGE_CHECK, MR_CEL_STAGE_LIMIT };

struct mr_cel_diag {
    enum mr_cel_stage stage;
    enum mr_cel_limit limit; /* stage LIMIT: which one */
    uint32_t at;             /* offset in the source, 0 to its length */
    uint32_t len;            /* bytes that it is about, 1 at least */
    uint32_t line, column;   /* from 1; columns count code points */
    char text[320]; /* one line, UTF-8; what is wrong, what was expected, what may be meant */
};

const char *mr_cel_stage_name(enum mr_cel_stage stage); /* "parse", "check", "limit" */
/* Set all of diag; text is cut to fit, control characters become '?'. at may lie behind the
 * source's end: it is brought back. Returns MR_USAGE, so that callers can return it. */
enum mr_rc mr_cel_diag_set(struct mr_cel_diag *diag, struct mr_str source, uint32_t at,
                           uint32_t len, enum mr_cel_stage stage, const char *format, ...)
    MR_PRINTF(6, 7);

/* The same for a limit that is exceeded there: names it and its value. */
enum mr_rc mr_cel_diag_limit(struct mr_cel_diag *diag, struct mr_str source, uint32_t at,
                             enum mr_cel_limit limit, const struct mr_cel_limits *limits);

/* "1:5: text", the source's line and a caret under the place; long lines are cut around the place.
 * Ends with a newline. Writes at most size bytes with a NUL; returns the length written. */
size_t mr_cel_diag_render(const struct mr_cel_diag *diag, struct mr_str source, char *text,
                          size_t size);
#endif
