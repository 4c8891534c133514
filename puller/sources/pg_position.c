#include "puller/sources/pg_position.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* As stored; little endian like everything in the log. */
struct stored_position {
    char magic[4];
    uint32_t timeline;
    uint64_t system, lsn, commit_lsn, events_taken;
};
static_assert(sizeof(struct stored_position) == 40, "the stored layout is an ABI");
static const char position_magic[4] = "PGP1";

void mr_pg_position_encode(const struct mr_pg_position *position, struct mr_position *out)
{
    struct stored_position stored = {.timeline = position->timeline,
                                     .system = position->system,
                                     .lsn = position->lsn,
                                     .commit_lsn = position->commit_lsn,
                                     .events_taken = position->events_taken};
    memcpy(stored.magic, position_magic, sizeof stored.magic);
    memcpy(out->bytes, &stored, sizeof stored);
    out->len = sizeof stored;
}

enum mr_rc mr_pg_position_decode(const struct mr_position *in, struct mr_pg_position *out,
                                 struct mr_err *err)
{
    struct stored_position stored;
    if (in->len != sizeof stored)
        return mr_reject(err, MR_USAGE,
                         "position of %" PRIu32 " bytes in the log: not one of a postgres"
                         " source; use the log's own source kind or another instance.data_dir",
                         in->len);
    memcpy(&stored, in->bytes, sizeof stored);
    if (memcmp(stored.magic, position_magic, sizeof stored.magic) != 0)
        return mr_reject(err, MR_USAGE,
                         "position in the log: not one of a postgres source; use the"
                         " log's own source kind or another instance.data_dir");
    *out = (struct mr_pg_position){.system = stored.system,
                                   .timeline = stored.timeline,
                                   .lsn = stored.lsn,
                                   .commit_lsn = stored.commit_lsn,
                                   .events_taken = stored.events_taken};
    return MR_OK;
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
