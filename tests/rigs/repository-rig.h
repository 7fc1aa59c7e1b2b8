/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A folder for a repository, and members that only its manifest has. Functions fail the test. One
 * thread.
 */
#ifndef TESTS_RIGS_REPOSITORY_RIG_H
#define TESTS_RIGS_REPOSITORY_RIG_H

#include "client/repo/repository.h"

#include <glib.h>
#include <stdbool.h>

#define RIG_DAY INT64_C(86400000000) /* microseconds */

struct rig {
    char *path; /* of the repository */
};

/* The folder is made, empty; it is removed with all that is in it. */
void rig_set_up(struct rig *rig, gconstpointer unused);
void rig_tear_down(struct rig *rig, gconstpointer unused);

repository *rig_open(struct rig *rig, enum repo_access access);
void rig_save(repository *r);
/* A member a day after the one before, the first of 2026-11-01T03:00:00.5Z, of vda and, in every
 * second one, of vdb. Lent. */
struct repo_member *rig_add_member(repository *r);

/* The path of a name in the folder. The caller frees it. */
char *rig_path(const struct rig *rig, const char *name);
/* Make a file of this text there, and its folder. */
void rig_put(const struct rig *rig, const char *name, const char *text);
bool rig_has(const struct rig *rig, const char *name);

#endif
