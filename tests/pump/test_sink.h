/* tests/pump/test_sink.h: a sink in memory: requests come from the test, deliveries and answers are
 * kept. One test at a time in a process: the sink that is open is a global. */
#ifndef MR_TESTS_PUMP_TEST_SINK_H
#define MR_TESTS_PUMP_TEST_SINK_H
#include "publisher/sink.h"

enum { TEST_ID_MAX = 64 };

struct test_request {
    enum mr_request_kind kind;
    mr_gateway_id gateway;
    char id[TEST_ID_MAX], collection[TEST_ID_MAX], after[TEST_ID_MAX];
    int64_t value; /* filter field == value; negative: no filter */
    int64_t timestamp_ms;
    const char *gateway_name; /* HEARTBEAT; NULL: none */
    const char *problem;
    bool snapshot, own;
};

/* What one subscription of one gateway got. */
struct test_subscription {
    mr_gateway_id gateway;
    char id[TEST_ID_MAX];
    uint32_t answers; /* responses */
    uint32_t notices;
    bool success, resync, later; /* of the last one */
    char error[256];
    uint64_t marker;          /* of the last successful one */
    uint64_t *sequences;      /* of deliveries */
    uint32_t count, capacity; /* of sequences */
    uint32_t before_answer;   /* deliveries before the first answer */
    uint64_t at_answer;       /* highest sequence delivered to the gateway before the answer */
};

struct test_sink_state {
    struct test_request *requests;
    uint32_t request_first, request_count, request_capacity;
    struct test_subscription *subscriptions;
    uint32_t subscription_count, subscription_capacity;
    uint64_t encodes, releases, deliveries, flushes, acknowledged;
    bool ack_resync;
    uint64_t ack_marker;
    int64_t ack_timestamp_ms;
    bool serving, open;
    double fill;       /* of every gateway */
    mr_gateway_id cut; /* deliveries to it answer MR_CLOSED; 0: none */
    uint64_t gateway_highest[64];
    bool unordered; /* a delivery named its subscriptions out of the order of registration */
    /* Called for each delivery when set: for tests that write it elsewhere. */
    void (*record)(mr_gateway_id gateway, struct mr_str subscription_id, uint64_t sequence);
};
extern struct test_sink_state test_sink;
extern const struct mr_sink_ops test_sink_ops;

void test_sink_reset(void);
void test_sink_push(const struct test_request *request);
/* What the subscription got so far; made when missing. */
struct test_subscription *test_sink_of(mr_gateway_id gateway, struct mr_str id);
#endif
