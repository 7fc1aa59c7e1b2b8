/* SPDX-License-Identifier: BSD-3-Clause */
/* TCP ports as people write them. Pure. */
#ifndef COMMON_UTIL_PORT_H
#define COMMON_UTIL_PORT_H

#include <glib.h>

/* Can `text` be a port: a number from 0 to 65535, or what may be a service's name (it has a letter;
 * whether there is such a service, getaddrinfo says)? It must be asked before getaddrinfo, which
 * takes signs and blanks, and of a larger number the last 16 bits. 0, or -1 and *err in QEMU's
 * words. */
int port_check(const char *text, GError **err);

#endif
