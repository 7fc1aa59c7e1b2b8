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
    /* What --run and --print-uri tell of the first socket. Not NULL once open; "": there is none.
     * If clients must use TLS, the URI says where this machine has the credentials. */
    char *uri, *unix_path, *port;
    const char *tls;   /* nbdkit's $tls: "1", "2" for on, require; NULL: off */
    char *private_dir; /* of `-U -`, removed at the end; else NULL */
};

/* How many listening sockets were passed to this process (LISTEN_FDS, LISTEN_PID; the protocol of
 * sd_listen_fds(3))? They are descriptors 3, 4, ... -1 and *err: the variables make no sense. Takes
 * the variables out of the environment, because they are not for child processes. */
int sockets_activation(GError **err);

/* Open them all; `activated` as sockets_activation said. On failure too, sockets_close(). */
int sockets_open(struct sockets *s, const struct options *o, int activated, GError **err);

/* The NBD URI by which a client on this machine reaches a listening socket; g_free. NULL: it has
 * none. It begins with nbds if clients have to use TLS. */
char *sockets_uri(int fd, bool tls_required, const char *export_name);

/* Give the private folder and its socket to the user that the server is about to become. */
int sockets_give(const struct sockets *s, uid_t uid, GError **err);

/* Forget the descriptors: nbd_listen has taken them over. */
void sockets_release(struct sockets *s);

/* Close the descriptors that were not released, and remove the private folder. */
void sockets_close(struct sockets *s);

#endif
