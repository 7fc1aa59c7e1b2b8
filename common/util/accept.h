/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Accepting clients when descriptors may have run out. A listener holds one descriptor in reserve.
 * When there is no other left, it gives up the reserve, accepts the next client in the queue with
 * it, hangs up on that client, and takes the reserve again. So a client that cannot be served is
 * told at once; otherwise it would wait in the kernel's queue until some other client has gone.
 *
 * Any thread; one thread at a time uses a reserve.
 */
#ifndef COMMON_UTIL_ACCEPT_H
#define COMMON_UTIL_ACCEPT_H

#include <stdbool.h>

/* A descriptor to keep in reserve; -1 if there is none. The caller closes it. */
int accept_reserve(void);

/* Accept from a non-blocking listening socket; `flags` are accept4's. Returns the client's
 * descriptor, or -1 and errno. Where errno says that something has run out, *refused says whether a
 * client has been refused. If not, the client still waits (another thread has opened a file with
 * the descriptor of the reserve), and the caller should try again some time later. *reserve may be
 * -1; it is taken again as soon as there is a descriptor for it. */
int accept_or_refuse(int listener, int flags, int *reserve, bool *refused);
/* Does this errno of accept_or_refuse say that descriptors or memory have run out? */
bool accept_has_run_out(int error);

#endif
