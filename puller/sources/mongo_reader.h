/* puller/sources/mongo_reader.h: the thread that talks to MongoDB, because the driver blocks: keeps
 * a change stream open, reads snapshots between its batches, comes back when the connection breaks,
 * and puts everything into a queue in the order in which it is to be emitted.
 *
 * A snapshot is read in chunks, each at a cluster time of its own. The thread reads a chunk, then
 * the stream at least up to the chunk's time, and only then the next one. So whoever takes the
 * queue can put each chunk at exactly its place among the changes (mongodb.c). */
#ifndef MR_PULLER_SOURCES_MONGO_READER_H
#define MR_PULLER_SOURCES_MONGO_READER_H
#include "puller/sources/mongo_filter.h"
#include "puller/sources/mongo_queue.h"

struct mr_mongo_reader;

/* Start the thread. config and filter are borrowed until stop.
 *   from  where to begin; NULL: as source.start says */
MR_MUST_USE enum mr_rc mr_mongo_reader_start(struct mr_mongo_reader **out,
                                             const struct mr_config *config,
                                             const struct mr_mongo_filter *filter,
                                             const struct mr_mongo_position *from,
                                             struct mr_err *err);
/* End the thread and free everything. A thread that does not come back from the network within two
 * seconds is left alone with what it uses: the process is about to end. False: so it was. */
bool mr_mongo_reader_stop(struct mr_mongo_reader **reader);
struct mr_mongo_queue *mr_mongo_reader_queue(struct mr_mongo_reader *reader);
#endif
