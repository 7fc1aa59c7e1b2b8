/* SPDX-License-Identifier: BSD-3-Clause */
/* --run: a shell command that uses the server. When it ends, the server ends. */
#ifndef START_CAPTIVE_H
#define START_CAPTIVE_H

#include "server/start/sockets.h"

#include <glib.h>

struct captive;

/* Start --run's command with sh -c and, in its environment, what nbdkit gives it: $uri $nbd
 * $unixsocket $port $exportname $tls_certificates $tls_psk, and $tls where there is TLS. Nothing of
 * them is put into the command's text, so nothing needs quotes. When the command has ended, `ended`
 * is called in the main loop with its exit code (128 + N if signal N killed it), and the captive is
 * freed. NULL and *err: it could not be started. Main thread. */
struct captive *captive_start(const struct options *o, const struct sockets *sockets,
                              void (*ended)(void *opaque, int exit_code), void *opaque,
                              GError **err);

/* Send SIGTERM to the shell and free the captive; `ended` is not called. Main thread. */
void captive_end(struct captive *c);

#endif
