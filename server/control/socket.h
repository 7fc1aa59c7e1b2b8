/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket's file: how it is made, and which peers may use it.
 */
#ifndef CONTROL_SOCKET_H
#define CONTROL_SOCKET_H

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>

/* Listen at `path` with mode 0600. A stale socket is replaced (common/util/unix-socket.h); a folder
 * that others may write, unless it is sticky and ours, is an error. Returns a non-blocking
 * descriptor, or -1 and *err; *file is the new file, for unix_socket_remove. */
int control_socket_open(const char *path, struct stat *file, GError **err);
/* May this peer drive the server? Root and our own user may; false and *err if not. */
bool control_socket_may(int fd, GError **err);

#endif
