#include "supervisor/config_source.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define ENV_PREFIX  "MILLRACE_"
#define TEST_PREFIX "MILLRACE_TEST_" /* belongs to tests and scripts around us */

enum { NAME_MAX_LEN = 96 };

static void env_name(const char *path, char out[NAME_MAX_LEN])
{
    size_t len = (size_t)snprintf(out, NAME_MAX_LEN, ENV_PREFIX "%s", path);
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(out[i] == '.' ? '_' : toupper((unsigned char)out[i]));
}

static const struct mr_config_row *row_of_env(const char *name, size_t len)
{
    size_t count;
    char candidate[NAME_MAX_LEN];
    const struct mr_config_row *rows = mr_config_rows(&count);
    for (size_t i = 0; i < count; i++) {
        env_name(rows[i].path, candidate);
        if (strlen(candidate) == len && memcmp(candidate, name, len) == 0)
            return &rows[i];
    }
    return NULL;
}

static enum mr_rc reject_env(const char *name, size_t len, struct mr_err *err)
{
    char path[NAME_MAX_LEN], suggestion[NAME_MAX_LEN];
    snprintf(path, sizeof path, "%.*s", (int)(len - strlen(ENV_PREFIX)), name + strlen(ENV_PREFIX));
    for (char *at = path; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    if (strchr(path, '_'))
        *strchr(path, '_') = '.'; /* no section's name has an underscore */
    const char *nearest = mr_config_nearest(path);
    if (!nearest)
        return mr_reject(err, MR_USAGE, "environment: %.*s: unknown variable", (int)len, name);
    env_name(nearest, suggestion);
    return mr_reject(err, MR_USAGE, "environment: %.*s: unknown variable; did you mean %s?",
                     (int)len, name, suggestion);
}

static enum mr_rc apply_environment(const struct mr_config_source *source, struct mr_config *config,
                                    struct mr_err *err)
{
    for (char *const *entry = source->environment; entry && *entry; entry++) {
        if (strncmp(*entry, ENV_PREFIX, strlen(ENV_PREFIX)) != 0 ||
            strncmp(*entry, TEST_PREFIX, strlen(TEST_PREFIX)) == 0)
            continue;
        size_t len = strcspn(*entry, "=");
        const struct mr_config_row *row = row_of_env(*entry, len);
        if (!row)
            return reject_env(*entry, len, err);
        if (mr_config_set(config, row->path, *entry + len + ((*entry)[len] == '='), err) != MR_OK)
            return mr_err_prefix(err, "environment: %.*s", (int)len, *entry);
    }
    return MR_OK;
}

/* The variable that every NATS tool knows is the default of nats.url. */
static enum mr_rc apply_nats_url(const struct mr_config_source *source, struct mr_config *config,
                                 struct mr_err *err)
{
    static const char name[] = "NATS_URL=";
    for (char *const *entry = source->environment; entry && *entry; entry++)
        if (strncmp(*entry, name, strlen(name)) == 0 && (*entry)[strlen(name)] != '\0')
            return mr_config_set(config, "nats.url", *entry + strlen(name), err);
    return MR_OK;
}

static enum mr_rc apply_flags(const struct mr_config_source *source, struct mr_config *config,
                              struct mr_err *err)
{
    for (size_t i = 0; i < source->flag_count; i++) {
        const char *flag = source->flags[i] + strlen("--");
        const char *equals = strchr(flag, '=');
        char path[NAME_MAX_LEN];
        if (!equals)
            return mr_reject(err, MR_USAGE, "flag --%s: expected --section.key=value", flag);
        snprintf(path, sizeof path, "%.*s", (int)(equals - flag), flag);
        if (mr_config_set(config, path, equals + 1, err) != MR_OK)
            return mr_err_prefix(err, "flag --%s", path);
    }
    return MR_OK;
}

enum mr_rc mr_config_load(const struct mr_config_source *source, struct mr_config *config,
                          struct mr_err *err)
{
    mr_config_init(config);
    enum mr_rc rc = apply_nats_url(source, config, err);
    if (rc == MR_OK && source->file)
        rc = mr_config_file_read(source->file, config, err);
    if (rc == MR_OK)
        rc = apply_environment(source, config, err);
    if (rc == MR_OK)
        rc = apply_flags(source, config, err);
    if (rc == MR_OK && (rc = mr_config_check(config, err)) != MR_OK && source->file)
        mr_err_prefix(err, "%s", source->file);
    return rc;
}

/* The value of "NAME" or "NAME:-default" between the braces; NULL: not set. */
static const char *variable(const char *inside, size_t len, char *name, size_t size)
{
    const char *fallback = NULL;
    size_t name_len = len;
    for (size_t i = 0; i + 1 < len; i++)
        if (inside[i] == ':' && inside[i + 1] == '-') {
            name_len = i;
            fallback = inside + i + 2;
            break;
        }
    snprintf(name, size, "%.*s", (int)name_len, inside);
    const char *value = getenv(name);
    return fallback && (!value || !*value) ? fallback : value;
}

enum mr_rc mr_config_expand(const char *text, char *out, size_t size, struct mr_err *err)
{
    size_t used = 0;
    while (*text) {
        const char *piece = text;
        size_t len = 1;
        if (text[0] == '$' && text[1] == '$') {
            text += 2;
        } else if (text[0] == '$' && text[1] == '{') {
            const char *inside = text + 2, *end = strchr(inside, '}');
            char name[NAME_MAX_LEN];
            if (!end)
                return mr_reject(err, MR_USAGE, "\"${\" without \"}\"");
            piece = variable(inside, (size_t)(end - inside), name, sizeof name);
            if (!piece)
                return mr_reject(
                    err, MR_USAGE,
                    "environment variable %s is not set; ${%s:-default} gives it a default", name,
                    name);
            len = piece > inside && piece <= end ? (size_t)(end - piece) : strlen(piece);
            text = end + 1;
        } else {
            text++;
        }
        if (len >= size - used)
            return mr_reject(err, MR_USAGE, "value of over %zu bytes", size - 1);
        memcpy(out + used, piece, len);
        used += len;
    }
    out[used] = '\0';
    return MR_OK;
}
