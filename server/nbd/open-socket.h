/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NBD_OPEN_SOCKET_H
#define NBD_OPEN_SOCKET_H

#include <glib.h>

/* Open listening sockets. Appends descriptors to `fds` (GArray of int). host NULL: all addresses;
 * port: see common/util/port.h; family AF_UNSPEC, AF_INET (-4) or AF_INET6 (-6). Returns 0, or -1
 * with an error that names the address. */
int nbd_open_tcp(const char *host, const char *port, int family, GArray *fds, GError **err);
/* The same for a Unix socket. The file must not exist, but a stale socket that nobody listens on is
 * replaced. selinux_label may be NULL. */
int nbd_open_unix(const char *path, const char *selinux_label, GArray *fds, GError **err);

#endif
