/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NBD_HANDSHAKE_OPTIONS_H
#define NBD_HANDSHAKE_OPTIONS_H

#include "server/nbd/haggling.h"

/* Deal with the option that h->option, h->data and h->length say, and lay out the reply. */
enum next handshake_option(struct haggling *h);

#endif
