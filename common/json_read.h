/* common/json_read.h: the first steps of reading JSON that is known to be small and plain:
 * objects of a few members, whose names and values need no escapes. Never past end. */
#ifndef MR_COMMON_JSON_READ_H
#define MR_COMMON_JSON_READ_H
#include <stdbool.h>

#include "common/str.h"

struct mr_json_reader {
    const char *at, *end;
};

static inline void mr_json_skip_space(struct mr_json_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

/* Behind white space comes c: pass it. False: something else does, or nothing. */
static inline bool mr_json_take(struct mr_json_reader *r, char c)
{
    mr_json_skip_space(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* A text, borrowed: what stands between the quotes, escapes as they stand. */
static inline bool mr_json_take_text(struct mr_json_reader *r, struct mr_str *out)
{
    if (!mr_json_take(r, '"'))
        return false;
    const char *begin = r->at;
    while (r->at < r->end && *r->at != '"')
        r->at += *r->at == '\\' && r->end - r->at > 1 ? 2 : 1;
    if (r->at >= r->end)
        return false;
    *out = (struct mr_str){begin, (size_t)(r->at - begin)};
    r->at++;
    return true;
}
#endif
