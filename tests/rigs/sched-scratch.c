/* SPDX-License-Identifier: BSD-3-Clause */
/* Scratch in memory, for sched.h: quick, and it tells who uses a slot that is not his. */
#include "server/disk/scratch.h"
#include "tests/rigs/sched.h"

#include <errno.h>
#include <string.h>

#define SLOTS 16u

struct scratch {
    uint32_t unit;
    bool taken[SLOTS];
    char *data;
};

struct scratch *scratch_new(struct scratch_pool *p, uint32_t unit, GError **err)
{
    struct scratch *s = g_new0(struct scratch, 1);

    s->unit = unit;
    s->data = g_malloc((gsize)SLOTS * unit);
    return s;
}

/* None survives. */
struct scratch *scratch_new_lasting(struct scratch_pool *p, uint32_t unit,
                                    const struct disk_state *state, GError **err)
{
    return scratch_new(p, unit, err);
}

const char *scratch_id(const struct scratch *s)
{
    return NULL;
}

void scratch_keep(struct scratch *s)
{
}

void scratch_leave_store(struct scratch *s)
{
}

void scratch_free(struct scratch *s)
{
    for (unsigned i = 0; s && i < SLOTS; i++)
        if (s->taken[i])
            sched_fail("slot %u was never given back", i);
    if (s)
        g_free(s->data);
    g_free(s);
}

/* The lowest first, so that what is given back is soon taken again. */
int scratch_take(struct scratch *s, unsigned want, uint32_t *first, char reason[120])
{
    for (uint32_t i = 0; i < SLOTS; i++)
        if (!s->taken[i]) {
            s->taken[i] = true;
            *first = i;
            return 1;
        }
    g_strlcpy(reason, "full", 120);
    return -ENOSPC;
}

static char *slot_data(struct scratch *s, uint32_t slot, const char *what)
{
    if (slot >= SLOTS || !s->taken[slot])
        sched_fail("slot %u is %s and belongs to nobody", slot, what);
    return s->data + (size_t)slot * s->unit;
}

int scratch_write(struct scratch *s, uint32_t slot, const void *buf, unsigned n)
{
    sched_step("scratch_write", 0);
    memcpy(slot_data(s, slot, "written"), buf, (size_t)n * s->unit);
    return 0;
}

int scratch_read(struct scratch *s, uint32_t slot, void *buf, uint32_t skip, uint32_t length)
{
    sched_step("scratch_read", 0);
    for (uint32_t n; length > 0; length -= n, skip = 0, slot++) {
        n = MIN(length, s->unit - skip);
        memcpy(buf, slot_data(s, slot, "read") + skip, n);
        buf = (char *)buf + n;
    }
    return 0;
}

void scratch_give(struct scratch *s, uint32_t slot, unsigned n)
{
    for (; n > 0; n--, slot++) {
        memset(slot_data(s, slot, "given"), 0xee, s->unit);
        s->taken[slot] = false;
    }
}

void scratch_forget(struct scratch *s, uint32_t slot, unsigned n)
{
    scratch_give(s, slot, n);
}
