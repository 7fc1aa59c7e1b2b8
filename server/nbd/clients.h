/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many clients a port (a listening socket) has room for. Private to nbd/.
 *
 * With --max-connections N each export has N places on each port, and the handshake has N of its
 * own. So those who say nothing keep nobody out, and a hundred clients on one export none from
 * another. The server as a whole is bounded by what its administrator exports.
 *
 *  - While no export has a place left, nobody is accepted: who comes waits in the kernel's queue,
 *    as in QEMU, whose only export is our only export.
 *  - While the handshake's places are taken and somebody waits, the oldest client that is in it for
 *    YOUNG_USEC is dropped for him.
 *  - Who asks for an export that has no place left waits a moment for one (somebody may just be
 *    hanging up), and is then told; he may ask for another, or again.
 *
 * A client's place is that of an export from just before it is opened for it until it is closed;
 * before and after that it counts as one in the handshake.
 */
#ifndef NBD_CLIENTS_H
#define NBD_CLIENTS_H

#include "server/nbd/connection.h"

/* Is there room on the port for somebody new? Then its n_clients is raised; else paused_until is
 * when to ask again. The accepting thread. */
bool clients_admit(struct port *p);
/* The newcomer was none. */
void clients_unadmit(struct port *p);

/* Take a place among the export's clients. May wait; false: there is none. The connection's
 * thread. `deadline`: the handshake's, 0: none. Without a port there is always one. */
bool clients_take_place(struct connection *c, const struct export *e, int64_t deadline);
/* Give it back; also where none was taken. The connection's thread. */
void clients_leave_place(struct connection *c);

#endif
