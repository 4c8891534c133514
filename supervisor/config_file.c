/* The YAML file, read event by event with libyaml: no tree, and every error knows its line. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <yaml.h>

#include "common/config_value.h"
#include "supervisor/config_source.h"

enum { ROWS_MAX = 256, SECTION_MAX = 64 };

struct reader {
    const char *path;
    unsigned char *bytes;
    size_t len;
    yaml_parser_t parser;
    yaml_event_t event; /* the one at hand */
    struct mr_config *config;
    struct mr_err *err;
    size_t first_line[ROWS_MAX]; /* where a key has been set, by row; 0: not yet */
    char sections[ROWS_MAX][SECTION_MAX];
    size_t section_count;
    char value[MR_CONFIG_VALUE_MAX], raw[MR_CONFIG_VALUE_MAX];
};

static size_t line_of(const struct reader *r)
{
    return r->event.start_mark.line + 1;
}

/* Put FILE:LINE in front of the failure at hand. */
static enum mr_rc at_line(struct reader *r, size_t line)
{
    return mr_err_prefix(r->err, "%s:%zu", r->path, line);
}

static enum mr_rc load_bytes(struct reader *r)
{
    struct stat status;
    enum mr_rc rc = MR_OK;
    int fd = open(r->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mr_fail(r->err, MR_USAGE, "open configuration %s", r->path);
    if (fstat(fd, &status) != 0)
        rc = mr_fail(r->err, MR_FATAL, "look at configuration %s", r->path);
    else if (S_ISDIR(status.st_mode))
        rc = mr_reject(r->err, MR_USAGE, "configuration %s: is a directory", r->path);
    while (rc == MR_OK) {
        ssize_t n = read(fd, r->bytes + r->len, MR_CONFIG_FILE_BYTES_MAX + 1 - r->len);
        if (n < 0)
            rc = mr_fail(r->err, MR_FATAL, "read configuration %s", r->path);
        if (n <= 0)
            break;
        r->len += (size_t)n;
        if (r->len > MR_CONFIG_FILE_BYTES_MAX)
            rc = mr_reject(r->err, MR_USAGE, "configuration %s: over %d bytes", r->path,
                           MR_CONFIG_FILE_BYTES_MAX);
    }
    close(fd);
    return rc;
}

/* True when a tab stands in the indentation of a line: libyaml says it in words that help nobody.
 */
static bool tab_indents(const struct reader *r, size_t line)
{
    const unsigned char *at = r->bytes, *end = r->bytes + r->len;
    while (line-- > 0 && at) {
        at = memchr(at, '\n', (size_t)(end - at));
        at = at ? at + 1 : NULL;
    }
    while (at && at < end && *at == ' ')
        at++;
    return at && at < end && *at == '\t';
}

static enum mr_rc reject_syntax(struct reader *r)
{
    const yaml_parser_t *parser = &r->parser;
    size_t line = parser->problem_mark.line;
    if (parser->error == YAML_READER_ERROR) { /* knows an offset only */
        line = 0;
        for (size_t i = 0; i < parser->problem_offset && i < r->len; i++)
            line += r->bytes[i] == '\n';
        return mr_reject(r->err, MR_USAGE, "%s:%zu: expected UTF-8 text: %s", r->path, line + 1,
                         parser->problem ? parser->problem : "unreadable");
    }
    if (tab_indents(r, line))
        return mr_reject(r->err, MR_USAGE, "%s:%zu: a tab in the indentation; use blanks", r->path,
                         line + 1);
    return mr_reject(r->err, MR_USAGE, "%s:%zu: no YAML: %s%s%s", r->path, line + 1,
                     parser->problem ? parser->problem : "out of memory",
                     parser->context ? " " : "", parser->context ? parser->context : "");
}

static enum mr_rc next(struct reader *r)
{
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event))
        return reject_syntax(r);
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (r->event.type == YAML_SCALAR_EVENT) {
        anchor = r->event.data.scalar.anchor;
        tag = r->event.data.scalar.tag;
    } else if (r->event.type == YAML_MAPPING_START_EVENT) {
        anchor = r->event.data.mapping_start.anchor;
        tag = r->event.data.mapping_start.tag;
    } else if (r->event.type == YAML_SEQUENCE_START_EVENT) {
        anchor = r->event.data.sequence_start.anchor;
        tag = r->event.data.sequence_start.tag;
    }
    if (anchor || tag || r->event.type == YAML_ALIAS_EVENT)
        return mr_reject(r->err, MR_USAGE, "%s:%zu: anchors, aliases and tags are not supported",
                         r->path, line_of(r));
    return MR_OK;
}

