#include "cel/lib.h"

bool mr_cel_args_are(const struct mr_cel_val *args, uint32_t count, const char *kinds)
{
    static const uint8_t by_letter[128] = {
        ['s'] = MR_CEL_STRING,   ['y'] = MR_CEL_BYTES,    ['i'] = MR_CEL_INT,
        ['u'] = MR_CEL_UINT,     ['d'] = MR_CEL_DOUBLE,   ['b'] = MR_CEL_BOOL,
        ['l'] = MR_CEL_LIST,     ['m'] = MR_CEL_MAP,      ['t'] = MR_CEL_TIMESTAMP,
        ['o'] = MR_CEL_OPTIONAL, ['p'] = MR_CEL_DURATION, ['I'] = MR_CEL_IP,
        ['C'] = MR_CEL_CIDR,
    };
    for (uint32_t i = 0; i < count; i++)
        if (kinds[i] == '\0' || args[i].kind != by_letter[(uint8_t)kinds[i] & 127])
            return false;
    return kinds[count] == '\0';
}

/* Bottom-up merge sort: stable, without recursion. */
uint32_t *mr_cel_sort_order(struct mr_cel_ctx *ctx, uint32_t count, mr_cel_less *less,
                            const void *context)
{
    uint32_t *order = mr_cel_alloc(ctx, (size_t)count * sizeof *order);
    uint32_t *other = mr_cel_alloc(ctx, (size_t)count * sizeof *order);
    if (!order || !other)
        return NULL;
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint64_t width = 1; width < count; width *= 2) {
        if (!mr_cel_charge(ctx, count))
            return NULL;
        for (uint64_t start = 0; start < count; start += 2 * width) {
            uint64_t middle = start + width < count ? start + width : count;
            uint64_t end = start + 2 * width < count ? start + 2 * width : count;
            uint64_t left = start, right = middle;
            for (uint64_t i = start; i < end; i++) {
                bool take_right =
                    right < end && (left == middle || less(context, order[right], order[left]));
                other[i] = order[take_right ? right++ : left++];
            }
        }
        uint32_t *sorted = other;
        other = order;
        order = sorted;
    }
    return order;
}
