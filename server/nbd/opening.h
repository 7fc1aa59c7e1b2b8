/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client's way into an export: it takes a place, then opens the export's node; and the answer to
 * a client that does not get in. Private to nbd/.
 */
#ifndef NBD_OPENING_H
#define NBD_OPENING_H

#include "server/nbd/connection.h"

/* Open the export (connection_open). Returns 0 (the caller then sets the transmission flags);
 * or the NBD_REP_ERR_* to answer with, and *why (g_free). May wait, but not beyond `deadline` (the
 * handshake's, 0: none) nor the export's end. The connection's thread. */
uint32_t opening_try(struct connection *c, struct export *e, struct agreement agreed,
                     int64_t deadline, char **why);

#endif
