/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Does a map of changes tell the truth? All of a disk is read and compared with a backup of it. What
 * differs must be dirty, or the next backup would not have it. One thread.
 */
#ifndef CLIENT_REPO_AUDIT_H
#define CLIENT_REPO_AUDIT_H

#include "client/base/progress.h"
#include "client/qmp/qmp.h"
#include "client/repo/audit-ranges.h"
#include "client/repo/repository.h"

struct audit_options {
    const struct repo_member *member; /* the backup, which has the disk */
    const char *disk;
    /* An export of any server, and the meta context that says what has changed on it since the
     * backup. NULL: a session of the server `qmp`, since the backup's checkpoint. */
    const char *uri, *context;
    unsigned connections, retry; /* as in source-nbd.h */
    /* How the export is reached from here, as in backup.h. */
    char *(*reach)(void *opaque, const char *uri, GError **err);
    void *opaque;
};

struct audit_result {
    uint64_t size;    /* of the disk now, bytes */
    uint64_t dirty;   /* bytes that are dirty */
    uint64_t changed; /* bytes that differ, in sectors */
    GArray *missed;   /* struct audit_range, ordered: what differs and is not dirty */
};

/* Do it. `progress` may be NULL. The session is aborted in any case, and no checkpoint is made. 0, or
 * -1 and *err: then no result. The caller unrefs result->missed. */
int audit_run(const struct repository *r, struct qmp *qmp, const struct audit_options *o,
              struct progress *progress, struct audit_result *result, GError **err);

#endif
