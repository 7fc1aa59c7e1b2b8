/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/wall-time.h"

#include <glib.h>

char *wall_time(int64_t usec)
{
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(usec / G_USEC_PER_SEC);
    g_autofree char *seconds = t ? g_date_time_format(t, "%Y-%m-%dT%H:%M:%S") : NULL;

    return g_strdup_printf("%s.%03dZ", seconds ? seconds : "?",
                           (int)(usec % G_USEC_PER_SEC / 1000));
}
