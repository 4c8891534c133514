/* cel/cel.h: CEL, the Common Expression Language, for programs in C: the library's public header.
 * Architecture, the mapping of BSON, limits and decisions: docs/cel.md. A complete program:
 * cel/example.c
 *
 *   env       what an expression may name: variables with types, libraries          cel/env.h
 *   compile   text -> program (bytes) or a diagnostic with line and column          here,
 * cel/diag.h load      bytes, from anywhere -> a program that can be evaluated               here
 *   eval      program, values of the variables, an arena -> a value or an error     cel/eval.h,
 * cel/val.h print     a value as text; a program as instructions; why a result is what it is   here
 *
 * Source: the specification (doc/langdef.md of cel-spec) and its conformance suite. */
#ifndef MR_CEL_CEL_H
#define MR_CEL_CEL_H
#include "cel/arena.h"
#include "cel/eval.h"
#include "cel/syntax.h"

/* More flags of struct mr_cel_front, beside MR_CEL_NO_MACROS and MR_CEL_NO_CHECK. */
enum {
    MR_CEL_STRIPPED =
        16, /* no source and no places in the program: errors say no line, programs are smaller */
    MR_CEL_EXPLAINED = 32, /* one instruction for each sub-expression, nothing computed ahead: for
                              mr_cel_explain */
};

struct mr_cel_compiled {
    void *bytes;  /* malloc'd, 8-byte aligned; taken by the caller, free() */
    uint32_t len; /* a multiple of 16 */
    const struct mr_cel_type
        *type; /* deduced; NULL or dyn without a check. Borrowed from the arena */
};
/* Parse, check, and compile to a program for the environment's variables. Allocates from
 * front->arena (reset it when diag and type have been read), and the program's bytes. Needs at most
 * 64 KiB of C stack at the default limits. Returns MR_OK, or MR_USAGE with the reason in
 * front->diag. Thread-safe with an arena for each thread. */
MR_MUST_USE enum mr_rc mr_cel_compile(const struct mr_cel_front *front, struct mr_str source,
                                      struct mr_cel_compiled *out);

/* Check the bytes and make a program of them. They are borrowed until unload, need not come from
 * this process, and may be hostile: whatever passes can be evaluated within its limits. 8-byte
 * aligned. Returns MR_OK; MR_CORRUPT: not a program of this version, or damaged; MR_FATAL: out of
 * memory. */
MR_MUST_USE enum mr_rc mr_cel_load(const void *bytes, size_t len, struct mr_cel_program *out,
                                   struct mr_err *err);
void mr_cel_unload(struct mr_cel_program *program);

/* Variables, as the environment had them: their number and names. */
uint32_t mr_cel_program_variable_count(const struct mr_cel_program *program);
struct mr_str mr_cel_program_variable_name(const struct mr_cel_program *program, uint32_t index);
/* Where in the source an error arose. False: not known (stripped, or no place). Lines and columns
 * from 1. */
bool mr_cel_program_place(const struct mr_cel_program *program, struct mr_cel_val error,
                          uint32_t *line, uint32_t *column);

/* Text, in the arena, cut at some kilobytes. A value as CEL writes it: 1u, "a", [1, 2],
 * timestamp("..."); an error as its message. */
struct mr_str mr_cel_value_text(struct mr_cel_val value, struct mr_cel_arena *arena);
/* A program's instructions, a line each. */
struct mr_str mr_cel_disassemble(const struct mr_cel_program *program, struct mr_cel_arena *arena);
/* Why an expression's value is what it is: a line for each of its parts, the value and the part's
 * source text, outer parts first; inside of a loop, the last turn's. Compiles and evaluates the
 * expression anew. run   its variables and limits; its arena holds *out Returns MR_OK; MR_USAGE
 * with the reason in front->diag; MR_FULL: the arena is too small; MR_FATAL: out of memory. */
MR_MUST_USE enum mr_rc mr_cel_explain(const struct mr_cel_front *front, struct mr_str source,
                                      struct mr_cel_run *run, struct mr_str *out);
#endif
