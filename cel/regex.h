/* cel/regex.h: regular expressions of RE2's syntax, searched in linear time whatever the pattern.
 * A shim over libre2; plain C on this side. */
#ifndef MR_CEL_REGEX_H
#define MR_CEL_REGEX_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_cel_regex; /* immutable, thread-safe; tied to its process */

struct mr_cel_regex_limits {
    uint32_t pattern_bytes_max;
    uint32_t program_size_max; /* RE2's instructions: about one a character of the pattern */
};
#define MR_CEL_REGEX_LIMITS_DEFAULT \
    {                               \
        1024, 4096                  \
    }

enum mr_cel_regex_rc {
    MR_CEL_REGEX_OK,
    MR_CEL_REGEX_SYNTAX,  /* why: what RE2 says */
    MR_CEL_REGEX_TOO_BIG, /* over a limit */
    MR_CEL_REGEX_NO_MEMORY,
};
/* Compile. pattern: bytes, need not live on. why: at least why_size bytes for a text that says what
 * is wrong with it, NUL-terminated. out: owned by the caller. */
enum mr_cel_regex_rc mr_cel_regex_create(const char *pattern, size_t len,
                                         const struct mr_cel_regex_limits *limits,
                                         struct mr_cel_regex **out, char why[128]);
void mr_cel_regex_destroy(struct mr_cel_regex **regex);
/* Is there a match anywhere in the text? */
bool mr_cel_regex_search(const struct mr_cel_regex *regex, const char *text, size_t len);

/* The patterns that a thread used last, for those that come from documents. A pattern that is none
 * is kept too, so that it costs no second compilation. Not thread-safe. */
struct mr_cel_regex_cache;
enum mr_cel_regex_rc mr_cel_regex_cache_create(const struct mr_cel_regex_limits *limits,
                                               struct mr_cel_regex_cache **out);
void mr_cel_regex_cache_destroy(struct mr_cel_regex_cache **cache);
/* *out: borrowed until the next call. why: as above, borrowed likewise. */
enum mr_cel_regex_rc mr_cel_regex_cache_get(struct mr_cel_regex_cache *cache, const char *pattern,
                                            size_t len, const struct mr_cel_regex **out,
                                            const char **why);

#ifdef __cplusplus
}
#endif
#endif
