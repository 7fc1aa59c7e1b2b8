/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a connection's requests run against; fixed from the end of the handshake on, and read by the
 * connection's thread and its workers alike.
 */
#ifndef NBD_NEGOTIATED_H
#define NBD_NEGOTIATED_H

#include "server/nbd/meta.h"
#include "server/nbd/request.h"

struct negotiated {
    struct node_io *io;
    bool send_file; /* large reads may go from the page cache to the client's socket */
    struct request_rules rules;
    struct meta_contexts contexts;
};

/* How client and server talk, as the handshake has agreed. */
struct agreement {
    bool structured; /* replies in chunks */
    bool extended;   /* extended headers; then structured too */
};

/* The transmission flags for a client of this node. `contexts`: it has selected some. */
uint16_t negotiated_flags(const struct node_info *info, struct agreement agreed, bool contexts,
                          bool multi_conn);

/* The three sizes of NBD_INFO_BLOCK_SIZE, made to keep the protocol's rules whatever the plugin
 * says. */
struct block_sizes {
    uint32_t min, pref, max;
};
struct block_sizes negotiated_block_sizes(const struct node_info *info);

/* Do they allow all that a client may do that has not been told any? */
bool block_sizes_are_default(struct block_sizes b);

#endif
