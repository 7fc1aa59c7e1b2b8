/* SPDX-License-Identifier: BSD-3-Clause */
/* The lock of a repository: REPO/lock, by flock(2), which also works between machines over NFS. */
#ifndef CLIENT_REPO_REPO_LOCK_H
#define CLIENT_REPO_REPO_LOCK_H

#include <glib.h>
#include <stdbool.h>

/*
 * Lock the repository at `path`: shared, or, with `exclusive`, alone. *fd has the lock as long as it
 * is open. Where a shared lock cannot be had because its file is not there and cannot be made (a
 * file system that is read-only), none is taken, and *fd is -1. 0, or -1 and *err: somebody else has
 * a lock in the way. The message has the pid of one that has it alone.
 */
int repo_lock(const char *path, bool exclusive, int *fd, GError **err);
/* Let it go. -1 is fine. */
void repo_unlock(int fd);

#endif
