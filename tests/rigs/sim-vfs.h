/* SPDX-License-Identifier: BSD-3-Clause */
/* SQLite's way to a simulated storage. */
#ifndef TESTS_RIGS_SIM_VFS_H
#define TESTS_RIGS_SIM_VFS_H

struct storage;
struct sim_vfs;

/* Register a VFS with a name of its own; s->path leads the names of its files. */
struct sim_vfs *sim_vfs_new(struct storage *s);
const char *sim_vfs_name(const struct sim_vfs *v);
void sim_vfs_free(struct sim_vfs *v);

#endif
