/* shm/ring_shm.h: the mapped form of a ring. Protocol and memory orders: docs/ring.md */
#ifndef MR_SHM_RING_SHM_H
#define MR_SHM_RING_SHM_H
#include "shm/segment.h"

enum { MR_RING_STAGES_MAX = 2 };

/* What a producer that restarts needs to know about the last publication. Two slots in turn: the
 * one whose tail equals the ring's tail is the valid one, so a crash between the stores is
 * harmless. */
struct mr_ring_commit_shm {
    _Atomic uint64_t tail;  /* the tail that this slot belongs to */
    _Atomic uint64_t note;  /* the producer's own word: see mr_ring_publish */
    _Atomic uint64_t count; /* records ever written through that tail */
};

/* One consumer: its progress. position only grows, and never passes the stage before it. */
struct mr_ring_stage_shm {
    alignas(128) _Atomic uint64_t position; /* bytes consumed; this stage only */
    _Atomic uint64_t note;                  /* the consumer's own word, stored after position */
    _Atomic uint64_t count;                 /* records consumed, released or not; for inspectors */
    _Atomic uint32_t pid;                   /* of the consumer; 0 none yet */
};

struct mr_ring_shm {
    struct mr_segment_shm head;
    uint64_t capacity;                  /* creator; bytes, a power of two */
    uint32_t stage_count;               /* creator; 1 or 2 */
    uint32_t record_bytes_max;          /* creator; payload of one record */
    char name[32];                      /* creator; "e0", "m0", "s0" */
    alignas(128) _Atomic uint64_t tail; /* producer only, release; bytes ever published */
    _Atomic uint64_t through; /* producer only, release, after tail: see mr_ring_through */
    struct mr_ring_commit_shm commit[2]; /* producer only, before tail */
    _Atomic uint64_t payload_bytes;      /* producer only; payload ever published, for inspectors */
    _Atomic uint64_t stalls;             /* producer only; claims refused for want of room */
    _Atomic uint32_t pid;                /* of the producer; 0 none yet */
    struct mr_ring_stage_shm stage[MR_RING_STAGES_MAX];
};
static_assert(sizeof(struct mr_ring_shm) == 640, "the ring's head is an ABI");
static_assert(sizeof(struct mr_ring_shm) <= MR_SEGMENT_DATA, "the head fits before the data");

/* In front of each record's payload. Records start at multiples of 8. */
struct mr_ring_record_shm {
    uint32_t len; /* payload bytes */
    uint8_t type; /* the users' own; 0 is refused, so that untouched memory is no record */
    uint8_t flags;
    uint16_t number; /* records ever written, low 16 bits: one more than the one before */
};
static_assert(sizeof(struct mr_ring_record_shm) == 8, "the record's head is an ABI");
#endif
