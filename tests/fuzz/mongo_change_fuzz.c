/* A server's change event -> events: one BSON document, in both layouts, and as a fragment. */
#include <stdlib.h>
#include <string.h>

#include "puller/sources/mongo_build.h"
#include "puller/sources/mongo_key.h"
#include "puller/sources/mongo_position.h"

static void check(struct mr_str part)
{
    if (part.len != 0 && mr_bson_validate(part.data, part.len) != MR_OK)
        abort();
}

static void build(struct mr_mongo_builder *builder, const struct mr_mongo_change *change)
{
    struct mr_event events[MR_MONGO_EVENTS_MAX];
    uint32_t count = 0;
    struct mr_err err;
    for (uint32_t index = 0; index < 2; index++) {
        if (mr_mongo_build(builder, change, index, events, &count, &err) != MR_OK)
            continue;
        for (uint32_t i = 0; i < count; i++) {
            check(events[i].document);
            check(events[i].update);
            check(events[i].before);
            if (events[i].document_id.len > MR_EVENT_NAME_MAX ||
                events[i].event_id.len >= MR_EVENT_ID_MAX)
                abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_config config;
    static struct mr_mongo_filter filter;
    static struct mr_mongo_builder *builder;
    static struct mr_mongo_splice splice;
    struct mr_mongo_change change;
    struct mr_str event = {(const char *)data, size}, whole;
    if (!builder) {
        struct mr_err err;
        mr_config_init(&config);
        if (mr_mongo_filter_init(&filter, &config, &err) != MR_OK)
            abort();
        builder = malloc(sizeof *builder);
        mr_mongo_builder_init(builder, &filter);
        mr_mongo_splice_init(&splice);
    }
    if (mr_mongo_change_read(event, &change) != MR_OK)
        return 0;
    (void)mr_mongo_token_time(change.token);
    if (change.fragments > 0) {
        if (mr_mongo_splice_take(&splice, event, &change, &whole) != MR_OK ||
            mr_mongo_change_read(whole, &change) != MR_OK || change.fragments > 0)
            return 0;
    }
    if (change.id.type != 0 && mr_mongo_key_compare(&change.id, &change.id) != 0 &&
        !mr_mongo_key_is_nan(&change.id))
        abort();
    builder->syntrix = false;
    build(builder, &change);
    builder->syntrix = true;
    build(builder, &change);
    return 0;
}
