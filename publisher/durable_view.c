#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/clock.h"
#include "matcher/engine/engine.h"
#include "proto/match.h"
#include "publisher/pump_state.h"

/* Looked at in one turn: deliveries go in between. A page ends behind the subscription with which
 * it has so many bytes: their filters can be as long as a message. */
enum {
    TURN_SLOTS = 4096,
    TURN_RECORD_BYTES = 1 << 20,
    /* Matched at a time for an explanation, which goes on as long as its turn has time. */
    CHUNK_SLOTS = 512,
    CHUNK_CODE = 16, /* expressions: each may run for a millisecond or two */
    PAGE_BYTES = 1 << 20,
};

static void put_name(struct mr_json *json, const char *name)
{
    char last = json->len > 0 ? json->data[json->len - 1] : '{';
    if (last != '{' && last != '[')
        mr_json_put_raw(json, MR_STR(","));
    mr_json_put_raw(json, MR_STR("\""));
    mr_json_put_raw(json, mr_str_from(name));
    mr_json_put_raw(json, MR_STR("\":"));
}

static void put_text(struct mr_json *json, const char *name, struct mr_str text)
{
    put_name(json, name);
    mr_json_put_string(json, text);
}

static void put_int(struct mr_json *json, const char *name, uint64_t value)
{
    put_name(json, name);
    mr_json_put_int(json, (int64_t)value);
}

static void put_bool(struct mr_json *json, const char *name, bool value)
{
    put_name(json, name);
    mr_json_put_raw(json, value ? MR_STR("true") : MR_STR("false"));
}

size_t mr_durable_time(int64_t wall_us, char out[MR_DURABLE_TIME_MAX])
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t len = strftime(out, MR_DURABLE_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    len += (size_t)snprintf(out + len, MR_DURABLE_TIME_MAX - len, ".%03dZ",
                            (int)(wall_us % 1000000 / 1000));
    return len;
}

static void put_time(struct mr_json *json, const char *name, int64_t wall_us)
{
    char text[MR_DURABLE_TIME_MAX];
    put_text(json, name, (struct mr_str){text, mr_durable_time(wall_us, text)});
}

static void put_const(struct mr_json *json, const struct mr_const *value)
{
    if (value->kind == MR_CONST_BOOL)
        mr_json_put_raw(json, value->boolean ? MR_STR("true") : MR_STR("false"));
    else if (value->kind == MR_CONST_INT)
        mr_json_put_int(json, value->integer);
    else if (value->kind == MR_CONST_DOUBLE)
        mr_json_put_double(json, value->number);
    else if (value->kind == MR_CONST_STRING)
        mr_json_put_string(json, value->string);
    else
        mr_json_put_raw(json, MR_STR("null"));
}

static void put_filter(struct mr_json *json, const struct mr_predicate *p)
{
    put_text(json, "field", p->path);
    put_text(json, "op", mr_str_from(mr_predicate_op_name(p->op)));
    put_name(json, "value");
    if (p->value.kind != MR_CONST_LIST) {
        put_const(json, &p->value);
        return;
    }
    mr_json_put_raw(json, MR_STR("["));
    for (uint32_t i = 0; i < p->value.list.count; i++) {
        if (i > 0)
            mr_json_put_raw(json, MR_STR(","));
        put_const(json, &p->value.list.items[i]);
    }
    mr_json_put_raw(json, MR_STR("]"));
}

static bool load_program(const struct mr_subscription *s, struct mr_program *out)
{
    const struct mr_subscribe_head *head = s->record;
    return mr_program_load(head + 1, s->record_len - sizeof *head, out) == MR_OK;
}

static void beat(void *process)
{
    mr_process_beat(process, mr_clock_ns());
}

/* An engine for an explanation. One filter can have so much code that it alone takes long. NULL:
 * out of memory. */
static struct mr_engine *make_engine(const struct mr_pump *pump)
{
    struct mr_engine *engine;
    struct mr_err err;
    if (mr_engine_create(&engine, &err) != MR_OK)
        return NULL;
    mr_engine_set_pulse(engine, beat, pump->process);
    return engine;
}

