/* SPDX-License-Identifier: BSD-3-Clause */
/* How much was asked of a node. Those who carry requests out count them here. They count a request
 * as a whole, since it may take several calls of node.h. */
#ifndef DISK_NODE_STATS_H
#define DISK_NODE_STATS_H

#include "server/disk/io-stats.h"
#include "server/disk/types.h"

/* Where requests that come by `io` are counted, for as long as it is open: by one thread, always
 * the same, which pays least. */
struct io_counters *node_io_counters(struct node_io *io);
/* The same for any other threads, several at once. */
struct io_counters *node_io_shared_counters(struct node_io *io);

/* The rare ways of io_count. */
void io_count_rare(struct io_counters *c, enum io_kind kind, uint64_t offset, uint64_t length,
                   int error);

/* A thread adds to what only it writes. */
static inline void io_add(_Atomic uint64_t *count, uint64_t n)
{
    uint64_t old = atomic_load_explicit(count, memory_order_relaxed);

    atomic_store_explicit(count, old + n, memory_order_relaxed);
}

/* A request has ended: of `length` bytes at `offset`, with 0 or an error. Called before its client
 * is told, so that a client that has the reply finds the request counted. */
static inline void io_count(struct io_counters *c, enum io_kind kind, uint64_t offset,
                            uint64_t length, int error)
{
    bool changes = kind == IO_WRITE || kind == IO_ZERO;

    if (__builtin_expect(error != 0 || c->shared, 0)) {
        io_count_rare(c, kind, offset, length, error);
        return;
    }
    io_add(&c->done[kind].operations, 1);
    io_add(&c->done[kind].bytes, length);
    if (changes && offset + length > atomic_load_explicit(&c->write_end, memory_order_relaxed) &&
        length > 0)
        atomic_store_explicit(&c->write_end, offset + length, memory_order_relaxed);
}

/* All that was counted since the node was made, also by connections that have gone. Any thread. */
void node_stats(struct node *node, struct io_stats *stats);

/* For disk/ itself: a node's list begins and ends; `io`, which has its slot, comes and goes. */
void node_ios_init(struct node_ios *ios);
void node_ios_destroy(struct node_ios *ios);
void node_ios_add(struct node_io *io);
void node_ios_remove(struct node_io *io);

#endif
