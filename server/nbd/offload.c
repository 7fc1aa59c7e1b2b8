/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/offload.h"

#include <glib.h>
#include <string.h>

void handover_init(struct handover *h)
{
    for (unsigned i = 0; i < N_CLASSES; i++)
        atomic_init(&h->average_ns[i], 2 * HANDOVER_QUICK_NS);
    h->deep = HANDOVER_DEEP;
    memset(h->refused, 0, sizeof h->refused);
    memset(h->blocks, 0, sizeof h->blocks);
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

static bool is_quick(const struct handover *h, enum request_class class)
{
    return atomic_load_explicit(&h->average_ns[class], memory_order_relaxed) < HANDOVER_QUICK_NS;
}

bool handover_ask(struct handover *h, enum request_class class)
{
    if (h->refused[class] < HANDOVER_REFUSALS || (!h->blocks[class] && !is_quick(h, class)))
        return true;
    if (++h->refused[class] < HANDOVER_REFUSALS + HANDOVER_SKIP)
        return false;
    h->refused[class] = HANDOVER_REFUSALS - 1;
    return true;
}

void handover_asked(struct handover *h, enum request_class class, bool done, bool blocks)
{
    h->blocks[class] = blocks;
    if (done)
        h->refused[class] = 0;
    else if (h->refused[class] < HANDOVER_REFUSALS)
        h->refused[class]++;
}

bool handover_stay(struct handover *h, enum request_class class, bool alone, bool *watch)
{
    *watch = false;
    if (!h->blocks[class] && is_quick(h, class))
        return true;
    if (!alone)
        return false;
    if (h->deep > 0) {
        h->deep--;
        return false;
    }
    *watch = true;
    return true;
}

void handover_watched(struct handover *h, bool further)
{
    if (further)
        h->deep = HANDOVER_DEEP;
}

void handover_note(struct handover *h, enum request_class class, uint64_t ns, uint64_t length)
{
    uint64_t copying = class <= CLASS_WRITE ? length / HANDOVER_COPY : 0;
    ns -= MIN(ns, copying);
    unsigned sample = (unsigned)MIN(ns, HANDOVER_CLIP_NS);
    /* Two threads may overwrite each other's sample: an estimate all the same. */
    unsigned average = atomic_load_explicit(&h->average_ns[class], memory_order_relaxed);
    average = average - average / 8 + sample / 8;
    atomic_store_explicit(&h->average_ns[class], average, memory_order_relaxed);
}
