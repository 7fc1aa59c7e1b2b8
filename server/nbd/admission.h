/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many clients a port (a listening socket) has room for. Private to nbd/.
 *
 * With --max-connections N each export has N places on each port, and the handshake has N of its
 * own. So clients that say nothing keep nobody out, and a hundred clients on one export keep nobody
 * from another. The server as a whole is bounded by what its administrator exports.
 *
 *  - While no export has a place left, nobody is accepted: a newcomer waits in the kernel's queue,
 *    as it does in QEMU when its one limit is reached.
 *  - While the handshake's places are taken and a newcomer waits, the oldest client that has been
 *    in the handshake for YOUNG_USEC is dropped for it.
 *  - A client that asks for an export without a free place waits a moment for one (somebody may
 *    just be hanging up), and is then refused. It may ask for another export, or again.
 *
 * A client has an export's place from just before the export is opened for it until it is closed;
 * before and after that it counts as one in the handshake.
 */
#ifndef NBD_ADMISSION_H
#define NBD_ADMISSION_H

#include "server/nbd/clients.h"

/* Is there room on the port for somebody new? Then its n_clients is raised; else paused_until is
 * when to ask again. The accepting thread. */
bool admission_admit(struct port *p);
/* Nobody came after all, or could not be served: take that back. */
void admission_unadmit(struct port *p);

/* Take a place among the export's clients. May wait; false: there is none. The client's thread.
 * `deadline`: the handshake's, 0: none. Without a port there is always one. */
bool admission_take_place(struct nbd_client *c, const struct export *e, int64_t deadline);
/* Give it back, if one was taken. The client's thread. */
void admission_leave_place(struct nbd_client *c);

#endif
