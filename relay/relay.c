#include "relay/relay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "relay/census.h"
#include "relay/state.h"

#define TICK_NS     (50 * MR_NS_PER_MS) /* between two looks at lag and heartbeats */
#define IDLE_NS     MR_NS_PER_S /* nobody has waited for the live end so long: stop reading it */
#define CLOSE_NS    (2 * MR_NS_PER_S) /* for consumers to hear that we stop */
#define TURN_PIECES 16

enum { MESSAGE_BYTES_MAX = 256 * 1024 };

static enum mr_rc open_server(struct mr_relay *r, struct mr_err *err)
{
    const struct mr_config *config = &r->process->config;
    const struct mr_grpc_route routes[MR_RELAY_ROUTES] = {
        {"/syntrix.puller.v1.PullerService/Subscribe", mr_consumer_begin, r, MR_GRPC_WHOLE},
        {"/syntrix.puller.v1.PullerService/Acknowledge", mr_acknowledge_begin, r, MR_GRPC_WHOLE},
        {"/grpc.health.v1.Health/Check", mr_grpc_health_check, r->health, MR_GRPC_ANYBODY},
        {"/grpc.health.v1.Health/Watch", mr_grpc_health_watch, r->health, MR_GRPC_ANYBODY},
        {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", mr_grpc_reflection, NULL,
         MR_GRPC_ANYBODY},
        {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", mr_grpc_reflection, NULL,
         MR_GRPC_ANYBODY},
    };
    memcpy(r->routes, routes, sizeof routes);
    const struct mr_grpc_server_options options = {
        .listen = config->relay_listen.text,
        .key = "relay.listen",
        .message_bytes_max = MESSAGE_BYTES_MAX,
        .routes = r->routes,
        .route_count = MR_RELAY_ROUTES,
        .config = config,
    };
    return mr_grpc_server_open(&r->server, &options, err);
}

static void woken(void *owner, bool ok)
{
    struct mr_relay *r = owner;
    (void)ok;
    pthread_mutex_lock(&r->lock);
    grpc_call *call = r->wake_call;
    bool tick = r->ticked;
    r->woken = r->ticked = false;
    pthread_mutex_unlock(&r->lock);
    grpc_call_unref(call);
    mr_consumers_step(r, tick);
}

static void init(struct mr_relay *r, struct mr_process *process)
{
    const struct mr_config *config = &process->config;
    r->process = process;
    r->board = process->board.shm;
    r->backend = mr_str_from(config->source_kind.text);
    r->builder.backend = r->backend;
    r->wake = (struct mr_grpc_op){woken, r};
    r->limits = (struct mr_lag_limits){config->relay_lag_soft_events, config->relay_lag_hard_events,
                                       config->relay_lag_soft_time, config->relay_lag_hard_time};
    mr_lag_clock_init(&r->clock, config->relay_lag_hard_time);
    mr_cache_init(&r->cache, config->relay_memory_size / 2);
    pthread_mutex_init(&r->lock, NULL);
    TAILQ_INIT(&r->consumers);
    snprintf(r->log_dir, sizeof r->log_dir, "%s/log", config->instance_data_dir.text);
}

enum mr_rc mr_relay_open(struct mr_relay **out, struct mr_process *process, struct mr_err *err)
{
    struct mr_relay *r = calloc(1, sizeof *r);
    if (!r)
        return mr_reject(err, MR_FATAL, "open the relay: out of memory");
    init(r, process);
    *out = r;
    mr_census_open(r->board);
    char dir[sizeof r->log_dir];
    snprintf(dir, sizeof dir, "%s/consumers", process->config.instance_data_dir.text);
    const struct mr_fetcher_options options = {
        .dir = r->log_dir,
        .backend = r->backend,
        .cache = &r->cache,
        .piece_bytes = process->config.relay_batch_size,
    };
    enum mr_rc rc = mr_checkpoints_open(&r->checkpoints, dir, err);
    if (rc == MR_OK)
        rc = mr_fetcher_open(&r->fetcher, &options, err);
    if (rc == MR_OK)
        rc = mr_grpc_health_create(&r->health, "syntrix.puller.v1.PullerService", err);
    return rc == MR_OK ? open_server(r, err) : rc;
}

