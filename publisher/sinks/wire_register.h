/* publisher/sinks/wire_register.h: durable subscriptions registered over a gateway's stream:
 * RegisterRequest and RegisterResponse of proto/streamer.proto. */
#ifndef MR_PUBLISHER_SINKS_WIRE_REGISTER_H
#define MR_PUBLISHER_SINKS_WIRE_REGISTER_H
#include "publisher/control.h"
#include "publisher/sinks/wire.h"

/* What one message may register: an item takes a few hundred bytes of memory, two of the message.
 */
enum { MR_WIRE_REGISTER_MAX = 10000 };

struct mr_wire_register {
    struct mr_control control; /* items: owned */
    struct mr_wire_arena arena;
    uint64_t request_id;
    struct mr_str progress; /* for the answer */
};

/* out is zeroed. Its strings point into message and arena; the items' specs are its own. Returns as
 * mr_wire_decode; a subscription that is readable but not acceptable has its problem set. */
MR_MUST_USE enum mr_rc mr_wire_decode_register(struct mr_str message,
                                               const struct mr_wire_limits *limits,
                                               struct mr_wire_register *out, struct mr_err *err);
void mr_wire_register_fini(struct mr_wire_register *r);

/* The answer, a whole StreamerMessage, from what the items have come to. */
size_t mr_wire_registered_size(struct mr_wire_register *r);
uint8_t *mr_wire_put_registered(uint8_t *at, const struct mr_wire_register *r);
#endif
