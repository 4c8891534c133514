/* Any bytes: decode stays inside them, and what it accepts encodes to the same meaning again. */
#include <stdint.h>
#include <stdlib.h>

#include "proto/event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_event event, again;
    if (mr_event_decode(data, size, &event) != MR_OK)
        return 0;
    MR_ASSERT(mr_event_size(&event) == size);
    void *copy = malloc(size);
    mr_event_encode(&event, copy);
    MR_ASSERT(mr_event_decode(copy, size, &again) == MR_OK);
    MR_ASSERT(mr_str_equal(event.document, again.document));
    MR_ASSERT(mr_str_equal(event.before, again.before));
    MR_ASSERT(mr_str_equal(event.event_id, again.event_id));
    char id[MR_EVENT_ID_MAX];
    MR_ASSERT(mr_event_id(&event, id) == strlen(id) || event.event_id.len > 0);
    free(copy);
    return 0;
}
