/* cel/program_shm.h: the bytes of a filter program. They travel through shared memory and equal
 * filters have equal bytes: the layout is strict, every offset is where the parts before it end,
 * and the conjuncts ascend (path, operator, constant) without repeats.
 *
 *   struct mr_program_head, conjunct_count * struct mr_program_conjunct,
 *   the items of each conjunct's list in turn (struct mr_program_const),
 *   text: database, collection, then each conjunct's path, its string or its items' strings,
 *   zeros up to a multiple of 8.
 *
 * Little endian; offsets are from the start of the program. */
#ifndef MR_CEL_PROGRAM_SHM_H
#define MR_CEL_PROGRAM_SHM_H
#include <assert.h>

#include "cel/program.h"

#define MR_PROGRAM_MAGIC UINT32_C(0x3150524d) /* "MRP1" */

struct mr_program_head {
    uint32_t magic;
    uint32_t len; /* bytes of the whole program */
    uint32_t conjunct_count;
    uint32_t database_len;
    uint32_t collection_len;
    uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct mr_program_head) == 24, "the program's head is an ABI");

/* bits: BOOL 0 or 1; INT, DOUBLE the value's own bits; STRING and LIST an offset. */
struct mr_program_const {
    uint32_t kind; /* enum mr_const_kind */
    uint32_t len;  /* STRING: bytes; LIST: items; else 0 */
    uint64_t bits;
};
static_assert(sizeof(struct mr_program_const) == 16, "a program's constant is an ABI");

enum { MR_PROGRAM_PREDICATE = 1 }; /* kinds of conjunct; 0 is refused */
struct mr_program_conjunct {
    uint8_t kind;
    uint8_t op;        /* enum mr_predicate_op */
    uint16_t reserved; /* 0 */
    uint32_t path_len;
    uint64_t path; /* offset */
    struct mr_program_const value;
};
static_assert(sizeof(struct mr_program_conjunct) == 32, "a program's conjunct is an ABI");

/* The canonical order of constants: total, 0 only for the same value of the same kind. Lists are
 * compared by the caller, item by item. */
int mr_program_order_const(const struct mr_const *a, const struct mr_const *b);

/* What build refuses and load does not believe. Both return the reason, or NULL when all is well.
 */
const char *mr_program_check_path(struct mr_str path);
/* value's own items are not looked at. */
const char *mr_program_check_value(struct mr_str path, enum mr_predicate_op op,
                                   const struct mr_const *value);
const char *mr_program_check_item(struct mr_str path, const struct mr_const *item);
#endif
