/* SPDX-License-Identifier: BSD-3-Clause */
/* A file that a person names for a page: "--html FILE". */
#ifndef CLIENT_BASE_OUTPUT_FILE_H
#define CLIENT_BASE_OUTPUT_FILE_H

#include <glib.h>

/* Write the text to `path`. A regular file that is there is replaced when the new one is whole, but
 * not durably. All else stays what it is, and is written to: a FIFO, a terminal, what a link leads to.
 * Block devices are refused. This waits for the reader of a FIFO. 0, or -1 and *err, which names
 * `path`. Any thread. */
int output_file_write(const char *path, const GString *text, GError **err);

#endif
