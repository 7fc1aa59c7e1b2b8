/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/pace.h"

#include <glib.h>

void pace_init(struct pace *p)
{
    for (unsigned i = 0; i < PACE_CLASSES; i++)
        atomic_init(&p->average_ns[i], PACE_CLIP_NS);
    p->deep = PACE_DEEP;
}

enum pace_class pace_class(const struct request *r)
{
    if (r->type == NBD_CMD_FLUSH)
        return PACE_SYNC;
    if (r->type == NBD_CMD_READ)
        return PACE_READ;
    if (r->type == NBD_CMD_BLOCK_STATUS)
        return PACE_STATUS;
    if (r->flags & NBD_CMD_FLAG_FUA)
        return PACE_SYNC;
    return r->type == NBD_CMD_WRITE ? PACE_WRITE : PACE_OTHER;
}

bool pace_here(struct pace *p, enum pace_class class, bool alone, bool *watch)
{
    *watch = false;
    if (atomic_load_explicit(&p->average_ns[class], memory_order_relaxed) < PACE_QUICK_NS)
        return true;
    if (!alone)
        return false;
    if (p->deep > 0) {
        p->deep--;
        return false;
    }
    *watch = true;
    return true;
}

void pace_watched(struct pace *p, bool further)
{
    if (further)
        p->deep = PACE_DEEP;
}

void pace_note(struct pace *p, enum pace_class class, uint64_t ns, uint64_t length)
{
    /* What counts is waiting, not the copying of many bytes. */
    if (class <= PACE_WRITE && length > 65536)
        ns = ns * 65536 / length;
    unsigned sample = (unsigned)MIN(ns, PACE_CLIP_NS);
    /* Two threads may overwrite each other's sample: an estimate all the same. */
    unsigned average = atomic_load_explicit(&p->average_ns[class], memory_order_relaxed);
    average = average - average / 8 + sample / 8;
    atomic_store_explicit(&p->average_ns[class], average, memory_order_relaxed);
}
