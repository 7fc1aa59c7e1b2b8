/* SPDX-License-Identifier: BSD-3-Clause */
/* How much was asked of a node. Whoever does the requests counts them, as a whole: one request may
 * be several calls of node.h. */
#ifndef DISK_NODE_STATS_H
#define DISK_NODE_STATS_H

#include "server/disk/io-stats.h"
#include "server/disk/types.h"

/* A request has ended: of `length` bytes at `offset`, with 0 or an error. Called before its client
 * is told, so that whoever has the reply finds it counted. Any thread. */
void node_io_count(struct node_io *io, enum io_kind kind, uint64_t offset, uint64_t length,
                   int error);

/* All that was counted since the node was made, also by those who have gone. Any thread. */
void node_stats(struct node *node, struct io_stats *stats);

/* For disk/ itself: a node's list begins and ends; `io`, which has its slot, comes and goes. */
void node_ios_init(struct node_ios *ios);
void node_ios_destroy(struct node_ios *ios);
void node_ios_add(struct node_io *io);
void node_ios_remove(struct node_io *io);

#endif
