/* SPDX-License-Identifier: BSD-3-Clause */
/* SIGINT, SIGTERM and SIGHUP as a descriptor that becomes readable, for commands that end in
 * order. */
#ifndef CLIENT_BASE_INTERRUPT_H
#define CLIENT_BASE_INTERRUPT_H

#include <glib.h>

/* From now on these signals do not end the process, but make the descriptor readable, which is made
 * at the first call and stays open. Those that are ignored (nohup, `&` of a script) stay so. SIGPIPE
 * is ignored, too: who writes to a pipe that nobody reads gets EPIPE. Call it before any thread is
 * made: they inherit it. -1 and *err. */
int interrupt_fd(GError **err);

/* The descriptor; -1: interrupt_fd has not been called, and the signals are as ever. */
int interrupt_descriptor(void);

/* Take one signal that has come: its number; 0: none. A second one ends the process at once, after
 * this, or interrupt_see, has taken one. */
int interrupt_take(void);

/* The number of the first signal that has come, also of one that has been taken; 0: none. One that has
 * not been taken makes the descriptor readable no more, but interrupt_take still takes it. The
 * thread that takes signals calls it. */
int interrupt_see(void);

/* Do work that may wait long for others, such as a server, and that leaves nothing behind, on a thread
 * of its own. A signal that comes meanwhile ends the process at once, as ever. Returns what `work`
 * does; -1 and *err also where interrupt_fd fails. */
int interrupt_work(int (*work)(void *opaque, GError **err), void *opaque, GError **err);

#endif
