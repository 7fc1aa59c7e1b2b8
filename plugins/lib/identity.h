/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which file or block device a descriptor is open on, and what it looks like, in words that are the
 * same after a restart of the server or of the machine.
 */
#ifndef PLUGINS_LIB_IDENTITY_H
#define PLUGINS_LIB_IDENTITY_H

#include "plugins/nbdfleece-plugin.h"

/* Fill in *identity, which is zeroes. 0, or -1 and errno. */
int identity_of(int fd, struct nbdfleece_identity *identity);

#endif
