/* SPDX-License-Identifier: BSD-3-Clause */
/* NBD URIs that a server on another host tells, as that host sees them. Pure. The caller frees what is
 * returned. */
#ifndef CLIENT_REPO_REMOTE_URI_H
#define CLIENT_REPO_REMOTE_URI_H

#include <glib.h>

/* What has to be forwarded from that host, for the URI to be reached: the path of a socket, or
 * "localhost:10809" where it is plain text and its host means that host alone. NULL: nothing. */
char *remote_uri_target(const char *uri);
/* The same export of a server that is reached by the Unix socket at `path`. */
char *remote_uri_by_socket(const char *uri, const char *path);
/* A TLS URI whose host means that host alone gets `host` in its place; others stay. */
char *remote_uri_by_host(const char *uri, const char *host);
/* A TLS URI gets the folder of certificates, if it has none; others stay. */
char *remote_uri_with_certificates(const char *uri, const char *folder);

#endif
