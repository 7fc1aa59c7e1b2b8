/* SPDX-License-Identifier: BSD-3-Clause */
/* What a qcow2 image says of itself, printed. One thread. */
#ifndef CLIENT_CLI_IMAGE_PRINT_H
#define CLIENT_CLI_IMAGE_PRINT_H

#include "client/cli/client.h"

/* Append what `fleecectl image info` prints of the image at `path`, and with `chain` of the chain
 * below it. What cannot be listed (a damaged table of snapshots) is told on standard error. 0, or -1
 * and *err: it cannot be opened. */
int image_print_json(struct client *c, const char *path, bool chain, GError **err);
int image_print_text(struct client *c, const char *path, bool chain, GError **err);

#endif
