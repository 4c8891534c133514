/* cel/program_shm.h: the bytes of a filter program. They travel through shared memory and equal
 * filters have equal bytes: the layout is strict, every offset is where the parts before it end,
 * and the leaves ascend (code last; path, rules, operator, constant) without repeats.
 *
 *   struct mr_program_head, leaf_count * struct mr_program_leaf,
 *   the items of each leaf's list in turn (struct mr_program_const),
 *   token_count * uint16_t,
 *   text: database, collection, then each leaf's path, its string or its items' strings; a code
 *   leaf's bytes begin at a multiple of 16, behind zeros,
 *   zeros up to a multiple of 16.
 *
 * Little endian; offsets are from the start of the program. */
#ifndef MR_CEL_PROGRAM_SHM_H
#define MR_CEL_PROGRAM_SHM_H
#include <assert.h>

#include "cel/program.h"

#define MR_PROGRAM_MAGIC UINT32_C(0x3250524d) /* "MRP2" */

struct mr_program_head {
    uint32_t magic;
    uint32_t len; /* bytes of the whole program */
    uint32_t leaf_count;
    uint32_t token_count;
    uint32_t database_len;
    uint32_t collection_len;
};
static_assert(sizeof(struct mr_program_head) == 24, "the program's head is an ABI");

/* bits: BOOL 0 or 1; INT, DATE, DOUBLE the value's own bits; STRING and LIST an offset. */
struct mr_program_const {
    uint32_t kind; /* enum mr_const_kind */
    uint32_t len;  /* STRING: bytes; LIST: items; else 0 */
    uint64_t bits;
};
static_assert(sizeof(struct mr_program_const) == 16, "a program's constant is an ABI");

struct mr_program_leaf {
    uint8_t op;        /* enum mr_predicate_op */
    uint8_t cel;       /* 0 or 1 */
    uint16_t reserved; /* 0 */
    uint32_t path_len;
    uint64_t path; /* offset */
    struct mr_program_const value;
};
static_assert(sizeof(struct mr_program_leaf) == 32, "a program's leaf is an ABI");

enum { MR_PROGRAM_ALIGN = 16, MR_PROGRAM_NAME_MAX = 1024 };
static inline size_t mr_program_align(size_t len)
{
    return (len + MR_PROGRAM_ALIGN - 1) & ~(size_t)(MR_PROGRAM_ALIGN - 1);
}

/* The canonical order of constants: total, 0 only for the same value of the same kind. Lists are
 * compared by the caller, item by item. */
int mr_program_order_const(const struct mr_const *a, const struct mr_const *b);
/* The same of leaves, but for the items of their lists. */
int mr_program_order_leaf(const struct mr_predicate *a, const struct mr_predicate *b);

/* What build refuses and load does not believe. Both return the reason, or NULL when all is well.
 */
const char *mr_program_check_path(struct mr_str path);
/* The value's own items are not looked at. */
const char *mr_program_check_value(const struct mr_predicate *p);
const char *mr_program_check_item(const struct mr_predicate *p, const struct mr_const *item);
#endif
