#include "common/fault.h"

#include <stdatomic.h>
#include <string.h>

static _Atomic(const char *) armed;
static _Atomic uint32_t passes_left;
static _Atomic bool fired;

void mr_fault_arm(const char *point, uint32_t nth)
{
    atomic_store(&armed, NULL);
    atomic_store(&fired, false);
    atomic_store(&passes_left, nth);
    if (nth > 0)
        atomic_store(&armed, point);
}

bool mr_fault_fired(void)
{
    return atomic_load(&fired);
}

bool mr_fault_hit(const char *point)
{
    const char *wanted = atomic_load(&armed);
    if (!wanted || strcmp(wanted, point) != 0 || atomic_fetch_sub(&passes_left, 1) != 1)
        return false;
    atomic_store(&armed, NULL);
    atomic_store(&fired, true);
    return true;
}