/* Does one filter or the expression, on its own, hold for the event? */
static bool holds(const struct mr_pump *pump, const struct mr_control_event *event,
                  const struct mr_predicate *predicate, struct mr_str cel)
{
    const struct mr_program_source source = {.database = event->database,
                                             .collection = event->collection,
                                             .predicates = predicate,
                                             .predicate_count = predicate != NULL,
                                             .cel = cel};
    void *bytes;
    uint32_t len;
    struct mr_err err;
    const uint64_t *ids;
    bool result = false;
    if (mr_program_compile(pump->compiler, &source, &bytes, &len, &err) != MR_OK)
        return false;
    struct mr_engine *engine = make_engine(pump);
    if (engine && mr_engine_add(engine, 1, bytes, len) == MR_OK)
        result = mr_engine_match(engine, &event->event, &ids) == 1;
    mr_engine_destroy(&engine);
    free(bytes);
    return result;
}

static void put_all(const struct mr_pump *pump, struct mr_json *json,
                    const struct mr_request *request, const struct mr_control_event *event)
{
    const struct mr_str none = {NULL, 0};
    put_name(json, "filters");
    mr_json_put_raw(json, MR_STR("["));
    for (uint32_t i = 0; i < request->predicate_count; i++) {
        mr_json_put_raw(json, i > 0 ? MR_STR(",{") : MR_STR("{"));
        put_filter(json, &request->predicates[i]);
        if (event)
            put_bool(json, "holds", holds(pump, event, &request->predicates[i], none));
        mr_json_put_raw(json, MR_STR("}"));
    }
    mr_json_put_raw(json, MR_STR("]"));
    if (request->cel.len == 0)
        return;
    put_text(json, "cel", request->cel);
    if (event)
        put_bool(json, "celHolds", holds(pump, event, NULL, request->cel));
}

/* As its gateway stated them; event: say which of them hold for it. */
static void put_filters(const struct mr_pump *pump, struct mr_json *json,
                        const struct mr_subscription *s, const struct mr_control_event *event)
{
    const struct mr_wire_limits limits = mr_spec_limits();
    struct mr_str record = {s->lease->record, s->lease->record_len};
    struct mr_wire_arena arena = {0};
    struct mr_request request;
    struct mr_spec spec;
    struct mr_err err;
    if (mr_spec_read(record, &spec, &err) != MR_OK ||
        mr_wire_decode_subscribe(spec.subscribe, &limits, &arena, &request, &err) != MR_OK) {
        mr_wire_arena_fini(&arena);
        return; /* it could be read when it came; memory is short now */
    }
    put_all(pump, json, &request, event);
    mr_wire_arena_fini(&arena);
}

static void put_owner(struct mr_json *json, const struct mr_subscription *s)
{
    char stream[40];
    put_text(json, "subscriptionId", s->client_id);
    if (s->lease) {
        put_text(json, "gatewayId", s->gateway->name);
        return;
    }
    int len = snprintf(stream, sizeof stream, "stream:%llu", (unsigned long long)s->gateway->id);
    put_text(json, "gatewayId", (struct mr_str){stream, (size_t)len});
}

static void put_lease(struct mr_json *json, const struct mr_subscription *s, uint64_t now_ns)
{
    uint64_t deadline_ns = mr_durable_deadline(s, now_ns);
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    put_int(json, "ttl", s->lease->ttl_s);
    put_time(json, "createdAt", s->lease->created_us);
    put_time(json, "expiresAt", mr_clock_wall_us() + (int64_t)(left_ns / MR_NS_PER_US));
    put_bool(json, "connected", s->gateway->bound != NULL);
}

static void put_subscription(const struct mr_pump *pump, struct mr_json *json,
                             const struct mr_subscription *s, const struct mr_program *program,
                             uint64_t now_ns)
{
    mr_json_put_raw(json, MR_STR("{"));
    put_owner(json, s);
    put_text(json, "tenant", program->database);
    put_text(json, "collection", program->collection);
    if (s->lease)
        put_filters(pump, json, s, NULL);
    put_bool(json, "durable", s->lease != NULL);
    put_text(json, "state", s->confirmed ? MR_STR("active") : MR_STR("registered"));
    if (s->lease)
        put_lease(json, s, now_ns);
    if (((const struct mr_subscribe_head *)s->record)->flags & MR_SUBSCRIBE_TRANSITIONS)
        put_bool(json, "transitions", true);
    if (s->trouble != MR_TROUBLE_NONE) {
        put_text(json, "trouble", mr_trouble_code(s->trouble));
        put_text(json, "troubleText", mr_trouble_text(s->trouble));
    }
    put_int(json, "matches", s->matches);
    if (s->last_match_us != 0)
        put_time(json, "lastMatchAt", s->last_match_us);
    put_int(json, "drops", s->drops);
    mr_json_put_raw(json, MR_STR("}"));
}

