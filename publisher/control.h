/* publisher/control.h: requests for the life of durable subscriptions, from whoever speaks for them
 * (the REST server, a gRPC stream) to the pump, which answers each when what it asked for is
 * durable and known to every shard.
 *
 * A request is its maker's memory. From mr_control_put on it is the pump's, until the pump calls
 * its done; then it is the maker's again. */
#ifndef MR_PUBLISHER_CONTROL_H
#define MR_PUBLISHER_CONTROL_H
#include <pthread.h>
#include <sys/queue.h>

#include "matcher/engine/engine.h"
#include "proto/json.h"
#include "publisher/sink.h"
#include "rpc/scope.h"

enum mr_control_code {
    MR_CONTROL_OK,
#define CODE(symbol, status, text) MR_CONTROL_##symbol,
#include "publisher/control_codes.def"
#undef CODE
    MR_CONTROL_CODE_COUNT
};
const char *mr_control_code_name(enum mr_control_code code); /* "SUBSCRIPTION_EXISTS" */
unsigned mr_control_code_status(enum mr_control_code code);  /* HTTP; 200 for OK */

enum mr_control_kind {
    MR_CONTROL_REGISTER,       /* items */
    MR_CONTROL_REPLACE,        /* one item; made when it is not there */
    MR_CONTROL_RENEW,          /* id */
    MR_CONTROL_REMOVE,         /* id */
    MR_CONTROL_REMOVE_GATEWAY, /* gateway */
    MR_CONTROL_GET,            /* id; answer in body */
    MR_CONTROL_LIST,           /* page; answer in body */
    MR_CONTROL_EXPLAIN,        /* event, id or page; answer in body */
};

/* One subscription of a REGISTER or REPLACE. */
struct mr_control_item {
    struct mr_request subscribe; /* subscription_id, database, collection, filters; or problem */
    struct mr_str spec;          /* the same as bytes of a SubscribeRequest */
    enum mr_control_code code;   /* out */
    char *text;                  /* out: why not; malloc'd, freed by mr_control_fini */
};

struct mr_control_page {
    struct mr_str gateway, database, collection; /* only such; data NULL: any */
    uint32_t cursor;                             /* slot to begin with */
    uint32_t limit;
};

struct mr_control_event {
    struct mr_str database, collection;
    struct mr_engine_event event; /* the same, and the document */
};

struct mr_control {
    enum mr_control_kind kind;
    struct mr_scope *scope; /* borrowed until done; NULL: everything is allowed */
    struct mr_str gateway;  /* REGISTER, REPLACE, REMOVE_GATEWAY */
    struct mr_str id;       /* RENEW, REMOVE, GET, EXPLAIN (empty: whoever matches) */
    uint32_t ttl_s;         /* REGISTER, REPLACE; 0: the default */
    struct mr_control_item *items;
    uint32_t item_count;
    struct mr_control_page page;
    struct mr_control_event event;

    /* Out. */
    enum mr_control_code code;
    char text[512];
    bool created;                   /* REPLACE: it had not been there */
    int64_t created_us, expires_us; /* of the first item, or of the subscription renewed */
    uint64_t log_id, marker; /* REGISTER: nothing behind this sequence is missed; 0: not known */
    uint64_t version;        /* REGISTER, REPLACE: of the index that has it */
    uint32_t removed;        /* REMOVE_GATEWAY */
    struct mr_json body;     /* GET, LIST, EXPLAIN; freed by mr_control_fini */

    void (*done)(struct mr_control *control); /* pump's thread; may free it */
    /* The pump's. */
    uint32_t pending; /* items that are not settled, and one while it is being handled */
    uint32_t found;   /* of a page */
    uint32_t begun;   /* items of a REGISTER that are under way */
    uint64_t arrived_ns;
    STAILQ_ENTRY(mr_control) next;
};
void mr_control_fini(struct mr_control *control); /* texts and body; not the request itself */
/* Say why not. The first reason stays. */
void mr_control_fail(struct mr_control *control, enum mr_control_code code, const char *fmt, ...)
    MR_PRINTF(3, 4);

STAILQ_HEAD(mr_control_list, mr_control);

struct mr_control_queue {
    pthread_mutex_t lock;
    struct mr_control_list list;
    _Atomic uint32_t count; /* lets the pump look without the lock */
    bool closed;            /* what comes is answered at once: UNAVAILABLE */
    struct mr_doorbell_shm *bell;
};
void mr_control_queue_init(struct mr_control_queue *queue, struct mr_doorbell_shm *bell);
void mr_control_queue_fini(struct mr_control_queue *queue);
/* Any thread. */
void mr_control_put(struct mr_control_queue *queue, struct mr_control *control);
/* Pump. NULL: none. */
struct mr_control *mr_control_take(struct mr_control_queue *queue);
bool mr_control_waiting(const struct mr_control_queue *queue);
/* Pump. When the one arrived that waits longest; UINT64_MAX: none waits. */
uint64_t mr_control_waiting_since_ns(struct mr_control_queue *queue);
/* Pump. Answer UNAVAILABLE to all that wait and to all that come. */
void mr_control_close(struct mr_control_queue *queue);
#endif
