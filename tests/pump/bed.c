#include "tests/pump/bed.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/event.h"
#include "proto/match.h"
#include "tests/leftovers.h"

#define RING_BYTES (UINT64_C(64) << 10)
uint64_t bed_journal_bytes = BED_JOURNAL_BYTES;

uint64_t bed_random(struct bed *bed, uint64_t below)
{
    /* splitmix64: the same seed, the same test. */
    uint64_t z = (bed->seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

static void must(enum mr_rc rc, const struct mr_err *err)
{
    if (rc == MR_OK)
        return;
    fprintf(stderr, "%s: %s\n", mr_rc_name(rc), err->text);
    abort();
}

void bed_create_rings(struct bed *bed, uint32_t generation, uint32_t shard_count)
{
    struct mr_err err;
    for (uint32_t i = 0; i < shard_count; i++) {
        char part[32];
        for (const char *kind = "ems"; *kind; kind++) {
            mr_ring_part(part, *kind, i, generation);
            struct mr_ring_options options = {
                .part = part, .capacity = RING_BYTES, .stage_count = *kind == 'e' ? 2 : 1};
            must(mr_ring_create(bed->instance, 1, &options, &err), &err);
        }
    }
}

static void attach_feed(struct bed *bed)
{
    struct mr_err err;
    for (uint32_t i = 0; i < bed->shard_count; i++) {
        char part[32];
        uint64_t note;
        mr_ring_part(part, 'e', i, bed->generation);
        struct mr_ring_options options = {.part = part, .publish_bytes = UINT64_MAX / 2};
        must(mr_ring_attach_producer(&bed->events[i], bed->instance, &options, &note, &err), &err);
    }
}

static void attach_matcher(struct bed *bed, uint32_t shard)
{
    struct bed_matcher *m = &bed->matchers[shard];
    struct mr_err err;
    char part[32];
    uint64_t note;
    *m = (struct bed_matcher){.cell =
                                  &bed->board.shm->cells[mr_cell_matcher(bed->generation, shard)]};
    struct mr_ring_options options = {.part = part};
    mr_ring_part(part, 'e', shard, bed->generation);
    must(mr_ring_attach_consumer(&m->events, bed->instance, &options, 0, &err), &err);
    m->matched = mr_ring_stage_note(m->events.shm, 0);
    mr_ring_part(part, 's', shard, bed->generation);
    must(mr_ring_attach_consumer(&m->control, bed->instance, &options, 0, &err), &err);
    mr_ring_part(part, 'm', shard, bed->generation);
    options.publish_bytes = UINT64_MAX / 2;
    must(mr_ring_attach_producer(&m->matches, bed->instance, &options, &note, &err), &err);
    if (note > m->events.position)
        must(mr_ring_skip_to(&m->events, note), &err);
    must(mr_journal_attach_reader(&m->journals[0], bed->instance, "subs0", &err), &err);
    must(mr_journal_attach_reader(&m->journals[1], bed->instance, "subs1", &err), &err);
    atomic_store(&m->cell->state, MR_STATE_READY);
}

static void detach_matcher(struct bed_matcher *m)
{
    atomic_store(&m->cell->state, MR_STATE_DEAD);
    mr_ring_detach_consumer(&m->events);
    mr_ring_detach_consumer(&m->control);
    mr_ring_detach_producer(&m->matches);
    mr_journal_detach(&m->journals[0]);
    mr_journal_detach(&m->journals[1]);
    if (m->engine)
        mr_engine_destroy(&m->engine);
    free(m->waiting);
    m->waiting = NULL;
}

void bed_attach_matchers(struct bed *bed)
{
    for (uint32_t i = 0; i < bed->shard_count; i++)
        attach_matcher(bed, i);
}

void bed_detach_matchers(struct bed *bed)
{
    for (uint32_t i = 0; i < bed->shard_count; i++)
        detach_matcher(&bed->matchers[i]);
}

void bed_open(struct bed *bed, uint32_t shard_count, uint64_t seed, uint64_t start_sequence)
{
    static unsigned number;
    struct mr_err err;
    *bed = (struct bed){.seed = seed, .shard_count = shard_count, .generation = 1};
    remove_leftovers("pump");
    snprintf(bed->instance, sizeof bed->instance, "pump-%d-%u", (int)getpid(), number++);
    snprintf(bed->dir, sizeof bed->dir, "/tmp/mr-pump-XXXXXX");
    MR_ASSERT(mkdtemp(bed->dir));
    mr_config_init(&bed->process.config);
    snprintf(bed->process.config.instance_name.text, MR_CONFIG_TEXT_MAX, "%s", bed->instance);
    snprintf(bed->process.config.instance_data_dir.text, MR_CONFIG_TEXT_MAX, "%s", bed->dir);
    must(mr_board_create(&bed->board, bed->instance, 1, &err), &err);
    bed->board.shm->start_sequence = start_sequence;
    mr_segment_seal(&bed->board.segment);
    bed_create_rings(bed, 1, shard_count);
    must(mr_journal_create(bed->instance, 1, "subs0", bed_journal_bytes, &err), &err);
    must(mr_journal_create(bed->instance, 1, "subs1", bed_journal_bytes, &err), &err);
    atomic_store(&bed->board.shm->ring_set, mr_ring_set_pack(1, shard_count));
    bed->process.kind = MR_PROCESS_PUBLISHER;
    bed->process.instance = bed->instance;
    bed->process.board = bed->board;
    bed->process.cell_index = MR_CELL_PUBLISHER;
    bed->process.cell = &bed->board.shm->cells[MR_CELL_PUBLISHER];
    bed->process.signal_fd = -1;
    char dir[128];
    snprintf(dir, sizeof dir, "%s/log", bed->dir);
    struct mr_log_options options = {.dir = dir,
                                     .segment_bytes = 1 << 20,
                                     .batch_bytes = 64 << 10,
                                     .retention_bytes = UINT64_C(1) << 40,
                                     .retention_age_ns = UINT64_C(1) << 60,
                                     .commit_interval_ns = MR_NS_PER_S};
    must(mr_log_writer_open(&bed->log, &options, &err), &err);
    struct mr_log_state state;
    mr_log_writer_state(bed->log, &state);
    atomic_store(&bed->board.shm->log_id, state.log_id);
    attach_feed(bed);
    if (start_sequence > 0)
        bed_append(bed, (uint32_t)start_sequence);
    bed->fed = start_sequence;
    bed_attach_matchers(bed);
}

void bed_close(struct bed *bed)
{
    struct mr_err err;
    bed_detach_matchers(bed);
    for (uint32_t i = 0; i < bed->shard_count; i++)
        mr_ring_detach_producer(&bed->events[i]);
    must(mr_log_writer_close(&bed->log, &err), &err);
    mr_board_detach(&bed->board);
    mr_segment_remove_all(bed->instance);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", bed->dir);
    MR_ASSERT(system(command) == 0);
    free(bed->history);
}

static struct bed_event *remember(struct bed *bed)
{
    if (bed->count == bed->capacity) {
        bed->capacity = bed->capacity ? bed->capacity * 2 : 1024;
        bed->history = realloc(bed->history, bed->capacity * sizeof *bed->history);
        MR_ASSERT(bed->history);
    }
    return &bed->history[bed->count++];
}

/* The event of a number, built anew each time: the same in log and ring. */
static size_t build(const struct bed *bed, uint64_t sequence, struct mr_event *event,
                    struct mr_bson_writer *w, char names[2][16])
{
    const struct bed_event *e = &bed->history[sequence - 1];
    int collection = snprintf(names[0], 16, "c%u", e->collection);
    int id = snprintf(names[1], 16, "d%" PRIu64, sequence);
    mr_bson_writer_init(w);
    mr_bson_begin(w);
    mr_bson_put_int32(w, MR_STR("n"), e->value);
    mr_bson_end(w);
    *event = (struct mr_event){.head = {.sequence = sequence,
                                        .op = e->everyone ? MR_OP_TRUNCATE : MR_OP_INSERT,
                                        .document_hash = e->shard,
                                        .ingest_ns = 1},
                               .database = MR_STR("db"),
                               .collection = {names[0], (size_t)collection},
                               .document_id = {names[1], (size_t)id},
                               .document = mr_bson_bytes(w)};
    return mr_event_size(event);
}

void bed_append(struct bed *bed, uint32_t count)
{
    struct mr_err err;
    for (uint32_t i = 0; i < count; i++) {
        struct bed_event *e = remember(bed);
        *e = (struct bed_event){.collection = (uint8_t)bed_random(bed, BED_COLLECTIONS),
                                .value = (uint8_t)bed_random(bed, BED_VALUES),
                                .shard = (uint8_t)bed_random(bed, 240),
                                .everyone = bed_random(bed, 50) == 0};
        struct mr_event event;
        struct mr_bson_writer w;
        char names[2][16];
        size_t size = build(bed, bed->count, &event, &w, names);
        void *out;
        while (mr_log_claim(bed->log, (uint32_t)size, &out) == MR_FULL) {
            must(mr_log_seal(bed->log, "p", 1, mr_clock_ns(), &err), &err);
            must(mr_log_poll(bed->log, 0, mr_clock_ns(), &err), &err);
        }
        mr_event_encode(&event, out);
        MR_ASSERT(mr_log_commit(bed->log, (uint32_t)size) == bed->count);
        mr_bson_writer_fini(&w);
    }
    must(mr_log_seal(bed->log, "p", 1, mr_clock_ns(), &err), &err);
    must(mr_log_poll(bed->log, 0, mr_clock_ns(), &err), &err);
    atomic_store(&bed->board.shm->log_written, bed->count);
    atomic_store(&bed->board.shm->log_floor, 1);
}

void bed_feed(struct bed *bed, uint64_t max, bool state_through)
{
    while (max-- > 0 && bed->fed < bed->count) {
        struct mr_event event;
        struct mr_bson_writer w;
        char names[2][16];
        size_t size = build(bed, bed->fed + 1, &event, &w, names);
        uint32_t shards = bed->shard_count - (bed->idle_last && bed->shard_count > 1);
        struct mr_ring_producer *ring = &bed->events[event.head.document_hash % shards];
        void *out;
        enum mr_rc rc = mr_ring_claim(ring, (uint32_t)size, &out);
        if (rc == MR_OK) {
            mr_event_encode(&event, out);
            bed->fed++;
            mr_ring_commit(ring, (uint32_t)size, MR_RECORD_EVENT, 0, bed->fed);
        }
        mr_bson_writer_fini(&w);
        if (rc != MR_OK)
            break;
    }
    for (uint32_t i = 0; i < bed->shard_count; i++)
        mr_ring_publish(&bed->events[i], bed->events[i].note);
    for (uint32_t i = 0; state_through && i < bed->shard_count; i++)
        mr_ring_set_through(&bed->events[i], bed->fed);
}

static void apply_journal(struct bed_matcher *m, uint64_t generation)
{
    struct mr_journal *journal = &m->journals[generation & 1];
    struct mr_err err;
    if (m->generation != generation) {
        if (mr_journal_rewind(journal, generation) != MR_OK)
            return;
        if (m->engine)
            mr_engine_destroy(&m->engine);
        must(mr_engine_create(&m->engine, &err), &err);
        m->generation = generation;
        m->applied = 0;
    }
    uint8_t type;
    const void *data;
    uint32_t len;
    while (mr_journal_next(journal, &type, &data, &len) == MR_OK) {
        const struct mr_subscribe_head *head = data;
        uint64_t id = head->subscription;
        if (type == MR_RECORD_SUBSCRIBE)
            MR_ASSERT(mr_engine_add(m->engine, id, head + 1, len - (uint32_t)sizeof *head) ==
                      MR_OK);
        else
            MR_ASSERT(mr_engine_remove(m->engine, id) == MR_OK);
        m->applied++;
    }
    if (atomic_load(&m->cell->subs_generation) != generation)
        atomic_store(&m->cell->subs_applied, 0);
    atomic_store(&m->cell->subs_generation, generation);
    atomic_store(&m->cell->subs_applied, m->applied);
}

void bed_apply(struct bed *bed, uint32_t shard)
{
    struct bed_matcher *m = &bed->matchers[shard];
    if (m->waiting) /* as the real one: an event's matches are of one set */
        return;
    struct mr_ring_record record;
    struct mr_announce last = {0};
    while (mr_ring_peek(&m->control, &record) == MR_OK) {
        MR_ASSERT(record.type == MR_RECORD_ANNOUNCE);
        last = *(const struct mr_announce *)record.data;
        mr_ring_advance(&m->control, &record);
    }
    uint64_t generation = atomic_load(&bed->board.shm->subs_generation);
    mr_ring_release(&m->control, m->control.position, last.count);
    if (last.generation != 0 || (generation != 0 && m->generation == 0))
        apply_journal(m, generation);
}

/* The ids in as many records as need be; small ones, so that events with several records are
 * common. False: the ring is full, the rest waits. */
static bool write_matches(struct bed_matcher *m, const struct mr_ring_record *event,
                          uint64_t sequence)
{
    while (m->written < m->waiting_count) {
        uint32_t left = m->waiting_count - m->written, part = left > 3 ? 3 : left;
        void *out;
        uint32_t len = (uint32_t)(sizeof(struct mr_match_head) + part * sizeof(uint64_t));
        if (mr_ring_claim(&m->matches, len, &out) != MR_OK)
            return false;
        *(struct mr_match_head *)out =
            (struct mr_match_head){.sequence = sequence,
                                   .position = event->position,
                                   .end = event->end,
                                   .count = part,
                                   .flags = part < left ? MR_MATCH_MORE : 0};
        memcpy((uint8_t *)out + sizeof(struct mr_match_head), m->waiting + m->written,
               part * sizeof(uint64_t));
        mr_ring_commit(&m->matches, len, MR_RECORD_MATCH, 0,
                       part < left ? event->position : event->end);
        m->written += part;
    }
    free(m->waiting);
    m->waiting = NULL;
    return true;
}

static void find_matches(struct bed_matcher *m, const struct mr_event *event)
{
    struct mr_engine_event view = {.database = event->database,
                                   .collection = event->collection,
                                   .document_id = event->document_id,
                                   .document = event->document,
                                   .everyone = event->head.op == MR_OP_TRUNCATE};
    const uint64_t *ids;
    uint32_t count = m->engine ? mr_engine_match(m->engine, &view, &ids) : 0;
    m->waiting = malloc((count + 1) * sizeof *ids);
    MR_ASSERT(m->waiting);
    if (count > 0)
        memcpy(m->waiting, ids, count * sizeof *ids);
    m->waiting_count = count;
    m->written = 0;
}

void bed_match(struct bed *bed, uint32_t shard, uint32_t max)
{
    struct bed_matcher *m = &bed->matchers[shard];
    uint64_t through = mr_ring_through(m->events.shm);
    bool empty = false;
    while (max-- > 0) {
        struct mr_ring_record record;
        if (mr_ring_peek(&m->events, &record) != MR_OK) {
            empty = true;
            break;
        }
        struct mr_event event;
        MR_ASSERT(mr_event_decode(record.data, record.len, &event) == MR_OK);
        if (!m->waiting)
            find_matches(m, &event);
        if (!write_matches(m, &record, event.head.sequence))
            break;
        mr_ring_advance(&m->events, &record);
        m->matched = event.head.sequence;
    }
    if (empty && through > m->matched)
        m->matched = through;
    mr_ring_publish(&m->matches,
                    m->matches.note > m->events.position ? m->matches.note : m->events.position);
    mr_ring_release(&m->events, m->events.position, m->matched);
}

void bed_restart_matcher(struct bed *bed, uint32_t shard)
{
    detach_matcher(&bed->matchers[shard]);
    attach_matcher(bed, shard);
    uint64_t generation = atomic_load(&bed->board.shm->subs_generation);
    if (generation != 0)
        apply_journal(&bed->matchers[shard], generation);
}

void bed_step(struct bed *bed)
{
    uint32_t shard = (uint32_t)bed_random(bed, bed->shard_count);
    switch (bed_random(bed, 6)) {
    case 0:
        bed_append(bed, (uint32_t)bed_random(bed, 20));
        break;
    case 1:
        bed_feed(bed, 1 + bed_random(bed, 30), bed_random(bed, 3) > 0);
        break;
    case 2:
    case 3:
        bed_match(bed, shard, 1 + (uint32_t)bed_random(bed, 16));
        break;
    case 4:
        bed_apply(bed, shard);
        break;
    default:
        if (bed_random(bed, 40) == 0)
            bed_restart_matcher(bed, shard);
    }
}

bool bed_concerns(const struct bed_event *event, uint32_t collection, int64_t value)
{
    return event->collection == collection &&
           (value < 0 || event->everyone || event->value == value);
}
