/* relay/state.h: the relay from inside, for its own files. */
#ifndef MR_RELAY_STATE_H
#define MR_RELAY_STATE_H
#include "log/log.h"
#include "relay/checkpoints.h"
#include "relay/fetch.h"
#include "relay/lag.h"
#include "relay/relay.h"
#include "rpc/grpc_health.h"
#include "rpc/grpc_reflection.h"
#include "rpc/grpc_server.h"

enum { MR_RELAY_ROUTES = 6 };

/* Numbers that several threads count; the process's own shows them in its cell. */
struct mr_relay_numbers {
    _Atomic uint64_t events, bytes, soft, rebuilds, out_of_range, acknowledged;
    _Atomic uint64_t in_flight; /* bytes of messages that gRPC has not taken over yet */
};

struct mr_relay {
    struct mr_process *process;
    struct mr_board_shm *board;
    struct mr_str backend;
    char log_dir[MR_CONFIG_TEXT_MAX + 16];
    struct mr_cache cache;
    struct mr_fetcher *fetcher;
    struct mr_checkpoints *checkpoints;
    struct mr_grpc_health *health;
    struct mr_grpc_route routes[MR_RELAY_ROUTES];
    struct mr_grpc_server *server;
    struct mr_lag_limits limits;
    struct mr_relay_numbers numbers;

    /* The live end; process's thread. */
    struct mr_log_reader *tail; /* NULL: nobody waits */
    bool tail_failed;           /* to begin: the next tick tries again */
    struct mr_piece_builder builder;
    uint64_t idle_since_ns, tick_ns;
    _Atomic uint64_t tail_next; /* what it encodes next; 0: it does not run */
    _Atomic uint32_t waiting;   /* consumers that wait for it */

    pthread_mutex_t lock;                /* of all below */
    TAILQ_HEAD(, mr_consumer) consumers; /* changed by the queue thread only */
    uint32_t consumer_count;
    struct mr_lag_clock clock; /* written by the process's thread, read by the queue thread */
    bool woken;                /* wake is on its way */
    bool ticked;               /* time has passed: lag and heartbeats are due */
    bool stopping;
    struct mr_grpc_op wake;
    grpc_call *wake_call;
    uint64_t lag_events_max, lag_ns_max; /* of the last look; queue thread writes */
    uint32_t behind, paused;
};

static inline uint64_t mr_relay_head(const struct mr_relay *relay)
{
    return atomic_load_explicit(&relay->board->log_written, memory_order_acquire);
}
static inline uint64_t mr_relay_floor(const struct mr_relay *relay)
{
    return atomic_load_explicit(&relay->board->log_floor, memory_order_acquire);
}
static inline uint64_t mr_relay_log_id(const struct mr_relay *relay)
{
    return atomic_load_explicit(&relay->board->log_id, memory_order_acquire);
}

/* Any thread but the queue's: have all consumers looked at in the queue thread. */
void mr_relay_wake(struct mr_relay *relay, bool tick);

/* consumer.c; queue thread, but for the first. */
struct mr_consumer;
grpc_call *mr_consumer_call(const struct mr_consumer *consumer);
void mr_consumer_begin(struct mr_grpc_call call, void *relay); /* route target */
void mr_consumers_step(struct mr_relay *relay, bool tick);
/* sequence: the consumer's place now. */
void mr_consumers_acknowledged(struct mr_relay *relay, const struct mr_acknowledge *what,
                               uint64_t sequence);
/* acknowledge.c; route target. */
void mr_acknowledge_begin(struct mr_grpc_call call, void *relay);
#endif
