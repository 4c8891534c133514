/* proto/event.h: one change, as it lies in the log and in the event rings: the same bytes in both.
 *
 *   struct mr_event_head, then without gaps: database, collection, document id, event id (usually
 *   empty: derived), then each 8-byte aligned: document, update description, image before (BSON).
 *
 * Little endian, fixed width. Readers in other processes take these bytes as input: mr_event_decode
 * checks everything once. Times: ingest_ns is monotonic and means nothing after a reboot. */
#ifndef MR_PROTO_EVENT_H
#define MR_PROTO_EVENT_H
#include <assert.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

enum mr_operation {
    MR_OP_INSERT = 1,
    MR_OP_UPDATE,
    MR_OP_REPLACE,
    MR_OP_DELETE,
    MR_OP_TRUNCATE, /* every document of the collection is gone; no document id */
    MR_OP_GAP,      /* changes were lost; concerns the collection, or everyone when that is empty.
                     * document: {cause: string, from: string, to: string} */
    MR_OP_COUNT
};
const char *mr_operation_name(enum mr_operation op); /* "insert", ...: upstream's op_type */

enum mr_event_flag {
    MR_EVENT_SOFT = 1, /* a delete that was an update of the marker field, or an insert that was */
    MR_EVENT_KEY_ONLY =
        2, /* the document holds the key columns only (a delete without image before) */
    MR_EVENT_SNAPSHOT = 4, /* read from a snapshot and not from the stream */
};

struct mr_event_head {
    uint64_t sequence;      /* place in the log: from 1, one more each event */
    uint64_t source_order;  /* of the source: PostgreSQL LSN, MongoDB T << 32 | I, ndjson offset */
    uint64_t document_hash; /* mr_doc_hash: shard = document_hash % shards */
    uint64_t transaction;   /* transaction number of the source; 0 none */
    int64_t source_time_us; /* when the source says it happened, wall clock; 0 unknown */
    int64_t ingest_time_us; /* when the puller read it, wall clock */
    uint64_t ingest_ns;     /* the same, mr_clock_ns */
    uint32_t document_len;  /* BSON; 0 none */
    uint32_t update_len;    /* BSON update description; 0 none */
    uint32_t before_len;    /* BSON image before; 0 none */
    uint16_t database_len;
    uint16_t collection_len;
    uint16_t document_id_len;
    uint16_t event_id_len; /* 0: derive it */
    uint8_t op;            /* enum mr_operation */
    uint8_t flags;         /* enum mr_event_flag */
    uint8_t reserved[6];
};
static_assert(sizeof(struct mr_event_head) == 88, "the record layout is an ABI");

/* An event with its parts spelled out: what an encoder takes and a decoder gives (borrowed). */
struct mr_event {
    struct mr_event_head head; /* the lengths are set by encode */
    struct mr_str database, collection, document_id, event_id;
    struct mr_str document, update, before; /* BSON bytes */
};

enum {
    MR_EVENT_NAME_MAX = 1024,              /* bytes of database, collection, document id */
    MR_EVENT_ID_MAX = 64,                  /* bytes of an event id and its NUL */
    MR_EVENT_BYTES_MAX = 48 * 1024 * 1024, /* of one encoded event */
};

/* Bytes that mr_event_encode will write: a multiple of 8. 0 when a part is over its limit. */
size_t mr_event_size(const struct mr_event *event);
/* Write event to out, which has mr_event_size bytes and is 8-byte aligned; zeroes all padding. */
void mr_event_encode(const struct mr_event *event, void *out);
/* Take bytes apart. MR_CORRUPT unless every length fits, the op is known, every document states its
 * own length and ends in a zero byte. The parts point into data. */
MR_MUST_USE enum mr_rc mr_event_decode(const void *data, size_t len, struct mr_event *out);

/* The event's id: the one that it carries, else the upstream-compatible "T-I-H": high and low half
 * of source_order in decimal, H = first 8 bytes of SHA-256(collection + "/" + document id) in hex.
 * Derived when asked for: only delivered events pay. Returns its length; NUL-terminated. Any
 * thread. */
size_t mr_event_id(const struct mr_event *event, char out[MR_EVENT_ID_MAX]);
#endif
