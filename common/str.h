/* common/str.h: a borrowed run of bytes. */
#ifndef MR_COMMON_STR_H
#define MR_COMMON_STR_H
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Not NUL-terminated; {NULL, 0} is empty. Borrowed: says nothing about who owns the bytes. */
struct mr_str {
    const char *data;
    size_t len;
};

#define MR_STR(literal) ((struct mr_str){(literal), sizeof(literal) - 1})

static inline struct mr_str mr_str_from(const char *text)
{
    return (struct mr_str){text, text ? strlen(text) : 0};
}

static inline bool mr_str_equal(struct mr_str a, struct mr_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* By unsigned bytes, a prefix before what it begins: under, equal to or over 0. */
static inline int mr_str_compare(struct mr_str a, struct mr_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.data, b.data, len) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}
#endif
