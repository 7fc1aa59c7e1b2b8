/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The process as a daemon: the background, the user, the PID file.
 */
#ifndef START_DAEMON_H
#define START_DAEMON_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* Go to the background: returns 0 in the child, which goes on as the server, in a session of its
 * own, in the folder /, with standard error as it was. The parent never returns: it exits with 0
 * once the child calls daemon_ready(), or with the child's exit code if that ends first.
 * *ready_fd: for daemon_ready(). -1 and *err where there is no child. */
int daemon_fork(int *ready_fd, GError **err);
/* Tell the parent. Standard input, output and, unless `keep_stderr`, error become /dev/null. */
void daemon_ready(int ready_fd, bool keep_stderr);

/* The uid of a user, given by name or number. */
int daemon_find_user(const char *user, uid_t *uid, GError **err);

/* Become another user or group for good. Both are names or numbers; NULL: no change. Without
 * `group`, all groups of `user` are taken. */
int daemon_change_user(const char *user, const char *group, GError **err);

/* Could the user that we are now write our process id there? To be asked before anybody relies on
 * the server. -1 and *err: no. */
int daemon_check_pid_file(const char *path, GError **err);
/* Write our process id; blocks on a FIFO until somebody reads. */
int daemon_write_pid(const char *path, GError **err);

/* --swap: keep our memory out of the swap that we serve, and us alive. 0, or -1 and *err. */
int daemon_stay_in_memory(GError **err);

/* --exit-with-parent: get SIGTERM when the parent ends, and now if it has ended already.
 * `parent` is getppid() at the start of the program. To be called after daemon_change_user,
 * which resets it. */
int daemon_exit_with_parent(int parent, GError **err);

#endif
