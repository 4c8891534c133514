/* publisher/resume.h: the pump's side of catching up from the log: who catches up together,
 * delivery as fast as the gateway reads, holding live matches near the head, going live. The rules
 * are in docs/design.md, "Resume". One thread. */
#ifndef MR_PUBLISHER_RESUME_H
#define MR_PUBLISHER_RESUME_H
#include "publisher/catchup.h"
#include "publisher/deliver.h"

struct mr_resume {
    struct mr_catchup_worker *worker;
    struct mr_subscriptions *table;
    struct mr_deliverer *deliverer;
    struct mr_cell_shm *cell;
    size_t hold_bytes_max;  /* of one catch-up */
    const uint64_t *merged; /* the pump's: delivered live through */
    struct mr_catchup_list all;
    uint32_t count;              /* of all */
    uint32_t surveys, waiting;   /* snapshots in their first pass; those that wait for theirs */
    struct mr_catchup **touched; /* with hits of the event being merged */
    uint32_t touched_count, touched_max;
    void (*confirmed)(void *context, struct mr_subscription *subscription); /* its answer is sent */
    void *context;
    bool waits; /* something has to be looked at again soon, though nobody rings */
};

/* The state of the pump that a turn goes by. */
struct mr_resume_turn {
    uint64_t now_ns;
    uint64_t merged;      /* delivered live through */
    uint64_t log_written; /* readable through */
    bool fed_known;
    uint64_t fed;                         /* when known: as mr_shard_set_fed */
    struct mr_subscription_list *waiting; /* gets those whose part of the log is lost */
    uint64_t done;                        /* out: what was done is added */
};

MR_MUST_USE enum mr_rc mr_resume_init(struct mr_resume *resume, const struct mr_resume *parts,
                                      const char *log_dir, struct mr_err *err);
void mr_resume_fini(struct mr_resume *resume);

/* A subscription resumes behind a sequence: RESUMING from now on. It is ANNOUNCED and not applied,
 * or applied and in no list. */
MR_MUST_USE enum mr_rc mr_resume_join(struct mr_resume *resume,
                                      struct mr_subscription *subscription, uint64_t after,
                                      uint64_t now_ns, struct mr_err *err);
/* The same for one that wants the current state first, as far as the log, which must begin with its
 * first event, tells it: confirmed when it has it. So many at once are in their first pass, and one
 * of a gateway is on its way: the others wait, and need nothing meanwhile. */
enum { MR_RESUME_SURVEYS_MAX = 4 };
MR_MUST_USE enum mr_rc mr_resume_snapshot(struct mr_resume *resume,
                                          struct mr_subscription *subscription, uint64_t now_ns,
                                          struct mr_err *err);
/* Every shard has it; behind shards_after they match for it. */
void mr_resume_applied(struct mr_subscription *subscription, uint64_t shards_after);
/* It ends. */
void mr_resume_leave(struct mr_subscription *subscription);
void mr_resume_close_gateway(struct mr_gateway *gateway);

/* A live match of a RESUMING subscription, id with its tag; then, once for the event, keep it for
 * those who hold. */
MR_MUST_USE enum mr_rc mr_resume_match(struct mr_resume *resume,
                                       const struct mr_subscription *subscription, uint64_t id,
                                       uint64_t sequence, struct mr_err *err);
void mr_resume_hold(struct mr_resume *resume, uint64_t sequence, const void *event,
                    uint32_t event_len);

MR_MUST_USE enum mr_rc mr_resume_work(struct mr_resume *resume, struct mr_resume_turn *turn,
                                      struct mr_err *err);

/* Through which sequence the gateway has everything: merged, or less while it catches up. */
uint64_t mr_resume_progress(const struct mr_gateway *gateway, uint64_t merged);
#endif
