/* puller/sources/pg_bytes.h: bounds-checked reading of PostgreSQL's big-endian messages. A read
 * beyond the end gives zero and sets bad, so that a parser may check once at its end. */
#ifndef MR_PULLER_SOURCES_PG_BYTES_H
#define MR_PULLER_SOURCES_PG_BYTES_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/str.h"

struct mr_pg_bytes {
    const uint8_t *at, *end;
    bool bad;
};

static inline struct mr_pg_bytes mr_pg_bytes_of(const void *data, size_t len)
{
    const uint8_t *at = data;
    return (struct mr_pg_bytes){at, at + len, false};
}

static inline size_t mr_pg_left(const struct mr_pg_bytes *b)
{
    return (size_t)(b->end - b->at);
}

/* len bytes in place; NULL when there are fewer. */
static inline const uint8_t *mr_pg_take(struct mr_pg_bytes *b, size_t len)
{
    if (__builtin_expect(mr_pg_left(b) < len, 0)) {
        b->bad = true;
        b->at = b->end;
        return NULL;
    }
    const uint8_t *at = b->at;
    b->at += len;
    return at;
}

static inline uint8_t mr_pg_u8(struct mr_pg_bytes *b)
{
    const uint8_t *at = mr_pg_take(b, 1);
    return at ? *at : 0;
}

static inline uint16_t mr_pg_load16(const uint8_t *at)
{
    uint16_t raw;
    memcpy(&raw, at, sizeof raw);
    return __builtin_bswap16(raw);
}

static inline uint32_t mr_pg_load32(const uint8_t *at)
{
    uint32_t raw;
    memcpy(&raw, at, sizeof raw);
    return __builtin_bswap32(raw);
}

static inline uint64_t mr_pg_load64(const uint8_t *at)
{
    uint64_t raw;
    memcpy(&raw, at, sizeof raw);
    return __builtin_bswap64(raw);
}

static inline uint16_t mr_pg_u16(struct mr_pg_bytes *b)
{
    const uint8_t *at = mr_pg_take(b, 2);
    return at ? mr_pg_load16(at) : 0;
}

static inline uint32_t mr_pg_u32(struct mr_pg_bytes *b)
{
    const uint8_t *at = mr_pg_take(b, 4);
    return at ? mr_pg_load32(at) : 0;
}

static inline uint64_t mr_pg_u64(struct mr_pg_bytes *b)
{
    const uint8_t *at = mr_pg_take(b, 8);
    return at ? mr_pg_load64(at) : 0;
}

/* A NUL-terminated name, without its NUL. */
static inline struct mr_str mr_pg_name(struct mr_pg_bytes *b)
{
    const uint8_t *nul = b->at == b->end ? NULL : memchr(b->at, 0, mr_pg_left(b));
    if (!nul) {
        b->bad = true;
        b->at = b->end;
        return (struct mr_str){"", 0};
    }
    struct mr_str name = {(const char *)b->at, (size_t)(nul - b->at)};
    b->at = nul + 1;
    return name;
}
#endif
