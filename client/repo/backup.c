/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The order of a run, which holds the repository's exclusive lock from its first step to its last:
 *
 *  1. settle what a run that was cut has left (backup-recover.c, by the table below)
 *  2. plan: level and parent of each disk, by the members and by the server's checkpoints
 *  3. running.json: that a session of this name may be on the server; the level and parent of each disk
 *  4. backup-begin: the instant; what the server says of each disk decides, not the plan
 *  5. running.json, where that is another level
 *  6. each disk: DISK/NNNNN-LEVEL.qcow2.partial, its checksums, its name; running.json
 *  7. manifest.json: from here on the backup is in the repository
 *  8. backup-end commit: its checkpoint can be a base from here on
 *  9. delete checkpoints that no backup will begin from; manifest.json says which are gone
 * 10. remove running.json
 *
 * Each of the three files is replaced as a whole and durably (but that a disk is done, in step 6, is
 * durable with step 7 at the latest), and the files of step 6 are durable with their names before step 7. So what step 7 names is there after any crash, and a checkpoint is
 * kept by the server (8) only if its backup is safe (7).
 *
 * What must hold: a file is put only on a parent that is in the manifest, and has what has changed since the
 * checkpoint of that very parent. The name of a session and its checkpoint has a part that is drawn
 * anew for each run, so that a name never means another instant: not after a repository has been
 * copied, or put back to an earlier state.
 *
 * The client or its machine dies, or the server, or its machine; the next run finds:
 *
 *   cut after step   running.json, manifest  session       the next run
 *   1, 2             none                    none          begins anew
 *   3                not in it               unknown       cleans the folders, begins anew
 *   4, 5, 6          not in it               active        --resume: keeps the disks that are done,
 *                                                          reads the others, where the bases of all
 *                                                          are still good, and the levels those of the
 *                                                          session; else aborts it, and as after 3
 *   4, 5, 6          not in it               ended, or     as after 3: the server has removed, or
 *                                            unknown       will remove, the checkpoint
 *   7                in the manifest         active        commits it
 *   7                in the manifest         aborted       the member stays, without a checkpoint: the
 *                                                          next one is put on an older member
 *   7                in the manifest         unknown       the member stays; whether its checkpoint
 *                                                          is there the plan sees
 *   8, 9             in the manifest         committed     deletes checkpoints at its own step 9
 *
 * (A server with --state that is started again has its sessions back, and so they are active. After
 * a power cut, and without --state, they are aborted, or unknown.) The session of a run that is cut
 * and has no next one ends by its lease.
 *
 * A run that fails before step 7 does at once what the next one would: it aborts its session, if the
 * server can be reached, and removes its files, and the repository, if it has made that. With --resume, and
 * where the server has gone, it leaves all of it for the next one.
 */
#include "client/repo/backup.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/repo/backup-private.h"

#include <string.h>

void backup_result_clear(struct backup_result *result)
{
    repository_close(result->repo);
    g_clear_pointer(&result->notes, g_ptr_array_unref);
    result->repo = NULL;
    result->member = NULL;
}

static int run(struct backup_run *r, struct progress *progress, GError **err)
{
    GError *error = NULL;

    if (backup_recover(r, err) < 0)
        return -1;
    if ((!r->record && backup_begin(r, &error) < 0) || backup_pull(r, progress, &error) < 0) {
        backup_give_up(r, &error);
        g_propagate_error(err, error);
        return -1;
    }
    return backup_commit(r, err);
}

static char *name_prefix(const struct repository *repo)
{
    return g_strdup_printf("backup-%.8s-", repo->uuid);
}

int backup_run(struct qmp *q, const struct backup_options *o, struct progress *progress,
               struct backup_result *result, GError **err)
{
    struct backup_run r = {.qmp = q, .o = o, .result = result};
    int rc;

    memset(result, 0, sizeof *result);
    result->notes = g_ptr_array_new_with_free_func(g_free);
    if (interrupt_fd(err) < 0)
        return -1;
    result->repo = repository_open(o->repo, REPO_CREATE, err);
    if (!result->repo)
        return -1;
    r.prefix = name_prefix(result->repo);
    rc = run(&r, progress, err);
    if (rc < 0 && !result->member)
        repository_unmake(result->repo);
    backup_session_free(r.session);
    backup_record_free(r.record);
    g_clear_pointer(&r.verified, verify_record_free);
    g_free(r.prefix);
    return rc;
}
