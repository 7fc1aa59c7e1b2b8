/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The checksums of a file of a repository: FILE.sums, text, a line for each piece of the file, in
 * order of offsets: its offset, its length, its SHA-256. The pieces cover the file. The manifest has
 * the SHA-256 of FILE.sums itself. Format: nbdfleece-repository(5).
 */
#ifndef CLIENT_REPO_SUMS_H
#define CLIENT_REPO_SUMS_H

#include <glib.h>
#include <stdint.h>

typedef struct sums sums; /* for g_autoptr */

struct sums *sums_new(void);
void sums_free(struct sums *s); /* NULL is fine */
/* Has the type of target_checksum (common/copy/targets.h): `opaque` is the sums. Any thread. */
void sums_add(void *opaque, uint64_t offset, uint64_t length, const uint8_t *digest);
/* Write them to `path` for a file of `bytes` bytes, which the pieces have to cover; what is there is
 * replaced. They are durable, but their name only with the next sync of the folder, which is that of the file's
 * own name. The SHA-256 of that file in hex, which the caller frees; NULL and *err. */
char *sums_write(struct sums *s, const char *path, uint64_t bytes, GError **err);

/* Read the file of sums of a file of `bytes` bytes. The file of sums must have the SHA-256 `hex`. NULL
 * and *err. */
struct sums *sums_read(const char *path, const char *hex, uint64_t bytes, GError **err);
/* Read the whole of the file behind fd, and compare: 0, or -1 and *err with the first piece that is
 * wrong. `threads`: so many at once. */
int sums_check(const struct sums *s, int fd, const char *name, unsigned threads, GError **err);

/* Told how many bytes have been read, on the thread of the caller, some times a second and at the end.
 * 0, or -1 and *err: the check ends with that error. */
typedef int (*sums_watch)(void *opaque, uint64_t done, GError **err);
/* The same, watched. */
int sums_check_watched(const struct sums *s, int fd, const char *name, unsigned threads,
                       sums_watch watch, void *opaque, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(sums, sums_free)

#endif
