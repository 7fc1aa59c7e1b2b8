/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a change of an image does before and after it so that a crash loses no dirty bit: the region
 * that it touches is made durable in the journal if it is not yet (power loss), and the time is
 * noted (somebody else's writes). The common way takes no lock and no system call: two additions to
 * a counter that belongs to the connection, one load for each 4 MiB, and the coarse clock.
 *
 *   cover_enter   before the gate: count under the present phase; find all regions open, or have
 *                 them opened (waits for the journal, for a limited time)
 *   ...           gate, keep, mark, write, leave the gate
 *   cover_leave
 *
 * A region that is open is closed in the background: it is marked closed, so that newcomers open it
 * anew; the phase is turned, and when nobody is counted under the phase before, all who have found
 * it open have set their bits; the bit files are synced; the journal says that it is closed. (The
 * phases are those of server/disk/grace.c, with a counter for each client.)
 */
#ifndef STATE_COVER_H
#define STATE_COVER_H

#include "common/state/journal-format.h"
#include "common/state/live-file.h"

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

/* A region's byte. */
enum {
    REGION_OPEN = 1,   /* durable in the journal */
    REGION_USED = 2,   /* a change came since the last look */
    REGION_LOGGED = 4, /* the journal's: its file says, or may say, that the region is open */
    REGION_CLOSING =
        8, /* the journal's: it is going to be closed, unless somebody opens it before */
};

/* Regions that have bytes of their own: those of the first 256 TiB of a disk. What is behind them
 * is one with the last of them. */
#define COVER_REGIONS (UINT64_C(1) << 26)

struct cover {
    /* A byte a region, COVER_REGIONS of them; memory only where one was open. NULL: nothing has to
     * be durable before (--durability process). */
    _Atomic uint8_t *regions;
    atomic_uint phase;
    /* The slow way: open regions [first, last]. 0: they are open. A negative errno: they could not
     * be made durable and the change must not happen (--on-state-error break-guest-write). Any
     * thread; waits a limited time. */
    int (*open)(struct cover *c, uint64_t first, uint64_t last);
    void *opaque; /* of `open` */
};

static inline int64_t cover_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* The region whose byte stands for this place of the disk. */
static inline uint64_t cover_region(uint64_t offset)
{
    uint64_t region = offset >> JOURNAL_REGION_SHIFT;

    return region < COVER_REGIONS ? region : COVER_REGIONS - 1;
}

static inline unsigned cover_count_in(struct cover *c, struct live_line *line)
{
    for (;;) {
        unsigned phase = atomic_load(&c->phase) & 1;

        atomic_fetch_add(&line->inside[phase], 1);
        if ((atomic_load(&c->phase) & 1) == phase)
            return phase;
        atomic_fetch_sub(&line->inside[phase], 1);
    }
}

static inline void cover_leave(struct live_line *line, unsigned phase)
{
    atomic_store_explicit(&line->changed, cover_clock(), memory_order_relaxed);
    atomic_fetch_sub(&line->inside[phase], 1);
}

/* Are all regions of the range open (no wait in cover_enter)? */
static inline bool cover_is_open(struct cover *c, uint64_t offset, uint64_t length)
{
    uint64_t last = cover_region(offset + length - 1);

    if (!c->regions)
        return true;
    for (uint64_t r = cover_region(offset); r <= last; r++) {
        uint8_t byte = atomic_load(&c->regions[r]);

        if (!(byte & REGION_OPEN))
            return false;
        if (!(byte & REGION_USED))
            atomic_fetch_or_explicit(&c->regions[r], REGION_USED, memory_order_relaxed);
    }
    return true;
}

/* length > 0. 0: *phase is for cover_leave. A negative errno: the change must not happen. */
static inline int cover_enter(struct cover *c, struct live_line *line, uint64_t offset,
                              uint64_t length, unsigned *phase)
{
    *phase = cover_count_in(c, line);
    if (__builtin_expect(!cover_is_open(c, offset, length), 0)) {
        int error = c->open(c, cover_region(offset), cover_region(offset + length - 1));

        if (error < 0) {
            cover_leave(line, *phase);
            return error;
        }
    }
    atomic_store_explicit(&line->changed, cover_clock(), memory_order_relaxed);
    return 0;
}

#endif
