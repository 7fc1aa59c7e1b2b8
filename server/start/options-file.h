/* SPDX-License-Identifier: BSD-3-Clause */
/* --config: options and disks from the text of a key file. */
#ifndef START_OPTIONS_FILE_H
#define START_OPTIONS_FILE_H

#include "server/start/options.h"

/* Take in the text of a key file; `path` names it in messages. 0, or -1 and *err. */
int options_read_file(struct options *o, const char *path, const char *text, GError **err);

#endif
