/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/offload.h"

#include <glib.h>

void offload_init(struct offload *o)
{
    for (unsigned i = 0; i < N_CLASSES; i++)
        atomic_init(&o->average_ns[i], 2 * OFFLOAD_QUICK_NS);
    o->deep = OFFLOAD_DEEP;
    o->refused = 0;
    o->blocks = false;
}

enum request_class request_class(const struct request *r)
{
    if (r->type == NBD_CMD_FLUSH)
        return CLASS_SYNC;
    if (r->type == NBD_CMD_READ)
        return CLASS_READ;
    if (r->type == NBD_CMD_BLOCK_STATUS)
        return CLASS_STATUS;
    if (r->flags & NBD_CMD_FLAG_FUA)
        return CLASS_SYNC;
    return r->type == NBD_CMD_WRITE ? CLASS_WRITE : CLASS_OTHER;
}

static bool is_quick(const struct offload *o, enum request_class class)
{
    return atomic_load_explicit(&o->average_ns[class], memory_order_relaxed) < OFFLOAD_QUICK_NS;
}

bool offload_ask(struct offload *o)
{
    if (o->refused < OFFLOAD_REFUSALS || (!o->blocks && !is_quick(o, CLASS_READ)))
        return true;
    if (++o->refused < OFFLOAD_REFUSALS + OFFLOAD_SKIP)
        return false;
    o->refused = OFFLOAD_REFUSALS - 1;
    return true;
}

void offload_asked(struct offload *o, bool done, bool blocks)
{
    o->blocks = blocks;
    if (done)
        o->refused = 0;
    else if (o->refused < OFFLOAD_REFUSALS)
        o->refused++;
}

bool offload_stay(struct offload *o, enum request_class class, bool alone, bool *watch)
{
    bool blocks = class == CLASS_READ && o->blocks;

    *watch = false;
    if (!blocks && is_quick(o, class))
        return true;
    if (!alone)
        return false;
    if (o->deep > 0) {
        o->deep--;
        return false;
    }
    *watch = true;
    return true;
}

void offload_watched(struct offload *o, bool further)
{
    if (further)
        o->deep = OFFLOAD_DEEP;
}

void offload_note(struct offload *o, enum request_class class, uint64_t ns, uint64_t length)
{
    uint64_t copying = class <= CLASS_WRITE ? length / OFFLOAD_COPY : 0;
    ns -= MIN(ns, copying);
    unsigned sample = (unsigned)MIN(ns, OFFLOAD_CLIP_NS);
    /* Two threads may overwrite each other's sample: an estimate all the same. */
    unsigned average = atomic_load_explicit(&o->average_ns[class], memory_order_relaxed);
    average = average - average / 8 + sample / 8;
    atomic_store_explicit(&o->average_ns[class], average, memory_order_relaxed);
}
