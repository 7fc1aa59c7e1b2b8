/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A state folder in memory (common/state/storage.h) that can lose its process or its power.
 *
 * Each file has three contents: what programs see; what the kernel believes that the medium has; and
 * what it has. A sync writes the sectors in which the first two differ. A sync that fails writes
 * some of them, and makes the kernel believe that it has written all: as with Linux, the next sync
 * does not try again. Names are made durable by sync_names.
 *
 * Power loss: each sector of 512 bytes that differs is old, new, or what it was at some write between;
 * so is each size; each change of a name has happened or not. A generator with a seed decides.
 * Process death: what programs see stays.
 *
 * SQLite opens its files by a VFS that leads here (sim-vfs.h), so they count and fail as well.
 */
#ifndef TESTS_RIGS_SIM_STORAGE_H
#define TESTS_RIGS_SIM_STORAGE_H

#include "common/state/storage.h"

enum sim_op {
    SIM_OPEN,
    SIM_READ, /* and size, list, map */
    SIM_WRITE,
    SIM_RESERVE, /* and truncation by SQLite */
    SIM_SYNC,
    SIM_UNLINK,
    SIM_RENAME,
    SIM_SYNC_NAMES,
    SIM_MAKE, /* a file or a folder */
    SIM_OPS,
};

/* Called before each operation, with no lock held; it may wait. A negative errno: the operation
 * fails. A write that fails has been done in part, perhaps. */
typedef int (*sim_hook)(void *opaque, struct storage *s, enum sim_op op, const char *name);

struct storage *sim_storage_new(void);
/* It lives until ops->free was called once more. */
struct storage *sim_storage_ref(struct storage *s);
void sim_storage_set_hook(struct storage *s, sim_hook hook, void *opaque);
/* For what is left to chance while it is used: what a failed sync has written. */
void sim_storage_seed(struct storage *s, uint32_t seed);

/* As it would be found after the process's death now. The original is not changed. It has no
 * hook. Free with ops->free, as any storage. */
struct storage *sim_storage_copy(struct storage *s);
/* Are two copies of one storage the same, whatever is going to happen to them? */
bool sim_storage_same(struct storage *a, struct storage *b);
/* Do programs see the same in them? */
bool sim_storage_looks_same(struct storage *a, struct storage *b);
/* As it would be found after a power loss now. */
struct storage *sim_storage_lose_power(struct storage *s, uint32_t seed);
/* Everything that was done is durable: what power loss would leave is certain. */
void sim_storage_settle(struct storage *s);

const char *sim_op_name(enum sim_op op);

/* For damage on purpose: what programs see of the file changes, and the medium with it. False: there
 * is no such file, or it ends before. */
bool sim_storage_flip(struct storage *s, const char *name, uint64_t offset, uint8_t mask);
/* Sectors that power loss would leave to chance, in all files. */
unsigned sim_storage_unsure(struct storage *s);

/* For the VFS. */
bool sim_storage_exists(struct storage *s, const char *name);
int sim_file_truncate(struct storage_file *f, uint64_t size);

#endif
