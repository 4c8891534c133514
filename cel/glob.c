/* cel/glob.c: see cel/glob.h. */
#include "cel/glob.h"

#include <string.h>

static bool is_literal(char c)
{
    return c != 0 && !strchr("\\.+*?()|[]{}^$", c);
}

/* One character of a part at *at, escaped or not. False: something else. */
static bool take_literal(const char *pattern, size_t len, size_t *at, char *out)
{
    char c = pattern[*at];
    if (c == '\\' && *at + 1 < len && strchr("\\.+*?()|[]{}^$-/", pattern[*at + 1]) &&
        pattern[*at + 1] != 0)
        c = pattern[++*at];
    else if (!is_literal(c))
        return false;
    ++*at;
    *out = c;
    return true;
}

static bool parse(const char *pattern, size_t len, struct mr_cel_glob *glob)
{
    size_t at = 0, used = 0;
    glob->from_start = len > 0 && pattern[0] == '^';
    at += glob->from_start;
    for (uint8_t part = 0; part < MR_CEL_GLOB_PARTS_MAX; part++) {
        while (at < len && used < MR_CEL_GLOB_BYTES_MAX &&
               take_literal(pattern, len, &at, &glob->text[used]))
            used++;
        glob->ends[part] = (uint8_t)used;
        glob->count = (uint8_t)(part + 1);
        glob->to_end = len - at == 1 && pattern[at] == '$';
        if (glob->to_end || at == len)
            return true;
        if (len - at < 2 || pattern[at] != '.' || pattern[at + 1] != '*')
            return false;
        at += 2;
    }
    return false;
}

bool mr_cel_glob_parse(const char *pattern, size_t len, struct mr_cel_glob *out)
{
    memset(out, 0, sizeof *out);
    if (!parse(pattern, len, out))
        out->count = 0;
    return out->count > 0;
}

/* Bytes beyond ASCII, or a line end? */
static bool is_plain(const char *text, size_t len)
{
    uint64_t word, odd = 0;
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        memcpy(&word, text + i, 8);
        uint64_t line = word ^ UINT64_C(0x0a0a0a0a0a0a0a0a);
        odd |= word | (line - UINT64_C(0x0101010101010101));
    }
    for (; i < len; i++)
        odd |= (uint8_t)text[i] >= 0x80 || text[i] == '\n' ? 0x80 : 0;
    return (odd & UINT64_C(0x8080808080808080)) == 0;
}

enum mr_cel_glob_match mr_cel_glob_search(const struct mr_cel_glob *glob, const char *text,
                                          size_t len)
{
    if (len == 0)
        text = "";
    const char *at = text, *end = text + len, *part = glob->text;
    if (glob->count > 1 && !is_plain(text, len))
        return MR_CEL_GLOB_UNSURE;
    uint8_t last = (uint8_t)(glob->count - 1);
    for (uint8_t i = 0; i <= last; i++) {
        size_t size = (size_t)(glob->text + glob->ends[i] - part), left = (size_t)(end - at);
        if (size > left)
            return MR_CEL_GLOB_NO;
        if (i == last && glob->to_end) { /* where it must be, and not before what has been found */
            if (i == 0 && glob->from_start && size != left)
                return MR_CEL_GLOB_NO;
            return memcmp(end - size, part, size) == 0 ? MR_CEL_GLOB_YES : MR_CEL_GLOB_NO;
        }
        if (i == 0 && glob->from_start) {
            if (memcmp(at, part, size) != 0)
                return MR_CEL_GLOB_NO;
        } else if (size > 0) {
            at = memmem(at, left, part, size);
            if (!at)
                return MR_CEL_GLOB_NO;
        }
        at += size;
        part += size;
    }
    return MR_CEL_GLOB_YES;
}
