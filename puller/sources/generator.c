/* puller/sources/generator.c: events made up, for the demo, the tests and the benchmarks. Event
 * number index is a function of (seed, index) and of the configuration alone, so a position is an
 * index.
 *
 * SLOTS documents are alive at a time and take turns. Each lives through the eight steps of life[]
 * and makes room for the next one; document numbers come round after collections * documents. The
 * slots start in different steps, so that any stretch of events holds every operation. */
#include <inttypes.h>
#include <stdlib.h>

#include "common/bson.h"
#include "common/clock.h"
#include "puller/source.h"

enum {
    SLOTS = 64,
    STEPS = 8,
    POLL_EVENTS = 1024,   /* between two looks at the clock and at everything else */
    TICK_NS = 200 * 1000, /* events that are due within one tick go together: fewer wakes */
    NAME_BYTES = 48,
    FIXED_BYTES = 290, /* rough size of a document without its padding */
};

static const struct {
    uint8_t op; /* enum mr_operation */
    bool deleted, was_deleted;
} life[STEPS] = {
    {MR_OP_INSERT, false, false}, {MR_OP_UPDATE, false, false},  {MR_OP_UPDATE, false, false},
    {MR_OP_UPDATE, true, false}, /* soft delete */
    {MR_OP_UPDATE, false, true}, /* and back */
    {MR_OP_UPDATE, false, false}, {MR_OP_REPLACE, false, false}, {MR_OP_DELETE, false, false},
};

struct generator {
    struct mr_source source;
    uint64_t index;                 /* of the next event */
    uint64_t end;                   /* UINT64_MAX: none */
    uint64_t start_index, start_ns; /* what the pace is measured from; start_ns 0: not begun */
    struct mr_bson_writer document, before;
    size_t padding_len;
    char *padding;
};

/* A number that looks random and depends on all of its inputs (splitmix64's last steps). */
static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = a * UINT64_C(0x9e3779b97f4a7c15) ^ b;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Decimal digits behind a prefix. */
static struct mr_str name(char out[NAME_BYTES], const char *prefix, uint64_t number)
{
    char digits[20];
    size_t count = 0, len = strlen(prefix);
    memcpy(out, prefix, len);
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    while (count > 0)
        out[len++] = digits[--count];
    return (struct mr_str){out, len};
}

/* Which document an event concerns, and in which step of its life. */
struct place {
    uint64_t document; /* number, over all collections */
    uint32_t step;
};

static struct place place_of(const struct mr_config *config, uint64_t index)
{
    uint64_t slot = index % SLOTS, turn = index / SLOTS;
    uint64_t age = turn + slot % (STEPS - 1); /* every slot's first document gets to its delete */
    uint64_t documents = config->generator_collections * config->generator_documents;
    /* What is first seen in mid-life is inserted all the same. */
    uint32_t step = turn == 0 ? 0 : (uint32_t)(age % STEPS);
    return (struct place){(age / STEPS * SLOTS + slot) % documents, step};
}

