#include "publisher/resume.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "proto/match.h"

/* Others of the same gateway are waited for so long after the last one, and so long in sum. */
#define QUIET_NS   (2 * MR_NS_PER_MS)
#define FORMING_NS (20 * MR_NS_PER_MS)
/* A gateway has so many catch-ups that read, and as many that form. Those who come while one reads
 * about where they begin gather and follow it; who begins so many events away from it needs
 * another. One more is for those who begin no further than that from the head: they are soon done,
 * while the others may take longer than the log keeps what they wait for.
 */
#define GATEWAY_MAX 4u
#define FAR_EVENTS  65536u
/* Of all gateways, so many have a reader of the log each; those beyond share one. */
#define READERS_MAX 64u
/* What ran out may be there again. */
#define SHORT_NS (250 * MR_NS_PER_MS)
/* So near to the head a catch-up begins to hold live matches. */
#define NEAR_EVENTS 8192u
/* Deliveries of one catch-up in one turn: live ones go in between. */
#define TURN_ENTRIES 256u
/* The gateway's queue keeps room for live deliveries. */
#define FILL_MAX 0.5
/* Between two looks at a log that should have more at once. */
#define AGAIN_NS MR_NS_PER_MS

enum mr_rc mr_resume_init(struct mr_resume *resume, const struct mr_resume *parts,
                          const char *log_dir, struct mr_err *err)
{
    *resume = *parts;
    TAILQ_INIT(&resume->all);
    return mr_catchup_worker_create(&resume->worker, log_dir, &parts->cell->bell, err);
}

/* A snapshot keeps a table of what it has seen while it is in its first pass, and a list of what is
 * in the state until that is delivered, as slowly as its gateway reads. So few are in the first,
 * and one of a gateway in either: who does not read holds up its own only. */
static bool may_begin(struct mr_resume *resume, struct mr_catchup *c)
{
    struct mr_gateway *gateway = c->pump.gateway;
    if (gateway->snapshot || resume->surveys == MR_RESUME_SURVEYS_MAX)
        return false;
    gateway->snapshot = c;
    c->pump.surveys = true;
    resume->surveys++;
    return true;
}

static void end_survey(struct mr_resume *resume, struct mr_catchup *c)
{
    if (!c->pump.surveys)
        return;
    c->pump.surveys = false;
    resume->surveys--;
    resume->waits = resume->waits || resume->waiting > 0; /* those who were looked at before it */
}

static void end_snapshot(struct mr_resume *resume, struct mr_catchup *c)
{
    end_survey(resume, c);
    if (!c->pump.gateway || c->pump.gateway->snapshot != c)
        return;
    c->pump.gateway->snapshot = NULL;
    resume->waits = resume->waits || resume->waiting > 0;
}

static void drop(struct mr_resume *resume, struct mr_catchup *c)
{
    end_snapshot(resume, c);
    if (c->pump.gateway)
        TAILQ_REMOVE(&c->pump.gateway->catchups, c, pump.of_gateway);
    TAILQ_REMOVE(&resume->all, c, all);
    resume->count--;
    mr_catchup_destroy(&c);
}

void mr_resume_fini(struct mr_resume *resume)
{
    if (!resume->worker)
        return;
    mr_catchup_worker_destroy(&resume->worker);
    while (!TAILQ_EMPTY(&resume->all))
        drop(resume, TAILQ_FIRST(&resume->all));
    free(resume->touched);
}

static bool is_far(uint64_t a, uint64_t b)
{
    return (a > b ? a - b : b - a) > FAR_EVENTS;
}

static bool is_near_head(const struct mr_resume *resume, uint64_t sequence)
{
    return sequence >= *resume->merged || !is_far(sequence, *resume->merged);
}

/* The one that begins nearest to a place, and like it near the head or not. NULL: it takes one of
 * its own. */
static struct mr_catchup *find_forming(const struct mr_resume *resume,
                                       const struct mr_gateway *gateway, uint64_t after)
{
    bool near = is_near_head(resume, after);
    struct mr_catchup *c, *nearest = NULL;
    uint64_t nearest_by = UINT64_MAX;
    uint32_t forming = 0;
    TAILQ_FOREACH(c, &gateway->catchups, pump.of_gateway)
    {
        if (c->pump.phase != MR_CATCHUP_FORMING || c->snapshot ||
            is_near_head(resume, c->from) != near)
            continue;
        uint64_t by = c->from > after ? c->from - after : after - c->from;
        forming++;
        if (by <= nearest_by) {
            nearest = c;
            nearest_by = by;
        }
    }
    return near || forming >= GATEWAY_MAX || nearest_by <= FAR_EVENTS ? nearest : NULL;
}

