/* SPDX-License-Identifier: BSD-3-Clause */
/* Values of options that several commands take. Pure. `text` NULL: the option is not given, and the
 * value stays what it is. 0, or -1 and *err, which is CLIENT_ERROR_USAGE. */
#ifndef CLIENT_CLI_OPTION_VALUES_H
#define CLIENT_CLI_OPTION_VALUES_H

#include "client/pull/destination.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* A number from `least` to `most`. */
int option_number(const char *name, const char *text, unsigned least, unsigned most,
                  unsigned *value, GError **err);
/* Bytes a second, above 0: "10M". */
int option_rate(const char *name, const char *text, uint64_t *rate, GError **err);
/* raw or qcow2. */
int option_format(const char *name, const char *text, enum destination_format *format,
                  GError **err);
/* What an optional value of --compress says: "" (zstd), "zstd", "zlib", a level of zstd, or both,
 * as "zlib:9". Sets *compress. */
int option_compress(const char *text, bool *compress, enum q2_compression *compression, int *level,
                    GError **err);
/* Do --format and --compress make sense for the target? `command` is its name, for the message. */
int option_check_target(const char *command, const struct destination_options *to, GError **err);

#endif
