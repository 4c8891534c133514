/* Any bytes from a consumer of the log, as each of its requests: what is taken lies inside them and
 * keeps every limit. A place that is understood is one of its kinds, with an id that ends. */
#include <stdint.h>

#include "relay/census.h"
#include "relay/place.h"
#include "relay/wire.h"

static struct mr_str message;

static void inside(struct mr_str text)
{
    MR_ASSERT(text.len == 0 ||
              (text.data >= message.data && text.data + text.len <= message.data + message.len));
}

static void check_place(struct mr_str text)
{
    struct mr_place place;
    struct mr_err err = {.rc = MR_OK};
    enum mr_rc rc = mr_place_parse(text, MR_STR("postgres"), &place, &err);
    MR_ASSERT(rc == MR_OK || err.rc == rc);
    if (rc == MR_OK && place.kind == MR_PLACE_EVENT)
        MR_ASSERT(strnlen(place.event_id, MR_EVENT_ID_MAX) < MR_EVENT_ID_MAX);
}

/* Consumers of any name, one after the other, in one table. */
static void check_row(const struct mr_follow *follow)
{
    static struct mr_board_shm board;
    struct mr_consumer_row_shm *row = mr_census_join(&board, follow);
    MR_ASSERT(memchr(row->consumer, 0, sizeof row->consumer) &&
              memchr(row->collection, 0, sizeof row->collection));
    for (const char *at = row->consumer; *at; at++)
        MR_ASSERT(*at >= 0x20 && *at < 0x7f && *at != '"' && *at != '\\');
    mr_census_leave(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_follow follow;
    struct mr_acknowledge acknowledge;
    struct mr_err err = {.rc = MR_OK};
    message = (struct mr_str){(const char *)data, size};
    check_place(message);
    if (mr_wire_read_follow(message, &follow, &err) == MR_OK) {
        inside(follow.consumer_id);
        inside(follow.after);
        MR_ASSERT(follow.consumer_id.len <= MR_CONSUMER_ID_MAX);
        MR_ASSERT(follow.collection_count <= MR_CONSUMER_COLLECTIONS_MAX);
        for (uint32_t i = 0; i < follow.collection_count; i++)
            inside(follow.collections[i]);
        check_place(follow.after);
        check_row(&follow);
    }
    if (mr_wire_read_acknowledge(message, &acknowledge, &err) == MR_OK) {
        inside(acknowledge.consumer_id);
        inside(acknowledge.progress);
        inside(acknowledge.collection);
        MR_ASSERT(acknowledge.consumer_id.len > 0 &&
                  acknowledge.collection.len <= MR_CONSUMER_ID_MAX);
    }
    return 0;
}
