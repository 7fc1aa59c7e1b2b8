/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A new file that has its name only when it is whole and durable: it is made as NAME.partial, in
 * the same folder. One thread.
 */
#ifndef CLIENT_BASE_PARTIAL_H
#define CLIENT_BASE_PARTIAL_H

#include <glib.h>
#include <stdbool.h>

struct partial;

/* Make `path`.partial, empty, open for reading and writing, mode 0600 less the umask; one that is left
 * of an earlier run is replaced, unless a process has it open with a lock (each has one, until it is
 * closed). It is an error if `path` exists, unless `replace`. NULL and *err. */
struct partial *partial_new(const char *path, bool replace, GError **err);
/* Open the `path`.partial that an earlier run has kept, as it is, under the same rules. NULL and *err,
 * also if there is none. */
struct partial *partial_again(const char *path, bool replace, GError **err);
int partial_fd(const struct partial *p);           /* the partial's */
const char *partial_path(const struct partial *p); /* NAME.partial */
/* fsync, give it its name, fsync its folder. 0, or -1 and *err. Where it is not to replace, a file
 * that has come meanwhile is not replaced. Where the last step fails, it has its name, and the error
 * says that this may not be durable. */
int partial_commit(struct partial *p, GError **err);
/* The same, without the last step: what has the name is whole, but a start after a power cut may find what
 * had the name before, or nothing, until the folder is synced. */
int partial_name(struct partial *p, GError **err);
bool partial_named(const struct partial *p); /* it has its name */
/* Free; what is not committed is removed. NULL is fine. */
void partial_free(struct partial *p);
/* Free, and leave the .partial where it is, for another run to go on with. */
void partial_keep(struct partial *p);

/* Make the names in the folder of `path` durable: fsync. 0, or -1 and *err. */
int partial_sync_folder(const char *path, GError **err);

#endif
