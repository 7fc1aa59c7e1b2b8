/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The files that scratch is in. One that ends with the process is unlinked from the start. One that
 * survives it has a name, with the UUID of the state folder and the id of its file in the memory folder,
 * which says where it is. Its owner has it locked (flock(2)). All of these functions wait for the file
 * system.
 */
#ifndef DISK_SCRATCH_FILE_H
#define DISK_SCRATCH_FILE_H

#include "server/disk/lasting.h"
#include "server/disk/scratch-pool.h"

/* A descriptor, the caller's; -1 and *err. */
int scratch_file_unlinked(const char *dir, GError **err);
/* The same; `file` is told where it is. */
int scratch_file_named(const char *dir, const char *folder, struct lasting *file, GError **err);
/* The one that `file` says. An owner that is dying may have it locked a while longer: waits for that, 10 s
 * for all files of a pool together. -1 and *err: it is not there, another one has its name, or somebody
 * has it locked. Control thread. */
int scratch_file_open(struct scratch_pool *p, const struct lasting *file, GError **err);
/* Remove the name of one that we have open and locked, if it is still its name. A failure is logged. */
void scratch_file_remove(const struct lasting *file, int fd);
/* The same for one that nobody has open any more. False: it is there, but cannot be removed now. */
bool scratch_file_remove_left(const struct lasting_scratch *head);

/* Remove those of a state folder that nobody has locked, and that are none of `ids` (char *): files of
 * servers that have died. Failures are logged. */
void scratch_files_sweep(const char *dir, const char *folder, const GPtrArray *ids);

#endif
