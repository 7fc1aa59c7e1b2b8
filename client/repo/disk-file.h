/* SPDX-License-Identifier: BSD-3-Clause */
/* The file of a disk of a member, compared with what the manifest says of it. */
#ifndef CLIENT_REPO_DISK_FILE_H
#define CLIENT_REPO_DISK_FILE_H

#include "client/repo/repository.h"

/*
 * Look at the file without reading what is in it: it is a regular file of the size that the manifest
 * has, and its header fits: the size of the disk, and the backing file, which is that of `below`
 * (NULL: none). 0, or -1 and *err, which names the file as the manifest does.
 */
int repo_file_look(const struct repository *r, const struct repo_disk *d,
                   const struct repo_disk *below, GError **err);

/* What the file of a disk stands on; NULL: on nothing. Lent. */
const struct repo_disk *repo_disk_below(const struct repository *r, const struct repo_disk *d);

/* The size that a header has for a disk of so many bytes: whole sectors. */
uint64_t repo_header_size(uint64_t disk_size);

#endif
