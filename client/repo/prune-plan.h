/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What has to be done so that members of a repository can go. A file that stays and whose parent goes
 * takes over what it needs of it: it is written anew, over the next older file that stays, or as a
 * full one. So are the files that stand on one that gets a new name. Pure.
 */
#ifndef CLIENT_REPO_PRUNE_PLAN_H
#define CLIENT_REPO_PRUNE_PLAN_H

#include "client/repo/repository.h"

/* A file that is written anew. */
struct prune_rewrite {
    struct repo_member *member; /* lent, as it is in the repository now */
    struct repo_disk *disk;     /* likewise */
    char *file;                 /* the new one, below the repository */
    enum repo_level level;
    int64_t parent; /* ID; -1: none */
    char *base;     /* the parent's file once all is done; NULL: none */
    char *since;    /* the parent's checkpoint; NULL: none, or not known */
    unsigned depth; /* it takes over what this many files below its old one have */
    uint64_t need;  /* bytes that the new file takes, at most, as far as is known */
};

struct prune_plan {
    GPtrArray *gone;     /* struct repo_member *, lent, by ID */
    GPtrArray *rewrites; /* struct prune_rewrite *, by ID: a base comes before what stands on it */
    uint64_t need;       /* bytes of all new files, at most */
    uint64_t freed;      /* bytes of all old files that go at the end */
};

/* `stays` has a value for each member of r, in their order; those with 0 go. r is lent to the plan.
 * NULL and *err where the members do not fit together. */
struct prune_plan *prune_plan_new(const struct repository *r, const unsigned *stays, GError **err);
void prune_plan_free(struct prune_plan *p); /* NULL is fine */

#endif
