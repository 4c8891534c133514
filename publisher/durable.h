/* publisher/durable.h: the life of durable subscriptions inside the pump: registered, renewed,
 * replaced, removed and listed by requests of control.h; kept by a store; ended when their time is
 * up; spoken for by streams. One thread: the pump's. */
#ifndef MR_PUBLISHER_DURABLE_H
#define MR_PUBLISHER_DURABLE_H
#include "publisher/control.h"
#include "publisher/keeper.h"
#include "publisher/lease.h"
#include "publisher/spec.h"

struct mr_pump;
struct mr_gateway;
struct mr_subscription;

struct mr_durable {
    struct mr_control_queue queue;
    struct mr_keeper *keeper; /* NULL: subscriptions live in memory only */
    struct mr_wheel wheel;
    struct mr_store_changes changes; /* of this turn */
    struct mr_store_changes
        failed;         /* what it did not take and is tried again: deletions, undoings */
    uint64_t failed_ns; /* when the last one of these failed */
    struct mr_control *unfinished; /* it took up its turn, and goes on in the next; NULL: none */
    struct mr_control_list views;  /* LIST and EXPLAIN that are not done; nobody waits for them */
    char boot_id[MR_BOOT_ID_BYTES];
    uint64_t seen_kept_ns; /* when the gateways that are spoken for were written down last */
    bool open, closing;
};

/* Ids of durable subscriptions and their gateways: 1 to so many of A-Z a-z 0-9 _ - */
enum { MR_DURABLE_NAME_MAX = 128 };
bool mr_durable_is_name(struct mr_str name);

/* durable.c. Called once, by the pump: the queue takes requests from now on. */
void mr_durable_init(struct mr_durable *durable, struct mr_doorbell_shm *bell);
/* Open the store and take what it holds into the table; before the first journal generation. */
MR_MUST_USE enum mr_rc mr_durable_open(struct mr_pump *pump, struct mr_err *err); /* _load.c */
/* Answers all that wait, before the sink is closed; changes that are under way are committed. */
void mr_durable_close(struct mr_pump *pump);
void mr_durable_work(struct mr_pump *pump, uint64_t now_ns, uint64_t *done);
bool mr_durable_look(const struct mr_pump *pump); /* is there something to do? */
/* Every shard has it, and the merge its place. */
void mr_durable_confirmed(struct mr_pump *pump, struct mr_subscription *s);
/* Who waits for it is answered: MR_CONTROL_OK once the store has it and every shard, too; else at
 * once. Nobody may wait. */
void mr_durable_settle(struct mr_subscription *s, enum mr_control_code code, const char *text);
/* It is about to go. */
void mr_durable_ended(struct mr_pump *pump, struct mr_subscription *s);
/* When it ends unless it is renewed; of a gateway that a stream speaks for, a ttl from now. */
uint64_t mr_durable_deadline(const struct mr_subscription *s, uint64_t now_ns);
/* Give a subscription of the table its lease; before mr_pump_enter. Its deadline is a time of this
 * boot. MR_RETRY: out of memory. */
MR_MUST_USE enum mr_rc mr_durable_lease(struct mr_pump *pump, struct mr_subscription *s,
                                        const struct mr_spec *spec, struct mr_err *err);
/* It did not enter: mr_subscription_remove is next. No lease is no mistake. */
void mr_durable_unlease(struct mr_pump *pump, struct mr_subscription *s);
/* It ends, in memory, and with it a name that nobody needs any more. */
void mr_durable_end(struct mr_pump *pump, struct mr_subscription *s);
/* Its time is up: it ends, in the store as well. */
void mr_durable_expire(struct mr_pump *pump, struct mr_subscription *s);
/* The next commit takes this change along. False: out of memory. */
bool mr_durable_change(struct mr_pump *pump, const struct mr_store_change *what);

/* What the store says of a change, for who asked for it. */
enum mr_control_code mr_durable_kept(const struct mr_store_change *change, const char **why);

