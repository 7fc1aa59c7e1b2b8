/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/journal-storm.h"

#include <glib.h>

#define STORM_BATCH 1024
#define STORM_LIMIT (4 * STORM_BATCH)
#define STORM_SHARE 32 /* one part in so many of the time may go into syncs */
#define STORM_LEVEL 13 /* 4^13 regions are all that have a byte of their own */

static void leak(struct storm *s, int64_t now, int64_t sync)
{
    /* Also where a sync takes no time, two threads have to wake each other. */
    int64_t period = MAX(sync, 200) * STORM_SHARE;
    int64_t gone = MIN(now - s->since, STORM_LIMIT * period) * STORM_BATCH / period;

    if (gone <= 0)
        return; /* too little to be counted yet: `since` stays */
    s->bucket = MAX(s->bucket - gone, 0);
    s->since = now;
}

void storm_batch(struct storm *s, int64_t now, int64_t sync)
{
    leak(s, now, sync);
    s->bucket += STORM_BATCH;
    if (s->bucket < STORM_LIMIT)
        return;
    s->bucket = 0;
    if (s->level < STORM_LEVEL)
        s->level++;
}

void storm_look(struct storm *s, int64_t now, int64_t sync)
{
    leak(s, now, sync);
    if (s->bucket == 0 && s->level > 0)
        s->level--;
}

void storm_widen(struct storm *s, uint64_t *first, uint64_t *last)
{
    uint64_t run = UINT64_C(1) << 2 * s->level;

    s->highest = MAX(s->highest, *last);
    while (run > 4 * (s->highest + 1))
        run /= 4;
    *first &= ~(run - 1);
    *last |= run - 1;
}