static void build(struct generator *g, struct mr_bson_writer *w, struct place place, uint64_t index,
                  bool deleted)
{
    static const char *const states[] = {"open", "paid", "packed", "shipped", "done", "cancelled"};
    static const char *const tags[] = {"new", "sale", "gift", "bulk", "eu", "us", "asia", "rush"};
    const struct mr_config *config = g->source.config;
    uint64_t about = mix(config->generator_seed, place.document); /* the same for all its life */
    uint64_t now = mix(about, index);
    char text[NAME_BYTES];
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    mr_bson_put_string(w, MR_STR("_id"), name(text, "d", place.document));
    mr_bson_put_string(w, MR_STR("user_id"), name(text, "u", about % config->generator_users));
    mr_bson_put_string(w, MR_STR("status"), mr_str_from(states[now % 6]));
    mr_bson_put_double(w, MR_STR("price"), (double)(now >> 8 & 0xfffff) / 100.0);
    mr_bson_put_int32(w, MR_STR("quantity"), (int32_t)(now >> 28 & 0xff));
    mr_bson_begin_document(w, MR_STR("author"));
    mr_bson_put_int64(w, MR_STR("id"), (int64_t)(about >> 32 & 0xffff));
    mr_bson_put_string(w, MR_STR("name"), name(text, "author ", about >> 32 & 0xffff));
    mr_bson_end(w);
    mr_bson_begin_array(w, MR_STR("tags"));
    mr_bson_put_string(w, MR_STR("0"), mr_str_from(tags[about >> 48 & 7]));
    mr_bson_put_string(w, MR_STR("1"), mr_str_from(tags[now >> 48 & 7]));
    mr_bson_end(w);
    mr_bson_put_bool(w, MR_STR("deleted"), deleted);
    mr_bson_put_int64(w, MR_STR("seq"), (int64_t)index);
    mr_bson_put_string(w, MR_STR("title"), (struct mr_str){g->padding, g->padding_len});
    mr_bson_end(w);
}

static enum mr_rc emit(struct generator *g, struct mr_intake *intake, int64_t wall_us,
                       struct mr_err *err)
{
    const struct mr_config *config = g->source.config;
    struct place place = place_of(config, g->index);
    build(g, &g->document, place, g->index, life[place.step].deleted);
    char id[NAME_BYTES], collection[NAME_BYTES];
    struct mr_event event = {
        .head = {.source_order = g->index + 1,
                 .source_time_us = wall_us,
                 .op = life[place.step].op},
        .database = mr_str_from(config->source_database.text),
        .collection = name(collection, "c", place.document % config->generator_collections),
        .document_id = name(id, "d", place.document),
        .document = mr_bson_bytes(&g->document),
    };
    if (life[place.step].was_deleted) {
        /* As it was one turn before. */
        build(g, &g->before, place, g->index - SLOTS, true);
        event.before = mr_bson_bytes(&g->before);
    }
    if (!g->document.ok || !g->before.ok)
        return mr_reject(err, MR_FATAL, "no memory for a document of %" PRIu64 " bytes",
                         config->generator_document_bytes);
    return mr_intake_emit(intake, &event, err);
}

/* How many events are due since the start. */
static uint64_t due(const struct generator *g, uint64_t now_ns)
{
    __extension__ typedef unsigned __int128 uint128;
    return (uint64_t)((uint128)(now_ns - g->start_ns) * g->source.config->generator_rate /
                      MR_NS_PER_S);
}

/* When that many are due: to the nanosecond above. */
static uint64_t due_at(const struct generator *g, uint64_t owed)
{
    uint64_t rate = g->source.config->generator_rate;
    return g->start_ns + owed / rate * MR_NS_PER_S + (owed % rate * MR_NS_PER_S + rate - 1) / rate;
}

static uint64_t room_until(struct generator *g, uint64_t now_ns)
{
    uint64_t left = g->end - g->index;
    uint64_t count = left < POLL_EVENTS ? left : POLL_EVENTS;
    if (g->source.config->generator_rate == 0)
        return count;
    if (g->start_ns == 0) {
        g->start_ns = now_ns;
        g->start_index = g->index;
    }
    uint64_t owed = due(g, now_ns) + g->start_index - g->index;
    return count < owed ? count : owed;
}