static const char *node_name(const yaml_event_t *event)
{
    return event->type == YAML_MAPPING_START_EVENT    ? "a mapping"
           : event->type == YAML_SEQUENCE_START_EVENT ? "a list"
           : event->type == YAML_SCALAR_EVENT         ? "a single value"
                                                      : "nothing";
}

static bool empty_plain(const yaml_event_t *event)
{
    return event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0 &&
           event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* The scalar at hand, expanded, appended to r->value. */
static enum mr_rc take_scalar(struct reader *r, const char *path, size_t used)
{
    const char *text = (const char *)r->event.data.scalar.value;
    if (r->event.type != YAML_SCALAR_EVENT)
        return mr_reject(r->err, MR_USAGE, "%s:%zu: %s: expected a single value, got %s", r->path,
                         line_of(r), path, node_name(&r->event));
    if (strlen(text) != r->event.data.scalar.length)
        return mr_reject(r->err, MR_USAGE, "%s:%zu: %s: a NUL character", r->path, line_of(r),
                         path);
    if (mr_config_expand(text, r->value + used, sizeof r->value - used, r->err) != MR_OK) {
        mr_err_prefix(r->err, "%s", path);
        return at_line(r, line_of(r));
    }
    return MR_OK;
}

/* A sequence of scalars, joined by commas into r->value. */
static enum mr_rc take_sequence(struct reader *r, const char *path)
{
    size_t used = 0;
    r->value[0] = '\0';
    for (enum mr_rc rc; (rc = next(r)) != MR_OK || r->event.type != YAML_SEQUENCE_END_EVENT;) {
        if (rc != MR_OK || (rc = take_scalar(r, path, used + (used > 0))) != MR_OK)
            return rc;
        const char *item = r->value + used + (used > 0);
        if (strchr(item, ',') || !*item)
            return mr_reject(r->err, MR_USAGE,
                             "%s:%zu: %s: expected items without comma, got \"%.80s\"", r->path,
                             line_of(r), path, item);
        if (used > 0)
            r->value[used] = ',';
        used += strlen(r->value + used);
    }
    return MR_OK;
}

static enum mr_rc read_keys(struct reader *r, const char *prefix);

/* Do keys begin with "path_"? */
static bool is_group(const char *path)
{
    size_t count, len = strlen(path);
    const struct mr_config_row *rows = mr_config_rows(&count);
    for (size_t i = 0; i < count; i++)
        if (strncmp(rows[i].path, path, len) == 0 && rows[i].path[len] == '_')
            return true;
    return false;
}

/* prefix: "section.", or "section.group_" inside a group of keys: "query: {jetstream: {url: ...}}"
 * is query.jetstream_url. */
static enum mr_rc read_key(struct reader *r, const char *prefix)
{
    char path[3 * SECTION_MAX];
    size_t line = line_of(r);
    if (r->event.type != YAML_SCALAR_EVENT)
        return mr_reject(r->err, MR_USAGE, "%s:%zu: %.*s: expected a key, got %s", r->path, line,
                         (int)strlen(prefix) - 1, prefix, node_name(&r->event));
    snprintf(path, sizeof path, "%.127s%.63s", prefix, (const char *)r->event.data.scalar.value);
    const struct mr_config_row *row = mr_config_find(path);
    size_t count, index = row ? (size_t)(row - mr_config_rows(&count)) : 0;
    MR_ASSERT(index < ROWS_MAX);
    if (row && r->first_line[index])
        return mr_reject(r->err, MR_USAGE, "%s:%zu: %s: set twice, first in line %zu", r->path,
                         line, path, r->first_line[index]);
    if (row)
        r->first_line[index] = line;
    enum mr_rc rc = next(r);
    if (rc != MR_OK)
        return rc;
    if (r->event.type == YAML_MAPPING_START_EVENT && !row && is_group(path)) {
        strcat(path, "_");
        return read_keys(r, path);
    }
    if (empty_plain(&r->event) && row)
        return mr_reject(r->err, MR_USAGE, "%s:%zu: %s: no value; write \"\" for an empty text",
                         r->path, line, path);
    bool list = row && strcmp(row->type, "LIST") == 0 && r->event.type == YAML_SEQUENCE_START_EVENT;
    if (row && (rc = list ? take_sequence(r, path) : take_scalar(r, path, 0)) != MR_OK)
        return rc;
    return mr_config_set(r->config, path, r->value, r->err) == MR_OK ? MR_OK : at_line(r, line);
}

static enum mr_rc read_keys(struct reader *r, const char *prefix)
{
    enum mr_rc rc;
    while ((rc = next(r)) == MR_OK && r->event.type != YAML_MAPPING_END_EVENT)
        if ((rc = read_key(r, prefix)) != MR_OK)
            break;
    return rc;
}

static enum mr_rc check_section(struct reader *r, const char *section, size_t line)
{
    size_t count, len = strlen(section);
    const struct mr_config_row *rows = mr_config_rows(&count);
    bool known = false;
    for (size_t i = 0; i < count && !known; i++)
        known = strncmp(rows[i].path, section, len) == 0 && rows[i].path[len] == '.';
    if (!known) {
        const char *nearest = mr_config_nearest_section(section, &len);
        if (nearest)
            return mr_reject(r->err, MR_USAGE, "%s:%zu: %s: unknown section; did you mean %.*s?",
                             r->path, line, section, (int)len, nearest);
        return mr_reject(r->err, MR_USAGE, "%s:%zu: %s: unknown section", r->path, line, section);
    }
    for (size_t i = 0; i < r->section_count; i++)
        if (strcmp(r->sections[i], section) == 0)
            return mr_reject(r->err, MR_USAGE, "%s:%zu: %s: section given twice", r->path, line,
                             section);
    snprintf(r->sections[r->section_count++], SECTION_MAX, "%s", section);
    return MR_OK;
}

static enum mr_rc read_section(struct reader *r)
{
    char section[SECTION_MAX + 1];
    size_t line = line_of(r);
    if (r->event.type != YAML_SCALAR_EVENT)
        return mr_reject(r->err, MR_USAGE, "%s:%zu: expected a section, got %s", r->path, line,
                         node_name(&r->event));
    snprintf(section, sizeof section, "%.63s", (const char *)r->event.data.scalar.value);
    enum mr_rc rc = check_section(r, section, line);
    if (rc == MR_OK)
        rc = next(r);
    if (rc != MR_OK || empty_plain(&r->event))
        return rc; /* "section:" with nothing under it is a section of defaults */
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return mr_reject(r->err, MR_USAGE, "%s:%zu: %s: expected keys with values, got %s", r->path,
                         line, section, node_name(&r->event));
    strcat(section, ".");
    return read_keys(r, section);
}

static enum mr_rc read_document(struct reader *r)
{
    enum mr_rc rc = next(r); /* the stream's start */
    if (rc == MR_OK)
        rc = next(r);
    if (rc != MR_OK || r->event.type == YAML_STREAM_END_EVENT)
        return rc; /* an empty file: all defaults */
    if ((rc = next(r)) != MR_OK)
        return rc;
    if (r->event.type != YAML_MAPPING_START_EVENT && !empty_plain(&r->event))
        return mr_reject(r->err, MR_USAGE, "%s:%zu: expected sections, got %s", r->path, line_of(r),
                         node_name(&r->event));
    bool mapping = r->event.type == YAML_MAPPING_START_EVENT;
    while (mapping && (rc = next(r)) == MR_OK && r->event.type != YAML_MAPPING_END_EVENT)
        if ((rc = read_section(r)) != MR_OK)
            return rc;
    if (rc == MR_OK)
        rc = next(r); /* the document's end */
    if (rc == MR_OK)
        rc = next(r);
    if (rc == MR_OK && r->event.type != YAML_STREAM_END_EVENT)
        rc = mr_reject(r->err, MR_USAGE, "%s:%zu: a second document", r->path, line_of(r));
    return rc;
}

enum mr_rc mr_config_file_read(const char *path, struct mr_config *config, struct mr_err *err)
{
    static unsigned char
        bytes[MR_CONFIG_FILE_BYTES_MAX + 1]; /* one reader, at start and on reload */
    static struct reader reader;
    reader = (struct reader){.path = path, .bytes = bytes, .config = config, .err = err};
    enum mr_rc rc = load_bytes(&reader);
    if (rc == MR_OK && !yaml_parser_initialize(&reader.parser))
        return mr_reject(err, MR_FATAL, "read configuration %s: out of memory", path);
    if (rc == MR_OK) {
        yaml_parser_set_input_string(&reader.parser, bytes, reader.len);
        rc = read_document(&reader);
        yaml_event_delete(&reader.event);
        yaml_parser_delete(&reader.parser);
    }
    explicit_bzero(bytes, sizeof bytes);
    explicit_bzero(&reader, sizeof reader);
    return rc;
}
