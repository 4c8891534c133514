/* Any line of a file of durable subscriptions: what is taken has its names, its text lies in bytes
 * of its own, and a line that is refused leaves the list as it was and says why. */
#include <stdint.h>

#include "publisher/sinks/jetstream_file.h"

static volatile uint64_t sink;

static void touch(struct mr_str text)
{
    for (size_t i = 0; i < text.len; i++)
        sink += (unsigned char)text.data[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_js_wanted_list list = {0};
    struct mr_err err = {.rc = MR_OK};
    enum mr_rc rc = mr_js_wanted_parse((struct mr_str){(const char *)data, size}, &list, &err);
    MR_ASSERT(rc == MR_OK || (list.count == 0 && err.text[0] != '\0'));
    for (uint32_t i = 0; i < list.count; i++) {
        const struct mr_js_wanted *wanted = &list.items[i];
        MR_ASSERT(wanted->gateway_id.len > 0 && wanted->subscription_id.len > 0);
        touch(wanted->gateway_id);
        touch(wanted->subscription_id);
        touch(wanted->database);
        touch(wanted->collection);
        touch(wanted->cel);
    }
    mr_js_wanted_fini(&list);
    return 0;
}
