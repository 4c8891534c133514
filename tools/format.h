/* tools/format.h: numbers for people. Each writes into the caller's buffer and returns it. */
#ifndef MR_TOOLS_FORMAT_H
#define MR_TOOLS_FORMAT_H
#include <stddef.h>

const char *mr_format_bytes(char out[32], double bytes); /* "1.5 MiB" */
const char *mr_format_time(char out[32], double ns);     /* "12.3 us" */
const char *mr_format_count(char out[32], double count); /* "120.4k" */
#endif
