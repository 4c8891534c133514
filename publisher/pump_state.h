/* publisher/pump_state.h: the parts of a pump, shared by the files that make up its turn. */
#ifndef MR_PUBLISHER_PUMP_STATE_H
#define MR_PUBLISHER_PUMP_STATE_H
#include "cel/normalise.h"
#include "publisher/control.h"
#include "publisher/durable.h"
#include "publisher/journal.h"
#include "publisher/merge.h"
#include "publisher/pump.h"
#include "publisher/resume.h"

struct mr_pump {
    struct mr_process *process;
    struct mr_board_shm *board;
    struct mr_cell_shm *cell;
    const struct mr_config *config;
    struct mr_sink *sink;
    struct mr_program_compiler *compiler; /* of what subscriptions state */

    struct mr_shard_set *current; /* one of sets; generation 0: not attached */
    struct mr_shard_set *next;    /* the other one: a set that is being prepared, or generation 0 */
    struct mr_shard_set sets[2];
    uint64_t turn_until_ns; /* requests that come behind it go on in the next turn */
    bool ready;             /* the supervisor has been told */
    bool serving;           /* health checks have been told */

    struct mr_register reg;
    bool reg_open;
    struct mr_subscriptions table;
    struct mr_deliverer deliverer;
    struct mr_resume resume;
    struct mr_durable durable;

    struct mr_subscription_list announced; /* not known to every shard yet */
    struct mr_subscription_list waiting; /* for the merge to reach their active_after, ascending */
    bool announced_changed;              /* look at them though no matcher has moved */
    uint64_t applied_seen;

    uint64_t merged; /* every event through this sequence is delivered to whom it concerns */
    /* Of the event being merged, while not all of its match records are here. */
    uint64_t merging_sequence, merging_id; /* ids below merging_id were seen */
    uint64_t *ids;
    uint32_t id_count, id_max;

    struct mr_request request; /* polled and not yet handled */
    bool has_request;
};

/* pump.c: have the requests of this turn had their time? A program of many patterns takes long to
 * compile, an expression to run. Each of those who ask does one piece all the same. */
bool mr_pump_is_late(const struct mr_pump *pump);
/* requests.c: take what peers ask for; subscriptions go into the journal. */
MR_MUST_USE enum mr_rc mr_pump_take_requests(struct mr_pump *pump, uint64_t now_ns, uint64_t *done,
                                             struct mr_err *err);
/* check.c: may this subscription be? code: what to call it when not. */
MR_MUST_USE enum mr_rc mr_pump_check(const struct mr_pump *pump, const struct mr_request *request,
                                     enum mr_control_code *code, struct mr_err *err);
/* check.c: is there a place left for it? gateway NULL: one that is not there yet. */
MR_MUST_USE enum mr_rc mr_pump_check_quotas(const struct mr_pump *pump,
                                            const struct mr_gateway *gateway,
                                            struct mr_str database, enum mr_control_code *code,
                                            struct mr_err *err);
/* requests.c: a subscription of the table goes into the journal; after a failure the caller removes
 * it from the table. */
MR_MUST_USE enum mr_rc mr_pump_enter(struct mr_pump *pump, struct mr_subscription *s,
                                     const struct mr_request *request, uint64_t now_ns,
                                     struct mr_err *err);
/* requests.c: take it out of everything, and free it. */
void mr_pump_end(struct mr_pump *pump, struct mr_subscription *s);
/* requests.c: the program of what a request states. */
MR_MUST_USE enum mr_rc mr_pump_compile(const struct mr_pump *pump, const struct mr_request *request,
                                       void **program, uint32_t *len, struct mr_err *err);
/* requests.c: where a subscriber wants to go on. *resume: the log still reaches back there. */
MR_MUST_USE enum mr_rc mr_pump_parse_after(const struct mr_pump *pump, struct mr_str text,
                                           uint64_t *after, bool *resume, struct mr_err *err);
/* confirm.c: what all shards have becomes active behind what was fed. */
uint64_t mr_pump_apply(struct mr_pump *pump);
/* confirm.c: answer those whose place the merge has reached. */
uint64_t mr_pump_confirm(struct mr_pump *pump, uint64_t now_ns);
/* confirm.c: its answer is on the way. */
void mr_pump_set_confirmed(struct mr_pump *pump, struct mr_subscription *s);
/* confirm.c: through which sequence the merge may go before somebody is to be answered. */
uint64_t mr_pump_confirm_limit(const struct mr_pump *pump, uint64_t frontier);
#endif
