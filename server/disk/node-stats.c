/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections share nothing while they count. The lock of a node's list is taken only when a
 * node_io is opened or closed, and when somebody asks. A node_io that is closed leaves its counts
 * with the node, under that lock, so no sum ever becomes smaller.
 *
 * No count is lost. A connection's own thread loads a counter and stores it again, which is cheap,
 * and right because no other thread writes that counter. Its workers have counters of their own,
 * to which they add atomically. When a node_io is closed, no thread counts for it any more.
 */
#include "server/disk/node-stats.h"

#include "server/disk/disk-private.h"

#define RELAXED memory_order_relaxed

void node_ios_init(struct node_ios *ios)
{
    pthread_mutex_init(&ios->lock, NULL);
}

void node_ios_destroy(struct node_ios *ios)
{
    g_assert(!ios->list);
    pthread_mutex_destroy(&ios->lock);
}

void node_ios_add(struct node_io *io)
{
    struct node_ios *ios = &io->node->ios;

    io->slot->offloaded.shared = true;
    io->link = (GList){.data = io};
    pthread_mutex_lock(&ios->lock);
    ios->list = g_list_concat(&io->link, ios->list);
    pthread_mutex_unlock(&ios->lock);
}

struct io_counters *node_io_counters(struct node_io *io)
{
    return &io->slot->counters;
}

struct io_counters *node_io_shared_counters(struct node_io *io)
{
    return &io->slot->offloaded;
}

static void add(struct io_stats *sum, const struct io_counters *c)
{
    sum->write_end = MAX(sum->write_end, atomic_load_explicit(&c->write_end, RELAXED));
    for (unsigned k = 0; k < IO_KINDS; k++) {
        sum->done[k].operations += atomic_load_explicit(&c->done[k].operations, RELAXED);
        sum->done[k].bytes += atomic_load_explicit(&c->done[k].bytes, RELAXED);
        sum->failed[k] += atomic_load_explicit(&c->failed[k], RELAXED);
    }
}

static void add_both(struct io_stats *sum, const struct node_io *io)
{
    add(sum, &io->slot->counters);
    add(sum, &io->slot->offloaded);
}

void node_ios_remove(struct node_io *io)
{
    struct node_ios *ios = &io->node->ios;

    pthread_mutex_lock(&ios->lock);
    ios->list = g_list_remove_link(ios->list, &io->link);
    add_both(&ios->gone, io);
    pthread_mutex_unlock(&ios->lock);
}

void node_stats(struct node *node, struct io_stats *stats)
{
    struct node_ios *ios = &node->ios;

    pthread_mutex_lock(&ios->lock);
    *stats = ios->gone;
    for (const GList *l = ios->list; l; l = l->next)
        add_both(stats, l->data);
    pthread_mutex_unlock(&ios->lock);
}

static void raise_to(_Atomic uint64_t *most, uint64_t value)
{
    uint64_t old = atomic_load_explicit(most, RELAXED);

    while (value > old &&
           !atomic_compare_exchange_weak_explicit(most, &old, value, RELAXED, RELAXED))
        ;
}

void io_count_rare(struct io_counters *c, enum io_kind kind, uint64_t offset, uint64_t length,
                   int error)
{
    if (error != 0) {
        atomic_fetch_add_explicit(&c->failed[kind], 1, RELAXED);
        return;
    }
    atomic_fetch_add_explicit(&c->done[kind].operations, 1, RELAXED);
    atomic_fetch_add_explicit(&c->done[kind].bytes, length, RELAXED);
    if (length > 0 && (kind == IO_WRITE || kind == IO_ZERO))
        raise_to(&c->write_end, offset + length);
}
