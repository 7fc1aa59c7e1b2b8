/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client's way into an export: a place, then the export's node; and what it hears where it does
 * not get in. Private to nbd/.
 */
#ifndef NBD_OPENING_H
#define NBD_OPENING_H

#include "server/nbd/connection.h"

/* 0: it is open (connection_open), but for its transmission flags. Else the NBD_REP_ERR_* to answer
 * with, and *why (g_free). May wait, but not beyond `deadline` (the handshake's, 0: none) nor the
 * export's end. The connection's thread. */
uint32_t opening_try(struct connection *c, struct export *e, struct agreement agreed,
                     int64_t deadline, char **why);

#endif
