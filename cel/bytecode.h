/* cel/bytecode.h: the bytes of a program. They travel between processes and are input:
 * mr_cel_program_load checks all of them. Nothing in them is a pointer; little endian; 16-byte
 * aligned.
 *
 *   head, instructions, constants (cells), paths, sets, patterns, variables, data, [places, source]
 *
 * A register machine: an instruction has up to four operands, each a number whose meaning its row
 * in opcodes.def tells, so one pass over the instructions proves that none reaches beyond its
 * table. Registers hold values; an operand of kind V with its top bit set is a constant. Loops are
 * NEXT instructions only, and charge for each turn.
 *
 * What is done with a bool result ("mode"). In chains of && a false decides, in chains of || a
 * true: VALUE      dst = result AND_FIRST  dst = result; false: to target. An error or unknown
 * stays in dst and the chain goes on AND_NEXT   false: dst = false, to target; true: dst stays; an
 * error: to dst if there is none yet OR_FIRST, OR_NEXT  the same with true and false exchanged */
#ifndef MR_CEL_BYTECODE_H
#define MR_CEL_BYTECODE_H
#include "cel/fn.h"

#define MR_CEL_PROGRAM_MAGIC UINT32_C(0x4c45434d) /* "MCEL" */
enum { MR_CEL_PROGRAM_VERSION = 1 };

enum mr_cel_op {
#define MR_CEL_OP(name, text, dst, a, b, c, target, result) MR_CEL_OP_##name,
#include "cel/opcodes.def"
#undef MR_CEL_OP
    MR_CEL_OP_COUNT
};
enum mr_cel_mode {
    MR_CEL_MODE_VALUE,
    MR_CEL_MODE_AND_FIRST,
    MR_CEL_MODE_AND_NEXT,
    MR_CEL_MODE_OR_FIRST,
    MR_CEL_MODE_OR_NEXT,
    MR_CEL_MODE_COUNT
};
enum {
    MR_CEL_CONSTANT = 0x8000,    /* bit of an operand: the rest is a constant's number */
    MR_CEL_NO_REGISTER = 0x7fff, /* operand of kind O: none */
    MR_CEL_REGISTERS_MAX = 0x7fff,
    MR_CEL_CONSTANTS_MAX = 0x7fff,
    MR_CEL_ITERATORS_MAX = 64,
    MR_CEL_INSTRUCTIONS_MAX = 1 << 20,
};

struct mr_cel_ins {
    uint8_t op;   /* enum mr_cel_op */
    uint8_t mode; /* enum mr_cel_mode */
    uint16_t dst, a, b;
    uint32_t c;
    uint32_t target; /* instruction */
};
static_assert(sizeof(struct mr_cel_ins) == 16, "an instruction is an ABI");

/* One step of a path: a key, ready to be compared with eight bytes of a document at a time. */
struct mr_cel_path_key {
    uint64_t head; /* the first 8 bytes of text and the NUL behind it, little endian; the rest 0 */
    uint64_t mask; /* ones where head has a byte of the key or its NUL */
    uint32_t len;  /* bytes; MR_CEL_PATH_INDEX: a step into a list, and offset is its index */
    uint32_t offset; /* of the text, from the program's start; a NUL follows it */
};
static_assert(sizeof(struct mr_cel_path_key) == 24, "a path's key is an ABI");
/* cache: a register that is NULL until the first step of a path has been taken, and then holds
 * where it led: for paths that are taken more than once and begin with the same key. */
struct mr_cel_path {
    uint32_t variable; /* UINT32_MAX: a path from a value */
    uint32_t count;    /* keys, from 1 on */
    uint32_t keys;     /* offset of struct mr_cel_path_key[count], from the program's start */
    uint32_t cache;    /* register; UINT32_MAX: none. A path from a value has none */
};
static_assert(sizeof(struct mr_cel_path) == 16, "a path is an ABI");
#define MR_CEL_PATH_INDEX UINT32_MAX

/* Constants of one list, for "in": all strings or all numbers, found by hash; or few of any kind,
 * one by one. */
struct mr_cel_set {
    uint32_t first, count; /* cells of the constants */
    uint32_t slot_mask;    /* 0: no slots */
    uint32_t
        slots; /* offset of uint32_t[slot_mask + 1]: index of a cell behind first, + 1; 0: free */
};
static_assert(sizeof(struct mr_cel_set) == 16, "a set is an ABI");

struct mr_cel_text_at {
    uint32_t offset, len; /* of bytes, from the program's start; a NUL follows them */
};
struct mr_cel_place {
    uint32_t start, end; /* of the source text that an instruction computes */
};

struct mr_cel_section {
    uint32_t offset, count; /* from the program's start; items */
};
struct mr_cel_head {
    uint32_t magic,
        version;  /* version: MR_CEL_PROGRAM_VERSION and the tables that numbers refer to */
    uint32_t len; /* bytes of all, a multiple of 16 */
    uint16_t registers, iterators;
    struct mr_cel_section instructions, cells, paths, sets;
    struct mr_cel_section patterns;  /* struct mr_cel_text_at: regular expressions */
    struct mr_cel_section variables; /* struct mr_cel_text_at: names, in the environment's order */
    struct mr_cel_section data;      /* bytes: text, keys, slots, nested cells */
    struct mr_cel_section places; /* struct mr_cel_place, one an instruction; none when stripped */
    struct mr_cel_section source; /* bytes */
    uint32_t reserved[2];         /* 0 */
};
static_assert(sizeof(struct mr_cel_head) == 96, "a program's head is an ABI");
static_assert(sizeof(struct mr_cel_head) % 16 == 0, "instructions and cells are aligned");
/* The version that this build writes and reads: layout, opcodes and functions in one number. */
uint32_t mr_cel_program_version(void);
#endif
