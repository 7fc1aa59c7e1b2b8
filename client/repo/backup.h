/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One backup of a server's disks into a repository. The .c file begins with the order of its steps,
 * and with what a run finds that was cut at any of them.
 */
#ifndef CLIENT_REPO_BACKUP_H
#define CLIENT_REPO_BACKUP_H

#include "client/base/progress.h"
#include "client/qmp/qmp.h"
#include "client/repo/backup-plan.h"
#include "common/qcow2/q2-header.h"

struct backup_options {
    const char *repo; /* path */
    enum backup_level level;
    int64_t since;        /* ID of the member that is to be the base; -1: any */
    char *const *include; /* names of disks, up to a NULL; NULL: all */
    char *const *exclude; /* likewise; NULL: none */
    unsigned jobs;        /* so many disks at once, 1.. */
    unsigned connections; /* for each disk; 0: the default */
    unsigned retry;       /* seconds in which an NBD server that has gone has to come back */
    uint64_t rate;        /* most bytes a second; 0: any */
    unsigned keep;        /* checkpoints of so many members stay on the server, 1.. */
    unsigned lease;       /* of the session, seconds; 0: none */
    bool resume;          /* go on with what was cut; leave what is cut for another time */
    bool compress;
    enum q2_compression compression;
    int compress_level; /* 0: the default */
    /* How an NBD URI that the server has told is reached from here: another URI, which the caller
     * frees, or NULL and *err. NULL: as it is. */
    char *(*reach)(void *opaque, const char *uri, GError **err);
    void *opaque;
};

struct backup_result {
    struct repository *repo;          /* open; NULL: it could not be opened */
    const struct repo_member *member; /* the repository's; NULL: no backup was made */
    bool resumed;                     /* a run that was cut was gone on with */
    GPtrArray *notes;                 /* sentences that a person should know */
};

void backup_result_clear(struct backup_result *result);

/*
 * Run it. `progress` may be NULL. 0, or -1 and *err: CLIENT_ERROR_PARTLY where the backup is in the
 * repository, but something that comes after is not done. The caller clears *result in any case.
 */
int backup_run(struct qmp *q, const struct backup_options *o, struct progress *progress,
               struct backup_result *result, GError **err);

#endif
