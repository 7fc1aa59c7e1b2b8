/* SPDX-License-Identifier: BSD-3-Clause */
/* Keeping what is written by force away from the files of repositories. One thread. */
#ifndef CLIENT_REPO_REPO_GUARD_H
#define CLIENT_REPO_REPO_GUARD_H

#include "client/repo/repository.h"

/* May the file that `target` names, if there is one, be replaced or written to? Not, if it lies in a
 * repository, in its folder or in one right below, or if it is a file of a member of `r` (may be NULL)
 * under any name. What is no file, a URI, or not there, may. 0, or -1 and *err. */
int repo_guard_target(const struct repository *r, const char *target, GError **err);

#endif
