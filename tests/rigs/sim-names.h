/* SPDX-License-Identifier: BSD-3-Clause */
/* The names of files of the simulated storage. */
#ifndef TESTS_RIGS_SIM_NAMES_H
#define TESTS_RIGS_SIM_NAMES_H

#include "tests/rigs/sim-inode.h"

struct sim_entry {
    char *name;
    struct sim_inode *inode; /* NULL: a folder */
};

/* A change of a name that sync_names has not made durable yet: `name` becomes `inode`, and `from`, if
 * there is one, ends; or `name` ends. */
struct sim_change {
    char *name, *from;
    struct sim_inode *inode;
    bool end;
};

GPtrArray *sim_entries_new(void); /* of struct sim_entry, in order of creation */
struct sim_entry *sim_entry_find(GPtrArray *entries, const char *name);
void sim_entry_put(GPtrArray *entries, const char *name, struct sim_inode *inode);

void sim_change_free(void *change);
void sim_change_apply(GPtrArray *entries, const struct sim_change *c);

/* Is it a name in this folder ("": the storage's)? */
bool sim_in_folder(const char *name, const char *folder);
bool sim_has_its_folder(GPtrArray *names, const char *name);

#endif
