/* SPDX-License-Identifier: BSD-3-Clause */
/* Which files a disk in a qcow2 image is made of, and what they look like. */
#ifndef PLUGINS_QCOW2_CHAIN_IDENTITY_H
#define PLUGINS_QCOW2_CHAIN_IDENTITY_H

#include "common/live/live.h"
#include "plugins/nbdfleece-plugin.h"

/* Fill in *identity, all but `late`; `snapshot` may be NULL. 0, or -1 and errno. */
int chain_identity(const struct live_image *image, const char *snapshot,
                   struct nbdfleece_identity *identity);

#endif
