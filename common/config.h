/* common/config.h: the configuration of an instance, derived from common/options.def.
 * Knows keys, types and bounds; the YAML file, the environment and the flags are read by the
 * supervisor, which hands the result to the other processes as flat "section.key=value" lines. */
#ifndef MR_COMMON_CONFIG_H
#define MR_COMMON_CONFIG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/err.h"

enum { MR_CONFIG_TEXT_MAX = 1024, MR_CONFIG_LIST_MAX = 64, MR_CONFIG_LIST_TEXT_MAX = 128 };

struct mr_config_list {
    uint32_t count;
    char items[MR_CONFIG_LIST_MAX][MR_CONFIG_LIST_TEXT_MAX];
};

/* One struct of all keys: config.SECTION_KEY, e.g. config.ring_event_size. */
struct mr_config_text {
    char text[MR_CONFIG_TEXT_MAX];
};
struct mr_config {
#define MR_TYPE_BOOL     bool
#define MR_TYPE_INT      uint64_t
#define MR_TYPE_DURATION uint64_t
#define MR_TYPE_SIZE     uint64_t
#define MR_TYPE_TEXT     struct mr_config_text
#define MR_TYPE_SECRET   struct mr_config_text
#define MR_TYPE_CHOICE   struct mr_config_text
#define MR_TYPE_LIST     struct mr_config_list
#define SECTION(section, text)
#define OPTION(section, key, type, value, min, max, readers, text) MR_TYPE_##type section##_##key;
#include "common/options.def"
#undef OPTION
#undef SECTION
};

/* Fill with the defaults. */
void mr_config_init(struct mr_config *config);

/* Set one key from text, e.g. ("ring.event_size", "64MiB"). A LIST takes its items joined by
 * commas. Returns MR_OK, or MR_USAGE with a text that names the key and what was expected
 * ("ring.event_size: expected a size such as 64MiB, got \"many\""); an unknown key names the
 * nearest known one. */
MR_MUST_USE enum mr_rc mr_config_set(struct mr_config *config, const char *path, const char *text,
                                     struct mr_err *err);

/* What no single key can tell: powers of two, urls that a source kind needs, min over max. */
MR_MUST_USE enum mr_rc mr_config_check(const struct mr_config *config, struct mr_err *err);

/* Write as YAML, one section after the other, secrets masked. */
void mr_config_print(const struct mr_config *config, FILE *out);

/* Flat form for child processes: written to and read from an open file descriptor (a memfd). */
MR_MUST_USE enum mr_rc mr_config_write_flat(const struct mr_config *config, int fd,
                                            struct mr_err *err);
MR_MUST_USE enum mr_rc mr_config_read_flat(struct mr_config *config, int fd, struct mr_err *err);

/* The processes that must restart when "from" becomes "to": a set of MR_CONFIG_READER_* bits. */
enum {
    MR_CONFIG_READER_SUPERVISOR = 1,
    MR_CONFIG_READER_PULLER = 2,
    MR_CONFIG_READER_MATCHER = 4,
    MR_CONFIG_READER_PUBLISHER = 8,
    MR_CONFIG_READER_RELAY = 16
};
uint32_t mr_config_changed_readers(const struct mr_config *from, const struct mr_config *to);

/* Rows of the table, for the YAML reader, --help and the documentation. */
struct mr_config_row {
    const char *path; /* "ring.event_size" */
    const char *type; /* "SIZE" */
    const char *value;
    const char *choices; /* "a|b|c" for CHOICE, else NULL */
    uint64_t min, max;
    uint32_t readers;
    const char *text;
    size_t offset; /* of the field in struct mr_config */
};
const struct mr_config_row *mr_config_rows(size_t *count);
const struct mr_config_row *mr_config_find(const char *path); /* NULL when unknown */

/* The known key that is most like an unknown one, or NULL when none is like it. */
const char *mr_config_nearest(const char *path);
/* Edits (insert, delete, replace) that turn a into b; SIZE_MAX when b is too long to be a name. */
size_t mr_config_distance(const char *a, const char *b);
/* The same for a section alone: *len bytes of what is returned are its name. */
const char *mr_config_nearest_section(const char *section, size_t *len);

/* True when a and b disagree on a key. */
bool mr_config_row_differs(const struct mr_config_row *row, const struct mr_config *a,
                           const struct mr_config *b);
#endif
