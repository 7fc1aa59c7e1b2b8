/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What changed on a disk between two members: where the older one is on the chain of the newer, what
 * was written in between, as the files have it, which is known without reading data; else what differs.
 * One thread.
 */
#ifndef CLIENT_REPO_DIFF_H
#define CLIENT_REPO_DIFF_H

#include "client/repo/repository.h"

struct diff;

/* Open the disk in two members, in any order. NULL and *err. The repository is lent. */
struct diff *diff_open(const struct repository *r, const struct repo_member *a,
                       const struct repo_member *b, const char *disk, GError **err);
void diff_free(struct diff *d); /* NULL is fine */

uint64_t diff_size(const struct diff *d); /* of the disk in the newer one, bytes */
bool diff_compares(const struct diff *d); /* are contents compared? */

/* Told extents in order, from 0 to the size; flags 1: changed. -1 and *err ends it. */
typedef int (*diff_sink)(void *opaque, uint64_t offset, uint64_t length, uint32_t flags,
                         GError **err);
int diff_tell(struct diff *d, diff_sink sink, void *opaque, GError **err);

#endif
