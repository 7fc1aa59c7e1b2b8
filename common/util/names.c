/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/names.h"

#include <glib.h>
#include <string.h>

bool name_is_well_formed(const char *name)
{
    if (!g_ascii_isalpha(name[0]))
        return false;
    for (const char *p = name; *p; p++)
        if (!g_ascii_isalnum(*p) && !strchr("-._", *p))
            return false;
    return true;
}
