/* SPDX-License-Identifier: BSD-3-Clause */
/* A run of a backup, for the files backup*.c, each of which does a part of it. */
#ifndef CLIENT_REPO_BACKUP_PRIVATE_H
#define CLIENT_REPO_BACKUP_PRIVATE_H

#include "client/repo/backup-disk.h"
#include "client/repo/backup-record.h"
#include "client/repo/backup-session.h"
#include "client/repo/backup.h"
#include "client/repo/verify-record.h"

struct backup_run {
    struct qmp *qmp; /* lent */
    const struct backup_options *o;
    struct backup_result *result; /* its repository is the run's */
    char *prefix;                 /* of the names of this repository's sessions and checkpoints */
    struct backup_record *record; /* NULL: nothing has begun */
    struct backup_session *session;
    verify_record *verified; /* NULL: not read yet */
    bool pulling;            /* there may be disks that are done */
};

/* Add a sentence to the result's notes. */
void backup_note(struct backup_run *r, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The member with this UUID; NULL: there is none. Lent. */
struct repo_member *backup_find_uuid(const struct repository *r, const char *uuid);

/* What a plan needs: the server's checkpoints, and whether files are there. The caller frees the
 * array, which is in->checkpoints, and *reply, which its strings are borrowed from. NULL and *err;
 * *reply may be set. */
GArray *backup_plan_input(struct backup_run *r, struct plan_input *in, JsonNode **reply,
                          GError **err);

/* Why what was chosen earlier cannot stand on its base any more. The caller frees it. NULL: it can. */
char *backup_base_fault(struct backup_run *r, const struct backup_choice *choice);

/* The file that a record's disk becomes, below the repository. The caller frees it. */
char *backup_file(const struct backup_record *record, const struct backup_choice *choice);

/* Remove the files of a run that came to nothing. 0, or -1 and *err. */
int backup_clean(struct repository *repo, const struct backup_record *record, GError **err);

/* The parts, in their order. Each: 0, or -1 and *err. */

/* Settle what a run that was cut has left. Where it is gone on with, record and session are set. */
int backup_recover(struct backup_run *r, GError **err);
/* Plan, and begin a session: record and session are set. */
int backup_begin(struct backup_run *r, GError **err);
/* Copy all disks of the record that are not done yet. */
int backup_pull(struct backup_run *r, struct progress *progress, GError **err);
/* All are done: make it a member of the repository, and commit the session. */
int backup_commit(struct backup_run *r, GError **err);
/* What has begun comes to nothing, because of *error, to which what matters is added. */
void backup_give_up(struct backup_run *r, GError **error);

#endif