void mr_relay_close(struct mr_relay **relay)
{
    struct mr_relay *r = *relay;
    if (!r)
        return;
    *relay = NULL;
    if (r->server) {
        mr_grpc_health_serving(r->health, false);
        mr_grpc_health_stop(r->health);
        pthread_mutex_lock(&r->lock);
        r->stopping = true;
        pthread_mutex_unlock(&r->lock);
        mr_relay_wake(r, true);
        mr_grpc_server_stop(r->server);
        /* What they have under way ends in the server's queue, and calls that are open may still
         * ask them: so they are stopped before it ends, and freed behind it. */
        mr_fetcher_stop(r->fetcher);
        mr_checkpoints_stop(r->checkpoints);
        mr_grpc_server_close(r->server, mr_clock_ns() + CLOSE_NS);
    }
    mr_fetcher_close(&r->fetcher);
    mr_checkpoints_close(&r->checkpoints);
    mr_grpc_health_destroy(&r->health);
    if (r->tail)
        mr_log_reader_close(&r->tail);
    mr_piece_builder_fini(&r->builder);
    mr_cache_fini(&r->cache);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void mr_relay_wake(struct mr_relay *r, bool tick)
{
    pthread_mutex_lock(&r->lock);
    struct mr_consumer *first = TAILQ_FIRST(&r->consumers);
    r->ticked |= tick && first;
    if (first && !r->woken) {
        r->woken = true;
        r->wake_call = mr_consumer_call(first);
        grpc_call_ref(r->wake_call);
        mr_grpc_nudge(r->wake_call, &r->wake);
    }
    pthread_mutex_unlock(&r->lock);
}

static void stop_tail(struct mr_relay *r)
{
    mr_log_reader_close(&r->tail);
    atomic_store_explicit(&r->tail_next, 0, memory_order_release);
}

/* Somebody waits: read the live end, from now on. What lies before it is read by fetch.c. */
static enum mr_rc start_tail(struct mr_relay *r, struct mr_err *err)
{
    uint64_t head = mr_relay_head(r), floor;
    enum mr_rc rc = mr_log_reader_open(&r->tail, r->log_dir, err);
    if (rc == MR_OK)
        rc = mr_log_seek(r->tail, head, &floor, err);
    if (rc != MR_OK) {
        if (r->tail)
            stop_tail(r);
        return rc == MR_AGAIN || rc == MR_USAGE ? MR_AGAIN : rc;
    }
    r->builder.log_id = mr_log_reader_id(r->tail);
    atomic_store_explicit(&r->tail_next, head + 1, memory_order_release);
    mr_relay_wake(r, false); /* who stands further back than that is to fetch */
    return MR_OK;
}

/* Encode what is there, to the end of a piece. MR_AGAIN: nothing. What the puller has written but
 * not announced is not there yet: a consumer that came back with its marker would be refused. */
static enum mr_rc read_piece(struct mr_relay *r, struct mr_err *err)
{
    uint64_t first = atomic_load_explicit(&r->tail_next, memory_order_relaxed), next = first;
    uint64_t last = first | (MR_PIECE_EVENTS_MAX - 1), head = mr_relay_head(r);
    struct mr_log_record record;
    struct mr_event event;
    enum mr_rc rc = head < first ? MR_AGAIN : MR_OK;
    last = last < head ? last : head;
    while (next <= last && r->builder.len < r->process->config.relay_batch_size) {
        rc = mr_log_next(r->tail, &record, err);
        if (rc == MR_OK && mr_event_decode(record.data, record.len, &event) != MR_OK)
            rc = mr_reject(err, MR_CORRUPT, "record %" PRIu64 " of the log is no event",
                           record.sequence);
        if (rc == MR_OK)
            rc = mr_piece_add(&r->builder, &event, next, next, err);
        if (rc != MR_OK)
            break;
        next++;
    }
    if (next == first)
        return rc;
    struct mr_piece *piece;
    enum mr_rc made = mr_piece_finish(&r->builder, first, next - 1, &piece, err);
    if (made != MR_OK)
        return made;
    mr_cache_put(&r->cache, piece);
    mr_piece_unref(piece);
    mr_count(r->process->cell, MR_COUNTER_RELAY_ENCODED, next - first);
    atomic_store_explicit(&r->tail_next, next, memory_order_release);
    return rc == MR_AGAIN ? MR_OK : rc;
}

/* The live end. A damaged log stops this process no more than it must: consumers hear of it from
 * their own reads, and the tail begins anew behind it. */
static enum mr_rc turn_tail(struct mr_relay *r, uint64_t now_ns, uint64_t *done, struct mr_err *err)
{
    if (atomic_load_explicit(&r->waiting, memory_order_acquire) > 0)
        r->idle_since_ns = now_ns;
    bool wanted = now_ns - r->idle_since_ns < IDLE_NS;
    if (!wanted) {
        if (r->tail)
            stop_tail(r);
        r->tail_failed = false;
        return MR_OK;
    }
    enum mr_rc rc = r->tail ? MR_OK : start_tail(r, err);
    if (rc == MR_AGAIN && !r->tail_failed)
        mr_log_warn("relay", "tail_waits", "why=\"%s\"", err->text);
    r->tail_failed = !r->tail;
    uint64_t before = atomic_load_explicit(&r->tail_next, memory_order_relaxed);
    for (int i = 0; i < TURN_PIECES && rc == MR_OK && before > 0; i++)
        rc = read_piece(r, err);
    *done = before > 0 ? atomic_load_explicit(&r->tail_next, memory_order_relaxed) - before : 0;
    if (*done > 0)
        mr_relay_wake(r, false);
    if (rc == MR_CORRUPT || rc == MR_USAGE) {
        mr_log_error("relay", "tail_failed", "why=\"%s\"", err->text);
        stop_tail(r);
        rc = MR_OK;
    }
    return rc == MR_AGAIN ? MR_OK : rc;
}

static uint64_t number(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void show(struct mr_relay *r)
{
    struct mr_cell_shm *cell = r->process->cell;
    pthread_mutex_lock(&r->lock);
    uint64_t consumers = r->consumer_count, behind = r->behind, paused = r->paused;
    uint64_t lag_events = r->lag_events_max, lag_ns = r->lag_ns_max;
    pthread_mutex_unlock(&r->lock);
    mr_gauge(cell, MR_COUNTER_CONSUMERS, consumers);
    mr_gauge(cell, MR_COUNTER_CONSUMERS_BEHIND, behind);
    mr_gauge(cell, MR_COUNTER_CONSUMERS_PAUSED, paused);
    mr_gauge(cell, MR_COUNTER_RELAY_LAG_MAX, lag_events);
    mr_gauge(cell, MR_COUNTER_RELAY_LAG_TIME_MAX, lag_ns);
    mr_gauge(cell, MR_COUNTER_RELAY_EVENTS, number(&r->numbers.events));
    mr_gauge(cell, MR_COUNTER_RELAY_BYTES, number(&r->numbers.bytes));
    mr_gauge(cell, MR_COUNTER_RELAY_LAG_SOFT, number(&r->numbers.soft));
    mr_gauge(cell, MR_COUNTER_RELAY_REBUILDS, number(&r->numbers.rebuilds));
    mr_gauge(cell, MR_COUNTER_RELAY_OUT_OF_RANGE, number(&r->numbers.out_of_range));
    mr_gauge(cell, MR_COUNTER_RELAY_ACKNOWLEDGED, number(&r->numbers.acknowledged));
    mr_gauge(cell, MR_COUNTER_RELAY_CATCH_UP, mr_fetcher_events(r->fetcher));
    mr_gauge(cell, MR_COUNTER_RELAY_COALESCED, mr_fetcher_coalesced(r->fetcher));
    mr_gauge(cell, MR_COUNTER_RELAY_MEMORY,
             mr_cache_bytes(&r->cache) + number(&r->numbers.in_flight));
}

enum mr_rc mr_relay_turn(struct mr_relay *r, uint64_t now_ns, uint64_t *done, struct mr_err *err)
{
    bool known = mr_relay_log_id(r) != 0;
    enum mr_rc rc = known ? turn_tail(r, now_ns, done, err) : MR_OK;
    if (rc != MR_OK || now_ns - r->tick_ns < TICK_NS)
        return rc;
    r->tick_ns = now_ns;
    mr_grpc_health_serving(r->health, known);
    pthread_mutex_lock(&r->lock);
    mr_lag_clock_tick(&r->clock, mr_relay_head(r), now_ns);
    pthread_mutex_unlock(&r->lock);
    mr_relay_wake(r, true);
    show(r);
    return MR_OK;
}

uint64_t mr_relay_timeout_ns(const struct mr_relay *r)
{
    (void)r;
    return TICK_NS;
}

bool mr_relay_look(void *relay)
{
    struct mr_relay *r = relay;
    uint64_t next = atomic_load_explicit(&r->tail_next, memory_order_relaxed);
    if (next == 0)
        return mr_relay_log_id(r) != 0 && !r->tail_failed &&
               atomic_load_explicit(&r->waiting, memory_order_acquire) > 0;
    return mr_relay_head(r) >= next;
}
