/* cel/fn.h: how a function of CEL's libraries is written: what it gets, and how it reads and builds
 * lists and maps, accounts for its work, and fails. A function is one row of impl.def and one C
 * function of type mr_cel_fn, which serves all overloads of its name: it looks at the kinds of its
 * arguments and returns mr_cel_no_overload() for those that it does not have (without a check
 * before, any kinds can come).
 *
 * It never allocates but from the arena, never loops over input without mr_cel_charge, and recurses
 * at most MR_CEL_VALUE_DEPTH_MAX deep. */
#ifndef MR_CEL_FN_H
#define MR_CEL_FN_H
#include "cel/val.h"

enum { MR_CEL_VALUE_DEPTH_MAX = 100 }; /* nesting of a value that is compared, hashed or printed */

struct mr_cel_arena;
struct mr_cel_regex_cache;
struct mr_cel_ctx {
    struct mr_cel_arena *arena;
    int64_t budget;       /* steps until the next look at the clock or the end; below 0: look now */
    int64_t steps_left;   /* steps behind budget */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: not set before the first look at the clock */
    uint64_t time_ns_max; /* 0: no limit */
    uint16_t fatal;       /* enum mr_cel_code: the evaluation is to end; 0: go on */
    uint16_t depth;       /* of the function that walks nested values */
    struct mr_cel_regex_cache *regex; /* patterns that are no constants; NULL: refused */
};

/* One function. args: count values, of a number that functions.def has, none an error or unknown; a
 * member function's receiver is args[0]. Returns the value or an error; a fatal error
 * (mr_cel_is_fatal) ends the evaluation. */
typedef struct mr_cel_val mr_cel_fn(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                    uint32_t count);

/* Account for steps of work (a step: about one byte copied 16 times, one element visited, one
 * character looked at). False: a limit is reached, ctx->fatal says which: return
 * mr_cel_stopped(ctx). */
void mr_cel_ctx_start(struct mr_cel_ctx *ctx, uint64_t steps_max);
uint64_t mr_cel_ctx_used(const struct mr_cel_ctx *ctx, uint64_t steps_max); /* steps */
bool mr_cel_charge_slowly(struct mr_cel_ctx *ctx);
static inline MR_MUST_USE bool mr_cel_charge(struct mr_cel_ctx *ctx, uint64_t steps)
{
    ctx->budget -= steps > INT32_MAX ? INT32_MAX : (int64_t)steps;
    return __builtin_expect(ctx->budget >= 0, 1) || mr_cel_charge_slowly(ctx);
}
static inline struct mr_cel_val mr_cel_stopped(const struct mr_cel_ctx *ctx)
{
    return mr_cel_error((enum mr_cel_code)ctx->fatal, (struct mr_str){NULL, 0});
}
/* size bytes of the arena, charged for. NULL: over a limit (ctx->fatal is set). */
MR_MUST_USE void *mr_cel_alloc(struct mr_cel_ctx *ctx, size_t size);

/* Errors. format: as printf; the detail is written into the arena. */
struct mr_cel_val mr_cel_errorf(struct mr_cel_ctx *ctx, enum mr_cel_code code, const char *format,
                                ...) MR_PRINTF(3, 4);
static inline struct mr_cel_val mr_cel_no_overload(void)
{
    return mr_cel_error(MR_CEL_E_NO_SUCH_OVERLOAD, (struct mr_str){NULL, 0});
}

/* Optional with a value; a copy of it is put into the arena. */
struct mr_cel_val mr_cel_optional_some(struct mr_cel_ctx *ctx, struct mr_cel_val value);
/* A BSON value as CEL sees it. ObjectId takes arena bytes for its text. */
struct mr_cel_val mr_cel_from_bson(struct mr_cel_ctx *ctx, const struct mr_bson_value *value);

