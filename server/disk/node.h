/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A node is what can be exported: a disk (read-write) or a view (read-only, a disk as it was).
 * A node_io is one client's way to it. The NBD server does all I/O through these calls and never
 * asks which of the two it has.
 *
 * Data operations may be called from any thread, several at once on one node_io. They return 0 or a
 * negative errno. They do not check what the protocol already demands of the caller: ranges must
 * lie inside the size. Ranges need not be multiples of min_block: what the image does not take as
 * it is goes by way of unaligned.h, which costs reads and copies. TRIM leaves alone what is less
 * than a block.
 */
#ifndef DISK_NODE_H
#define DISK_NODE_H

#include "common/base/extents.h"
#include "common/base/patience.h"
#include "server/backend/backend.h"
#include "server/disk/types.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* `flags` are the backend's (BACKEND_FUA ...). */

/* Open `node` for one client (NULL: the server itself). `writable` is a wish: a node that cannot be
 * written opens read-only all the same. `discard`: a view takes TRIM. May call into the plugin and
 * block. The caller keeps the node alive until node_io_close (exports do:
 * server/registry/export.h). */
int node_io_open(struct node *node, bool writable, bool discard,
                 const struct backend_client *client, struct node_io **io, GError **err);
/* The same, but the client's handle is not waited for longer than `patience` and `until`
 * (g_get_monotonic_time, 0: no end) allow. A handle that comes later is closed. A client that can
 * have no handle of its own shares the disk's, without can_multi_conn; unless the plugin looks at
 * who the client is, and so may have refused it. */
int node_io_open_within(struct node *node, bool writable, bool discard,
                        const struct backend_client *client, struct patience *patience,
                        int64_t until, struct node_io **io, GError **err);
void node_io_close(struct node_io *io); /* no operation is under way */
const struct node_info *node_io_info(const struct node_io *io);

int node_read(struct node_io *io, void *buf, uint32_t length, uint64_t offset, uint32_t flags);
/* Read without blocking, if that can be promised: a disk's image file, all of the range in the page
 * cache, and for a view nothing of it kept in scratch. -EAGAIN: it might block. NODE_WOULD_BLOCK: it
 * would, because data has to come from the medium. In both cases nothing was done, and what is in
 * `buf` counts for nothing. */
int node_read_now(struct node_io *io, void *buf, uint32_t length, uint64_t offset);
/* A descriptor from which a large read may be sent instead, without a copy of ours: that of a
 * file that has the range of a disk's image from *host on, where all of it is in the page cache. -1:
 * there is none. The bytes are read when the client takes them. So they may be newer than this call, as the
 * bytes of any read under way may be. There is none for a view, whose readers want older bytes. */
int node_cached_fd(struct node_io *io, uint32_t length, uint64_t offset, uint64_t *host);
int node_write(struct node_io *io, const void *buf, uint32_t length, uint64_t offset,
               uint32_t flags);
int node_zero(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags);
int node_trim(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags);
/* Would a change of the range have to wait for the journal of the disk's store? length > 0. */
bool node_change_waits(struct node_io *io, uint64_t length, uint64_t offset);
int node_flush(struct node_io *io);
int node_cache(struct node_io *io, uint64_t length, uint64_t offset);

/* Append base:allocation extents from `offset`: at least one, together at most `length`; maybe
 * shorter. For a view: the disk's at its instant. */
int node_extents(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags,
                 struct extents *extents);

/* True for a view, and for a disk that is read-only: nobody can write it. */
bool node_is_readonly(struct node *node);

/* The node's size now, bytes (a disk's may have been changed since node_io_open). */
uint64_t node_size(struct node *node);

#endif
