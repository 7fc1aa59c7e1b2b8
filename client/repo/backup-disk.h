/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The copy of one disk of a backup: from its export into its file of the repository, with the
 * checksums of the file. The file has its name when it is whole and durable. One thread.
 */
#ifndef CLIENT_REPO_BACKUP_DISK_H
#define CLIENT_REPO_BACKUP_DISK_H

#include "client/qmp/backups.h"
#include "client/repo/backup-plan.h"
#include "common/copy/copy.h"
#include "common/qcow2/q2-header.h"

struct disk_copy_options {
    const struct repository *repo;
    unsigned connections, retry; /* as in source-nbd.h */
    size_t memory;               /* as in copy.h */
    struct copy_rate *rate;      /* NULL: none; outlives the copy */
    bool compress;
    enum q2_compression compression;
    int compress_level; /* 0: the default */
};

struct disk_copy;

/* Start to copy a disk of a session, reached at `uri`, as the member `id` has it. NULL and *err. */
struct disk_copy *disk_copy_start(const struct disk_copy_options *o, int64_t id,
                                  const struct backup_choice *choice,
                                  const struct session_disk *disk, const char *uri, GError **err);
/* The copy that runs. Whoever ends it does so before anything else is done with it. */
struct copy *disk_copy_get(struct disk_copy *c);
/* The copy has ended well, having read `read` bytes: write the checksums, give the file its name.
 * What the repository has now, which the caller frees; NULL and *err. */
struct repo_disk *disk_copy_finish(struct disk_copy *c, uint64_t read, GError **err);
/* Free; a file that has not got its name is removed. NULL is fine. */
void disk_copy_free(struct disk_copy *c);

#endif
