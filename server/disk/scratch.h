/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Scratch storage: where views keep old blocks.
 *
 * A pool is the server's budget: a folder, a limit over all disks, the rule about the last 5 % of
 * the file system. A scratch is one disk's file in it, cut into slots of one copy unit.
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

struct disk_state;
struct scratch;

#define SCRATCH_MAX_SLOTS 0xfffffff0u /* BLOCK_KEPT_SLOT more must fit into 32 bits */

struct scratch_run {
    uint32_t slot, n;
};

/* Can a scratch be made in the folder, by the user that we are? -1 and *err: no. */
int scratch_pool_check(struct scratch_pool *p, GError **err);

/* A scratch with slots of `unit` bytes (a power of 2, 4096 or more). Reserves a first piece, so
 * that a full file system is found out now. */
struct scratch *scratch_new(struct scratch_pool *p, uint32_t unit, GError **err);
/* Closes its file, which may take long: what a large one has on disk is freed. */
void scratch_free(struct scratch *s);
/* Before that, of one whose files survive the process: remove them, unless they are kept. From then on
 * nothing of the disk or its store is used. */
void scratch_leave_store(struct scratch *s);

/* The same, of a file with a name, whose slots survive the process together with the views that have them
 * (lasting.h). Where there is no memory for that, one that does not survive. */
struct scratch *scratch_new_lasting(struct scratch_pool *p, uint32_t unit,
                                    const struct disk_state *state, GError **err);
/* That of an earlier process. `used`: GArray of struct scratch_run, the slots that its views have, in
 * order. NULL and *err: it does not have them. */
struct scratch *scratch_resume(struct scratch_pool *p, uint32_t unit,
                               const struct disk_state *state, const char *id, const GArray *used,
                               GError **err);
/* Its name; NULL: it ends with the process. */
const char *scratch_id(const struct scratch *s);
/* It is left for the next process when it is freed. */
void scratch_keep(struct scratch *s);

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
