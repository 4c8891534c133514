/* Any text: a marker that parses formats back to the very same text. */
#include <stdint.h>

#include "proto/marker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_marker marker;
    struct mr_err err;
    struct mr_str text = {(const char *)data, size};
    if (mr_marker_parse(text, &marker, &err) != MR_OK)
        return 0;
    char back[MR_MARKER_TEXT_MAX];
    size_t len = mr_marker_format(marker, back);
    MR_ASSERT(mr_str_equal(text, (struct mr_str){back, len}));
    return 0;
}
