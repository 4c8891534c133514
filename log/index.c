#include "log/index.h"

#include <stdlib.h>
#include <string.h>

enum { SPACING_BYTES_MIN = 64 * 1024 };

void mr_log_index_fini(struct mr_log_index *index)
{
    for (uint32_t i = 0; i < index->count; i++)
        free(index->parts[i]);
    free(index->parts);
    *index = (struct mr_log_index){0};
}

/* Place of the first part that begins at or behind first. */
static uint32_t place_of(const struct mr_log_index *index, uint64_t first)
{
    uint32_t low = 0, high = index->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (index->parts[middle]->first_sequence < first)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct mr_log_index_part *insert(struct mr_log_index *index, uint32_t place, uint64_t first)
{
    if (index->count == index->room) {
        uint32_t wanted = index->room ? index->room * 2 : 16;
        struct mr_log_index_part **larger = realloc(index->parts, wanted * sizeof(*larger));
        if (!larger)
            return NULL;
        index->parts = larger;
        index->room = wanted;
    }
    struct mr_log_index_part *part = calloc(1, sizeof *part);
    if (!part)
        return NULL;
    part->first_sequence = first;
    part->spacing = SPACING_BYTES_MIN;
    memmove(&index->parts[place + 1], &index->parts[place],
            (index->count - place) * sizeof(index->parts[0]));
    index->parts[place] = part;
    index->count++;
    return part;
}

/* Full: keep every other point. */
static void thin(struct mr_log_index_part *part)
{
    for (uint32_t i = 0; i < MR_LOG_INDEX_POINTS / 2; i++)
        part->points[i] = part->points[i * 2];
    part->count = MR_LOG_INDEX_POINTS / 2;
    part->spacing *= 2;
}

void mr_log_index_add(struct mr_log_index *index, uint64_t first, uint64_t sequence,
                      uint64_t offset)
{
    uint32_t place = place_of(index, first);
    struct mr_log_index_part *part = NULL;
    if (place < index->count && index->parts[place]->first_sequence == first)
        part = index->parts[place];
    else
        part = insert(index, place, first);
    if (!part)
        return;
    uint64_t last = part->count > 0 ? part->points[part->count - 1].offset : 0;
    if (offset < last + part->spacing)
        return;
    if (part->count == MR_LOG_INDEX_POINTS)
        thin(part);
    part->points[part->count].sequence = sequence;
    part->points[part->count++].offset = offset;
}

void mr_log_index_find(const struct mr_log_index *index, uint64_t first, uint64_t *sequence,
                       uint64_t *offset)
{
    uint32_t place = place_of(index, first);
    if (place == index->count || index->parts[place]->first_sequence != first)
        return;
    const struct mr_log_index_part *part = index->parts[place];
    for (uint32_t i = part->count; i-- > 0;) {
        if (part->points[i].sequence <= *sequence) {
            *sequence = part->points[i].sequence;
            *offset = part->points[i].offset;
            return;
        }
    }
}

void mr_log_index_drop(struct mr_log_index *index, uint64_t first)
{
    uint32_t gone = place_of(index, first);
    for (uint32_t i = 0; i < gone; i++)
        free(index->parts[i]);
    index->count -= gone;
    if (gone > 0 && index->count > 0)
        memmove(&index->parts[0], &index->parts[gone], index->count * sizeof(index->parts[0]));
}
