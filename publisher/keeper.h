/* publisher/keeper.h: the thread that makes changes of the subscription store durable, so that the
 * pump never waits for a disk. What is submitted while a commit is under way goes into the next one
 * together. */
#ifndef MR_PUBLISHER_KEEPER_H
#define MR_PUBLISHER_KEEPER_H
#include <stdbool.h>

#include "publisher/store.h"
#include "shm/doorbell.h"

struct mr_keeper;

/* Takes the store, also when it fails. bell: rung when there is something to collect. */
MR_MUST_USE enum mr_rc mr_keeper_create(struct mr_keeper **out, struct mr_store *store,
                                        struct mr_doorbell_shm *bell, struct mr_err *err);
/* Commit what was submitted and end the thread; what is done can still be collected. */
void mr_keeper_stop(struct mr_keeper *keeper);
/* Stops it if need be and closes the store. What was not collected is freed. NULL is allowed. */
void mr_keeper_destroy(struct mr_keeper **keeper);

/* Pump: hand over all changes of the list, which is empty afterwards. Never waits for a commit. */
void mr_keeper_submit(struct mr_keeper *keeper, struct mr_store_changes *changes);
/* Pump: append what has been committed (rc says how it went) to out, in the order of submission. */
void mr_keeper_collect(struct mr_keeper *keeper, struct mr_store_changes *out);
bool mr_keeper_waiting(const struct mr_keeper *keeper); /* is there something to collect? */
#endif
