/* Any bytes: reading must stay inside them, and what validates must be walkable to its last element
 * and come out of the writer as it went in. */
#include <stdint.h>
#include <stdlib.h>

#include "common/bson.h"

static void walk(const void *data, size_t len, struct mr_bson_writer *copy)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    MR_ASSERT(mr_bson_iter_init(&iter, data, len) == MR_OK);
    enum mr_rc rc;
    while ((rc = mr_bson_iter_next(&iter, &element)) == MR_OK) {
        if (element.value.type == MR_BSON_DOCUMENT || element.value.type == MR_BSON_ARRAY) {
            if (element.value.type == MR_BSON_DOCUMENT)
                mr_bson_begin_document(copy, element.key);
            else
                mr_bson_begin_array(copy, element.key);
            walk(element.value.data, element.value.len, copy);
            mr_bson_end(copy);
        } else {
            mr_bson_put_value(copy, element.key, &element.value);
        }
    }
    MR_ASSERT(rc == MR_AGAIN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_bson_value value;
    mr_bson_find(data, size, MR_STR("a.b.0"), &value);
    mr_bson_find(data, size, MR_STR(""), &value);
    if (mr_bson_validate(data, size) != MR_OK)
        return 0;
    struct mr_bson_writer copy;
    mr_bson_writer_init(&copy);
    mr_bson_begin(&copy);
    walk(data, size, &copy);
    mr_bson_end(&copy);
    struct mr_str bytes = mr_bson_bytes(&copy);
    MR_ASSERT(bytes.len == size && memcmp(bytes.data, data, size) == 0);
    mr_bson_writer_fini(&copy);
    return 0;
}
