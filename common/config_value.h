/* common/config_value.h: the types of configuration values: text to value and back. Used by
 * config.c alone; apart so that each type can be tested. */
#ifndef MR_COMMON_CONFIG_VALUE_H
#define MR_COMMON_CONFIG_VALUE_H
#include <stdbool.h>
#include <stddef.h>

#include "common/config.h"

enum { MR_CONFIG_VALUE_MAX = 16 * 1024 }; /* bytes of any value as text, its NUL included */

/* One type of options.def.
 *   parse   check text against the row and store it at field. False: it is not of the type or out
 * of bounds, nothing is stored. format  the value as text that parse takes. out has
 * MR_CONFIG_VALUE_MAX bytes. expect  what parse takes, in words: "a size such as 64MiB". */
struct mr_config_type {
    const char *name;
    bool (*parse)(const struct mr_config_row *row, const char *text, void *field);
    void (*format)(const void *field, char *out);
    void (*expect)(const struct mr_config_row *row, char *out, size_t size);
    size_t size; /* of the field */
};
const struct mr_config_type *mr_config_type_find(const char *name); /* asserts that it exists */

/* Copy text with every password in it replaced by ***: user:password@ in a URL, password=... in a
 * URL or a connection string. Masks rather too much than too little. */
void mr_config_mask(const char *text, char *out, size_t size);

/* True when text is valid UTF-8 without control characters. */
bool mr_config_text_clean(const char *text);
#endif
