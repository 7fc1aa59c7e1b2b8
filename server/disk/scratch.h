/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Scratch storage: where views keep old blocks.
 *
 * A pool is the server's budget: a folder, a limit over all disks, the rule about the last 5 % of
 * the file system. A scratch is one disk's unlinked file in it, cut into slots of one copy unit.
 * Slots are handed out in file order, so that keeping is sequential writing; space is reserved
 * ahead of use with fallocate, in pieces that grow, so that "full" is known before a guest's write
 * hangs on it. All functions may be called from any thread.
 */
#ifndef DISK_SCRATCH_H
#define DISK_SCRATCH_H

#include "server/disk/scratch-pool.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct scratch;

/* Can a scratch be made in the folder, by the user that we are? -1 and *err: no. */
int scratch_pool_check(struct scratch_pool *p, GError **err);

/* A scratch with slots of `unit` bytes (a power of 2, 4096 or more). Reserves a first piece, so
 * that a full file system is found out now. */
struct scratch *scratch_new(struct scratch_pool *p, uint32_t unit, GError **err);
void scratch_free(struct scratch *s);

/* Take up to `want` consecutive slots; *first is the first one. Returns how many (at least 1), or
 * a negative errno (-ENOSPC: limit, the file system's last 5 %, or full) with a reason to show in
 * `reason`. */
int scratch_take(struct scratch *s, unsigned want, uint32_t *first, char reason[120]);

/* Data of `n` consecutive slots. 0 or a negative errno. */
int scratch_write(struct scratch *s, uint32_t slot, const void *buf, unsigned n);
int scratch_read(struct scratch *s, uint32_t slot, void *buf, uint32_t skip, uint32_t length);

/* Give slots back; nobody reads them any more. Their space returns to the file system. */
void scratch_give(struct scratch *s, uint32_t slot, unsigned n);
/* The same at the end, when their space goes with the file. */
void scratch_forget(struct scratch *s, uint32_t slot, unsigned n);

#endif
