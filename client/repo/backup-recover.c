/* SPDX-License-Identifier: BSD-3-Clause */
/* What a run that was cut has left: backup.c has the table. */
#include "client/base/error.h"
#include "client/repo/backup-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The record's member is in the manifest: bring its session to its end. */
static int settle_member(struct backup_run *r, struct repo_member *m, enum session_fate fate,
                         GError **err)
{
    switch (fate) {
    case SESSION_ACTIVE:
        if (session_commit(r->qmp, m->session, err) < 0) {
            g_prefix_error(err, "cannot commit the session of backup %" PRId64 ": ", m->id);
            return -1;
        }
        backup_note(r, "the session of backup %" PRId64 " is committed now", m->id);
        return 0;
    case SESSION_ABORTED:
        backup_note(r, "the session of backup %" PRId64 " was aborted, so its checkpoint is gone",
                    m->id);
        g_clear_pointer(&m->checkpoint, g_free);
        return repository_save(r->result->repo, err);
    case SESSION_COMMITTED:
    case SESSION_UNKNOWN: /* perhaps it is another server's, so that nothing is known of it */
        return 0;
    }
    return 0;
}

/* ---- going on ---- */

static bool is_whole(const struct repository *repo, const struct repo_disk *d)
{
    g_autofree char *path = repo_path(repo, d->file);
    g_autofree char *sums = repo_sums_path(repo, d->file);
    struct stat st;

    return lstat(sums, &st) == 0 && S_ISREG(st.st_mode) && lstat(path, &st) == 0 &&
           S_ISREG(st.st_mode) && (uint64_t)st.st_size == d->bytes;
}

/* Have all disks a base that can be read? verify may have found it damaged since the run was cut. */
static bool have_bases(struct backup_run *r, const struct backup_record *record)
{
    for (guint i = 0; i < record->disks->len; i++) {
        const struct record_disk *d = g_ptr_array_index(record->disks, i);
        g_autofree char *fault = backup_base_fault(r, d->choice);

        if (!fault)
            continue;
        backup_note(r,
                    "disk %s: what it was put on, backup %" PRId64 ", cannot be used any more: %s",
                    d->choice->disk, d->choice->parent, fault);
        return false;
    }
    return true;
}

/* Can the record's disks be read from the session, at the levels that it has? What is not whole is
 * not done. */
static bool fits(struct backup_run *r, const struct backup_record *record,
                 const struct backup_session *s)
{
    if (record->disks->len == 0 || record->disks->len != s->disks->len ||
        record->id != r->result->repo->next_id)
        return false;
    for (guint i = 0; i < record->disks->len; i++) {
        struct record_disk *d = g_ptr_array_index(record->disks, i);
        const struct session_disk *at = backup_session_disk(s, d->choice->disk);

        if (!at || (strcmp(at->mode, "full") == 0) != (d->choice->level == REPO_FULL))
            return false;
        if (d->done && (d->done->size != at->size || !is_whole(r->result->repo, d->done)))
            g_clear_pointer(&d->done, repo_disk_free);
    }
    return have_bases(r, record);
}

static int remove_file(const char *path, GError **err)
{
    if (unlink(path) < 0 && errno != ENOENT)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: cannot remove it: %s", path,
                           g_strerror(errno));
    return 0;
}

/* A disk that is not done may have its file, or its checksums, all the same: the run was cut before
 * the record had them. */
static int remove_undone(const struct repository *repo, const struct backup_record *record,
                         GError **err)
{
    for (guint i = 0; i < record->disks->len; i++) {
        const struct record_disk *d = g_ptr_array_index(record->disks, i);
        g_autofree char *file = backup_file(record, d->choice);
        g_autofree char *path = repo_path(repo, file);
        g_autofree char *sums = repo_sums_path(repo, file);

        if (!d->done && (remove_file(path, err) < 0 || remove_file(sums, err) < 0))
            return -1;
    }
    return 0;
}

/* Go on with the record's session: 1, and record and session are the run's; 0: that cannot be; -1
 * and *err. */
static int go_on(struct backup_run *r, struct backup_record *record, GError **err)
{
    struct backup_session *s = backup_session_continue(r->qmp, record->session, err);

    if (!s)
        return -1;
    if (!fits(r, record, s)) {
        backup_session_free(s);
        return 0;
    }
    if (remove_undone(r->result->repo, record, err) < 0) {
        backup_session_free(s);
        return -1;
    }
    r->session = s;
    r->record = record;
    r->result->resumed = true;
    return 1;
}

/* ---- what is there ---- */

static int settle_session(struct backup_run *r, const struct backup_record *record,
                          enum session_fate fate, GError **err)
{
    struct repo_member *m = backup_find_uuid(r->result->repo, record->uuid);
    g_autoptr(GError) why = NULL;

    if (m)
        return settle_member(r, m, fate, err);
    if (fate != SESSION_ACTIVE)
        return 0;
    if (session_abort(r->qmp, record->session, &why) < 0) {
        g_propagate_prefixed_error(err, g_steal_pointer(&why),
                                   "cannot abort the session of a backup that was cut: ");
        return -1;
    }
    backup_note(r, "a backup that was cut has been undone");
    return 0;
}

/* Takes over the record. */
static int settle(struct backup_run *r, struct backup_record *record, GError **err)
{
    bool is_member = backup_find_uuid(r->result->repo, record->uuid);
    enum session_fate fate;
    int rc = session_fate(r->qmp, record->session, &fate, err);

    if (rc == 0 && r->o->resume && !is_member && fate == SESSION_ACTIVE) {
        rc = go_on(r, record, err);
        if (rc > 0)
            return 0;
    }
    if (rc == 0 && r->o->resume)
        backup_note(r, "nothing could be resumed: this backup begins anew");
    if (rc == 0)
        rc = settle_session(r, record, fate, err);
    if (rc == 0)
        rc = is_member ? repository_clean(r->result->repo, NULL, err)
                       : backup_clean(r->result->repo, record, err);
    backup_record_free(record);
    if (rc == 0)
        rc = backup_record_remove(r->result->repo, err);
    return rc;
}

int backup_recover(struct backup_run *r, GError **err)
{
    struct backup_record *record;
    int rc = backup_record_load(&record, r->result->repo, err);

    if (rc < 0)
        return -1;
    return rc > 0 ? settle(r, record, err) : repository_clean(r->result->repo, NULL, err);
}
