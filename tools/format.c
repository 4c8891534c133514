#include "tools/format.h"

#include <stdio.h>

const char *mr_format_bytes(char out[32], double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return out;
}

const char *mr_format_time(char out[32], double ns)
{
    if (ns < 1e3)
        snprintf(out, 32, "%.0f ns", ns);
    else if (ns < 1e6)
        snprintf(out, 32, "%.1f us", ns / 1e3);
    else if (ns < 1e9)
        snprintf(out, 32, "%.1f ms", ns / 1e6);
    else
        snprintf(out, 32, "%.1f s", ns / 1e9);
    return out;
}

const char *mr_format_count(char out[32], double count)
{
    if (count < 1e5)
        snprintf(out, 32, "%.0f", count);
    else if (count < 1e8)
        snprintf(out, 32, "%.1fk", count / 1e3);
    else
        snprintf(out, 32, "%.1fM", count / 1e6);
    return out;
}
