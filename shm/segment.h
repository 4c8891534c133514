/* shm/segment.h: named shared-memory segments, /dev/shm/millrace.<instance>.<part>, mode 0600.
 * The supervisor creates and removes them; everyone else attaches. Every segment starts with a
 * struct mr_segment_shm, whose version is stored last: a segment that is not complete is refused.
 */
#ifndef MR_SHM_SEGMENT_H
#define MR_SHM_SEGMENT_H
#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define MR_SEGMENT_MAGIC    UINT32_C(0x4d524d31) /* "MRM1" */
#define MR_LAYOUT_VERSION   UINT32_C(3)          /* of every mapped struct; raise on any change */
#define MR_SEGMENT_DATA     4096u                /* where ring and journal bytes begin */
#define MR_INSTANCE_MAX     32u                  /* bytes of an instance's name with its NUL */
#define MR_SEGMENT_NAME_MAX 96u

enum mr_segment_kind { MR_SEGMENT_BOARD = 1, MR_SEGMENT_RING, MR_SEGMENT_JOURNAL };

/* The head of every segment. Writer of all fields: the creator, before anyone else attaches. */
struct mr_segment_shm {
    uint32_t magic;
    _Atomic uint32_t version; /* stored last, release; 0 = not ready */
    uint32_t kind;            /* enum mr_segment_kind */
    uint32_t creator_pid;
    uint64_t size;  /* bytes of the file */
    uint64_t epoch; /* of the instance's start: differs from every earlier one's */
    char instance[MR_INSTANCE_MAX];
    uint8_t reserved[64];
};
static_assert(sizeof(struct mr_segment_shm) == 128, "the segment head is an ABI");

/* A mapping. Owned by the caller; init by create or attach, undone by detach. */
struct mr_segment {
    struct mr_segment_shm *head; /* the mapped start */
    size_t map_bytes;            /* bytes mapped, the second half of a double mapping included */
    char name[MR_SEGMENT_NAME_MAX];
};

/* How a segment is mapped. Twice: the bytes behind MR_SEGMENT_DATA are mapped a second time right
 * behind themselves, so that a record that wraps is contiguous. */
enum mr_segment_map { MR_MAP_ONCE, MR_MAP_TWICE };

/* "millrace.<instance>.<part>"; asserts that it fits. instance: [a-z0-9_-]{1,31}. */
void mr_segment_name(char out[MR_SEGMENT_NAME_MAX], const char *instance, const char *part);
MR_MUST_USE enum mr_rc mr_segment_check_instance(const char *instance, struct mr_err *err);

/* Create (replacing a leftover of the same name), size, map read-write and zero. The caller fills
 * its own part and then calls mr_segment_seal, which makes the segment attachable. size  bytes of
 * the file, a multiple of 4096, MR_SEGMENT_DATA included. */
MR_MUST_USE enum mr_rc mr_segment_create(struct mr_segment *segment, const char *instance,
                                         const char *part, enum mr_segment_kind kind, uint64_t size,
                                         uint64_t epoch, enum mr_segment_map map,
                                         struct mr_err *err);
void mr_segment_seal(struct mr_segment *segment);

/* Map an existing one. Refuses, MR_CORRUPT, another magic, version, kind or a size that disagrees
 * with the file, naming both; MR_AGAIN when it does not exist or is not sealed yet.
 * read_only maps PROT_READ: inspectors cannot disturb a live instance. */
MR_MUST_USE enum mr_rc mr_segment_attach(struct mr_segment *segment, const char *instance,
                                         const char *part, enum mr_segment_kind kind,
                                         bool read_only, enum mr_segment_map map,
                                         struct mr_err *err);
void mr_segment_detach(struct mr_segment *segment);

/* Remove the name; mappings live on. Missing is not an error. */
void mr_segment_remove(const char *instance, const char *part);
/* Remove every segment of the instance; returns how many. */
uint32_t mr_segment_remove_all(const char *instance);
/* Call visit for each instance that has a board in /dev/shm, in name order. */
typedef void mr_segment_visit(const char *instance, void *context);
void mr_segment_each_instance(mr_segment_visit *visit, void *context);
#endif