/* The whole array is put at the end; what comes before a page's first item is here. */
static void begin_page(struct mr_control *control)
{
    if (control->body.len == 0)
        mr_json_put_raw(&control->body, MR_STR("{\"subscriptions\":["));
}

static void end_page(struct mr_control *control, uint32_t next)
{
    char cursor[16];
    mr_json_put_raw(&control->body, MR_STR("]"));
    if (next != 0) {
        int len = snprintf(cursor, sizeof cursor, "%u", next);
        put_text(&control->body, "nextCursor", (struct mr_str){cursor, (size_t)len});
    }
    mr_json_put_raw(&control->body, MR_STR("}"));
}

static bool wanted(const struct mr_control *control, const struct mr_subscription *s,
                   const struct mr_program *program)
{
    const struct mr_control_page *page = &control->page;
    return (!page->gateway.data || (s->lease && mr_str_equal(s->gateway->name, page->gateway))) &&
           (!page->database.data || mr_str_equal(program->database, page->database)) &&
           (!page->collection.data || mr_str_equal(program->collection, page->collection)) &&
           mr_durable_reaches(control->scope, s);
}

static bool is_hidden(const struct mr_subscription *s)
{
    return s->state == MR_SUB_FREE || !s->record || s->internal ||
           (s->lease && s->lease->predecessor);
}

static bool is_full(const struct mr_control *control)
{
    return control->found == control->page.limit || control->body.len >= PAGE_BYTES;
}

/* A page, as much a turn as it may look at. */
static bool list(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns)
{
    const struct mr_subscriptions *table = &pump->table;
    uint32_t slot = control->page.cursor, slots = 0;
    uint64_t record_bytes = 0;
    begin_page(control);
    for (; slot < table->slot_count && !is_full(control); slot++) {
        if (slots++ == TURN_SLOTS || record_bytes >= TURN_RECORD_BYTES) {
            control->page.cursor = slot;
            return false;
        }
        const struct mr_subscription *s = mr_subscription_at(table, slot);
        struct mr_program program;
        if (is_hidden(s))
            continue;
        record_bytes += s->record_len;
        if (!load_program(s, &program) || !wanted(control, s, &program))
            continue;
        if (control->found++ > 0)
            mr_json_put_raw(&control->body, MR_STR(","));
        put_subscription(pump, &control->body, s, &program, now_ns);
    }
    end_page(control, slot < table->slot_count ? slot : 0);
    return true;
}

static void put_explained(const struct mr_pump *pump, struct mr_control *control,
                          const struct mr_subscription *s, bool matches)
{
    struct mr_json *json = &control->body;
    struct mr_program program;
    if (!load_program(s, &program))
        return;
    mr_json_put_raw(json, control->found++ > 0 ? MR_STR(",{") : MR_STR("{"));
    put_owner(json, s);
    put_text(json, "tenant", program.database);
    put_text(json, "collection", program.collection);
    put_bool(json, "matches", matches);
    if (s->lease)
        put_filters(pump, json, s, &control->event);
    mr_json_put_raw(json, MR_STR("}"));
}

/* How many expressions a program runs. */
static uint32_t count_code(const struct mr_subscription *s)
{
    struct mr_program program;
    uint32_t count = 0;
    if (!load_program(s, &program))
        return 0;
    for (uint32_t i = 0; i < program.leaf_count; i++) {
        struct mr_predicate predicate;
        mr_program_predicate(&program, i, &predicate);
        count += predicate.op == MR_PRED_CODE;
    }
    return count;
}

/* Have the subscriptions of some slots in an engine of their own, under their slots + 1: what
 * matches there, matches live. Returns the slot behind them. */
