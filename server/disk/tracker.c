/* SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "server/disk/disk-private.h"

struct tracker *tracker_new(GPtrArray *bits)
{
    struct tracker *t = g_malloc0(sizeof *t + bits->len * sizeof t->bits[0]);

    t->n = bits->len;
    for (unsigned i = 0; i < t->n; i++)
        t->bits[i] = bitmap_ref(bits->pdata[i]);
    return t;
}

void tracker_free(struct tracker *t)
{
    for (unsigned i = 0; t && i < t->n; i++)
        bitmap_unref(t->bits[i]);
    g_free(t);
}
