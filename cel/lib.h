/* cel/lib.h: what the functions of the library have in common. */
#ifndef MR_CEL_LIB_H
#define MR_CEL_LIB_H
#include "cel/fn.h"

/* Whether args are of these kinds: a letter each: s string, y bytes, i int, u uint, d double, b
 * bool, l list, m map, t timestamp, p duration, o optional, I ip, C cidr; count letters. */
bool mr_cel_args_are(const struct mr_cel_val *args, uint32_t count, const char *kinds);

/* Order count numbers from 0 so that less(context, a, b) for neighbours is never true the other way
 * round; stable. NULL: a limit is reached. */
typedef bool mr_cel_less(const void *context, uint32_t a, uint32_t b);
uint32_t *mr_cel_sort_order(struct mr_cel_ctx *ctx, uint32_t count, mr_cel_less *less,
                            const void *context);

/* "192.168.0.1", "2001:db8::1", "10.0.0.0/8": IP or CIDR as text. */
enum { MR_CEL_ADDRESS_TEXT_MAX = 48 };
size_t mr_cel_address_format(char out[MR_CEL_ADDRESS_TEXT_MAX], struct mr_cel_val address);
#endif
