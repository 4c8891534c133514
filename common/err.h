/* common/err.h: result codes, failures with a story, and assertions. */
#ifndef MR_COMMON_ERR_H
#define MR_COMMON_ERR_H
#include <stdarg.h>

#define MR_MUST_USE         __attribute__((warn_unused_result))
#define MR_PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))

/* What a call came to. Only MR_OK promises that its outputs are set. */
enum mr_rc {
    MR_OK,      /* done */
    MR_AGAIN,   /* nothing to do now; ask again later */
    MR_FULL,    /* no room now; ask again after the other side moved */
    MR_CLOSED,  /* the other side is gone for good */
    MR_CORRUPT, /* bytes from outside do not hold what they must */
    MR_USAGE,   /* the caller's input is wrong: configuration, arguments, a request */
    MR_RETRY,   /* failed now, may succeed later: a network or a server that is away */
    MR_FATAL,   /* failed, and trying again will not help */
};

/* Exit codes by which a process speaks to the supervisor; anything else is a crash. */
enum mr_exit { MR_EXIT_DONE = 0, MR_EXIT_USAGE = 2, MR_EXIT_CONFIG = 100, MR_EXIT_RETRY = 111 };

/* A failure with its story, on the caller's stack. Text reads "what, on what, why". */
struct mr_err {
    enum mr_rc rc;
    int errno_value;  /* 0 where errno has no part in it */
    const char *file; /* where it was recorded; static storage */
    int line;
    char text[508]; /* one line, NUL-terminated; control characters are shown as ? */
};

/* Record a failure; returns rc so that callers can write "return mr_fail(...)". err may be NULL.
 * mr_fail appends the text of errno, mr_reject does not (bad input has no errno). */
#define mr_fail(err, rc, ...)   mr_err_set((err), (rc), 1, __FILE__, __LINE__, __VA_ARGS__)
#define mr_reject(err, rc, ...) mr_err_set((err), (rc), 0, __FILE__, __LINE__, __VA_ARGS__)
enum mr_rc mr_err_set(struct mr_err *err, enum mr_rc rc, int with_errno, const char *file, int line,
                      const char *fmt, ...) MR_PRINTF(6, 7);

/* Put one more clause in front of a recorded failure: "clause: text". Returns err's code. */
enum mr_rc mr_err_prefix(struct mr_err *err, const char *fmt, ...) MR_PRINTF(2, 3);

const char *mr_rc_name(enum mr_rc rc); /* "MR_OK", ...; static storage */
int mr_exit_code(enum mr_rc rc);       /* the exit code by which a process reports rc */
/* The same for a failure with its story: a full disk or a full /dev/shm is worth another try. */
int mr_err_exit_code(enum mr_rc rc, const struct mr_err *err);

/* A bug in our own code. Stays on in release builds. The text goes to stderr and, when a hook is
 * set (shm/proc.c sets one), to the process's cell on the board; then abort(). */
#define MR_ASSERT(condition)                          \
    do {                                              \
        if (__builtin_expect(!(condition), 0))        \
            mr_panic(__FILE__, __LINE__, #condition); \
    } while (0)
#ifdef MR_TEST_BUILD
#define MR_ASSERT_SLOW(condition) MR_ASSERT(condition)
#else
#define MR_ASSERT_SLOW(condition) ((void)0)
#endif
_Noreturn void mr_panic(const char *file, int line, const char *what);
typedef void mr_panic_hook(const char *text);
void mr_panic_set_hook(mr_panic_hook *hook);
#endif