/* May it begin to read? Those of its gateway that wait longer go first. */
static bool may_read(const struct mr_resume *resume, const struct mr_catchup *c)
{
    const struct mr_catchup *other;
    uint32_t reading = 0, far = 0;
    bool behind = false; /* in the list */
    TAILQ_FOREACH(other, &c->pump.gateway->catchups, pump.of_gateway)
    {
        bool forming = other->pump.phase == MR_CATCHUP_FORMING;
        uint64_t at = forming ? other->from : other->pump.through;
        behind = behind || other == c;
        if (other == c || other->snapshot || (forming && behind))
            continue;
        if (!forming && !is_far(at, c->from))
            return false;
        reading += !forming;
        far += !is_near_head(resume, at);
    }
    return reading <= GATEWAY_MAX && (far < GATEWAY_MAX || is_near_head(resume, c->from));
}

static enum mr_rc form(struct mr_resume *resume, struct mr_gateway *gateway, uint64_t now_ns,
                       struct mr_catchup **out, struct mr_err *err)
{
    enum mr_rc rc = mr_catchup_create(out, err);
    if (rc != MR_OK)
        return rc;
    struct mr_catchup *c = *out;
    c->from = UINT64_MAX; /* of nobody yet */
    c->pump.gateway = gateway;
    c->pump.formed_ns = now_ns;
    c->shares_reader = resume->count++ >= READERS_MAX;
    mr_backlog_init(&c->pump.hold, resume->hold_bytes_max);
    TAILQ_INSERT_TAIL(&gateway->catchups, c, pump.of_gateway);
    TAILQ_INSERT_TAIL(&resume->all, c, all);
    return MR_OK;
}

/* Take those out who left while it formed, which may take as long as another one reads. */
static void forget_left(struct mr_resume *resume, struct mr_catchup *c)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->member_count; i++) {
        const struct mr_catchup_member member = c->members[i];
        const struct mr_subscription *s = mr_subscription_get(resume->table, member.subscription);
        if (s && s->catchup == c)
            c->members[kept++] = member;
        else
            free(member.program);
    }
    c->member_count = kept;
}

static enum mr_rc join(struct mr_resume *resume, struct mr_catchup *c, struct mr_subscription *s,
                       uint64_t after, struct mr_err *err)
{
    const struct mr_subscribe_head *head = s->record;
    const struct mr_catchup_member member = {.subscription = mr_subscription_id(s),
                                             .flags = head->flags,
                                             .program = (void *)(uintptr_t)(head + 1),
                                             .program_len = s->record_len - (uint32_t)sizeof *head};
    if (c->member_count > 2 * c->pump.live_count) /* seldom: it looks at all of them */
        forget_left(resume, c);
    enum mr_rc rc = mr_catchup_add(c, &member, err);
    if (rc != MR_OK)
        return rc; /* without members it is dropped */
    c->from = after < c->from ? after : c->from;
    c->pump.live_count++;
    c->pump.unapplied += !s->applied;
    if (s->applied && s->active_after > c->pump.shards_after)
        c->pump.shards_after = s->active_after; /* the shards match for it behind this only */
    s->state = MR_SUB_RESUMING;
    s->active_after = after;
    s->catchup = c;
    mr_count(resume->cell, MR_COUNTER_RESUMES, 1);
    return MR_OK;
}

enum mr_rc mr_resume_join(struct mr_resume *resume, struct mr_subscription *s, uint64_t after,
                          uint64_t now_ns, struct mr_err *err)
{
    MR_ASSERT(s->state != MR_SUB_RESUMING && (s->applied || s->state == MR_SUB_ANNOUNCED));
    struct mr_catchup *c = find_forming(resume, s->gateway, after);
    enum mr_rc rc = c ? MR_OK : form(resume, s->gateway, now_ns, &c, err);
    if (rc != MR_OK)
        return rc;
    c->pump.joined_ns = now_ns;
    return join(resume, c, s, after, err);
}

enum mr_rc mr_resume_snapshot(struct mr_resume *resume, struct mr_subscription *s, uint64_t now_ns,
                              struct mr_err *err)
{
    MR_ASSERT(s->state == MR_SUB_ANNOUNCED);
    struct mr_catchup *c;
    enum mr_rc rc = form(resume, s->gateway, now_ns, &c, err);
    if (rc != MR_OK)
        return rc;
    c->snapshot = true;
    return join(resume, c, s, 0, err);
}

