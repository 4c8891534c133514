/* puller/sources/pg_decode.h: the messages of the logical replication plug-in pgoutput, protocol
 * version 1 (PostgreSQL manual, "Logical Replication Message Formats"), taken apart in place. */
#ifndef MR_PULLER_SOURCES_PG_DECODE_H
#define MR_PULLER_SOURCES_PG_DECODE_H
#include <stdint.h>

#include "common/err.h"
#include "puller/sources/pg_bytes.h"

enum {
    MR_PG_COLUMNS_MAX = 1664,     /* of one tuple: the server's own limit */
    MR_PG_TRUNCATE_MAX = 1 << 20, /* relations in one TRUNCATE */
};
/* PostgreSQL counts microseconds from 2000-01-01. */
#define MR_PG_EPOCH_US INT64_C(946684800000000)

/* How a column's value travels. */
enum mr_pg_form {
    MR_PG_FORM_ABSENT = 0, /* not in the tuple */
    MR_PG_FORM_NULL = 'n',
    MR_PG_FORM_UNCHANGED = 'u', /* stored out of line and not touched by the update */
    MR_PG_FORM_TEXT = 't',
    MR_PG_FORM_BINARY = 'b'
};
struct mr_pg_value {
    const uint8_t *data;
    uint32_t len;
    uint8_t form; /* enum mr_pg_form */
};
struct mr_pg_tuple {
    uint32_t count;
    struct mr_pg_value values[MR_PG_COLUMNS_MAX];
};

/* One message. type says which members are set; pointers are into the message. */
struct mr_pg_message {
    uint8_t type;     /* 'B' begin, 'C' commit, 'I' 'U' 'D' 'T' changes, 'R' 'Y' 'O' 'M' the rest */
    uint8_t old_form; /* U, D: 'K' old holds the key, 'O' all of the row, 0 no old tuple */
    uint32_t xid;     /* B */
    uint64_t lsn;     /* B: of the commit to come; C: of the commit */
    uint64_t end_lsn; /* C: behind the commit */
    int64_t time_us;  /* B, C: commit time, microseconds since 1970 */
    uint32_t relation;        /* I, U, D */
    uint32_t relation_count;  /* T */
    const uint8_t *relations; /* T: that many big-endian 32-bit object ids */
    struct mr_str body;       /* R, Y: what follows the type */
    struct mr_pg_tuple old_row, new_row;
};

/* Take one message apart. MR_OK; MR_CORRUPT: it does not hold what it must; MR_FATAL: of a type
 * that this protocol version does not have. Touches nothing outside data and out; allocates
 * nothing. */
MR_MUST_USE enum mr_rc mr_pg_decode(const void *data, size_t len, struct mr_pg_message *out,
                                    struct mr_err *err);
#endif
