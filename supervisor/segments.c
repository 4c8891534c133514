#include "supervisor/segments.h"

#include <stdio.h>
#include <sys/random.h>

#include "common/log.h"
#include "shm/journal.h"
#include "shm/ring.h"

/* Room in a journal for each subscription that may be there, programs and changes included, and as
 * much again, since the JetStream sink has a record of its own for each durable one and may be
 * switched on at any time. Taken from the system only as it fills. */
enum { JOURNAL_BYTES_EACH = 2 * 512 };
#define JOURNAL_BYTES_MIN (UINT64_C(16) << 20)

static enum mr_rc create_ring(const struct mr_config *config, uint64_t epoch, char kind,
                              uint32_t shard, uint32_t generation, struct mr_err *err)
{
    char part[32];
    mr_ring_part(part, kind, shard, generation);
    struct mr_ring_options options = {
        .part = part,
        .capacity = kind == 'e'   ? config->ring_event_size
                    : kind == 'm' ? config->ring_match_size
                                  : config->ring_control_size,
        .stage_count = kind == 'e' ? 2 : 1,
        .publish_bytes = config->ring_publish_bytes,
    };
    return mr_ring_create(config->instance_name.text, epoch, &options, err);
}

enum mr_rc mr_segments_create_rings(const struct mr_config *config, uint64_t epoch,
                                    uint64_t ring_set, struct mr_err *err)
{
    uint32_t generation = mr_ring_set_generation(ring_set);
    for (uint32_t shard = 0; shard < mr_ring_set_shards(ring_set); shard++)
        for (const char *kind = "ems"; *kind; kind++)
            if (create_ring(config, epoch, *kind, shard, generation, err) != MR_OK) {
                mr_segments_remove_rings(config->instance_name.text, ring_set);
                return err->rc;
            }
    return MR_OK;
}

void mr_segments_remove_rings(const char *instance, uint64_t ring_set)
{
    char part[32];
    for (uint32_t shard = 0; shard < mr_ring_set_shards(ring_set); shard++)
        for (const char *kind = "ems"; *kind; kind++) {
            mr_ring_part(part, *kind, shard, mr_ring_set_generation(ring_set));
            mr_segment_remove(instance, part);
        }
}

uint64_t mr_segments_journal_bytes(const struct mr_config *config)
{
    uint64_t capacity = config->publisher_subscriptions_max * JOURNAL_BYTES_EACH;
    capacity = (capacity < JOURNAL_BYTES_MIN ? JOURNAL_BYTES_MIN : capacity) + 4095;
    return capacity - capacity % 4096;
}

static enum mr_rc create_journals(const struct mr_config *config, uint64_t epoch,
                                  struct mr_err *err)
{
    uint64_t capacity = mr_segments_journal_bytes(config);
    enum mr_rc rc = mr_journal_create(config->instance_name.text, epoch, "subs0", capacity, err);
    return rc == MR_OK
               ? mr_journal_create(config->instance_name.text, epoch, "subs1", capacity, err)
               : rc;
}

enum mr_rc mr_segments_create(struct mr_board *board, const struct mr_config *config,
                              uint64_t ring_set, struct mr_err *err)
{
    const char *instance = config->instance_name.text;
    uint64_t epoch = 0;
    uint32_t left = mr_segment_remove_all(instance);
    if (left > 0)
        mr_log_info("supervisor", "leftovers_removed", "instance=%s segments=%u", instance, left);
    while (epoch ==
           0) /* not a count: nothing on disk or in memory need have survived to make it new */
        if (getrandom(&epoch, sizeof epoch, 0) != (ssize_t)sizeof epoch)
            return mr_fail(err, MR_FATAL, "draw an epoch");
    enum mr_rc rc = mr_board_create(board, instance, epoch, err);
    if (rc != MR_OK)
        return rc;
    rc = mr_segments_create_rings(config, epoch, ring_set, err);
    if (rc == MR_OK)
        rc = create_journals(config, epoch, err);
    if (rc != MR_OK) {
        mr_board_detach(board);
        mr_segment_remove_all(instance);
    }
    return rc;
}

enum mr_rc mr_rings_open(struct mr_rings *rings, const char *instance, uint64_t ring_set,
                         struct mr_err *err)
{
    char part[32];
    *rings = (struct mr_rings){.ring_set = ring_set};
    for (uint32_t shard = 0; shard < mr_ring_set_shards(ring_set); shard++) {
        mr_ring_part(part, 'e', shard, mr_ring_set_generation(ring_set));
        enum mr_rc rc = mr_ring_inspect(&rings->event[shard], instance, part, err);
        if (rc == MR_OK) {
            mr_ring_part(part, 'm', shard, mr_ring_set_generation(ring_set));
            rc = mr_ring_inspect(&rings->match[shard], instance, part, err);
        }
        if (rc != MR_OK) {
            mr_rings_close(rings);
            return rc;
        }
    }
    return MR_OK;
}

void mr_rings_close(struct mr_rings *rings)
{
    for (uint32_t shard = 0; shard < mr_ring_set_shards(rings->ring_set); shard++) {
        if (rings->event[shard].head)
            mr_segment_detach(&rings->event[shard]);
        if (rings->match[shard].head)
            mr_segment_detach(&rings->match[shard]);
    }
    *rings = (struct mr_rings){0};
}

static const struct mr_ring_shm *ring_of(const struct mr_segment *segment)
{
    return (const struct mr_ring_shm *)(const void *)segment->head;
}

bool mr_rings_empty(const struct mr_rings *rings)
{
    for (uint32_t shard = 0; shard < mr_ring_set_shards(rings->ring_set); shard++) {
        const struct mr_ring_shm *event = ring_of(&rings->event[shard]),
                                 *match = ring_of(&rings->match[shard]);
        if (mr_ring_stage_position(event, 1) != mr_ring_tail(event) ||
            mr_ring_stage_position(match, 0) != mr_ring_tail(match))
            return false;
    }
    return true;
}

uint64_t mr_rings_released_through(const struct mr_rings *rings)
{
    uint64_t through = UINT64_MAX;
    for (uint32_t shard = 0; shard < mr_ring_set_shards(rings->ring_set); shard++) {
        uint64_t note = mr_ring_stage_note(ring_of(&rings->event[shard]), 1);
        through = note < through ? note : through;
    }
    return through == UINT64_MAX ? 0 : through;
}