/* May somebody see and change it? Scope NULL: everybody. */
bool mr_durable_reaches(const struct mr_scope *scope, const struct mr_subscription *s);

/* durable_requests.c: begin what a request asks for, or go on with it. False: go on, in the next
 * turn at the latest; true: it is or will be answered. A request is for what there was when it
 * arrived: what has expired while it waited has not. */
bool mr_durable_handle(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns);
bool mr_durable_go_on(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns);
/* What has not begun never will; what is under way is settled on its own. */
void mr_durable_abandon(struct mr_control *control, const char *why);
/* A subscription gets its place in table and journal, and its lease; its gateway is made when it is
 * not there. A marker that it asks for is not looked at: where it goes on, its gateway says. On
 * MR_OK it is on its way; MR_USAGE: the id is taken or its filters are none; MR_FULL, MR_RETRY: no
 * room now; MR_FATAL: out of memory. */
MR_MUST_USE enum mr_rc mr_durable_enter(struct mr_pump *pump, const struct mr_spec *spec,
                                        const struct mr_request *what, struct mr_subscription **out,
                                        struct mr_err *err);
/* One part of it is done; the last one answers. */
void mr_durable_part_done(struct mr_control *control);
/* REPLACE: the store has the new one, or has not; change: of the subscription that it is to
 * replace, for the control that asked. */
void mr_durable_replaced(struct mr_pump *pump, const struct mr_store_change *change,
                         uint64_t now_ns);
/* Its gateway wants what it matched before: its replacement, which the shards do not know yet,
 * ends, and who asked for it is told so. */
void mr_durable_undo_replace(struct mr_pump *pump, struct mr_subscription *old);

/* durable_bind.c. The stream speaks for request->gateway_name from now on. MR_USAGE: it may not. */
MR_MUST_USE enum mr_rc mr_durable_bind(struct mr_pump *pump, struct mr_gateway *stream,
                                       const struct mr_request *request, uint64_t now_ns,
                                       struct mr_err *err);
/* Of a stream or a name; nothing to do when it is not bound. */
void mr_durable_unbind(struct mr_pump *pump, struct mr_gateway *gateway, uint64_t now_ns);
/* Its subscriptions go on behind a marker. *resync: the log does not reach back there. */
MR_MUST_USE enum mr_rc mr_durable_resume(struct mr_pump *pump, struct mr_gateway *named,
                                         struct mr_str after, bool *resync, uint64_t now_ns,
                                         struct mr_err *err);
/* Write down which gateways are spoken for. */
void mr_durable_keep_seen(struct mr_pump *pump, uint64_t now_ns);

/* durable_sink.c, for a sink that delivers to durable ones in a way of its own. */
/* Tell it, once; replaces: its handle of the one that ends where this one begins, or 0. */
void mr_durable_tell_sink(struct mr_pump *pump, struct mr_subscription *s, uint32_t replaces);
/* The same for one from the store. */
void mr_durable_tell_loaded(struct mr_pump *pump, struct mr_subscription *s);
/* Where its deliveries begin, as its record says. */
void mr_durable_set_after(struct mr_lease *lease, uint64_t log_id, uint64_t after);
/* Is the sink through with what an earlier replacement left? */
bool mr_durable_may_replace(const struct mr_pump *pump, const struct mr_subscription *old);
/* The record of a replacement keeps what it replaces, until the sink is through with that. */
void mr_durable_set_previous(const struct mr_pump *pump, const struct mr_subscription *old,
                             struct mr_spec *spec);

/* RFC 3339 with milliseconds, UTC; returns its length. */
enum { MR_DURABLE_TIME_MAX = 40 };
size_t mr_durable_time(int64_t wall_us, char out[MR_DURABLE_TIME_MAX]);

/* durable_view.c: GET, LIST and EXPLAIN. True: answered; false: go on in the next turn. */
bool mr_durable_view(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns);
#endif
