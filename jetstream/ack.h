/* jetstream/ack.h: what JetStream answers to a message: {"stream":"S","seq":7} or
 * {"error":{"code":400,"err_code":10071,"description":"..."}}. Documented by NATS as ADR-22. */
#ifndef MR_JETSTREAM_ACK_H
#define MR_JETSTREAM_ACK_H
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

struct mr_js_ack {
    uint64_t stream_sequence; /* 0: an error */
    bool duplicate;           /* the message was there already, with this sequence */
    uint32_t error_code;      /* err_code, or code when there is none */
    struct mr_str error;      /* borrowed from the answer */
};

/* MR_CORRUPT: neither an acknowledgement nor an error. */
MR_MUST_USE enum mr_rc mr_js_ack_parse(struct mr_str json, struct mr_js_ack *out);
#endif