void mr_resume_applied(struct mr_subscription *s, uint64_t shards_after)
{
    MR_ASSERT(s->state == MR_SUB_RESUMING && !s->applied && s->catchup->pump.unapplied > 0);
    struct mr_catchup_pump *pump = &s->catchup->pump;
    s->applied = true;
    pump->unapplied--;
    if (shards_after > pump->shards_after)
        pump->shards_after = shards_after;
}

void mr_resume_leave(struct mr_subscription *s)
{
    MR_ASSERT(s->state == MR_SUB_RESUMING && s->catchup->pump.live_count > 0);
    struct mr_catchup_pump *pump = &s->catchup->pump;
    pump->live_count--;
    if (!s->applied)
        pump->unapplied--;
    s->catchup = NULL;
}

void mr_resume_close_gateway(struct mr_gateway *gateway)
{
    struct mr_catchup *c;
    while ((c = TAILQ_FIRST(&gateway->catchups)) != NULL) {
        TAILQ_REMOVE(&gateway->catchups, c, pump.of_gateway);
        c->pump.gateway = NULL;
    }
}

static void *grown(void *items, uint32_t *max, size_t item_bytes)
{
    uint32_t bigger = *max ? *max * 2 : 16;
    void *out = realloc(items, bigger * item_bytes);
    if (out)
        *max = bigger;
    return out;
}

enum mr_rc mr_resume_match(struct mr_resume *resume, const struct mr_subscription *s, uint64_t id,
                           uint64_t sequence, struct mr_err *err)
{
    struct mr_catchup *c = s->catchup;
    struct mr_catchup_pump *pump = &c->pump;
    if (!pump->holding || sequence <= pump->hold_after || mr_match_tag(id) & MR_TAG_ALONE)
        return MR_OK;
    if (pump->hit_count == pump->hit_max) {
        uint64_t *hits = grown(pump->hits, &pump->hit_max, sizeof *hits);
        if (!hits)
            return mr_fail(err, MR_FATAL, "hold event %" PRIu64, sequence);
        pump->hits = hits;
    }
    if (pump->hit_count == 0) {
        if (resume->touched_count == resume->touched_max) {
            void *touched = grown(resume->touched, &resume->touched_max, sizeof c);
            if (!touched)
                return mr_fail(err, MR_FATAL, "hold event %" PRIu64, sequence);
            resume->touched = touched;
        }
        resume->touched[resume->touched_count++] = c;
    }
    pump->hits[pump->hit_count++] = id;
    return MR_OK;
}

/* What does not fit is in the log: give up holding, and come nearer first. */
void mr_resume_hold(struct mr_resume *resume, uint64_t sequence, const void *event,
                    uint32_t event_len)
{
    for (uint32_t i = 0; i < resume->touched_count; i++) {
        struct mr_catchup_pump *pump = &resume->touched[i]->pump;
        struct mr_backlog_entry entry = {.sequence = sequence,
                                         .ids = pump->hits,
                                         .id_count = pump->hit_count,
                                         .event = event,
                                         .event_len = event_len};
        pump->hit_count = 0;
        if (mr_backlog_push(&pump->hold, &entry) == MR_OK)
            continue;
        pump->holding = false;
        mr_backlog_fini(&pump->hold);
    }
    resume->touched_count = 0;
}

static enum mr_rc deliver_entry(struct mr_resume *resume, const struct mr_catchup *c,
                                const struct mr_backlog_entry *entry, struct mr_err *err)
{
    struct mr_event event;
    if (mr_event_decode(entry->event, entry->event_len, &event) != MR_OK)
        return mr_reject(err, MR_CORRUPT, "deliver event %" PRIu64 " of a catch-up: it is no event",
                         entry->sequence);
    for (uint32_t i = 0; i < entry->id_count; i++) {
        struct mr_subscription *s = mr_subscription_get(resume->table, mr_match_id(entry->ids[i]));
        if (!s || s->catchup != c || entry->sequence <= s->active_after)
            continue;
        enum mr_rc rc = mr_deliverer_add(resume->deliverer, s, mr_match_tag(entry->ids[i]), err);
        if (rc != MR_OK)
            return rc;
    }
    resume->deliverer->snapshot = c->snapshot && entry->sequence <= c->snapshot_through;
    enum mr_rc rc = mr_deliverer_send(resume->deliverer, &event, err);
    resume->deliverer->snapshot = false;
    return rc;
}

