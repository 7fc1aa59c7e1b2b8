/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Accepting when descriptors may have run out. Who listens holds one in reserve: when there is no
 * other, it is given up for the next in the queue, who is hung up on at once instead of waiting in
 * the kernel until some client has gone, and then taken again.
 *
 * Any thread; a reserve is for one thread at a time.
 */
#ifndef COMMON_UTIL_ACCEPT_H
#define COMMON_UTIL_ACCEPT_H

#include <stdbool.h>

/* A descriptor to keep in reserve; -1 if there is none. close() it. */
int accept_reserve(void);

/* Accept from a non-blocking listening socket; `flags` are accept4's. Returns the client's
 * descriptor, or -1 and errno. Where descriptors or memory have run out, somebody has been refused
 * if `*refused`; else he waits still (the reserve had been lost to another thread's open) and the
 * caller should try again some time later. `*reserve` may be -1; it is taken again when that can be
 * done. */
int accept_or_refuse(int listener, int flags, int *reserve, bool *refused);
/* Is this errno of it one of those where something has run out? */
bool accept_has_run_out(int error);

#endif
