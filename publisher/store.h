/* publisher/store.h: where subscriptions that outlive their gateway's connection are kept. A store
 * is a table from a subscription's id to its record (spec.h), and one from a gateway's name to when
 * it was last seen; stores/NAME.c holds one kind each. It knows nothing of what the bytes mean.
 *
 * A store is used by one thread at a time: by the pump until the keeper (keeper.h) is started, then
 * by the keeper's thread. */
#ifndef MR_PUBLISHER_STORE_H
#define MR_PUBLISHER_STORE_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/config.h"
#include "common/str.h"

enum mr_store_table { MR_STORE_SUBSCRIPTIONS, MR_STORE_GATEWAYS, MR_STORE_TABLE_COUNT };

enum { MR_STORE_KEY_MAX = 256 }; /* bytes; the least that every kind can take */

/* One change: put, or delete when value.data is NULL (a key that is not there is no error). Key and
 * value lie behind it in the same piece of memory. */
struct mr_store_change {
    STAILQ_ENTRY(mr_store_change) next;
    enum mr_store_table table;
    struct mr_str key, value;
    uint64_t subscription; /* for the pump: whom it concerns; 0: nobody */
    void *context;         /* for the pump */
    bool again;            /* for the pump: it is tried until it is done or past */
    uint32_t
        rc; /* enum mr_rc: the keeper sets that of the commit; MR_USAGE: too large, see commit */
};
STAILQ_HEAD(mr_store_changes, mr_store_change);

/* Copies key and value. NULL: out of memory. */
struct mr_store_change *mr_store_change_create(enum mr_store_table table, struct mr_str key,
                                               struct mr_str value);

/* One row; borrowed until return. Anything but MR_OK ends the visit. */
typedef enum mr_rc mr_store_visit(void *context, struct mr_str key, struct mr_str value,
                                  struct mr_err *err);

struct mr_store {
    const struct mr_store_ops *ops;
};
struct mr_store_ops {
    const char *name;
    /* MUST. Open, creating what is not there. MR_FATAL, MR_RETRY with the reason. */
    enum mr_rc (*open)(struct mr_store **out, const struct mr_config *config, struct mr_err *err);
    /* MUST. Visit every row of a table, in any order. */
    enum mr_rc (*load)(struct mr_store *store, enum mr_store_table table, mr_store_visit *visit,
                       void *context, struct mr_err *err);
    /* MUST. Make all changes, in order; they are kept when it returns MR_OK, but for those that are
     * too large for the store: their rc is set to MR_USAGE, and it goes on without them. Else none
     * of them is kept, or, where the store is another machine's, nobody knows. May block. */
    enum mr_rc (*commit)(struct mr_store *store, const struct mr_store_changes *changes,
                         struct mr_err *err);
    /* MAY; NULL: nothing can wait. Called when there is nothing to commit: do a piece of what can
     * wait, for not much longer than a commit takes. False: nothing is left for now. */
    bool (*tidy)(struct mr_store *store);
    /* MUST. */
    void (*close)(struct mr_store *store);
};
extern const struct mr_store_ops mr_store_lmdb, mr_store_nats;
#endif
