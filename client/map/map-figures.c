/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/map-figures.h"

#include <glib.h>
#include <inttypes.h>

char *map_offset_text(uint64_t offset)
{
    static const char *const units[] = {"", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    unsigned unit = 0;
    uint64_t scale = 1;

    /* The largest unit in which two digits after the point are exact. */
    for (unsigned u = 1; u < G_N_ELEMENTS(units); u++) {
        uint64_t next = UINT64_C(1) << (10 * u);

        if (offset < next || offset % (next / 4) != 0)
            break;
        unit = u;
        scale = next;
    }
    switch (offset % scale / MAX(scale / 4, 1)) {
    case 0:
        return g_strdup_printf("%" PRIu64 "%s", offset / scale, units[unit]);
    case 2:
        return g_strdup_printf("%" PRIu64 ".5%s", offset / scale, units[unit]);
    default:
        return g_strdup_printf("%" PRIu64 ".%s%s", offset / scale,
                               offset % scale / (scale / 4) == 1 ? "25" : "75", units[unit]);
    }
}

char *map_percent_text(uint64_t part, uint64_t whole)
{
    double percent = whole > 0 ? 100.0 * (double)part / (double)whole : 0;

    if (part == 0 || part >= whole)
        return g_strdup(part == 0 ? "0 %" : "100 %");
    if (percent < 0.1)
        return g_strdup("<0.1 %");
    return percent > 99.9 ? g_strdup(">99.9 %") : g_strdup_printf("%.1f %%", percent);
}

char *map_size_text(uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;

    while (unit + 1 < G_N_ELEMENTS(units) && bytes >> (10 * (unit + 1)) != 0)
        unit++;
    if ((bytes & ((UINT64_C(1) << (10 * unit)) - 1)) == 0)
        return g_strdup_printf("%" PRIu64 " %s", bytes >> (10 * unit), units[unit]);
    return g_strdup_printf("%.2f %s", (double)bytes / (double)(UINT64_C(1) << (10 * unit)),
                           units[unit]);
}