/* Deliver what the gateway's queue has room for. MR_AGAIN: something is left. */
static enum mr_rc deliver_backlog(struct mr_resume *resume, struct mr_catchup *c,
                                  struct mr_backlog *backlog, struct mr_resume_turn *turn,
                                  struct mr_err *err)
{
    struct mr_sink *sink = resume->deliverer->sink;
    struct mr_backlog_entry entry;
    for (uint32_t n = 0; mr_backlog_peek(backlog, &entry); n++) {
        if (entry.sequence > c->pump.through) {
            if (n >= TURN_ENTRIES) {
                turn->done++;
                return MR_AGAIN;
            }
            if (sink->ops->fill(sink, c->pump.gateway->stream) > FILL_MAX) {
                resume->waits = true;
                return MR_AGAIN;
            }
            enum mr_rc rc = deliver_entry(resume, c, &entry, err);
            if (rc != MR_OK)
                return rc;
            c->pump.through = entry.sequence;
            turn->done++;
        }
        mr_backlog_pop(backlog);
    }
    return MR_OK;
}

/* Its part of the log is gone or damaged: everyone is told to read anew, and starts from now. */
static bool give_up(struct mr_resume *resume, struct mr_catchup *c, struct mr_resume_turn *turn)
{
    if (!turn->fed_known)
        return false;
    mr_log_warn("resume", "lost",
                "gateway=%" PRIu64 " subscriptions=%u after=%" PRIu64 " why=\"%s\"",
                c->pump.gateway->id, c->pump.live_count, c->pump.through, c->err.text);
    for (uint32_t i = 0; i < c->member_count; i++) {
        struct mr_subscription *s = mr_subscription_get(resume->table, c->members[i].subscription);
        if (!s || s->catchup != c)
            continue;
        s->catchup = NULL;
        s->resync = true;
        s->active_after = UINT64_MAX;
        s->state = MR_SUB_ANNOUNCED;
        if (!s->applied)
            continue; /* it waits for the shards as any other */
        s->state = MR_SUB_WAITING;
        s->active_after = turn->fed > turn->merged ? turn->fed : turn->merged;
        TAILQ_INSERT_TAIL(turn->waiting, s, waiting);
    }
    drop(resume, c);
    return true;
}

static void go_live(struct mr_resume *resume, struct mr_catchup *c)
{
    for (uint32_t i = 0; i < c->member_count; i++) {
        struct mr_subscription *s = mr_subscription_get(resume->table, c->members[i].subscription);
        if (!s || s->catchup != c)
            continue;
        s->catchup = NULL;
        s->state = MR_SUB_LIVE;
        MR_CRASH("publisher.live");
        if (c->pump.through > s->active_after)
            s->active_after = c->pump.through;
    }
    drop(resume, c);
}

static void submit(struct mr_resume *resume, struct mr_catchup *c, uint64_t now_ns)
{
    c->pump.phase = MR_CATCHUP_READING;
    c->pump.submitted_ns = now_ns;
    if (c->pump.through < c->from)
        c->pump.through = c->from;
    mr_catchup_submit(resume->worker, c);
}

/* Is the state still on its way? When it has come, its subscription is told so. */
static bool in_snapshot(struct mr_resume *resume, struct mr_catchup *c)
{
    if (!c->snapshot || c->pump.told)
        return false;
    if (!c->surveyed || c->pump.through < c->snapshot_through)
        return true;
    struct mr_subscription *s = mr_subscription_get(resume->table, c->members[0].subscription);
    c->pump.told = true;
    end_snapshot(resume, c);
    mr_survey_fini(&c->survey);
    mr_watch_destroy(&c->survey_engine);
    if (s && s->catchup == c) {
        mr_deliverer_confirm(resume->deliverer, s, c->snapshot_through);
        resume->confirmed(resume->context, s);
    }
    return false;
}

/* Descriptors or memory ran out: nobody is told that something is lost. */
static void read_later(struct mr_resume *resume, struct mr_catchup *c, uint64_t now_ns)
{
    if (!c->pump.told_short)
        mr_log_warn("resume", "waits", "gateway=%" PRIu64 " subscriptions=%u why=\"%s\"",
                    c->pump.gateway->id, c->pump.live_count, c->err.text);
    c->pump.told_short = true;
    if (now_ns - c->pump.submitted_ns >= SHORT_NS)
        submit(resume, c, now_ns);
    else
        resume->waits = true;
}

