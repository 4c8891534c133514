/* tests/pump/durable.h: what the tests of durable subscriptions inside the pump share: requests of
 * the control plane, streams that speak for gateways, restarts. */
#ifndef MR_TESTS_PUMP_DURABLE_H
#define MR_TESTS_PUMP_DURABLE_H
#include "tests/pump/driver.h"

/* One request of the control plane, and what became of it. */
struct ask {
    struct mr_control control; /* first */
    struct mr_control_item item;
    struct mr_predicate predicate;
    char collection[8];
    bool answered;
};

static inline void answered(struct mr_control *control)
{
    ((struct ask *)control)->answered = true;
}

/* What is asked of a subscription: everything of a collection, "cN". */
static inline void ask(struct ask *a, enum mr_control_kind kind, const char *name, const char *id,
                       uint32_t collection)
{
    *a = (struct ask){.control = {.kind = kind,
                                  .gateway = mr_str_from(name),
                                  .id = mr_str_from(id),
                                  .ttl_s = 60,
                                  .done = answered}};
    snprintf(a->collection, sizeof a->collection, "c%u", collection);
    if (kind == MR_CONTROL_REGISTER || kind == MR_CONTROL_REPLACE) {
        size_t len;
        a->item.subscribe = (struct mr_request){.kind = MR_REQUEST_SUBSCRIBE,
                                                .subscription_id = a->control.id,
                                                .database = MR_STR("db"),
                                                .collection = mr_str_from(a->collection)};
        a->item.spec.data = mr_spec_encode(&a->item.subscribe, &len);
        a->item.spec.len = len;
        a->control.items = &a->item;
        a->control.item_count = 1;
    }
    mr_control_put(mr_pump_controls(pump), &a->control);
}

static inline enum mr_control_code code_of(const struct ask *a)
{
    return a->control.code != MR_CONTROL_OK ? a->control.code : a->item.code;
}

/* It is answered by now, or when the store has it. */
static inline enum mr_control_code finish(struct ask *a)
{
    for (int i = 0; i < 5000 && !a->answered; i++) {
        settle();
        usleep(200);
    }
    assert_true(a->answered);
    enum mr_control_code code = code_of(a);
    mr_control_fini(&a->control);
    free((char *)(uintptr_t)a->item.spec.data);
    return code;
}

static inline enum mr_control_code asked(enum mr_control_kind kind, const char *name,
                                         const char *id, uint32_t collection)
{
    struct ask a;
    ask(&a, kind, name, id, collection);
    return finish(&a);
}

static inline void start_with(const char *store, uint32_t shards)
{
    test_sink_reset();
    bed_open(&bed, shards, 1, 0);
    snprintf(bed.process.config.subscriptions_store.text, MR_CONFIG_TEXT_MAX, "%s", store);
    open_pump();
    settle();
}

/* A stream says for whom it speaks, and from where to go on; UINT64_MAX: from now. */
static inline void speak(mr_gateway_id id, const char *name, uint64_t after)
{
    struct test_request beat = {
        .kind = MR_REQUEST_HEARTBEAT, .gateway = id, .gateway_name = name, .value = -1};
    if (after != UINT64_MAX)
        snprintf(beat.after, sizeof beat.after, "%s", marker_text(pump->deliverer.log_id, after));
    test_sink_push(&beat);
}

static inline void append(uint32_t count)
{
    bed_append(&bed, count);
    settle();
}

/* The stream has just what concerns the collection, from behind after to the end. */
static inline void check_all(mr_gateway_id id, const char *name, uint32_t collection,
                             uint64_t after)
{
    const struct test_subscription *s = of(id, name);
    uint32_t n = 0;
    for (uint64_t sequence = after + 1; sequence <= bed.count; sequence++) {
        if (!bed_concerns(&bed.history[sequence - 1], collection, -1))
            continue;
        if (n == s->count || s->sequences[n] != sequence)
            fail_msg("stream %" PRIu64 ", %s: delivery %u is %" PRIu64 ", expected %" PRIu64, id,
                     name, n, n < s->count ? s->sequences[n] : 0, sequence);
        n++;
    }
    assert_int_equal(n, s->count);
}

static inline struct mr_subscription *named(const char *id)
{
    return mr_subscription_find_durable(&pump->table, mr_str_from(id));
}

/* It is registered for this database and not for "db". The pump looks at its queue in the next
 * turn. */
static inline void set_database(struct ask *a, const char *database)
{
    size_t len;
    free((char *)(uintptr_t)a->item.spec.data);
    a->item.subscribe.database = mr_str_from(database);
    a->item.spec.data = mr_spec_encode(&a->item.subscribe, &len);
    a->item.spec.len = len;
}

static inline void turns(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        turn();
        usleep(1000);
    }
}

/* As the store keeps it. */
static inline void restart(void)
{
    mr_pump_close(&pump);
    open_pump();
    settle();
}
#endif
