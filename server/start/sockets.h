/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The listening sockets of the command line: -U, -p, -i, --vsock, or those that the process was
 * started with.
 */
#ifndef START_SOCKETS_H
#define START_SOCKETS_H

#include "server/start/options.h"

#include <glib.h>
#include <sys/types.h>

struct sockets {
    GArray *fds; /* int; empty with -s */
    /* Of the first socket, what --run and --print-uri tell: never NULL once open, "" where there is
     * none. A URI that takes TLS says where this machine has the credentials for it. */
    char *uri, *unix_path, *port;
    const char *tls;   /* nbdkit's $tls: "1", "2" for on, require; NULL: off */
    char *private_dir; /* of `-U -`, removed at the end; else NULL */
};

/* Were listening sockets passed to this process (LISTEN_FDS, LISTEN_PID; systemd's protocol)? How
 * many: descriptors 3, 4, ...; 0: none; -1 and *err: the variables make no sense. Takes the
 * variables out of the environment, so that children do not believe in them. */
int sockets_activation(GError **err);

/* Open them all; `activated` as sockets_activation said. On failure too, sockets_close(). */
int sockets_open(struct sockets *s, const struct options *o, int activated, GError **err);

/* The NBD URI by which a client on this machine reaches a listening socket; g_free. NULL: it has
 * none. It begins with nbds if clients have to use TLS. */
char *sockets_uri(int fd, bool tls_required, const char *export_name);

/* Give what is private to the user that the server is about to become. */
int sockets_give(const struct sockets *s, uid_t uid, GError **err);

/* Forget the descriptors: somebody else has taken them over. */
void sockets_release(struct sockets *s);

/* Close what was not released, remove the private folder. */
void sockets_close(struct sockets *s);

#endif
