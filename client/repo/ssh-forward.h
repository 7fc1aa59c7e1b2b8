/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A socket here that leads to one on another host, through ssh, which ends with this process, however
 * that ends. Only this user can use it. One thread.
 */
#ifndef CLIENT_REPO_SSH_FORWARD_H
#define CLIENT_REPO_SSH_FORWARD_H

#include <glib.h>

struct ssh_forward;

/* Forward `target`, the path of a socket on `host`, or "HOST:PORT" as seen from there. Waits until ssh
 * has logged in; it may ask for a password. NULL and *err: CLIENT_ERROR_UNREACHABLE, or
 * CLIENT_ERROR_INTERRUPTED where a signal has come (client/base/interrupt.h). */
struct ssh_forward *ssh_forward_new(const char *host, const char *target, GError **err);
/* The path of the socket here. */
const char *ssh_forward_socket(const struct ssh_forward *f);
void ssh_forward_free(struct ssh_forward *f); /* NULL is fine */

/* The name of the host that ssh connects to for `host`, by its configuration. The caller frees it.
 * NULL and *err. */
char *ssh_host_name(const char *host, GError **err);

#endif
