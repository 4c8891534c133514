/* cel/glob.h: regular expressions that are no more than texts with anything between them, decided
 * without an automaton: "^abc", "abc$", "a.*b", "^h.*o$", "^exact$". Most of those that people
 * write in filters are of this kind. */
#ifndef MR_CEL_GLOB_H
#define MR_CEL_GLOB_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MR_CEL_GLOB_PARTS_MAX = 4, MR_CEL_GLOB_BYTES_MAX = 64 };

/* Texts in their order, anything but line ends between them. */
struct mr_cel_glob {
    uint8_t count; /* parts; 0: the expression is of another kind */
    bool from_start, to_end;
    uint8_t ends[MR_CEL_GLOB_PARTS_MAX]; /* where each part ends in text */
    char text[MR_CEL_GLOB_BYTES_MAX];    /* the parts, one behind the other */
};

/* False: an expression of another kind, or a larger one; out->count is 0. */
bool mr_cel_glob_parse(const char *pattern, size_t len, struct mr_cel_glob *out);

enum mr_cel_glob_match {
    MR_CEL_GLOB_NO,
    MR_CEL_GLOB_YES,
    MR_CEL_GLOB_UNSURE /* a text with line ends, or more than ASCII: RE2 knows what "." means there
                        */
};
enum mr_cel_glob_match mr_cel_glob_search(const struct mr_cel_glob *glob, const char *text,
                                          size_t len);

#ifdef __cplusplus
}
#endif
#endif
