/* SPDX-License-Identifier: BSD-3-Clause */
/* A small file that is written whole and durably, or not at all. */
#ifndef CLIENT_BASE_REPLACE_FILE_H
#define CLIENT_BASE_REPLACE_FILE_H

#include <glib.h>
#include <stddef.h>

/* Let the file at `path` have this text, whether it was there or not (client/base/partial.h). 0, or -1
 * and *err. */
int replace_file(const char *path, const char *text, size_t length, GError **err);
/* The same, but a start after a power cut may find what was there before, or nothing where nothing was, until
 * the folder is synced: where that is done soon, or where the file before will do. */
int replace_file_unsynced(const char *path, const char *text, size_t length, GError **err);

#endif
