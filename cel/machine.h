/* cel/machine.h: the state of one evaluation, and the instructions that are too long for the
 * evaluator's loop (run.c). Shared by run.c and machine.c alone. */
#ifndef MR_CEL_MACHINE_H
#define MR_CEL_MACHINE_H
#include <stddef.h>

#include "cel/eval.h"
#include "cel/ops.h"

enum {
    MR_CEL_ABSENT = MR_CEL_KIND_COUNT
}; /* kind of an optional element that is not there; in registers only */

/* State of a macro's loop: what it goes over, and what it builds. */
struct mr_cel_loop {
    struct mr_cel_iter it;
    struct mr_cel_map_new map;
    struct mr_cel_val *items;
    uint32_t count, capacity;
};

struct mr_cel_machine {
    struct mr_cel_ctx ctx;
    const struct mr_cel_program *program;
    struct mr_cel_run *run;
    struct mr_cel_val *registers;
    struct mr_cel_loop *loops;
};

static inline const struct mr_cel_head *mr_cel_head_of(const struct mr_cel_program *program)
{
    return (const void *)program->bytes;
}

static inline struct mr_cel_val mr_cel_code_error(enum mr_cel_code code)
{
    return mr_cel_error(code, (struct mr_str){NULL, 0});
}

static inline struct mr_str mr_cel_key_text(const struct mr_cel_machine *m,
                                            const struct mr_cel_path_key *key)
{
    return (struct mr_str){(const char *)m->program->bytes + key->offset, key->len};
}

static inline const struct mr_cel_path *mr_cel_path_at(const struct mr_cel_machine *m,
                                                       uint32_t index)
{
    const struct mr_cel_head *head = mr_cel_head_of(m->program);
    return (const struct mr_cel_path *)(const void *)(m->program->bytes + head->paths.offset) +
           index;
}

static inline const struct mr_cel_path_key *mr_cel_path_keys(const struct mr_cel_machine *m,
                                                             const struct mr_cel_path *path)
{
    return (const void *)(m->program->bytes + path->keys);
}

/* A value as two words: no compiler takes it apart to put it together again. */
static inline void mr_cel_put(struct mr_cel_val *to, uint64_t head, uint64_t bits)
{
    memcpy(to, &head, 8);
    memcpy((char *)to + 8, &bits, 8);
}
static inline uint64_t mr_cel_head_word(enum mr_cel_kind kind, enum mr_cel_form form, uint32_t len)
{
    return (uint64_t)len << 32 | (uint64_t)form << 8 | (uint64_t)kind;
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && offsetof(struct mr_cel_val, form) == 1 &&
                  offsetof(struct mr_cel_val, len) == 4 && offsetof(struct mr_cel_val, bits) == 8,
              "mr_cel_head_word writes kind, form and len of a value");

/* One instruction each; "kind NULL" as result: done. */
struct mr_cel_val mr_cel_run_in_set(struct mr_cel_machine *m, struct mr_cel_val v, uint32_t index);
struct mr_cel_val mr_cel_run_call(struct mr_cel_machine *m, const struct mr_cel_ins *ins);
struct mr_cel_val mr_cel_run_list(struct mr_cel_machine *m, const struct mr_cel_ins *ins);
struct mr_cel_val mr_cel_run_map(struct mr_cel_machine *m, const struct mr_cel_ins *ins);
bool mr_cel_run_iterate(struct mr_cel_machine *m, struct mr_cel_loop *loop,
                        struct mr_cel_val *range);
struct mr_cel_val mr_cel_run_append(struct mr_cel_machine *m, struct mr_cel_loop *loop,
                                    struct mr_cel_val v);
struct mr_cel_val mr_cel_run_put(struct mr_cel_machine *m, struct mr_cel_loop *loop,
                                 const struct mr_cel_val entry[2]);
struct mr_cel_val mr_cel_run_put_all(struct mr_cel_machine *m, struct mr_cel_loop *loop,
                                     struct mr_cel_val map);
struct mr_cel_val mr_cel_run_end_map(struct mr_cel_machine *m, struct mr_cel_loop *loop);
struct mr_cel_val mr_cel_run_end_list(struct mr_cel_loop *loop);
struct mr_cel_val mr_cel_run_optional_entry(struct mr_cel_val v);
struct mr_cel_val mr_cel_run_search(struct mr_cel_machine *m, struct mr_cel_val v,
                                    uint32_t pattern);
struct mr_cel_val mr_cel_run_binary(struct mr_cel_machine *m, enum mr_cel_op op,
                                    struct mr_cel_val a, struct mr_cel_val b);
struct mr_cel_val mr_cel_run_unary(struct mr_cel_machine *m, const struct mr_cel_ins *ins,
                                   struct mr_cel_val a);
bool mr_cel_run_unwrap(struct mr_cel_val *v);
#endif
