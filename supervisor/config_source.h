/* supervisor/config_source.h: where the configuration comes from. Flags beat the environment, which
 * beats the file, which beats the defaults. Every error says where the wrong value stands. */
#ifndef MR_SUPERVISOR_CONFIG_SOURCE_H
#define MR_SUPERVISOR_CONFIG_SOURCE_H
#include <stddef.h>

#include "common/config.h"
#include "common/err.h"

enum { MR_CONFIG_FILE_BYTES_MAX = 1 << 20 };

struct mr_config_source {
    const char *file;         /* NULL: none */
    char *const *environment; /* NULL-terminated "NAME=value"; only MILLRACE_... are looked at */
    char *const *flags;       /* "--section.key=value" */
    size_t flag_count;
};

/* Defaults, then the file, the environment and the flags, then the check of the whole.
 * MR_USAGE: something is wrong with it; MR_FATAL: the file cannot be read. */
MR_MUST_USE enum mr_rc mr_config_load(const struct mr_config_source *source,
                                      struct mr_config *config, struct mr_err *err);

/* Set what a YAML file holds: a mapping of sections, each a mapping of keys to scalars or, for
 * lists, sequences of scalars. "${VAR}" and "${VAR:-default}" in a scalar are replaced from the
 * process's environment ("$$" is a dollar sign); what they bring in is text and never YAML. Errors
 * begin with FILE:LINE. */
MR_MUST_USE enum mr_rc mr_config_file_read(const char *path, struct mr_config *config,
                                           struct mr_err *err);

/* Replace ${VAR} in text. MR_USAGE: a variable that is not set, a brace that is not closed, a
 * result that does not fit. */
MR_MUST_USE enum mr_rc mr_config_expand(const char *text, char *out, size_t size,
                                        struct mr_err *err);
#endif
