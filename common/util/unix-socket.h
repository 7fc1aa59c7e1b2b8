/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unix sockets that listen at a path: when they take the place of an old one.
 *
 * A process that dies leaves its socket's file behind. Such a file is replaced only if that is safe
 * beyond doubt: it is a socket, a connection to it is refused, which the kernel does only where
 * nobody listens, and it is still the same file right before it is removed. Any other file, a
 * socket that somebody listens on, and one of which this cannot be told, stay; they are an error
 * that says which of these it is.
 *
 * (What remains: a socket that another process has bound, and not listened on yet, is refused too.)
 */
#ifndef COMMON_UTIL_UNIX_SOCKET_H
#define COMMON_UTIL_UNIX_SOCKET_H

#include <glib.h>
#include <sys/stat.h>

/* Bind `fd`, a Unix stream socket that the caller has made (and has given a mode or a label), to
 * `path`, and listen. *file, unless `file` is NULL, is then the new file, for unix_socket_remove.
 * 0; or -1 and *err, whose message begins with `path`, and nothing has been made. Does not block.
 * Any thread. */
int unix_socket_listen(int fd, const char *path, int backlog, struct stat *file, GError **err);

/* Remove the socket at `path` if it is still the file `file`. 0, also where it is gone or is
 * another by now; or -1 and *err. */
int unix_socket_remove(const char *path, const struct stat *file, GError **err);

#endif