static uint32_t gather(const struct mr_pump *pump, const struct mr_control *control,
                       struct mr_engine *engine)
{
    const struct mr_subscriptions *table = &pump->table;
    uint32_t slot = control->page.cursor, end = slot + CHUNK_SLOTS, code = 0;
    uint64_t record_bytes = 0;
    for (; slot < table->slot_count && slot < end && record_bytes < TURN_RECORD_BYTES; slot++) {
        const struct mr_subscription *s = mr_subscription_at(table, slot);
        if (code >= CHUNK_CODE)
            break;
        if (is_hidden(s) || !mr_durable_reaches(control->scope, s))
            continue;
        const struct mr_subscribe_head *head = s->record;
        enum mr_rc rc = mr_engine_add(engine, (uint64_t)slot + 1, head + 1,
                                      s->record_len - (uint32_t)sizeof *head);
        if (rc != MR_OK)
            break;
        record_bytes += s->record_len;
        code += count_code(s);
    }
    return slot > control->page.cursor ? slot : slot + 1;
}

/* Explain what matches among some slots, and move the cursor behind them, or to where the turn's
 * time is over. False: out of memory. */
static bool explain_chunk(struct mr_pump *pump, struct mr_control *control)
{
    const uint64_t *ids;
    struct mr_engine *engine = make_engine(pump);
    if (!engine)
        return false;
    uint32_t next = gather(pump, control, engine);
    uint32_t count = mr_engine_match(engine, &control->event.event, &ids);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = (uint32_t)ids[i] - 1;
        if (is_full(control) || (i > 0 && mr_pump_is_late(pump))) {
            next = slot;
            break;
        }
        put_explained(pump, control, mr_subscription_at(&pump->table, slot), true);
        beat(pump->process);
    }
    mr_engine_destroy(&engine);
    control->page.cursor = next;
    return true;
}

static bool explain(struct mr_pump *pump, struct mr_control *control)
{
    const struct mr_subscriptions *table = &pump->table;
    begin_page(control);
    do {
        if (!explain_chunk(pump, control)) {
            mr_control_fail(control, MR_CONTROL_UNAVAILABLE, "out of memory, try again");
            return true;
        }
        if (control->page.cursor >= table->slot_count || is_full(control)) {
            end_page(control, control->page.cursor < table->slot_count ? control->page.cursor : 0);
            return true;
        }
    } while (!mr_pump_is_late(pump));
    return false;
}

/* One that is named is explained, whether it matches or not. */
static void explain_one(struct mr_pump *pump, struct mr_control *control,
                        const struct mr_subscription *s)
{
    const struct mr_subscribe_head *head = s->record;
    struct mr_engine *engine = make_engine(pump);
    const uint64_t *ids;
    bool matches =
        engine &&
        mr_engine_add(engine, 1, head + 1, s->record_len - (uint32_t)sizeof *head) == MR_OK &&
        mr_engine_match(engine, &control->event.event, &ids) == 1;
    mr_engine_destroy(&engine);
    begin_page(control);
    put_explained(pump, control, s, matches);
    end_page(control, 0);
}

static void view_one(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns)
{
    const struct mr_subscription *s = mr_subscription_find_durable(&pump->table, control->id);
    struct mr_program program;
    if (!s || !load_program(s, &program))
        mr_control_fail(control, MR_CONTROL_SUBSCRIPTION_NOT_FOUND,
                        "no subscription has this id, or it has expired");
    else if (!mr_durable_reaches(control->scope, s))
        mr_control_fail(control, MR_CONTROL_FORBIDDEN,
                        "the token does not reach this subscription");
    else if (control->kind == MR_CONTROL_EXPLAIN)
        explain_one(pump, control, s);
    else
        put_subscription(pump, &control->body, s, &program, now_ns);
}

bool mr_durable_view(struct mr_pump *pump, struct mr_control *control, uint64_t now_ns)
{
    bool done = true;
    if (control->id.len > 0)
        view_one(pump, control, now_ns);
    else if (control->kind == MR_CONTROL_EXPLAIN)
        done = explain(pump, control);
    else
        done = list(pump, control, now_ns);
    if (!control->body.failed)
        return done;
    mr_control_fail(control, MR_CONTROL_UNAVAILABLE, "out of memory, try again");
    return true;
}
