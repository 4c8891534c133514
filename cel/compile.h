/* cel/compile.h: the compiler's inside: what its files share. From a checked tree (ast.h) to a
 * program (bytecode.h): fold.c computes what is constant, compile.c and compile_macro.c write
 * instructions, assemble.c lays the parts out. All memory but the finished program is the
 * compilation's arena. */
#ifndef MR_CEL_COMPILE_H
#define MR_CEL_COMPILE_H
#include "cel/ops.h"
#include "cel/syntax.h"

enum {
    MR_CEL_NODE_CONSTANT =
        MR_CEL_NODE_COUNT, /* kind of a node that fold.c has computed; index: of the constant */
};

/* An array in the arena that grows by moving. */
struct mr_cel_buffer {
    void *items;
    uint32_t count, capacity;
};

struct mr_cel_text {
    struct mr_str text; /* of a path: data NULL: a step into a list, and len is the index */
};
struct mr_cel_path_plan {
    uint32_t variable;     /* UINT32_MAX: from a value */
    uint32_t first, count; /* keys */
    uint32_t cache;        /* number of a cached first step; UINT32_MAX: none */
};

/* A place that is jumped to before it is known. */
struct mr_cel_label {
    uint32_t at;      /* instruction; UINT32_MAX: not bound yet */
    uint32_t targets; /* chain of instructions whose target it is, through that member; UINT32_MAX:
                         end */
    uint32_t choices; /* the same for c (CONDITION) */
};

struct mr_cel_compiler {
    const struct mr_cel_front *front;
    const struct mr_cel_ast *ast;
    struct mr_cel_ctx ctx; /* for folding */
    bool plain;            /* one instruction for each node, nothing folded: for the explainer */
    bool failed;           /* diag is set */
    struct mr_cel_buffer instructions; /* struct mr_cel_ins */
    struct mr_cel_buffer places;       /* struct mr_cel_place */
    struct mr_cel_buffer constants;    /* struct mr_cel_val */
    struct mr_cel_buffer paths;        /* struct mr_cel_path_plan */
    struct mr_cel_buffer keys;         /* struct mr_cel_text */
    struct mr_cel_buffer sets;         /* struct mr_cel_set; slots are made by assemble.c */
    struct mr_cel_buffer patterns;     /* struct mr_cel_text */
    const struct mr_cel_node *node;    /* being compiled: where instructions come from */
    uint32_t registers, registers_max; /* in use; most in use at once */
    uint32_t iterators, iterators_max;
    uint32_t loops;  /* around what is being compiled */
    uint32_t caches; /* of first steps of paths: registers behind registers_max */
};

/* Room for one more item, zeroed; NULL: failed. */
void *mr_cel_buffer_add(struct mr_cel_compiler *c, struct mr_cel_buffer *buffer, size_t item_size);
void mr_cel_compile_out_of_memory(struct mr_cel_compiler *c);
void mr_cel_compile_too_large(struct mr_cel_compiler *c);

/* Replace what is constant below node by CONSTANT nodes. True: node itself has the value *out (and
 * is left as it is). */
bool mr_cel_fold(struct mr_cel_compiler *c, struct mr_cel_node *node, struct mr_cel_val *out);
/* fold, and make node a CONSTANT if it is one. */
void mr_cel_fold_in_place(struct mr_cel_compiler *c, struct mr_cel_node *node);

/* Whether a function of the table has a signature with this style and number of arguments. */
bool mr_cel_call_is_possible(const struct mr_cel_node *call);
/* The same for a program's call: any style. */
bool mr_cel_arity_is_possible(uint32_t function, uint32_t count);

/* The instruction of a function with one or two operands, or MR_CEL_OP_RETURN: it has none of its
 * own. */
enum mr_cel_op mr_cel_op_of(uint32_t function);

/* compile.c and emit.c */
void mr_cel_emit(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst,
                 enum mr_cel_mode mode, struct mr_cel_label *label);
/* The value of a LITERAL node. */
struct mr_cel_val mr_cel_literal_value(const struct mr_cel_node *node);
/* An operand of kind V that has node's value: a constant, a local, or a new temporary register. */
uint16_t mr_cel_emit_operand(struct mr_cel_compiler *c, const struct mr_cel_node *node);
uint16_t mr_cel_emit_constant(struct mr_cel_compiler *c, struct mr_cel_val value); /* operand */
uint16_t mr_cel_emit_constant_at(struct mr_cel_compiler *c, uint32_t index);       /* operand */
struct mr_cel_ins *mr_cel_emit_ins(struct mr_cel_compiler *c, enum mr_cel_op op, uint16_t dst,
                                   uint16_t a, uint16_t b);
uint16_t mr_cel_emit_register(struct mr_cel_compiler *c);
void mr_cel_emit_jump(struct mr_cel_compiler *c, struct mr_cel_ins *ins,
                      struct mr_cel_label *label);
void mr_cel_emit_choice(struct mr_cel_compiler *c, struct mr_cel_ins *ins,
                        struct mr_cel_label *label);
struct mr_cel_label mr_cel_emit_label(void);
void mr_cel_emit_bind(struct mr_cel_compiler *c, struct mr_cel_label *label);
void mr_cel_emit_macro(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst);

/* assemble.c: the finished bytes, from malloc. */
enum mr_rc mr_cel_assemble(struct mr_cel_compiler *c, bool stripped, void **out, uint32_t *len);
#endif
