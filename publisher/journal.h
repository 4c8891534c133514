/* publisher/journal.h: the publisher's side of the subscription journal (shm/journal.h): what every
 * matcher has to know, in generations. One thread. */
#ifndef MR_PUBLISHER_JOURNAL_H
#define MR_PUBLISHER_JOURNAL_H
#include "publisher/subscriptions.h"
#include "shm/journal.h"

struct mr_register {
    struct mr_journal segments[2];
    struct mr_board_shm *board;
    struct mr_journal *current; /* NULL: no generation begun */
    uint64_t generation;
    uint64_t live_bytes; /* of records whose subscriptions are still there */
    uint64_t removed;    /* records of subscriptions that ended, in this generation */
    bool dirty;          /* appended and not yet published */
    bool full;           /* a record had no room: compaction cannot wait for its measure */
};

MR_MUST_USE enum mr_rc mr_register_open(struct mr_register *reg, const char *instance,
                                        struct mr_board_shm *board, struct mr_err *err);
void mr_register_close(struct mr_register *reg);

/* May the next generation begin? Not while a live matcher is still in the segment that it will use.
 */
bool mr_register_may_begin(const struct mr_register *reg);
/* Begin it with everything in the table, and publish it. MR_FULL: the table does not fit into the
 * segment, which should never be: the journal is broken then, try again later. */
MR_MUST_USE enum mr_rc mr_register_begin(struct mr_register *reg,
                                         const struct mr_subscriptions *table);
/* Is it time for a new generation, because most of this one is past? */
bool mr_register_due(const struct mr_register *reg);

/* Append a subscription; sets its journal_count. MR_FULL: no room. Visible with the next publish.
 */
MR_MUST_USE enum mr_rc mr_register_add(struct mr_register *reg,
                                       struct mr_subscription *subscription);
/* Append its end. Without room the matchers go on matching it for nothing until the next
 * generation. */
void mr_register_remove(struct mr_register *reg, const struct mr_subscription *subscription);
void mr_register_publish(struct mr_register *reg);
#endif
