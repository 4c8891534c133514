#include "common/err.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mr_panic_hook *panic_hook;

/* What a message quotes may come from anywhere: it stays one line, and does nothing to a terminal.
 */
static void keep_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

enum mr_rc mr_err_set(struct mr_err *err, enum mr_rc rc, int with_errno, const char *file, int line,
                      const char *fmt, ...)
{
    int saved = errno;
    if (!err)
        return rc;
    err->rc = rc;
    err->errno_value = with_errno ? saved : 0;
    err->file = file;
    err->line = line;
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    if (with_errno && saved != 0 && len >= 0 && (size_t)len < sizeof err->text)
        snprintf(err->text + len, sizeof err->text - (size_t)len, ": %s", strerror(saved));
    keep_printable(err->text);
    return rc;
}

enum mr_rc mr_err_prefix(struct mr_err *err, const char *fmt, ...)
{
    char clause[sizeof err->text];
    char story[sizeof err->text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(clause, sizeof clause, fmt, args);
    va_end(args);
    memcpy(story, err->text, sizeof story);
    int len = snprintf(err->text, sizeof err->text, "%s: ", clause);
    if (len >= 0 && (size_t)len < sizeof err->text)
        snprintf(err->text + len, sizeof err->text - (size_t)len, "%s", story);
    return err->rc;
}

const char *mr_rc_name(enum mr_rc rc)
{
    switch (rc) {
    case MR_OK:
        return "MR_OK";
    case MR_AGAIN:
        return "MR_AGAIN";
    case MR_FULL:
        return "MR_FULL";
    case MR_CLOSED:
        return "MR_CLOSED";
    case MR_CORRUPT:
        return "MR_CORRUPT";
    case MR_USAGE:
        return "MR_USAGE";
    case MR_RETRY:
        return "MR_RETRY";
    case MR_FATAL:
        return "MR_FATAL";
    }
    return "MR_?";
}

int mr_exit_code(enum mr_rc rc)
{
    switch (rc) {
    case MR_OK:
    case MR_CLOSED:
        return MR_EXIT_DONE;
    case MR_USAGE:
        return MR_EXIT_CONFIG;
    case MR_AGAIN:
    case MR_FULL:
    case MR_RETRY:
        return MR_EXIT_RETRY;
    case MR_CORRUPT:
    case MR_FATAL:
        break;
    }
    return EXIT_FAILURE;
}

int mr_err_exit_code(enum mr_rc rc, const struct mr_err *err)
{
    bool full = rc == MR_FATAL && (err->errno_value == ENOSPC || err->errno_value == EDQUOT);
    return full ? MR_EXIT_RETRY : mr_exit_code(rc);
}

void mr_panic_set_hook(mr_panic_hook *hook)
{
    panic_hook = hook;
}

void mr_panic(const char *file, int line, const char *what)
{
    char text[256];
    snprintf(text, sizeof text, "%s:%d: assertion failed: %s", file, line, what);
    fprintf(stderr, "%s\n", text);
    if (panic_hook)
        panic_hook(text);
    abort();
}