static enum mr_rc generator_poll(struct mr_source *source, struct mr_intake *intake,
                                 uint64_t now_ns, struct mr_err *err)
{
    struct generator *g = (struct generator *)source;
    if (g->index >= g->end) /* resumed there, perhaps with a smaller count than before */
        return MR_CLOSED;
    uint64_t count = room_until(g, now_ns);
    int64_t wall_us = mr_clock_wall_us();
    uint64_t read_ns = mr_clock_ns();
    bool paced = g->source.config->generator_rate != 0;
    enum mr_rc rc = MR_OK;
    uint64_t emitted = 0;
    for (; emitted < count; emitted++, g->index++) {
        /* Paced, an event bears the time at which it was due: whoever measures from there also
         * measures how late this process was. */
        uint64_t late_ns = paced ? read_ns - due_at(g, g->index - g->start_index + 1) : 0;
        rc = emit(g, intake, wall_us - (int64_t)(late_ns / MR_NS_PER_US), err);
        if (rc != MR_OK)
            break;
    }
    if (emitted > 0) {
        struct mr_position position = {.len = sizeof g->index};
        memcpy(position.bytes, &g->index, sizeof g->index);
        mr_intake_position(intake, &position);
    }
    if (rc != MR_OK && rc != MR_FULL)
        return rc;
    return g->index >= g->end ? MR_CLOSED : MR_OK;
}

static void generator_wait(struct mr_source *source, struct pollfd *fd, uint64_t *wake_ns)
{
    const struct generator *g = (const struct generator *)source;
    uint64_t rate = source->config->generator_rate;
    fd->fd = -1;
    if (rate == 0 || g->start_ns == 0) {
        *wake_ns = 0;
        return;
    }
    /* When the next one is due, by the schedule and not by the last wake: errors do not add up. */
    uint64_t owed = g->index - g->start_index + 1;
    uint64_t per_tick = rate / (MR_NS_PER_S / TICK_NS);
    owed += per_tick > 1 ? per_tick - 1 : 0;
    *wake_ns = due_at(g, owed);
}

static enum mr_rc generator_confirm(struct mr_source *source, const struct mr_position *position,
                                    struct mr_err *err)
{
    uint64_t index;
    if (position->len != sizeof index)
        return mr_reject(err, MR_CORRUPT, "generator: a position of %u bytes", position->len);
    memcpy(&index, position->bytes, sizeof index);
    mr_gauge(source->cell, MR_COUNTER_SOURCE_CONFIRMED, index);
    return MR_OK;
}

static void generator_close(struct mr_source *source)
{
    struct generator *g = (struct generator *)source;
    mr_bson_writer_fini(&g->document);
    mr_bson_writer_fini(&g->before);
    free(g->padding);
    free(g);
}

static enum mr_rc generator_open(struct mr_source **out, const struct mr_config *config,
                                 struct mr_cell_shm *cell, const struct mr_position *after,
                                 struct mr_err *err)
{
    uint64_t index = 0;
    if (after->len != 0 && after->len != sizeof index)
        return mr_reject(err, MR_USAGE,
                         "the log in instance.data_dir was written by another source; give this "
                         "one a directory of its own");
    memcpy(&index, after->bytes, after->len);
    struct generator *g = calloc(1, sizeof *g);
    size_t padding = config->generator_document_bytes > FIXED_BYTES
                         ? config->generator_document_bytes - FIXED_BYTES
                         : 0;
    char *bytes = malloc(padding + 1);
    if (!g || !bytes) {
        free(g);
        free(bytes);
        return mr_fail(err, MR_FATAL, "allocate the generator");
    }
    for (size_t i = 0; i < padding; i++)
        bytes[i] = "the quick brown fox jumps over the lazy dog "[i % 44];
    *g = (struct generator){
        .source = {.ops = &mr_source_generator, .config = config, .cell = cell},
        .index = index,
        .end = config->generator_count > 0 ? config->generator_count : UINT64_MAX,
        .padding = bytes,
        .padding_len = padding,
    };
    mr_bson_writer_init(&g->document);
    mr_bson_writer_init(&g->before);
    mr_gauge(cell, MR_COUNTER_SOURCE_CONNECTED, 1);
    *out = &g->source;
    return MR_OK;
}

const struct mr_source_ops mr_source_generator = {
    .name = "generator",
    .open = generator_open,
    .poll = generator_poll,
    .wait = generator_wait,
    .confirm = generator_confirm,
    .close = generator_close,
};
