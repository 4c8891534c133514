/* Any bytes: whatever validates has a text, and nothing else reads outside its bytes. */
#include <stdint.h>

#include "common/bson.h"
#include "proto/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_json json = {0};
    struct mr_str bson = {(const char *)data, size};
    enum mr_rc rc = mr_json_put_document(&json, bson);
    if (mr_bson_validate(data, size) == MR_OK)
        MR_ASSERT(rc == MR_OK);
    if (rc == MR_OK) {
        MR_ASSERT(json.data[0] == '{' && json.data[json.len - 1] == '}');
        for (size_t i = 0; i < json.len; i++)
            MR_ASSERT((uint8_t)json.data[i] >= 0x20 && !strchr("<>&", json.data[i]));
    } else {
        MR_ASSERT(json.len == 0);
    }
    mr_json_fini(&json);
    return 0;
}
