/* common/fnv.h: FNV-1a of 64 bits (Fowler, Noll and Vo, draft-eastlake-fnv): for small tables and
 * against accidents, not against an opponent. Some of its values are on disks and servers. */
#ifndef MR_COMMON_FNV_H
#define MR_COMMON_FNV_H
#include <stddef.h>
#include <stdint.h>

#define MR_FNV_BEGIN UINT64_C(0xcbf29ce484222325)

/* The hash goes on with these bytes; it begins with MR_FNV_BEGIN. */
static inline uint64_t mr_fnv_add(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)data;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}
#endif
