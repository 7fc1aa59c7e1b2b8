/* SPDX-License-Identifier: BSD-3-Clause */
/* TCP ports as people write them. Pure. */
#ifndef COMMON_UTIL_PORT_H
#define COMMON_UTIL_PORT_H

#include <glib.h>

/* Can `text` be a port: a number from 0 to 65535, or something with a letter in it, which may be
 * the name of a service? (getaddrinfo knows whether there is such a service.) Call this before
 * getaddrinfo, which accepts signs and blanks, and takes the last 16 bits of a larger number. 0, or
 * -1 and *err in QEMU's words. */
int port_check(const char *text, GError **err);

#endif