/* A batch is delivered: begin to hold when near, go live when through, else read on. */
static enum mr_rc advance(struct mr_resume *resume, struct mr_catchup *c,
                          struct mr_resume_turn *turn, struct mr_err *err)
{
    struct mr_catchup_pump *pump = &c->pump;
    if (c->outcome == MR_CATCHUP_LOST) {
        if (give_up(resume, c, turn))
            turn->done++;
        else
            resume->waits = true;
        return MR_OK;
    }
    if (c->outcome == MR_CATCHUP_SHORT) {
        read_later(resume, c, turn->now_ns);
        return MR_OK;
    }
    pump->told_short = false;
    if (in_snapshot(resume, c)) {
        submit(resume, c, turn->now_ns);
        return MR_OK;
    }
    bool near = c->outcome == MR_CATCHUP_END || turn->merged <= pump->through + NEAR_EVENTS;
    if (!pump->holding && pump->unapplied == 0 && near) {
        pump->holding = true;
        pump->hold_after = turn->merged > pump->shards_after ? turn->merged : pump->shards_after;
    }
    if (pump->holding && pump->through >= pump->hold_after) {
        enum mr_rc rc = deliver_backlog(resume, c, &pump->hold, turn, err);
        if (rc == MR_OK) {
            go_live(resume, c);
            turn->done++;
        }
        return rc == MR_AGAIN ? MR_OK : rc;
    }
    bool more = c->outcome == MR_CATCHUP_MORE || turn->log_written > pump->through;
    if (more || turn->now_ns - pump->submitted_ns >= AGAIN_NS)
        submit(resume, c, turn->now_ns);
    else
        resume->waits = true;
    return MR_OK;
}

static enum mr_rc work_on(struct mr_resume *resume, struct mr_catchup *c,
                          struct mr_resume_turn *turn, struct mr_err *err)
{
    struct mr_catchup_pump *pump = &c->pump;
    if (pump->phase == MR_CATCHUP_READING)
        return MR_OK;
    if (!pump->gateway || pump->live_count == 0) {
        drop(resume, c);
        return MR_OK;
    }
    if (pump->phase == MR_CATCHUP_FORMING && c->snapshot) {
        if (may_begin(resume, c))
            submit(resume, c, turn->now_ns);
        else
            resume->waiting++;
        return MR_OK;
    }
    if (pump->phase == MR_CATCHUP_FORMING) {
        if ((turn->now_ns - pump->joined_ns >= QUIET_NS ||
             turn->now_ns - pump->formed_ns >= FORMING_NS) &&
            may_read(resume, c))
            submit(resume, c, turn->now_ns);
        else
            resume->waits = true;
        return MR_OK;
    }
    if (c->surveyed)
        end_survey(resume, c);
    if (pump->phase == MR_CATCHUP_DELIVERING) {
        enum mr_rc rc = deliver_backlog(resume, c, &c->batch, turn, err);
        if (rc != MR_OK)
            return rc == MR_AGAIN ? MR_OK : rc;
        if (c->batch_through > pump->through)
            pump->through = c->batch_through;
        pump->phase = MR_CATCHUP_DELIVERED;
    }
    return advance(resume, c, turn, err);
}

enum mr_rc mr_resume_work(struct mr_resume *resume, struct mr_resume_turn *turn, struct mr_err *err)
{
    struct mr_catchup *c;
    resume->waits = false;
    resume->waiting = 0;
    while ((c = mr_catchup_collect(resume->worker)) != NULL) {
        c->pump.phase = MR_CATCHUP_DELIVERING;
        mr_count(resume->cell, MR_COUNTER_RESUME_EVENTS, c->batch_read);
        turn->done++;
    }
    struct mr_catchup *next;
    for (c = TAILQ_FIRST(&resume->all); c; c = next) {
        next = TAILQ_NEXT(c, all);
        enum mr_rc rc = work_on(resume, c, turn, err);
        if (rc != MR_OK)
            return rc;
    }
    mr_gauge(resume->cell, MR_COUNTER_SNAPSHOTS_WAITING, resume->waiting);
    return MR_OK;
}

uint64_t mr_resume_progress(const struct mr_gateway *gateway, uint64_t merged)
{
    const struct mr_catchup *c;
    TAILQ_FOREACH(c, &gateway->catchups, pump.of_gateway)
    {
        /* The thread may own c->from now; the pump's copy of it is set by the first submit. */
        uint64_t through = c->pump.phase == MR_CATCHUP_FORMING ? c->from : c->pump.through;
        merged = through < merged ? through : merged;
    }
    return merged;
}
