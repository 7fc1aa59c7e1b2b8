/* SPDX-License-Identifier: BSD-3-Clause */
/* Taking members out of a repository. One thread. */
#ifndef CLIENT_REPO_PRUNE_H
#define CLIENT_REPO_PRUNE_H

#include "client/base/progress.h"
#include "client/repo/prune-plan.h"
#include "client/repo/prune-policy.h"

/*
 * The rules that keep each member of r, in their order, as in prune_policy_apply; 0: it goes. Rules
 * apply to each disk by itself, and a member stays where they keep it for one of its disks; so a
 * disk that is backed up no more, or less often, keeps its backups, too. The caller g_frees it.
 */
unsigned *prune_choose(const struct repository *r, const struct prune_policy *policy,
                       GTimeZone *zone);

/* Carry out a plan of this repository, which is open for writing; the plan is of no use afterwards.
 * What earlier runs that were cut have left is removed in any case. 0, or -1 and *err: nothing has changed; or CLIENT_ERROR_PARTLY: the members are gone, but not all
 * of their files. After an error the repository has to be closed. `p` may be NULL. */
int prune_run(struct repository *r, const struct prune_plan *plan, struct progress *p,
              GError **err);

#endif
