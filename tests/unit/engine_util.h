/* tests/unit/engine_util.h: subscriptions of the engine's tests, on db.orders. Include after
 * cmocka.h. */
#ifndef MR_TESTS_ENGINE_UTIL_H
#define MR_TESTS_ENGINE_UTIL_H
#include <stdlib.h>

#include "cel/program.h"
#include "matcher/engine/engine.h"

static inline void add_one(struct mr_engine *engine, uint64_t id, const struct mr_predicate *p,
                           uint32_t count)
{
    void *bytes;
    uint32_t len;
    assert_int_equal(mr_program_build(MR_STR("db"), MR_STR("orders"), p, count, &bytes, &len, NULL),
                     MR_OK);
    assert_int_equal(mr_engine_add(engine, id, bytes, len), MR_OK);
    free(bytes);
}

static inline struct mr_predicate equals(const char *path, const char *text)
{
    return (struct mr_predicate){.path = mr_str_from(path),
                                 .op = MR_PRED_EQ,
                                 .value = {.kind = MR_CONST_STRING, .string = mr_str_from(text)}};
}
#endif
