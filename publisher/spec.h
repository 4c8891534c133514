/* publisher/spec.h: a durable subscription as its store has it: what was asked for, and until when.
 *
 *   struct mr_spec_head, the gateway's name, a SubscribeRequest of proto/streamer.proto, and, while
 *   a sink may not be through with it, the SubscribeRequest that this one replaced
 *
 * Little endian. Bytes from a store are input: mr_spec_read checks them. A deadline is a monotonic
 * time of one boot of the machine; after another boot the wall clock says how much of it is left,
 * never more than the whole ttl. */
#ifndef MR_PUBLISHER_SPEC_H
#define MR_PUBLISHER_SPEC_H
#include <assert.h>

#include "publisher/sinks/wire.h"

enum { MR_BOOT_ID_BYTES = 40, MR_SPEC_VERSION = 2 };

struct mr_spec_head {
    uint32_t version;
    uint32_t ttl_s;
    int64_t created_us; /* wall clock */
    uint64_t deadline_ns;
    int64_t expires_us; /* wall clock, when the deadline was set */
    char boot_id[MR_BOOT_ID_BYTES];
    uint32_t gateway_len, subscribe_len;
    uint64_t log_id, after;  /* nothing at or before this place of that log concerns it */
    uint64_t previous_after; /* of the one that it replaced, which ends at after */
    uint32_t previous_len, reserved;
};
static_assert(sizeof(struct mr_spec_head) == 112, "the store's format");

/* A gateway that streams spoke for: its subscriptions live at least their ttl beyond. */
struct mr_spec_seen {
    uint32_t version, reserved;
    uint64_t seen_ns;
    int64_t seen_us; /* wall clock */
    char boot_id[MR_BOOT_ID_BYTES];
};
static_assert(sizeof(struct mr_spec_seen) == 64, "the store's format");

struct mr_spec {
    struct mr_spec_head head;
    struct mr_str gateway, subscribe, previous;
};

/* Of this boot; zero-padded. */
void mr_boot_id(char out[MR_BOOT_ID_BYTES]);

/* malloc'd; NULL: out of memory. */
void *mr_spec_make(const struct mr_spec *spec, uint32_t *len);
/* Parts point into bytes. MR_CORRUPT: it is none, or of a version that is not known. */
MR_MUST_USE enum mr_rc mr_spec_read(struct mr_str bytes, struct mr_spec *out, struct mr_err *err);
/* A deadline as a record has it (deadline_ns of boot; expires_us), on the clock of this boot, at
 * most ahead_ns from now. 0: it has passed. */
uint64_t mr_spec_deadline(const char this_boot[MR_BOOT_ID_BYTES], const char boot[MR_BOOT_ID_BYTES],
                          uint64_t deadline_ns, int64_t expires_us, uint64_t ahead_ns);

/* To read it again: what was accepted once stays when the limits of publisher.* are lowered, so
 * these are the highest that can be configured. */
struct mr_wire_limits mr_spec_limits(void);

/* What a subscription asked for, as bytes of a SubscribeRequest: what mr_wire_decode_subscribe
 * reads. malloc'd; NULL: out of memory. */
void *mr_spec_encode(const struct mr_request *request, size_t *len);
#endif
