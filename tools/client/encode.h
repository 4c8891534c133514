/* tools/client/encode.h: GatewayMessages to bytes, StreamerMessages from bytes. */
#ifndef MR_TOOLS_CLIENT_ENCODE_H
#define MR_TOOLS_CLIENT_ENCODE_H
#include "tools/client/client.h"

/* size, then put into that many bytes; put returns the place behind them. */
size_t mr_client_subscribe_size(const struct mr_client_subscription *s);
uint8_t *mr_client_put_subscribe(uint8_t *at, const struct mr_client_subscription *s);
size_t mr_client_unsubscribe_size(struct mr_str subscription_id);
uint8_t *mr_client_put_unsubscribe(uint8_t *at, struct mr_str subscription_id);
size_t mr_client_heartbeat_size(int64_t timestamp_ms);
uint8_t *mr_client_put_heartbeat(uint8_t *at, int64_t timestamp_ms);

/* Take one StreamerMessage apart and hand it to its handler. ids: room for subscription ids that
 * grows (malloc) and is kept between calls. MR_CORRUPT: not such a message. */
struct mr_client_ids {
    struct mr_str *items;
    uint32_t capacity;
};
MR_MUST_USE enum mr_rc mr_client_dispatch(struct mr_str message,
                                          const struct mr_client_handlers *handlers,
                                          struct mr_client_ids *ids, struct mr_err *err);
#endif
