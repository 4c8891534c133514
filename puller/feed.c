#include "puller/feed.h"

#include "common/clock.h"
#include "common/log.h"

void mr_feed_init(struct mr_feed *feed, struct mr_rings *rings, struct mr_log_writer *log,
                  const char *log_dir, struct mr_cell_shm *cell)
{
    *feed = (struct mr_feed){.log = log, .log_dir = log_dir, .cell = cell};
    mr_feed_use(feed, rings);
}

void mr_feed_fini(struct mr_feed *feed)
{
    if (feed->reader)
        mr_log_reader_close(&feed->reader);
}

void mr_feed_use(struct mr_feed *feed, struct mr_rings *rings)
{
    feed->rings = rings;
    feed->sequence = mr_rings_begin(rings);
    feed->held = false;
    feed->read_at = UINT64_MAX; /* seek before the next read */
    mr_rings_publish(rings, feed->sequence);
    mr_gauge(feed->cell, MR_COUNTER_FEED_SEQUENCE, mr_rings_fed(rings));
}

/* Publish what was put, and only then take the time. */
static void publish(struct mr_feed *feed)
{
    struct mr_cell_shm *cell = feed->cell;
    mr_rings_publish(feed->rings, feed->sequence);
    mr_gauge(cell, MR_COUNTER_FEED_SEQUENCE, mr_rings_fed(feed->rings)); /* never back */
    if (feed->events == 0)
        return;
    uint64_t now_ns = mr_clock_ns();
    for (uint32_t i = 0; i < feed->time_count; i++) {
        const struct mr_feed_time *time = &feed->times[i];
        /* The log may hold events that were read before the machine's last start. */
        if (time->read_ns <= now_ns)
            mr_histogram_add_n(&cell->histograms[MR_HISTOGRAM_SOURCE_TO_RING],
                               now_ns - time->read_ns, time->events);
    }
    mr_count(cell, MR_COUNTER_FEED_EVENTS, feed->events);
    mr_count(cell, MR_COUNTER_FEED_BYTES, feed->bytes);
    feed->time_count = 0;
    feed->events = feed->bytes = 0;
}

static void account(struct mr_feed *feed, const struct mr_log_record *record)
{
    const struct mr_event_head *head = record->data;
    feed->events++;
    feed->bytes += record->len;
    if (feed->time_count > 0 && feed->times[feed->time_count - 1].read_ns == head->ingest_ns) {
        feed->times[feed->time_count - 1].events++;
        return;
    }
    if (feed->time_count == MR_FEED_TIMES)
        publish(feed);
    feed->times[feed->time_count++] = (struct mr_feed_time){head->ingest_ns, 1};
}

/* The next record from the log's files. */
static enum mr_rc read_next(struct mr_feed *feed, struct mr_err *err)
{
    if (feed->held && feed->record.sequence == feed->sequence + 1)
        return MR_OK;
    if (!feed->reader) {
        enum mr_rc rc = mr_log_reader_open(&feed->reader, feed->log_dir, err);
        if (rc != MR_OK)
            return rc;
        feed->read_at = UINT64_MAX;
    }
    if (feed->read_at != feed->sequence) {
        uint64_t floor = 0;
        enum mr_rc rc = mr_log_seek(feed->reader, feed->sequence, &floor, err);
        if (rc != MR_OK)
            return rc == MR_USAGE ? mr_err_prefix(err, "feed behind %llu, log kept from %llu",
                                                  (unsigned long long)feed->sequence,
                                                  (unsigned long long)floor)
                                  : rc;
        feed->read_at = feed->sequence;
    }
    enum mr_rc rc = mr_log_next(feed->reader, &feed->record, err);
    if (rc != MR_OK)
        return rc;
    if (feed->record.sequence != feed->sequence + 1)
        return mr_reject(err, MR_CORRUPT, "log %s: record %llu where %llu was expected",
                         feed->log_dir, (unsigned long long)feed->record.sequence,
                         (unsigned long long)feed->sequence + 1);
    feed->held = true;
    return MR_OK;
}

static enum mr_rc next_record(struct mr_feed *feed, struct mr_log_record *out, bool *from_disk,
                              struct mr_err *err)
{
    *from_disk = false;
    if (mr_log_batch_record(feed->log, feed->sequence + 1, out) == MR_OK)
        return MR_OK;
    *from_disk = true;
    enum mr_rc rc = read_next(feed, err);
    if (rc == MR_OK)
        *out = feed->record;
    return rc;
}

static void note_stall(struct mr_feed *feed, bool stalled)
{
    if (stalled && !feed->stalled)
        mr_count(feed->cell, MR_COUNTER_FEED_STALLS, 1);
    feed->stalled = stalled;
}

enum mr_rc mr_feed_turn(struct mr_feed *feed, uint64_t last, uint32_t events_max, uint32_t *fed,
                        struct mr_err *err)
{
    enum mr_rc rc = MR_OK;
    uint32_t count = 0, disk_count = 0;
    while (rc == MR_OK && feed->sequence < last && count < events_max) {
        struct mr_log_record record;
        bool from_disk;
        rc = next_record(feed, &record, &from_disk, err);
        if (rc == MR_OK)
            rc = mr_rings_put(feed->rings, &record, err);
        if (rc != MR_OK)
            break;
        feed->sequence = record.sequence;
        count++;
        if (from_disk) {
            feed->held = false;
            feed->read_at = record.sequence;
            disk_count++;
        }
        account(feed, &record);
    }
    note_stall(feed, rc == MR_FULL);
    *fed = count;
    if (count > 0)
        publish(feed);
    mr_count(feed->cell, MR_COUNTER_FEED_FROM_DISK, disk_count);
    /* At the end of the files: the batch is on its way. */
    return rc == MR_FULL || rc == MR_AGAIN ? MR_OK : rc;
}
