#include "common/config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/config_value.h"

enum { FLAT_BYTES_MAX = 256 * 1024, PATH_MAX_LEN = 96 };

/* Reader sets as the rows write them. */
enum {
    S = MR_CONFIG_READER_SUPERVISOR,
    P = MR_CONFIG_READER_PULLER,
    M = MR_CONFIG_READER_MATCHER,
    B = MR_CONFIG_READER_PUBLISHER,
    R = MR_CONFIG_READER_RELAY,
    PB = P | B,
    BR = B | R,
    PMB = P | M | B,
    PMBR = PMB | R
};

/* CHOICE has its choices where the others have a lower bound. */
#define BOUNDS_BOOL(low, high)     NULL, 0, 0
#define BOUNDS_INT(low, high)      NULL, low##UL, high##UL
#define BOUNDS_DURATION(low, high) NULL, low##UL, high##UL
#define BOUNDS_SIZE(low, high)     NULL, low##UL, high##UL
#define BOUNDS_TEXT(low, high)     NULL, 0, 0
#define BOUNDS_SECRET(low, high)   NULL, 0, 0
#define BOUNDS_CHOICE(low, high)   low, 0, 0
#define BOUNDS_LIST(low, high)     NULL, 0, 0

static const struct mr_config_row rows[] = {
#define SECTION(section, text)
#define OPTION(section, key, type, value, min, max, readers, text) \
    {#section "." #key,                                            \
     #type,                                                        \
     value,                                                        \
     BOUNDS_##type(min, max),                                      \
     readers,                                                      \
     text,                                                         \
     offsetof(struct mr_config, section##_##key)},
#include "common/options.def"
#undef OPTION
#undef SECTION
};
enum { ROW_COUNT = sizeof rows / sizeof *rows };

const struct mr_config_row *mr_config_rows(size_t *count)
{
    *count = ROW_COUNT;
    return rows;
}

const struct mr_config_row *mr_config_find(const char *path)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (strcmp(rows[i].path, path) == 0)
            return &rows[i];
    return NULL;
}

static void *field_of(struct mr_config *config, const struct mr_config_row *row)
{
    return (char *)config + row->offset;
}

static const void *field_in(const struct mr_config *config, const struct mr_config_row *row)
{
    return (const char *)config + row->offset;
}

void mr_config_init(struct mr_config *config)
{
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        bool ok = mr_config_type_find(rows[i].type)
                      ->parse(&rows[i], rows[i].value, field_of(config, &rows[i]));
        MR_ASSERT(ok);
    }
}

/* Edits (insert, delete, replace) that turn a into b; b is shorter than PATH_MAX_LEN. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[PATH_MAX_LEN + 1], len = strlen(b);
    for (size_t j = 0; j <= len; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[len];
}

size_t mr_config_distance(const char *a, const char *b)
{
    return strlen(b) < PATH_MAX_LEN ? edit_distance(a, b) : SIZE_MAX;
}

const char *mr_config_nearest(const char *path)
{
    const char *nearest = NULL;
    size_t best = strlen(path) / 3 + 1; /* further off it would be a guess */
    if (strlen(path) >= PATH_MAX_LEN)
        return NULL;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const char *key = strchr(rows[i].path, '.') + 1;
        size_t distance = edit_distance(path, rows[i].path);
        const char *given = strchr(path, '.') ? strchr(path, '.') + 1 : path;
        if (strcmp(given, key) == 0 && distance > 1)
            distance = 1; /* the right key in the wrong section, or without one */
        if (distance < best) {
            best = distance;
            nearest = rows[i].path;
        }
    }
    return nearest;
}

const char *mr_config_nearest_section(const char *section, size_t *len)
{
    const char *nearest = NULL;
    size_t best = strlen(section) / 3 + 1;
    if (strlen(section) >= PATH_MAX_LEN)
        return NULL;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char name[PATH_MAX_LEN];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(rows[i].path, "."), rows[i].path);
        size_t distance = edit_distance(section, name);
        if (distance < best) {
            best = distance;
            nearest = rows[i].path;
            *len = strlen(name);
        }
    }
    return nearest;
}

enum mr_rc mr_config_set(struct mr_config *config, const char *path, const char *text,
                         struct mr_err *err)
{
    const struct mr_config_row *row = mr_config_find(path);
    if (!row) {
        const char *nearest = mr_config_nearest(path);
        return mr_reject(err, MR_USAGE,
                         nearest ? "%.*s: unknown key; did you mean %s?" : "%.*s: unknown key",
                         PATH_MAX_LEN, path, nearest);
    }
    const struct mr_config_type *type = mr_config_type_find(row->type);
    if (type->parse(row, text, field_of(config, row)))
        return MR_OK;
    char expected[256];
    type->expect(row, expected, sizeof expected);
    if (strcmp(row->type, "SECRET") == 0)
        return mr_reject(err, MR_USAGE, "%s: expected %s", path, expected);
    return mr_reject(err, MR_USAGE, "%s: expected %s, got \"%.120s\"", path, expected, text);
}