/* Items of a list, entries of a map, in their order.
 *   for (mr_cel_iter_init(&it, ctx, list); mr_cel_iter_next(&it);) use(it.value);
 * key: of a map; of a list its index as an int. Charges one step an item. Ends early when the
 * evaluation is to end or the document is damaged: look at it.failed behind the loop, and return
 * it. */
struct mr_cel_iter {
    struct mr_cel_ctx *ctx;
    struct mr_cel_val key, value;
    struct mr_cel_val failed; /* kind NULL: nothing went wrong */
    const struct mr_cel_val *at;
    struct mr_bson_iter bson;
    uint32_t index, count; /* count is UINT32_MAX for BSON: not known before the end */
    uint8_t kind, form;
};
void mr_cel_iter_init(struct mr_cel_iter *it, struct mr_cel_ctx *ctx, struct mr_cel_val container);
bool mr_cel_iter_next(struct mr_cel_iter *it);

/* Number of items or entries. BSON is walked through once (and charged for). */
MR_MUST_USE bool mr_cel_count(struct mr_cel_ctx *ctx, struct mr_cel_val container, uint32_t *out);
/* Item of a list: false: index is not in it. BSON is walked up to it. */
bool mr_cel_list_at(struct mr_cel_ctx *ctx, struct mr_cel_val list, uint64_t index,
                    struct mr_cel_val *out);
/* All items of a list side by side, as an array of values (copied into the arena unless it is one).
 * False: fatal or damaged, *failed is what to return. */
MR_MUST_USE bool mr_cel_list_items(struct mr_cel_ctx *ctx, struct mr_cel_val list,
                                   const struct mr_cel_val **items, uint32_t *count,
                                   struct mr_cel_val *failed);
/* Room for the items of a new list; give it to mr_cel_list when they are set. NULL: over a limit.
 */
static inline MR_MUST_USE struct mr_cel_val *mr_cel_list_new(struct mr_cel_ctx *ctx, uint32_t count)
{
    return mr_cel_alloc(ctx, (size_t)count * sizeof(struct mr_cel_val));
}

/* Value of a key, by CEL's equality of keys (1, 1u and 1.0 are one key). False: not there. */
bool mr_cel_map_get(struct mr_cel_ctx *ctx, struct mr_cel_val map, struct mr_cel_val key,
                    struct mr_cel_val *out);
/* A new map: begin with room for capacity entries, put each, end. put: MR_CEL_E_BAD_KEY,
 * MR_CEL_E_DUPLICATE_KEY or a limit as value; kind NULL: done. */
struct mr_cel_map_new {
    struct mr_cel_ctx *ctx;
    struct mr_cel_val *entries;
    uint32_t *slots;
    uint32_t count, capacity, slot_mask;
};
MR_MUST_USE bool mr_cel_map_begin(struct mr_cel_map_new *map, struct mr_cel_ctx *ctx,
                                  uint32_t capacity);
struct mr_cel_val mr_cel_map_put(struct mr_cel_map_new *map, struct mr_cel_val key,
                                 struct mr_cel_val value);
struct mr_cel_val mr_cel_map_end(struct mr_cel_map_new *map);

/* CEL's ==: across kinds of numbers by value, never an error. Fatal limits: false, and ctx->fatal
 * is set. */
bool mr_cel_equal(struct mr_cel_ctx *ctx, struct mr_cel_val a, struct mr_cel_val b);
/* CEL's order: -1, 0, 1. False: the two have none (kinds without order or of different sorts; NaN:
 * *order is 2). */
bool mr_cel_compare(struct mr_cel_val a, struct mr_cel_val b, int *order);
/* The same number for keys that are equal. */
uint64_t mr_cel_key_hash(struct mr_cel_val key);

/* The C functions of impl.def. */
#define MR_CEL_IMPL(id, fn) mr_cel_fn fn;
#include "cel/impl.def"
#undef MR_CEL_IMPL
/* impl.def's function, NULL: none. id: enum mr_cel_function of functions.def. */
mr_cel_fn *mr_cel_impl(uint32_t id);
#endif
