/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NBD_HANDSHAKE_H
#define NBD_HANDSHAKE_H

#include "server/nbd/connection.h"

/* Agree with the client on an export, and open it. False: the connection is over. The connection's
 * thread. */
bool handshake(struct connection *c);

#endif
