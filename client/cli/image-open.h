/* SPDX-License-Identifier: BSD-3-Clause */
/* What the commands that write an image by themselves have in common. One thread. */
#ifndef CLIENT_CLI_IMAGE_OPEN_H
#define CLIENT_CLI_IMAGE_OPEN_H

#include "common/qcow2/q2-error.h"

#include <glib.h>

/* The help of their option --allow FOLDER. */
#define IMAGE_ALLOW_HELP "files that the image names may lie in here, too"

/* Tell what is wrong with an image, or with where it lies: for `tell` of q2_open_options and live_options. */
void image_tell(void *opaque, const char *sentence);
/* Set *err to why an image was not opened, and to what helps. -1. */
int image_refused(const struct q2_error *why, GError **err);

#endif