/* A YAML scalar: plain where that can be mistaken for nothing else, else in double quotes. */
static void print_scalar(const char *text, FILE *out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./";
    if (*text && text[strspn(text, plain)] == '\0' && *text != '.') {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++)
        fprintf(out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    fputc('"', out);
}

static void print_value(const struct mr_config *config, const struct mr_config_row *row, FILE *out)
{
    char text[MR_CONFIG_VALUE_MAX], masked[MR_CONFIG_VALUE_MAX];
    if (strcmp(row->type, "LIST") == 0) {
        const struct mr_config_list *list = field_in(config, row);
        for (uint32_t i = 0; i < list->count; i++) {
            mr_config_mask(list->items[i], masked, sizeof masked);
            fputs(i ? ", " : "[", out);
            print_scalar(masked, out);
        }
        fputs(list->count ? "]" : "[]", out);
        return;
    }
    mr_config_type_find(row->type)->format(field_in(config, row), text);
    /* Of a secret that is no URL nothing is known, not even where its password ends. */
    if (strcmp(row->type, "SECRET") == 0 && *text && !strstr(text, "://"))
        strcpy(text, "***");
    mr_config_mask(text, masked, sizeof masked);
    print_scalar(masked, out);
}

void mr_config_print(const struct mr_config *config, FILE *out)
{
    size_t section = 0; /* length of the section's name that is open */
    for (size_t i = 0; i < ROW_COUNT; i++) {
        size_t len = strcspn(rows[i].path, ".");
        if (i == 0 || len != section || strncmp(rows[i].path, rows[i - 1].path, len) != 0)
            fprintf(out, "%.*s:\n", (int)len, rows[i].path);
        section = len;
        fprintf(out, "  %s: ", rows[i].path + len + 1);
        print_value(config, &rows[i], out);
        fputc('\n', out);
    }
}

enum mr_rc mr_config_write_flat(const struct mr_config *config, int fd, struct mr_err *err)
{
    char text[MR_CONFIG_VALUE_MAX];
    for (size_t i = 0; i < ROW_COUNT; i++) {
        mr_config_type_find(rows[i].type)->format(field_in(config, &rows[i]), text);
        if (dprintf(fd, "%s=%s\n", rows[i].path, text) < 0)
            return mr_fail(err, MR_FATAL, "write configuration to descriptor %d", fd);
    }
    return MR_OK;
}

/* All of fd, from its start where it has one (several processes may share the descriptor), else
 * from where it is. NUL-terminated. */
static enum mr_rc read_all(int fd, char *out, struct mr_err *err)
{
    size_t len = 0;
    for (;;) {
        ssize_t n = pread(fd, out + len, FLAT_BYTES_MAX - len, (off_t)len);
        if (n < 0 && errno == ESPIPE)
            n = read(fd, out + len, FLAT_BYTES_MAX - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mr_fail(err, MR_FATAL, "read configuration from descriptor %d", fd);
        if (n == 0)
            break;
        len += (size_t)n;
        if (len == FLAT_BYTES_MAX)
            return mr_reject(err, MR_USAGE, "configuration from descriptor %d: over %d bytes", fd,
                             FLAT_BYTES_MAX);
    }
    out[len] = '\0';
    return memchr(out, '\0', len)
               ? mr_reject(err, MR_USAGE, "configuration from descriptor %d: a NUL byte", fd)
               : MR_OK;
}

enum mr_rc mr_config_read_flat(struct mr_config *config, int fd, struct mr_err *err)
{
    static char text[FLAT_BYTES_MAX + 1]; /* once, at start, on one thread */
    enum mr_rc rc = read_all(fd, text, err);
    mr_config_init(config);
    for (char *line = text, *end; rc == MR_OK && *line; line = end + 1) {
        end = strchr(line, '\n');
        char *value = strchr(line, '=');
        if (!end || !value || value > end) {
            rc = mr_reject(err, MR_USAGE,
                           "configuration from descriptor %d: expected key=value lines, "
                           "got \"%.40s\"",
                           fd, line);
            break;
        }
        *end = *value = '\0';
        rc = mr_config_set(config, line, value + 1, err);
    }
    explicit_bzero(text, sizeof text); /* it held secrets */
    return rc;
}

bool mr_config_row_differs(const struct mr_config_row *row, const struct mr_config *a,
                           const struct mr_config *b)
{
    return memcmp(field_in(a, row), field_in(b, row), mr_config_type_find(row->type)->size) != 0;
}

uint32_t mr_config_changed_readers(const struct mr_config *from, const struct mr_config *to)
{
    uint32_t readers = 0;
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (mr_config_row_differs(&rows[i], from, to))
            readers |= rows[i].readers;
    return readers;
}
