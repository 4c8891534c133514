#include "publisher/survey.h"

#include <stdlib.h>

#include "common/doc_hash.h"

enum { CAPACITY_MIN = 1024 };

void mr_survey_fini(struct mr_survey *survey)
{
    free(survey->entries);
    free(survey->sequences);
    *survey = (struct mr_survey){0};
}

/* Where this document is, or would be. */
static struct mr_survey_entry *place(const struct mr_survey *survey, const uint64_t hash[2])
{
    uint64_t at = hash[0] & (survey->capacity - 1);
    while (survey->entries[at].hash[0] != 0 &&
           (survey->entries[at].hash[0] != hash[0] || survey->entries[at].hash[1] != hash[1]))
        at = (at + 1) & (survey->capacity - 1);
    return &survey->entries[at];
}

/* Documents that are in the state go into a table of twice that size; the others are forgotten. */
static enum mr_rc grow(struct mr_survey *survey)
{
    struct mr_survey old = *survey;
    uint64_t live = 0;
    for (uint64_t i = 0; i < old.capacity; i++)
        live += old.entries[i].sequence != 0;
    if (live >= MR_SURVEY_DOCUMENTS_MAX)
        return MR_FULL;
    uint64_t capacity = CAPACITY_MIN;
    while (capacity < live * 4)
        capacity *= 2;
    struct mr_survey_entry *entries = calloc(capacity, sizeof *entries);
    if (!entries)
        return MR_FULL;
    survey->entries = entries;
    survey->capacity = capacity;
    survey->used = live;
    for (uint64_t i = 0; i < old.capacity; i++)
        if (old.entries[i].sequence != 0)
            *place(survey, old.entries[i].hash) = old.entries[i];
    free(old.entries);
    return MR_OK;
}

enum mr_rc mr_survey_take(struct mr_survey *survey, const struct mr_event *event, bool matches)
{
    const struct mr_event_head *head = &event->head;
    if (head->op == MR_OP_TRUNCATE && matches) {
        if (survey->capacity > 0)
            memset(survey->entries, 0, survey->capacity * sizeof *survey->entries);
        survey->used = 0;
        return MR_OK;
    }
    if (survey->used * 2 >= survey->capacity && grow(survey) != MR_OK)
        return MR_FULL;
    /* A gap is no document, and stays: who reads the state has to hear of it. */
    uint64_t hash[2] = {head->document_hash | 1, head->op == MR_OP_GAP ? head->sequence : 0};
    if (head->op != MR_OP_GAP)
        hash[1] = mr_doc_hash(event->document_id, event->collection, event->database);
    struct mr_survey_entry *entry = place(survey, hash);
    bool keep = matches && head->op != MR_OP_DELETE;
    if (entry->hash[0] == 0 && !keep)
        return MR_OK;
    if (entry->hash[0] == 0) {
        memcpy(entry->hash, hash, sizeof hash);
        survey->used++;
    }
    entry->sequence = keep ? head->sequence : 0;
    return MR_OK;
}

static int ascending(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

enum mr_rc mr_survey_finish(struct mr_survey *survey)
{
    survey->sequences = malloc((survey->used + 1) * sizeof *survey->sequences);
    if (!survey->sequences)
        return MR_FULL;
    for (uint64_t i = 0; i < survey->capacity; i++)
        if (survey->entries[i].sequence != 0)
            survey->sequences[survey->count++] = survey->entries[i].sequence;
    qsort(survey->sequences, survey->count, sizeof *survey->sequences, ascending);
    free(survey->entries);
    survey->entries = NULL;
    survey->capacity = survey->used = 0;
    return MR_OK;
}

bool mr_survey_keeps(struct mr_survey *survey, uint64_t sequence)
{
    while (survey->next < survey->count && survey->sequences[survey->next] < sequence)
        survey->next++;
    return survey->next < survey->count && survey->sequences[survey->next] == sequence;
}
