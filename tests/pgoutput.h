/* tests/pgoutput.h: writes pgoutput messages as a server would, for unit tests and the benchmark.
 */
#ifndef MR_TESTS_PGOUTPUT_H
#define MR_TESTS_PGOUTPUT_H
#include <stdint.h>
#include <string.h>

#include "common/err.h"

enum { PGOUTPUT_BYTES_MAX = 1 << 16 };
struct pgoutput {
    uint8_t data[PGOUTPUT_BYTES_MAX];
    size_t len;
};

static inline void pgoutput_bytes(struct pgoutput *out, const void *data, size_t len)
{
    MR_ASSERT(out->len + len <= sizeof out->data);
    memcpy(out->data + out->len, data, len);
    out->len += len;
}

static inline void pgoutput_u8(struct pgoutput *out, uint8_t value)
{
    pgoutput_bytes(out, &value, 1);
}

static inline void pgoutput_u16(struct pgoutput *out, uint16_t value)
{
    value = __builtin_bswap16(value);
    pgoutput_bytes(out, &value, sizeof value);
}

static inline void pgoutput_u32(struct pgoutput *out, uint32_t value)
{
    value = __builtin_bswap32(value);
    pgoutput_bytes(out, &value, sizeof value);
}

static inline void pgoutput_u64(struct pgoutput *out, uint64_t value)
{
    value = __builtin_bswap64(value);
    pgoutput_bytes(out, &value, sizeof value);
}

static inline void pgoutput_name(struct pgoutput *out, const char *name)
{
    pgoutput_bytes(out, name, strlen(name) + 1);
}

/* 'w' and its head; the message follows. */
static inline void pgoutput_wal(struct pgoutput *out, uint64_t lsn)
{
    out->len = 0;
    pgoutput_u8(out, 'w');
    pgoutput_u64(out, lsn);
    pgoutput_u64(out, lsn);
    pgoutput_u64(out, 0);
}

static inline void pgoutput_begin(struct pgoutput *out, uint64_t commit_lsn, uint32_t xid)
{
    pgoutput_wal(out, commit_lsn);
    pgoutput_u8(out, 'B');
    pgoutput_u64(out, commit_lsn);
    pgoutput_u64(out, 1000000); /* a second after 2000-01-01 */
    pgoutput_u32(out, xid);
}

static inline void pgoutput_commit(struct pgoutput *out, uint64_t commit_lsn, uint64_t end_lsn)
{
    pgoutput_wal(out, end_lsn);
    pgoutput_u8(out, 'C');
    pgoutput_u8(out, 0);
    pgoutput_u64(out, commit_lsn);
    pgoutput_u64(out, end_lsn);
    pgoutput_u64(out, 1000000);
}

struct pgoutput_column {
    const char *name;
    uint32_t type;
    uint8_t key;
};

static inline void pgoutput_relation(struct pgoutput *out, uint32_t oid, const char *schema,
                                     const char *table, char identity,
                                     const struct pgoutput_column *columns, uint16_t count)
{
    pgoutput_wal(out, 0);
    pgoutput_u8(out, 'R');
    pgoutput_u32(out, oid);
    pgoutput_name(out, schema);
    pgoutput_name(out, table);
    pgoutput_u8(out, (uint8_t)identity);
    pgoutput_u16(out, count);
    for (uint16_t i = 0; i < count; i++) {
        pgoutput_u8(out, columns[i].key);
        pgoutput_name(out, columns[i].name);
        pgoutput_u32(out, columns[i].type);
        pgoutput_u32(out, UINT32_MAX);
    }
}

/* A change up to its tuple: 'I' with 'N', or 'U' and 'D' with the tag that the caller adds. */
static inline void pgoutput_change(struct pgoutput *out, uint64_t lsn, char type, uint32_t relation)
{
    pgoutput_wal(out, lsn);
    pgoutput_u8(out, (uint8_t)type);
    pgoutput_u32(out, relation);
}

/* NULL: SQL NULL; "\1": unchanged. */
static inline void pgoutput_row(struct pgoutput *out, char tag, const char *const *values,
                                uint16_t count)
{
    pgoutput_u8(out, (uint8_t)tag);
    pgoutput_u16(out, count);
    for (uint16_t i = 0; i < count; i++) {
        if (!values[i]) {
            pgoutput_u8(out, 'n');
        } else if (values[i][0] == '\1') {
            pgoutput_u8(out, 'u');
        } else {
            pgoutput_u8(out, 't');
            pgoutput_u32(out, (uint32_t)strlen(values[i]));
            pgoutput_bytes(out, values[i], strlen(values[i]));
        }
    }
}

static inline void pgoutput_keepalive(struct pgoutput *out, uint64_t end_lsn, uint8_t reply)
{
    out->len = 0;
    pgoutput_u8(out, 'k');
    pgoutput_u64(out, end_lsn);
    pgoutput_u64(out, 0);
    pgoutput_u8(out, reply);
}
#endif
