/* publisher/survey.h: which events of the log are the current state of what a subscription sees:
 * for each document the last one, if it matches and is no delete. Two passes over the log: the
 * first fills a survey, the second asks it. One owner. */
#ifndef MR_PUBLISHER_SURVEY_H
#define MR_PUBLISHER_SURVEY_H
#include <stdbool.h>

#include "proto/event.h"

/* A document whose last event so far is kept. */
struct mr_survey_entry {
    uint64_t hash[2];  /* of database, collection and document id */
    uint64_t sequence; /* 0: the document is not in the state */
};

struct mr_survey {
    struct mr_survey_entry *entries; /* hash[0] 0: never used; open addressing */
    uint64_t capacity, used;         /* a power of two; entries that are not free */
    uint64_t *sequences;             /* after finish: ascending */
    uint64_t count, next;            /* of sequences */
};

enum { MR_SURVEY_DOCUMENTS_MAX = 1 << 23 }; /* about 200 MiB */

void mr_survey_fini(struct mr_survey *survey);
/* The next event of the log; matches: it concerns the subscription as it is now. MR_FULL: more than
 * MR_SURVEY_DOCUMENTS_MAX documents, or no memory. */
MR_MUST_USE enum mr_rc mr_survey_take(struct mr_survey *survey, const struct mr_event *event,
                                      bool matches);
/* There are no more. MR_FULL: no memory. */
MR_MUST_USE enum mr_rc mr_survey_finish(struct mr_survey *survey);
/* Is it part of the state? Asked in ascending order; twice for one is allowed. */
bool mr_survey_keeps(struct mr_survey *survey, uint64_t sequence);
#endif
