/* Any answer: what parses is an acknowledgement or an error, and its text lies inside the answer.
 */
#include <stdint.h>

#include "jetstream/ack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_js_ack ack;
    struct mr_str text = {(const char *)data, size};
    if (mr_js_ack_parse(text, &ack) != MR_OK)
        return 0;
    MR_ASSERT((ack.stream_sequence != 0) != (ack.error_code != 0));
    MR_ASSERT(ack.error.len == 0 || (ack.error.data >= text.data &&
                                     ack.error.data + ack.error.len <= text.data + text.len));
    return 0;
}
