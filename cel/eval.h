/* cel/eval.h: run a program. */
#ifndef MR_CEL_EVAL_H
#define MR_CEL_EVAL_H
#include "cel/bytecode.h"

struct mr_cel_regex;

/* A loaded program: a view over its bytes, which must outlive it, and its regular expressions.
 * Immutable; any number of threads may evaluate it. */
struct mr_cel_program {
    const uint8_t *bytes;
    uint32_t len;
    uint32_t pattern_count;
    struct mr_cel_regex **patterns; /* heap */
};

#define MR_CEL_STEPS_DEFAULT   UINT64_C(1000000)
#define MR_CEL_TIME_NS_DEFAULT UINT64_C(100000000)

/* Called behind each instruction with the value that it left. */
typedef void mr_cel_trace(void *context, uint32_t instruction, struct mr_cel_val value);

/* One evaluation. Zero means the default, or none. */
struct mr_cel_run {
    const struct mr_cel_val
        *variables; /* in the order of the environment that the program was compiled for */
    uint32_t variable_count;
    struct mr_cel_arena
        *arena;           /* frame and results; reset it when the result is no longer needed */
    uint64_t steps_max;   /* 0: MR_CEL_STEPS_DEFAULT */
    uint64_t time_ns_max; /* 0: MR_CEL_TIME_NS_DEFAULT; looked at every 16,384 steps */
    struct mr_cel_regex_cache
        *regex;          /* for patterns that are no constants; NULL: those are errors */
    mr_cel_trace *trace; /* NULL: none */
    void *trace_context;
    uint64_t steps_used; /* out */
};

/* The value of the program's expression, or an error or unknown. Allocates from the arena only,
 * uses less than 32 KiB of C stack, ends within the limits. The value borrows from program,
 * variables and arena. */
struct mr_cel_val mr_cel_eval(const struct mr_cel_program *program, struct mr_cel_run *run);
#endif
