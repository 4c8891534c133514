#include "puller/sources/pg_position.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* As stored; little endian like everything in the log. */
struct stored_position {
    char magic[4];
    uint32_t timeline; /* of no use in the first layout: also that of a standby was stored */
    uint64_t system, lsn, commit_lsn, events_taken;
    uint32_t era, reserved; /* not in the first layout */
};
static_assert(sizeof(struct stored_position) == 48, "the stored layout is an ABI");
static const char first_magic[4] = "PGP1", position_magic[4] = "PGP2";
enum { FIRST_BYTES = offsetof(struct stored_position, era) };
/* While a snapshot runs, behind it; then the collection's name and the id. */
struct stored_place {
    uint16_t collection_len, id_len;
    uint8_t state, reserved[3];
};
static_assert(sizeof(struct stored_place) == 8, "the stored layout is an ABI");

void mr_pg_position_encode(const struct mr_pg_position *position, struct mr_position *out)
{
    struct stored_position stored = {.timeline = position->timeline,
                                     .system = position->system,
                                     .lsn = position->lsn,
                                     .commit_lsn = position->commit_lsn,
                                     .events_taken = position->events_taken,
                                     .era = position->era};
    memcpy(stored.magic, position_magic, sizeof stored.magic);
    memcpy(out->bytes, &stored, sizeof stored);
    out->len = sizeof stored;
    const struct mr_pg_place *place = &position->place;
    if (!place->running)
        return;
    struct stored_place behind = {place->collection_len, place->id_len, place->state, {0}};
    uint8_t *at = out->bytes + sizeof stored;
    memcpy(at, &behind, sizeof behind);
    memcpy(at + sizeof behind, place->collection, place->collection_len);
    memcpy(at + sizeof behind + place->collection_len, place->id, place->id_len);
    out->len += (uint32_t)(sizeof behind + place->collection_len + place->id_len);
}

static bool decode_place(const uint8_t *at, size_t len, struct mr_pg_place *out)
{
    struct stored_place behind;
    if (len == 0)
        return true;
    if (len < sizeof behind)
        return false;
    memcpy(&behind, at, sizeof behind);
    if (behind.collection_len > sizeof out->collection || behind.id_len > sizeof out->id ||
        behind.state >= MR_PG_PLACE_STATE_COUNT ||
        len != sizeof behind + behind.collection_len + behind.id_len)
        return false;
    out->running = true;
    out->state = behind.state;
    out->collection_len = behind.collection_len;
    out->id_len = behind.id_len;
    memcpy(out->collection, at + sizeof behind, behind.collection_len);
    memcpy(out->id, at + sizeof behind + behind.collection_len, behind.id_len);
    return true;
}

enum mr_rc mr_pg_position_decode(const struct mr_position *in, struct mr_pg_position *out,
                                 struct mr_err *err)
{
    struct stored_position stored = {0};
    bool first = in->len >= FIRST_BYTES && memcmp(in->bytes, first_magic, sizeof first_magic) == 0;
    size_t head = first ? FIRST_BYTES : sizeof stored;
    if (in->len < head || in->len > sizeof in->bytes)
        return mr_reject(err, MR_USAGE,
                         "position of %" PRIu32 " bytes in the log: not one of a postgres"
                         " source; use the log's own source kind or another instance.data_dir",
                         in->len);
    memcpy(&stored, in->bytes, head);
    if (!first && memcmp(stored.magic, position_magic, sizeof stored.magic) != 0)
        return mr_reject(err, MR_USAGE,
                         "position in the log: not one of a postgres source; use the"
                         " log's own source kind or another instance.data_dir");
    *out = (struct mr_pg_position){.system = stored.system,
                                   .timeline = first ? 0 : stored.timeline,
                                   .era = stored.era,
                                   .lsn = stored.lsn,
                                   .commit_lsn = stored.commit_lsn,
                                   .events_taken = stored.events_taken};
    if (!decode_place(in->bytes + head, in->len - head, &out->place))
        return mr_reject(err, MR_USAGE,
                         "position in the log: not one of this version of the postgres source");
    return MR_OK;
}

uint64_t mr_pg_position_reach(const struct mr_pg_position *position)
{
    return position->commit_lsn != 0 ? position->commit_lsn + 1 : position->lsn;
}

/* A line for each timeline that was left: number, place, reason. Format: PostgreSQL,
 * src/backend/access/transam/timeline.c. */
bool mr_pg_history_leaves(const char *history, uint32_t timeline, uint64_t *out)
{
    for (const char *line = history; line; line = strchr(line, '\n')) {
        uint32_t number, high, low;
        line += line[0] == '\n';
        if (sscanf(line, "%10" SCNu32 "%*[ \t]%8" SCNx32 "/%8" SCNx32, &number, &high, &low) == 3 &&
            number == timeline) {
            *out = (uint64_t)high << 32 | low;
            return true;
        }
    }
    return false;
}

struct mr_pg_lsn_text mr_pg_lsn_format(uint64_t lsn)
{
    struct mr_pg_lsn_text out;
    snprintf(out.text, sizeof out.text, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32),
             (uint32_t)lsn);
    return out;
}

bool mr_pg_lsn_parse(const char *text, uint64_t *out)
{
    uint32_t high, low;
    int end = 0;
    if (sscanf(text, "%8" SCNx32 "/%8" SCNx32 "%n", &high, &low, &end) != 2 || text[end] != '\0')
        return false;
    *out = (uint64_t)high << 32 | low;
    return true;
}
