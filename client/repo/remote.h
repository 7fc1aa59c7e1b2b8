/* SPDX-License-Identifier: BSD-3-Clause */
/* A server on another host, which ssh leads to, and the certificates by which its TLS is spoken. One
 * thread. */
#ifndef CLIENT_REPO_REMOTE_H
#define CLIENT_REPO_REMOTE_H

#include <glib.h>

struct remote;

/* host: as ssh takes it; NULL: this host. certificates: a folder; NULL: none. */
struct remote *remote_new(const char *host, const char *certificates);
void remote_free(struct remote *r); /* NULL is fine */

/* The path here of a socket of the other host, which is forwarded at the first call. Lent. NULL and
 * *err. */
const char *remote_socket(struct remote *r, const char *target, GError **err);
/* How an NBD URI that the server has told is reached from here. It has the type of backup_options.reach:
 * `opaque` is the remote. NULL and *err. */
char *remote_reach(void *opaque, const char *uri, GError **err);

#endif
