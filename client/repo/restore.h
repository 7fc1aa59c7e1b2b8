/* SPDX-License-Identifier: BSD-3-Clause */
/* Restoring disks: from a repository, or from a qcow2 file, into what a person names. One thread. */
#ifndef CLIENT_REPO_RESTORE_H
#define CLIENT_REPO_RESTORE_H

#include "client/base/progress.h"
#include "client/pull/destination.h"
#include "client/repo/repository.h"
#include "common/copy/copy.h"

struct restore_options {
    struct destination_options to; /* its target is where restore_disk or restore_image writes to,
                                      and the folder of restore_member */
    bool verify;                   /* compare checksums of the files first */
    unsigned jobs;                 /* disks at once */
    /* Told, before anything is written, what a person should know: a sentence. NULL: nobody is. */
    void (*note)(const char *text);
};

/* What was restored. */
struct restored {
    char *disk, *target;
    uint64_t size;                  /* of the disk, bytes */
    enum destination_format format; /* of the target */
    struct copy_progress copied;
};

/* Restore one disk as it is in a member. A chain that verify has found damaged is refused, unless
 * o->to.force: then it is told of. Each function adds a struct restored to `done`, which frees
 * them (restored_free), for each disk that is whole. 0, or -1 and *err. `p` may be NULL. */
int restore_disk(const struct repository *r, const struct repo_member *m, const char *disk,
                 const struct restore_options *o, struct progress *p, GPtrArray *done,
                 GError **err);
/* All disks of a member into a folder, which is made where it is missing: DISK.raw or DISK.qcow2. It is
 * told of disks that only older members have. No disk is written before all have been looked at. CLIENT_ERROR_PARTLY where some are restored. */
int restore_member(const struct repository *r, const struct repo_member *m,
                   const struct restore_options *o, struct progress *p, GPtrArray *done,
                   GError **err);
/* A qcow2 file, and what it stands on. */
int restore_image(const char *path, const struct restore_options *o, struct progress *p,
                  GPtrArray *done, GError **err);
/* A qcow2 image that comes through a pipe (client/pull/stream-source.h); `fd` is lent. */
int restore_stream(int fd, const char *name, const struct restore_options *o, struct progress *p,
                   GPtrArray *done, GError **err);

void restored_free(struct restored *r);

#endif
