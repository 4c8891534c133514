#include "rpc/scope.h"

#include <stdlib.h>

struct mr_scope *mr_scope_ref(struct mr_scope *scope)
{
    if (scope)
        atomic_fetch_add_explicit(&scope->refs, 1, memory_order_relaxed);
    return scope;
}

void mr_scope_unref(struct mr_scope *scope)
{
    if (scope && atomic_fetch_sub_explicit(&scope->refs, 1, memory_order_acq_rel) == 1)
        free(scope);
}

bool mr_scope_has(const struct mr_scope_names *names, struct mr_str name)
{
    if (names->all)
        return true;
    for (uint32_t i = 0; i < names->count; i++)
        if (mr_str_equal(mr_str_from(names->names[i]), name))
            return true;
    return false;
}
