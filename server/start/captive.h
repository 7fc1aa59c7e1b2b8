/* SPDX-License-Identifier: BSD-3-Clause */
/* --run: a shell command that uses the server and whose end is the server's. */
#ifndef START_CAPTIVE_H
#define START_CAPTIVE_H

#include "server/start/sockets.h"

#include <glib.h>

struct captive;

/* Start --run's command with sh -c and, in its environment, what nbdkit gives it: $uri $nbd
 * $unixsocket $port $exportname $tls_certificates $tls_psk, and $tls where there is TLS. Nothing of
 * them is put into the command's text, so nothing needs quotes. When it has ended, `ended` is
 * called in the main loop with its exit code (128 + N where signal N killed it), and it is gone.
 * NULL and *err: it could not be started. Main thread. */
struct captive *captive_start(const struct options *o, const struct sockets *sockets,
                              void (*ended)(void *opaque, int exit_code), void *opaque,
                              GError **err);

/* End the shell by SIGTERM, and no more is heard of it. It is gone. Main thread. */
void captive_end(struct captive *c);

#endif
