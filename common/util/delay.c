/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/delay.h"

#include <glib.h>
#include <limits.h>
#include <math.h>
#include <string.h>

bool decimal_parse(const char *text, double *value, const char **end)
{
    char *e;

    if (!g_ascii_isdigit(*text) && *text != '.')
        return false;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        return false;
    *value = g_ascii_strtod(text, &e);
    *end = e;
    return e != text && isfinite(*value) && *value >= 0;
}

bool delay_parse(const char *text, uint64_t *ns)
{
    static const struct {
        const char *suffix;
        double seconds;
    } units[] = {
        {"", 1}, {"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"\xce\xbcs", 1e-6}, {"ns", 1e-9},
    };
    const char *end;
    double value;

    if (!decimal_parse(text, &value, &end))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
        if (strcmp(end, units[i].suffix) != 0)
            continue;
        double rounded = round(value * units[i].seconds * 1e9);
        if (rounded >= (double)INT_MAX * 1e9)
            return false;
        *ns = (uint64_t)rounded;
        return true;
    }
    return false;
}
